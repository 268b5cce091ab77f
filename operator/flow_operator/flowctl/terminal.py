"""Tables on a terminal. The only module that knows rich; colours follow ``NO_COLOR``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from flow_operator.flowctl.output import Table
from flow_operator.flowctl.text import clean

_GREEN = ("running", "completed", "True")
_YELLOW = ("pending", "starting", "stopping", "waiting", "unknown", "Unknown", "backoff", "Warning")
_RED = ("failed", "False")
_DIM = ("paused", "frozen", "stopped", "-")
_STYLES = {
    **dict.fromkeys(_GREEN, "green"),
    **dict.fromkeys(_YELLOW, "yellow"),
    **dict.fromkeys(_RED, "red"),
    **dict.fromkeys(_DIM, "dim"),
}
_COLOURED = ("STATUS", "STATE", "TYPE", "DESIRED")


class Screen(Protocol):
    """Where a table is shown in place."""

    def show(self, table: Table, note: str = "") -> None:
        """Replace what is shown; ``note`` stands below."""


def draw(table: Table) -> None:
    """Print a table."""
    _console().print(Padding(_drawn(table), (0, 0, 0, table.indent), expand=False))


@contextmanager
def screen() -> Iterator[Screen]:
    """A place on the terminal that is redrawn."""
    with Live(console=_console(), auto_refresh=False, vertical_overflow="ellipsis") as live:
        yield _LiveScreen(live)


class _LiveScreen:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, table: Table, note: str = "") -> None:
        shown = _drawn(table)
        if note:
            shown.caption = Text(note, style="yellow")
            shown.caption_justify = "left"
        self._live.update(shown, refresh=True)


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for header in table.headers[:-1]:
        drawn.add_column(header, no_wrap=True)
    drawn.add_column(table.headers[-1], overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(_cell, table.headers, row))
    return drawn


def _cell(header: str, value: object) -> Text:
    text = clean(value)
    return Text(text, _STYLES.get(text, "") if header in _COLOURED else "")
