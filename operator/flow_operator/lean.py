"""Imports structlog without what it would bring along: rich, and asyncio.

It uses rich if that is installed, as it is for flowctl, and asyncio in methods that nobody here
calls: 5 MB of a process that lives for months, and 20 ms of each start. To be imported before
anything that imports structlog; others can import both later.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


class _Later(ModuleType):
    """A module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> object:
        return getattr(importlib.import_module(self.__name__), name)


_OTHERS: dict[str, ModuleType | None] = {
    "rich": None,  # It cannot be imported then.
    "asyncio": _Later("asyncio"),
}

_left_out = [name for name in _OTHERS if name not in sys.modules]
for _name in _left_out:
    sys.modules[_name] = _OTHERS[_name]  # type: ignore[assignment]
try:
    import structlog  # noqa: F401
finally:
    for _name in _left_out:
        del sys.modules[_name]
