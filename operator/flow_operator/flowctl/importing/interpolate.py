"""compose's variables: ``$A``, ``${A}``, ``${A:-default}``, ``${A:?error}``, ``${A:+other}``.

Source: "Interpolation" of the Compose specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flow_operator.errors import clipped
from flow_operator.flowctl.importing.source import Place, Source

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")

_DEEPEST = 16
"""Defaults within defaults."""


class Interpolation:
    """Replaces variables by the environment's, else by those of ``.env``."""

    def __init__(self, source: Source, local: Mapping[str, str]) -> None:
        self._source = source
        self._known = {**local, **source.environ}
        self._told: set[str] = set()

    def __call__(self, text: str, place: Place) -> str:
        """The text as compose reads it.

        Raises:
            InvalidError: a variable is not well-formed, or required and not set.
        """
        return self._replace(text, place, 0)

    def _replace(self, text: str, place: Place, depth: int) -> str:
        if depth > _DEEPEST:
            place.refuse("variables within variables, deeper than compose files have them")
        made, at = [], 0
        while (dollar := text.find("$", at)) >= 0:
            made.append(text[at:dollar])
            piece, at = self._one(text, dollar + 1, place, depth)
            made.append(piece)
        return "".join([*made, text[at:]])

    def _one(self, text: str, at: int, place: Place, depth: int) -> tuple[str, int]:
        """What stands for the variable whose ``$`` is before ``at``, and where the text goes on."""
        if text.startswith("$", at):
            return "$", at + 1
        if match := _NAME.match(text, at):
            return self._value(match[0], place), match.end()
        if not text.startswith("{", at):
            place.refuse(f"{clipped(text)}: a $ that is meant as one is written $$")
        end = _closing(text, at)
        inner = text[at + 1 : end]
        name = _NAME.match(inner)
        if end < 0 or name is None:
            place.refuse(f"{clipped(text)}: a variable is written ${{NAME}}")
        rest = inner[name.end() :]
        operator = _OPERATOR.match(rest)
        if rest and operator is None:
            place.refuse(f"{clipped(text)}: a variable is written ${{NAME}} or ${{NAME:-default}}")
        if operator is None:
            return self._value(name[0], place), end + 1
        other = rest[operator.end() :]
        return self._operated(name[0], operator[0], other, place, depth), end + 1

    def _operated(self, name: str, operator: str, other: str, place: Place, depth: int) -> str:
        value = self._known.get(name)
        there = bool(value) if operator[0] == ":" else value is not None
        if operator[-1] == "+":
            return self._replace(other, place, depth + 1) if there else ""
        if there:
            return self._value(name, place)
        if operator[-1] == "?":
            said = self._replace(other, place, depth + 1) or "it has to be set"
            place.refuse(f"${{{name}}}: {clipped(said)}; set it for the import")
        return self._replace(other, place, depth + 1)

    def _value(self, name: str, place: Place) -> str:
        value = self._known.get(name)
        if name not in self._told:
            self._told.add(name)
            said = "is fixed at its present value"
            if value is None:
                said = "is not set, and empty as compose has it; set it for the import"
            self._source.remarks.add(place, f"${{{name}}} {said}")
        return value or ""


def _closing(text: str, at: int) -> int:
    """Where the brace at ``at`` closes; -1 if it does not."""
    depth = 0
    for index in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return -1
