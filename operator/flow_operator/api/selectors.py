"""Selectors, as Kubernetes writes them: which flows a list, a watch or a command speaks of.

Labels: ``team=payments``, ``tier!=gold``, ``team in (a, b)``, ``team notin (a, b)``, ``team``,
``!team``. Fields of the status: ``status=running,desired!=running``. A comma is an and.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flow_operator.errors import InvalidError, clipped
from flow_operator.model.status import FlowStatus

Test = Callable[[str | None], bool]

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUALITY = re.compile(rf"({_KEY})\s*(==|=|!=)\s*([^\s=!,()]*)")
_PRESENCE = re.compile(rf"(!?)\s*({_KEY})")

FIELDS: Mapping[str, Callable[[FlowStatus], Any]] = {
    "metadata.name": lambda status: status.flow_id,
    "flow_id": lambda status: status.flow_id,
    "status": lambda status: status.status,
    "desired": lambda status: status.desired,
    "source.kind": lambda status: status.source.kind,
    "source.file": lambda status: status.source.file or "",
    "ready": lambda status: _condition(status, "Ready"),
    "stalled": lambda status: _condition(status, "Stalled"),
    "reconciling": lambda status: _condition(status, "Reconciling"),
}
"""What a field selector may name."""


def _condition(status: FlowStatus, kind: str) -> str:
    condition = status.condition(kind)
    return condition.status if condition is not None else "Unknown"


class Selector:
    """What of each flow must hold, all of it.

    Args:
        tests: (key, test) of the value under the key, None if there is none.
    """

    def __init__(self, tests: list[tuple[str, Test]]) -> None:
        self._tests = tests

    def labels(self, labels: Mapping[str, str]) -> bool:
        """Whether it holds of labels."""
        return all(test(labels.get(key)) for key, test in self._tests)

    def fields(self, status: FlowStatus) -> bool:
        """Whether it holds of the fields of a status."""
        return all(test(str(FIELDS[key](status))) for key, test in self._tests)


def label_selector(text: str) -> Selector:
    """Read a selector of labels.

    Raises:
        InvalidError: naming the part that is none.
    """
    return Selector([_requirement(part, text) for part in _parts(text)])


def field_selector(text: str) -> Selector:
    """Read a selector of fields.

    Raises:
        InvalidError: naming the part that is none, or a field that cannot be selected by.
    """
    tests = []
    for part in _parts(text):
        equality = _EQUALITY.fullmatch(part)
        if not equality:
            raise InvalidError(
                f"field selector: {clipped(part)!r} is not FIELD=VALUE or FIELD!=VALUE"
            )
        if equality[1] not in FIELDS:
            known = ", ".join(FIELDS)
            raise InvalidError(
                f"field selector: no field '{clipped(equality[1])}'; these are: {known}"
            )
        tests.append((equality[1], _equals(equality[2], equality[3])))
    return Selector(tests)


def _parts(text: str) -> Iterator[str]:
    """What stands between commas that are not within parentheses."""
    return (part.strip() for part in re.split(r",(?![^()]*\))", text))


def _requirement(part: str, text: str) -> tuple[str, Test]:
    if of_set := _SET.fullmatch(part):
        return of_set[1], _within(of_set[2], of_set[3])
    if equality := _EQUALITY.fullmatch(part):
        return equality[1], _equals(equality[2], equality[3])
    if presence := _PRESENCE.fullmatch(part):
        return presence[2], _absent if presence[1] else _present
    said = "write KEY=VALUE, KEY!=VALUE, KEY in (A, B), KEY notin (A, B), KEY or !KEY"
    raise InvalidError(f"label selector: {clipped(part or text)!r} cannot be read; {said}")


def _equals(operator: str, wanted: str) -> Test:
    # As in Kubernetes: what lacks the label is not equal to anything.
    if operator == "!=":
        return lambda value: value != wanted
    return lambda value: value == wanted


def _within(operator: str, listed: str) -> Test:
    wanted = frozenset(word.strip() for word in listed.split(","))
    if operator == "notin":
        return lambda value: value not in wanted
    return lambda value: value in wanted


def _present(value: str | None) -> bool:
    return value is not None


def _absent(value: str | None) -> bool:
    return value is None
