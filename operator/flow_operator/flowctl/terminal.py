"""Tables on a terminal. The only module that knows rich; colours follow ``NO_COLOR``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from flow_operator.flowctl.output import Table
from flow_operator.flowctl.text import clean

_STYLES = {
    **dict.fromkeys(("running", "completed"), "green"),
    **dict.fromkeys(("pending", "starting", "stopping", "backoff", "waiting"), "yellow"),
    **dict.fromkeys(("unknown", "Warning"), "yellow"),
    **dict.fromkeys(("failed",), "red"),
    **dict.fromkeys(("paused", "frozen", "stopped"), "dim"),
}
_COLOURED = ("STATUS", "STATE", "TYPE")
_GAP = 3
_LEAST_LAST = 30
"""Cells below which folding the last column helps nobody: whole lines wrap instead."""


class Screen(Protocol):
    """Where a table is shown in place."""

    def show(self, table: Table | None, note: str = "") -> None:
        """Replace what is shown; ``note`` stands below."""


def draw(table: Table) -> None:
    """Print a table. What does not fit is folded, never cut."""
    console = _console()
    for line in _lines(table, console.width):
        console.print(line, soft_wrap=True)


@contextmanager
def screen(*, transient: bool = False) -> Iterator[Screen]:
    """A place on the terminal that is redrawn; ``transient`` takes it away at the end."""
    with Live(
        console=_console(),
        auto_refresh=False,
        vertical_overflow="ellipsis",
        transient=transient,
    ) as live:
        yield _LiveScreen(live)


class _LiveScreen:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, table: Table | None, note: str = "") -> None:
        lines = _lines(table) if table else []
        if note:
            lines.append(Text(note, style="yellow"))
        for line in lines:
            # A line that the terminal wrapped would upset the count of lines to go back up.
            line.no_wrap, line.overflow = True, "ellipsis"
        self._live.update(Group(*lines), refresh=True)


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _lines(table: Table, width: int | None = None) -> list[Text]:
    """A table as lines; within ``width``, if given, the last column is folded."""
    widths = [
        max(cell_len(clean(cell)) for cell in column)
        for column in zip(table.headers, *table.rows, strict=True)
    ]
    at = table.indent + sum(widths[:-1]) + _GAP * (len(widths) - 1)
    room = width - at if width and width - at >= _LEAST_LAST else None
    lines: list[Text] = []
    for row in (table.headers, *table.rows):
        *cells, last = map(clean, row)
        first, *rest = (textwrap.wrap(last, room) if room else [last]) or [""]
        line = Text(" " * table.indent, style="bold" if row is table.headers else "")
        for header, cell, size in zip(table.headers, [*cells, first], widths, strict=True):
            line.append(cell, _STYLES.get(cell, "") if header in _COLOURED else "")
            line.append(" " * (size - cell_len(cell) + _GAP))
        line.rstrip()
        lines += [line, *(Text(" " * at + piece) for piece in rest)]
    return lines
