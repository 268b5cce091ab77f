"""What fields mean, from the one place where it is written: the docstring of their Struct."""

from __future__ import annotations

import inspect
import re
from functools import cache

import msgspec

_FIELD = re.compile(r"    (\w+): (.*)")
_MORE = re.compile(r"        +(\S.*)")


@cache
def summary(struct: type[msgspec.Struct]) -> str:
    """A docstring without its list of attributes, as one paragraph for each of its own."""
    text = inspect.cleandoc(struct.__doc__ or "").partition("\nAttributes:\n")[0]
    return plain("\n\n".join(" ".join(part.split()) for part in text.split("\n\n")).strip())


@cache
def descriptions(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What the ``Attributes:`` of a Struct and of those that it inherits from say, by field."""
    found: dict[str, str] = {}
    for kind in reversed(struct.__mro__):
        if issubclass(kind, msgspec.Struct) and "__doc__" in vars(kind):
            found |= _attributes(inspect.cleandoc(kind.__doc__ or ""))
    return {name: text for name, text in found.items() if name in struct.__struct_fields__}


def _attributes(doc: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in doc.partition("\nAttributes:\n")[2].splitlines():
        if field := _FIELD.fullmatch(line):
            name, found[field[1]] = field[1], field[2]
        elif name and (more := _MORE.fullmatch(line)):
            found[name] += f" {more[1]}"
        else:
            name = ""
    return {name: plain(_sentence(text)) for name, text in found.items()}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def plain(text: str) -> str:
    """A text without the marks of reStructuredText."""
    return re.sub(r":\w+:`([^`]*)`", r"\1", text).replace("``", "`")
