"""What parsing yields: plain data that remembers where it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flow_operator.errors import Fault
from flow_operator.model.flow import Flow

Places = dict[str, tuple[int, int]]
"""JSON pointer -> (line, column), both 1-based."""


def no_places() -> Places:
    """For data that has no source text."""
    return {}


@dataclass(frozen=True, slots=True)
class SourceText:
    """A text to be parsed and the name that errors give it."""

    text: str
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed document.

    Attributes:
        data: dicts with string keys, lists, str, int, float, bool and None.
        file: the name of its source, for errors.
        places: finds the places of its parts; costs a second parse, so only errors ask.
    """

    data: Any
    file: str | None = None
    places: Callable[[], Places] = field(default=no_places, compare=False)

    def fault(self, pointer: str, detail: str) -> Fault:
        """A fault at ``pointer``, or at the nearest part around it that has a place."""
        places = self.places()
        around = pointer
        while around and around not in places:
            around = around.rpartition("/")[0]
        line, column = places.get(around, (None, None))
        return Fault(detail, pointer, line, column, self.file)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked Flow and the document that it was read from.

    Attributes:
        flow: what the operator works with.
        document: what the user wrote, with ``apiVersion``, ``kind`` and ``metadata.name`` filled
            in and ``flow_id`` taken out; what is given back to them.
    """

    flow: Flow
    document: dict[str, Any]


def escape(key: str) -> str:
    """A key as a token of a JSON pointer (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1")
