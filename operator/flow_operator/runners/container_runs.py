"""What is known of the runs that are containers."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from flow_operator.runners.base import Exit, Handle, Instance, StepView
from flow_operator.runners.container_state import Box


class Facts(NamedTuple):
    """What others know of a run: the shim of its pipes, the copies of its logs."""

    unread: tuple[int, ...]
    cut: frozenset[int]
    log_from: tuple[int | None, ...]


class Run:
    """One run; guarded by the runner's lock, but for ``turn``.

    Attributes:
        turn: held while a verb changes the run, so that two do not at once.
        boxes: the container of the last attempt of each step, by its index.
        launched: whether every step has a container that somebody has tried to start.
        ended: the steps that have ended for good.
        sweeping: whether it is said when nothing of it runs any more.
        refused: why the engine did not start a step, where it does not tell that itself.
        lost: the steps whose container somebody has removed, with the attempt that it was.
    """

    def __init__(self, run: str, flow_id: str, replica: int, names: tuple[str, ...]) -> None:
        self.run = run
        self.flow_id = flow_id
        self.replica = replica
        self.names = names
        self.turn = threading.RLock()
        self.boxes: dict[int, Box] = {}
        self.launched = False
        self.ended: set[int] = set()
        self.sweeping = False
        self.gone = False
        self.refused: dict[int, str] = {}
        self.lost: dict[int, int] = {}

    @classmethod
    def remembered(cls, handle: Handle) -> Run:
        """One that an earlier operator has started, before its containers were found."""
        run = cls(handle.run, handle.flow_id, handle.replica, handle.names)
        run.launched = True
        run.recall(handle)
        run.lost = {index: step.attempt for index, step in enumerate(handle.steps)}
        return run

    def recall(self, handle: Handle) -> None:
        """What an earlier operator had decided."""
        self.ended |= {index for index, step in enumerate(handle.steps) if step.ended}

    def take(self, box: Box) -> Box | None:
        """A container as it is now; returns one that another has taken the place of."""
        before = self.boxes.get(box.index)
        if before is not None and before.attempt > box.attempt:
            return box
        if (
            before is not None
            and before.ended
            and msgspec.structs.replace(box, exit=before.exit) == before
        ):
            return None  # Seen again: the moment of its exit stays as it was told.
        self.boxes[box.index] = box
        self.lost.pop(box.index, None)
        if box.started:
            self.refused.pop(box.index, None)
        if self.sweeping and not self.alive:
            self.gone = True
        if before is not None and before.id != box.id:
            return before
        return None

    def miss(self, index: int) -> None:
        """The container of a step is there no more."""
        box = self.boxes.pop(index, None)
        if box is not None:
            self.lost[index] = box.attempt
        if self.sweeping and not self.alive:
            self.gone = True

    @property
    def joined(self) -> bool:
        """Whether there are pipes between its steps."""
        return len(self.names) > 1

    @property
    def complete(self) -> bool:
        """Whether every step has, or had, a container."""
        return len(self.boxes) + len(self.lost) == len(self.names)

    @property
    def alive(self) -> bool:
        """Whether any step runs, or is paused."""
        return any(box.alive for box in self.boxes.values())

    @property
    def frozen(self) -> bool:
        """Whether all that runs is paused."""
        alive = [box for box in self.boxes.values() if box.alive]
        return bool(alive) and all(box.phase == "paused" for box in alive)

    def living(self, indexes: Iterable[int]) -> list[Box]:
        """The containers of those steps that live."""
        found = (self.boxes.get(index) for index in indexes)
        return [box for box in found if box is not None and box.alive]

    def attempt(self, index: int) -> int:
        """The last attempt of a step that is known."""
        box = self.boxes.get(index)
        return box.attempt if box is not None else self.lost.get(index, 0)

    def instance(self, facts: Facts, limits: tuple[str, ...]) -> Instance:
        """The run as it is observed.

        Args:
            facts: what others know of it.
            limits: which the engine enforces.
        """
        steps = tuple(self._view(index, facts, limits) for index in range(len(self.names)))
        return Instance(
            *(self.run, self.flow_id, self.replica, steps),
            frozen=self.frozen,
            gone=self.gone,
            thawed=not any(box.phase == "paused" for box in self.boxes.values()),
        )

    def _view(self, index: int, facts: Facts, limits: tuple[str, ...]) -> StepView:
        box = self.boxes.get(index)
        ended = index in self.ended
        if box is None:
            unknown = Exit("ExitUnknown", detail="its container was removed")
            return StepView(self.attempt(index), ended=ended, exit=unknown)
        left = box.exit
        if index in self.refused and not box.alive:
            left = Exit("SpawnFailed", detail=self.refused[index])
        return StepView(
            attempt=box.attempt,
            pid=box.pid,
            start=box.started,
            ended=ended,
            exit=left,
            input_bytes=0 if box.alive else facts.unread[index],
            limits=tuple(sorted((name, name in limits) for name in box.asked)),
            log_from=facts.log_from[index],
            cut=index in facts.cut,
        )
