"""The named pipes between steps that a container engine runs; the shim holds them.

A step that has a neighbour is started by :func:`on_pipes`, in a container that has the directory
mounted, best read-only: a pipe can be written all the same, and nobody can replace it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from flow_operator.errors import TerminalError
from flow_operator.runners.base import PipeView
from flow_operator.runners.measure import pipe_view
from flow_operator.settings import Layout

MOUNT = "/run/flow"
"""Where a container finds the pipes of its run."""

Call = Callable[..., Any]

log = structlog.get_logger("held-pipes")


def on_pipes(argv: Sequence[str], index: int, count: int, mount: str = MOUNT) -> list[str]:
    """What starts a step on its pipes; the image must have ``sh``.

    A pipe whose other neighbour has ended for good is no longer held at that end, and opening it
    would wait for one. So it is first opened both ways, which never waits, by a descriptor that the
    step does not get.
    """
    ends = [(0, "<", index - 1)] * (index > 0) + [(1, ">", index)] * (index < count - 1)
    if not ends:
        return list(argv)
    words = [f"3<>{mount}/{pipe}.fifo {fd}{way}{mount}/{pipe}.fifo 3>&-" for fd, way, pipe in ends]
    return ["sh", "-c", f'exec "$@" {" ".join(words)}', "sh", *argv]


@dataclass(slots=True)
class _Run:
    """What the shim was asked to hold, for one that comes after it."""

    count: int
    ended: frozenset[int] = frozenset()
    cut: frozenset[int] = frozenset()


class HeldPipes:
    """Has the shim hold named pipes, and every shim that comes after it.

    Verbs are idempotent. All raise RetryableError while the shim is away, and TerminalError if it
    refuses.

    Args:
        layout: where the pipes are.
        call: asks the shim.
    """

    def __init__(self, layout: Layout, call: Call) -> None:
        self._root = layout.pipes
        self._call = call
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}

    def hold(
        self, run: str, count: int, ended: Iterable[int] = (), starting: Iterable[int] = ()
    ) -> Path:
        """Hold the pipes between the ``count`` steps of a run; returns their directory.

        Call it before each start of a step: only then is it sure that somebody holds them.

        Args:
            run: the run id.
            count: how many steps it has.
            ended: those that have ended for good.
            starting: those that are about to be started, and so are no longer ``cut``.
        """
        with self._lock:
            known = self._runs.setdefault(run, _Run(count))
            known.ended |= frozenset(ended)
        try:
            self._hold(run, known, self._call, starting)
        except TerminalError:
            with self._lock:
                self._runs.pop(run, None)
            raise
        return self._root / run

    def _hold(self, name: str, run: _Run, call: Call, starting: Iterable[int] = ()) -> None:
        told = call(
            "hold", run=name, count=run.count, ended=sorted(run.ended), starting=list(starting)
        )
        run.cut = frozenset(told["cut"])

    def hold_again(self, call: Call) -> None:
        """Have a shim that has just come hold all that is held."""
        with self._lock:
            held = list(self._runs.items())
        for name, run in held:
            try:
                self._hold(name, run, call)
            except TerminalError as error:
                # All others need the shim; who starts a step of this run is told the reason.
                log.warning("the pipes of a run cannot be held", run=name, error=str(error))

    def cut(self, run: str) -> frozenset[int]:
        """The steps that have seen an end of their input that was none.

        Who had held the pipe was killed while the step before had no process.
        """
        with self._lock:
            known = self._runs.get(run)
            return known.cut if known is not None else frozenset()

    def end(self, run: str, index: int) -> None:
        """Let go of a step's pipes: who reads after it sees the end, who writes before it EPIPE."""
        with self._lock:
            known = self._runs.get(run)
            if known is None:
                return
            known.ended |= {index}
        self._call("end-held", run=run, step=index)

    def release(self, run: str) -> None:
        """Let go of a run's pipes and remove them, also where nobody knows them."""
        with self._lock:
            self._runs.pop(run, None)
        self._call("release", run=run)

    def release_all_but(self, runs: Iterable[str]) -> None:
        """Release what is left of runs that nobody knows any more."""
        known = frozenset(runs)
        if not self._root.is_dir():
            return
        for directory in sorted(self._root.iterdir()):
            if directory.name not in known:
                self.release(directory.name)

    def in_flight(self, runs: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Unread bytes before each step, of those runs that are held."""
        told = self._call("usage", runs=list(runs))
        return {name: tuple(counts) for name, counts in told.items()}

    def fills(self, runs: Iterable[str]) -> dict[str, tuple[PipeView, ...]]:
        """The pipe before each step, of those runs that are held."""
        told = self._call("pipes", runs=list(runs))
        return {name: tuple(pipe_view(*fill) for fill in fills) for name, fills in told.items()}
