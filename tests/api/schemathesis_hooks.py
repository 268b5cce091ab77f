"""What schemathesis must not ask: a stream has no end, and a command that waits holds it up.

Both have tests of their own. What is no value of these parameters is asked all the same.
"""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Ask for the end of what would have none."""
    query = case.query or {}
    for name in ("follow", "watch"):
        if query.get(name) in ("true", "1", True):
            query[name] = "false"
    if case.path.endswith("/commands"):
        timeout = str(query.get("timeout", "10"))
        if timeout.replace(".", "", 1).isdigit() and float(timeout) <= 600:
            case.query = {**query, "timeout": "0"}
