"""``status --watch``: in place on a terminal, lines of changes anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import click

from flow_operator.client import ApiError, JsonObject, UnreachableError
from flow_operator.flowctl.output import Table, on_terminal, plain_lines
from flow_operator.flowctl.status import HEADERS, status_row, status_table

Statuses = dict[str, JsonObject]
Look = Callable[[], Statuses]

_UPTIME = HEADERS.index("UPTIME")
_STATUS = HEADERS.index("STATUS")


def watch(look: Look, first: Statuses, interval: float) -> None:
    """Show ``first`` and then what ``look`` returns every ``interval`` seconds; never returns.

    An operator that goes away while it is watched is waited for.
    """
    if on_terminal():
        _in_place(_looks(look, first, interval))
    else:
        _changes(_looks(look, first, interval))


def _looks(look: Look, first: Statuses, interval: float) -> Iterator[tuple[Statuses, str]]:
    """What was seen last, and why it is not newer."""
    seen = first
    yield seen, ""
    while True:
        time.sleep(interval)
        trouble = ""
        try:
            seen = look()
        except (UnreachableError, ApiError) as error:
            trouble = str(error)
        yield seen, trouble


def _in_place(looks: Iterator[tuple[Statuses, str]]) -> None:
    from flow_operator.flowctl.terminal import screen  # noqa: PLC0415 - imports rich

    with screen() as shown:
        for statuses, trouble in looks:
            shown.show(status_table(statuses), trouble)


def _changes(looks: Iterator[tuple[Statuses, str]]) -> None:
    changes = Changes()
    last_trouble = ""
    for statuses, trouble in looks:
        for line in changes.lines(statuses):
            click.echo(line)
        sys.stdout.flush()
        if trouble and trouble != last_trouble:
            click.echo(trouble, err=True)
        last_trouble = trouble


class Changes:
    """Writes the rows that are not as they were; uptime alone is no change."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[object, ...]] = {}
        self._widths: list[int] = [0] * len(HEADERS)
        self._headed = False

    def lines(self, statuses: Statuses) -> list[str]:
        """The lines for what changed since the last call; the first ones begin with headers."""
        rows = {name: status_row(statuses[name]) for name in sorted(statuses)}
        changed = [
            row for name, row in rows.items() if _lasting(row) != _lasting(self._rows.get(name))
        ]
        changed += [_gone(row) for name, row in self._rows.items() if name not in rows]
        self._rows = rows
        lines = plain_lines(Table(HEADERS, changed), self._widths)
        headers, self._headed = 1 if self._headed else 0, True
        return lines[headers:]


def _lasting(row: tuple[object, ...] | None) -> tuple[object, ...] | None:
    return row and (*row[:_UPTIME], *row[_UPTIME + 1 :])


def _gone(row: tuple[object, ...]) -> tuple[object, ...]:
    blank = [None] * (len(row) - _STATUS - 2)
    return (*row[:_STATUS], "deleted", *blank, "")
