"""Imports some libraries without what they would bring along, and never use here.

What an import leaves behind takes memory of a process that lives for months, and time of each
start: structlog would bring rich (if that is installed, as for flowctl) and asyncio (5 MB, 20 ms),
http.client and hashlib OpenSSL, which only those need who serve https (3 MB; Python has the digests
itself). To be imported before anything that imports these; others can import what was left out
later.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType


class Later(ModuleType):
    """A module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> object:
        return getattr(importlib.import_module(self.__name__), name)


class Bare(ModuleType):
    """In place of a module of which only names are wanted: base classes of what nobody uses."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextmanager
def without(others: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Have imports find other modules in place of some, or none, unless they are there already."""
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    replaced = [name for name in others if name not in modules]
    modules.update((name, others[name]) for name in replaced)
    try:
        yield
    finally:
        for name in replaced:
            del sys.modules[name]


with without({"rich": None, "asyncio": Later("asyncio")}):
    import structlog  # noqa: F401
try:
    with without({"ssl": None, "_hashlib": None}):
        import hashlib
        import hmac  # noqa: F401
        import http.client  # noqa: F401
    hashlib.sha256, hashlib.blake2b  # noqa: B018 - whether this Python has them
except (ImportError, AttributeError):
    # Some distributions have all digests from OpenSSL: then it is wanted after all.
    for _name in ("hashlib", "hmac"):
        sys.modules.pop(_name, None)
