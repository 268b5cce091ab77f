"""What is imported only when it is asked for, and no more of it than is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from types import ModuleType
from typing import cast

import click


class LazyCommands(MutableMapping[str, click.Command]):
    """The commands of a group by name; only who looks at one imports its module.

    Args:
        places: where each is (``MODULE:ATTRIBUTE``), in the order of the help.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places: dict[str, str | click.Command] = dict(places)

    def __getitem__(self, name: str) -> click.Command:
        place = self._places[name]
        if not isinstance(place, str):
            return place
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._places[name] = command

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def import_httpx() -> None:
    """Import httpx without its own command line.

    That one asks for rich and pygments, which takes almost as long as all the rest. ``None`` is
    how Python is told that a module is not there, and httpx does without it.
    """
    if "httpx" in sys.modules:
        return
    sys.modules["httpx._main"] = cast("ModuleType", None)
    try:
        import_module("httpx")
    finally:
        del sys.modules["httpx._main"]
