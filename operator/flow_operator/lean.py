"""Imports structlog without rich, which it would use if it is installed, as it is for flowctl.

Nothing here is to be formatted by it, and with what it brings it takes 4 MB of a process that lives
for months. To be imported before anything that imports structlog; later others can import rich.
"""

from __future__ import annotations

import sys

if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # it cannot be imported then
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
