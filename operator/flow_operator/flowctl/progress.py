"""What flows do while a command waits for them: which still drain, and what is in flight."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

import click

from flow_operator.client import JsonObject
from flow_operator.errors import FlowError
from flow_operator.flowctl.output import Table, on_terminal
from flow_operator.flowctl.text import clean, size

if TYPE_CHECKING:
    from threading import Event

HEADERS = ("NAME", "STATUS", "RUNNING", "IN-FLIGHT", "MESSAGE")

DELAY = 0.6
"""Seconds before anything is shown: what is done at once needs no telling."""
PERIOD = 0.4
_SHARE = 4
"""A look that takes long is followed by a pause of so many times its length."""
_QUIET = 5.0
"""Seconds between two lines of one flow of which only the bytes in flight have changed."""

Statuses = dict[str, JsonObject]
Look = Callable[[], Statuses]
Show = Callable[[Statuses, float], None]


@contextmanager
def progress(look: Look, goals: tuple[str, ...]) -> Iterator[None]:
    """Show, until the block ends, the flows that are not there yet.

    Lines on stderr where stdout is no terminal: there they are no part of the answer.

    Args:
        look: asks for the statuses; is called from another thread.
        goals: the statuses that are waited for.
    """
    import threading  # noqa: PLC0415 - help must not wait for it

    done = threading.Event()
    thread = threading.Thread(target=_show, args=(look, goals, done), name="progress")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(look: Look, goals: tuple[str, ...], done: Event) -> None:
    if done.wait(DELAY):
        return
    begun = time.monotonic() - DELAY
    with _display(goals) as show:
        pause = 0.0
        while not done.wait(pause):
            asked = time.monotonic()
            with suppress(FlowError):  # The command itself tells what is wrong.
                show(look(), asked - begun)
            pause = max(PERIOD, _SHARE * (time.monotonic() - asked))


def _display(goals: tuple[str, ...]) -> AbstractContextManager[Show]:
    return _in_place(goals) if on_terminal() else nullcontext(Lines(goals).show)


@contextmanager
def _in_place(goals: tuple[str, ...]) -> Iterator[Show]:
    from flow_operator.flowctl.terminal import screen  # noqa: PLC0415 - imports rich

    with screen(transient=True) as shown:

        def show(statuses: Statuses, passed: float) -> None:
            left = [status for status in statuses.values() if not arrived(status, goals)]
            note = f"{len(statuses) - len(left)} of {len(statuses)} {goals[0]} after {passed:.0f}s"
            if left:
                shown.show(Table(HEADERS, [_row(status) for status in left]), note)
            else:
                shown.show(None, note)

        yield show


class Lines:
    """A line for a flow whenever it has come on, and now and then while it drains."""

    def __init__(self, goals: tuple[str, ...]) -> None:
        self._goals = goals
        self._told: dict[str, tuple[object, ...]] = {}
        self._at: dict[str, float] = {}

    def show(self, statuses: Statuses, passed: float) -> None:
        """Print what has changed."""
        for name, status in statuses.items():
            row = _row(status)
            if arrived(status, self._goals) or row == self._told.get(name):
                continue
            same = self._told.get(name, ())[:3] == row[:3]
            if same and passed - self._at[name] < _QUIET:
                continue
            self._told[name], self._at[name] = row, passed
            click.echo(f"flow/{name} {sentence(status)}", err=True)


def arrived(status: JsonObject, goals: tuple[str, ...]) -> bool:
    """Whether a flow is where it was told to go, as far as its status tells."""
    seen = status.get("observedGeneration") == status.get("generation")
    return seen and status.get("status") in goals


def sentence(status: JsonObject) -> str:
    """As in ``stopping: write still runs, 12Ki in flight``."""
    _, phase, running, flight, message = _row(status)
    parts = [f"{running} still {'runs' if ',' not in str(running) else 'run'}"] if running else []
    unit = " bytes" if str(flight).isdecimal() else ""
    parts += [f"{flight}{unit} in flight"] if flight else []
    parts += [clean(message)] if message else []
    return f"{phase}: {', '.join(parts)}" if parts else f"{phase}"


def _row(status: JsonObject) -> tuple[object, ...]:
    """What ``HEADERS`` name."""
    steps = status.get("steps") or ()
    running = dict.fromkeys(
        step.get("name", "") for step in steps if step.get("state") in ("running", "frozen")
    )
    flight = sum(step.get("inFlightBytes") or 0 for step in steps)
    return (
        status.get("flow_id"),
        status.get("status"),
        ", ".join(running) or None,
        size(flight) if flight else None,
        status.get("message") or "",
    )
