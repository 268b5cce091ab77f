"""What is left of runs that another operator, or another shim, has started."""

from __future__ import annotations

from collections.abc import Container
from functools import cached_property
from typing import Any

from msgspec import to_builtins

from flow_operator.runners.base import Handle, StepView
from flow_operator.runners.procfs import Identity, Proc, identity, pids, read_proc, run_of, scan


class Remains:
    """One look at /proc, taken when it is first needed.

    Args:
        home: the data directory; what was started for another is none of ours.
    """

    def __init__(self, home: str) -> None:
        self._home = home

    @cached_property
    def _found(self) -> list[tuple[Proc, Identity]]:
        known = ((proc, identity(proc.pid, self._home)) for proc in scan().values())
        return [(proc, who) for proc, who in known if who is not None]

    def step(self, handle: Handle, step: StepView, name: str) -> dict[str, Any]:
        """What a shim needs to adopt a step; pid 0 if its process is gone.

        A recorded pid counts if start time and run id are the same. Else somebody may have been
        killed between a start and its record: of the attempt that was never recorded, or of the
        one after an exit. Its process is the oldest leader of a session that carries run, step
        and attempt.
        """
        proc = read_proc(step.pid) if step.pid else None
        known = {"ended": step.ended, "exit": to_builtins(step.exit)}
        if proc and proc.start == step.start and run_of(step.pid, self._home) == handle.run:
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
        others = (identity(pid, self._home) for pid in pids() if pid not in steps)
        found = {who.run: who for who in others if who is not None and who.run not in known}
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
