"""What is left of runs that another operator, or another shim, has started."""

from __future__ import annotations

import time
from collections.abc import Container
from functools import cached_property
from typing import Any

import structlog
from msgspec import to_builtins

from flow_operator.runners.base import Handle, StepView
from flow_operator.runners.procfs import (
    Identity,
    Proc,
    environment,
    identity,
    is_in_exec,
    prints_to,
    read_proc,
    scan,
    told_by,
)
from flow_operator.settings import Layout
from flow_operator.shim.cgroups import group_of

_EXEC_WITHIN = 5.0
"""Seconds for which processes in the middle of an exec are waited for; it takes a tenth of a
millisecond, unless a disk or the machine hangs."""

_LOOK_AGAIN = 0.002
"""Seconds between two looks at them."""

log = structlog.get_logger("remains")


class Remains:
    """One look at /proc, taken when it is first needed.

    Args:
        layout: of the data directory; what was started for another is none of ours.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._home = str(layout.root)

    @cached_property
    def _found(self) -> list[tuple[Proc, Identity]]:
        return self._search(())

    def _search(self, besides: Container[int]) -> list[tuple[Proc, Identity]]:
        """All that were started for us.

        Whom a shim has spawned just before it was killed may have no environment for a moment, and
        nobody else knows of it.
        """
        deadline = time.monotonic() + _EXEC_WITHIN
        while True:
            found, nameless = self._look(besides)
            if not nameless:
                return found
            if time.monotonic() > deadline:
                log.warning("who hangs in execve(2) is taken for a stranger", pids=nameless)
                return found
            time.sleep(_LOOK_AGAIN)

    def _look(self, besides: Container[int]) -> tuple[list[tuple[Proc, Identity]], list[int]]:
        """Those that were started for us, and leaders of sessions that are in an exec."""
        found: list[tuple[Proc, Identity]] = []
        nameless: list[int] = []
        for proc in scan(besides).values():
            environ = environment(proc.pid)
            who = identity(environ, self._home)
            if who is not None:
                found.append((proc, who))
            elif not environ and proc.pid == proc.sid and is_in_exec(proc):
                nameless.append(proc.pid)
        return found, nameless

    def step(self, handle: Handle, step: StepView, name: str) -> dict[str, Any]:
        """What a shim needs to adopt a step; pid 0 if its process is gone.

        A recorded pid counts if start time and run are the same. Else somebody may have been
        killed between a start and its record: of the attempt that was never recorded, or of the
        one after an exit. Its process is the oldest leader of a session that carries run, step
        and attempt.
        """
        proc = read_proc(step.pid) if step.pid else None
        known = {"ended": step.ended, "exit": to_builtins(step.exit)}
        if proc and proc.start == step.start and self._is_of(proc, handle, name):
            return {
                **known,
                "attempt": step.attempt,
                "pid": proc.pid,
                "start": proc.start,
                "log_from": step.log_from,
            }
        unrecorded = step.attempt + (step.exit is not None or step.pid > 0)
        oldest = None if step.ended else self._leader(handle.run, name, unrecorded)
        if oldest is None:
            return {**known, "attempt": step.attempt, "pid": 0, "start": 0}
        return {
            "ended": False,
            "exit": None,
            "attempt": unrecorded,
            "pid": oldest.pid,
            "start": oldest.start,
        }

    def _is_of(self, proc: Proc, handle: Handle, name: str) -> bool:
        """Whether a process lives and is of a run, by its environment.

        Some write their title over that, or clear it, and in the middle of an exec there is none.
        What the shim has given it then tells: the step's log, or the run's group.
        """
        if proc.dead:
            return False  # It keeps its group until somebody reaps it.
        home, run = told_by(proc.pid)
        if run not in ("", handle.run) or home not in ("", self._home):
            return False
        if run and home:
            return True
        printed = self._layout.log_file(handle.flow_id, handle.replica, name)
        return prints_to(proc.pid, printed) or group_of(proc.pid, handle.run) is not None

    def _leader(self, run: str, step: str, attempt: int) -> Proc | None:
        leaders = (
            proc
            for proc, who in self._found
            if proc.pid == proc.sid and (who.run, who.step, who.attempt) == (run, step, attempt)
        )
        return min(leaders, key=lambda proc: proc.start, default=None)

    def strays(self, known: frozenset[str], steps: Container[int]) -> list[dict[str, Any]]:
        """The runs besides the known ones, as states of a shim that knows none of their steps.

        They were started by an operator whose records are lost. That of a step would be a guess.

        Args:
            known: the other runs.
            steps: the processes of their steps, at which nobody needs to look.
        """
        found = {who.run: who for _, who in self._search(steps) if who.run not in known}
        return [
            {
                "run": run,
                "seq": [0, 0],
                "labels": {"flow": who.flow_id, "replica": who.replica, "steps": []},
                "group": None,
                "unheld": [],
                "steps": [],
            }
            for run, who in found.items()
        ]
