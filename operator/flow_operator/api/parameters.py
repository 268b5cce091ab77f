"""Query parameters: each declared once, for whoever reads it and for the OpenAPI document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from bottle import request

from flow_operator.errors import Fault, InvalidError, clipped

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(rf"{_WHOLE.pattern}(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
"""As JSON writes numbers: what Python takes besides (``1_0``, ``00``, ``inf``) is none."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter that is any text.

    Attributes:
        name: as it stands in the URL.
        description: for people.
        example: a value of it, if one helps.
    """

    name: str
    description: str
    example: str | None = None

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        return {"type": "string", "minLength": 1}

    def text(self) -> str | None:
        """What was given; None if it was not.

        Raises:
            InvalidError: it is empty, or given twice: one of two must not be ignored.
        """
        given = request.query.getall(self.name)
        if not given:
            return None
        if len(given) > 1:
            raise self.fault("given more than once; leave one out")
        if not given[0]:
            raise self.fault("empty; leave it out instead")
        text: str = given[0].encode("latin-1").decode("utf-8")
        return text

    def fault(self, said: str) -> InvalidError:
        """What is wrong with it, as an error."""
        return InvalidError([Fault(f"?{self.name}= is {said}")])


@dataclass(frozen=True, slots=True)
class Choice(Parameter):
    """A query parameter that has few values."""

    allowed: tuple[str, ...] = ()
    default: str | None = None

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        default = {} if self.default is None else {"default": self.default}
        return {"type": "string", "enum": list(self.allowed), **default}

    def read(self) -> str | None:
        """What was given, or the default.

        Raises:
            InvalidError: it has another value.
        """
        value = self.text()
        if value is None:
            return self.default
        if value not in self.allowed:
            raise self.fault(f"{clipped(value)!r}; it must be {_or(self.allowed)}")
        return value


class Flag(Choice):
    """A query parameter that is true or false."""

    __slots__ = ()

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, description, None, ("true", "false", "1", "0"), "false")

    def given(self) -> bool:
        """Whether it is true.

        Raises:
            InvalidError: it is neither.
        """
        return self.read() in ("true", "1")


@dataclass(frozen=True, slots=True)
class Number(Parameter):
    """A query parameter that is a number from ``least`` to ``most``, with or without fractions."""

    least: int = 0
    most: int = 0
    whole: bool = True
    default: float | None = None

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        default = {} if self.default is None else {"default": self.default}
        kind = "integer" if self.whole else "number"
        return {"type": kind, "minimum": self.least, "maximum": self.most, **default}

    def read(self) -> float | None:
        """What was given, or the default.

        Raises:
            InvalidError: it is no such number.
        """
        text = self.text()
        if text is None:
            return self.default
        value = _number(text, whole=self.whole)
        if value is None or not self.least <= value <= self.most:
            kind = "a whole number" if self.whole else "a number"
            raise self.fault(
                f"{clipped(text)!r}; it must be {kind} from {self.least} to {self.most}"
            )
        return value


def _number(text: str, *, whole: bool) -> float | None:
    if not (_WHOLE if whole else _NUMBER).fullmatch(text):
        return None
    try:
        return int(text) if whole else float(text)
    except ValueError:
        return None


def _or(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


DRY_RUN = Choice(
    "dryRun",
    "Only tell what would happen to the processes of each flow; nothing is changed.",
    allowed=("All",),
)
FORCE = Flag("force", "Also if a manifest file owns the flow, which is taken over from it.")


def dry_run() -> bool:
    """Whether only to tell what would happen: ``?dryRun=All``.

    Raises:
        InvalidError: it has another value; nobody may take a real write for a dry run.
    """
    return DRY_RUN.read() is not None


def only(parameters: tuple[Parameter, ...]) -> None:
    """Refuse query parameters that a route does not know: a typing error must not be ignored.

    Raises:
        InvalidError: naming those that are known.
    """
    known = [parameter.name for parameter in parameters]
    unknown = [name for name in request.query.keys() if name not in known]  # noqa: SIM118
    if unknown:
        told = ", ".join(known) or "none"
        said = f"unknown query parameter '{clipped(unknown[0])}'; known here: {told}"
        raise InvalidError([Fault(said)])
