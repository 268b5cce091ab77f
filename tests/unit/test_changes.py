"""The ring of changes: what it keeps, and that readers need no lock."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from flow_operator.board import CHANGES, Board, Changes
from flow_operator.board.changes import WEIGHT
from flow_operator.model.status import FlowStatus, StepStatus
from flow_operator.teller import unknown_status
from support import FakeClock, eventually


def status(steps: int = 1, message: str = "") -> FlowStatus:
    step = StepStatus("s", 0, "run", "running", 1, 0, True, None, 0.0, 0, 0)
    return replace(unknown_status("a", message), steps=(step,) * steps)


def held(changes: Changes) -> list[int]:
    """The revisions after which a watch can go on."""
    return [revision for revision in range(changes.revision + 3) if changes.holds(revision)]


def test_the_last_changes_are_kept_and_no_others():
    """All that come after a revision which is held can be had, each once, in their order."""
    changes = Changes(most=3)
    assert held(changes) == [0]
    for number in range(1, 10):
        changes.add(f"f{number}")
        assert held(changes) == list(range(max(0, number - 3), number + 1))
        oldest = held(changes)[0]
        if oldest:
            assert changes.next(oldest - 1) is None
        told = [changes.next(revision) for revision in range(oldest, number)]
        assert [change.flow_id for change in told] == [
            f"f{n}" for n in range(oldest + 1, number + 1)
        ]
        assert [change.revision for change in told] == list(range(oldest + 1, number + 1))


def test_large_statuses_leave_room_for_fewer():
    """Memory is bounded, however many steps a flow has; the last change is always there."""
    changes = Changes(most=100, weight=50)
    for _ in range(20):
        changes.add("a", status(steps=3), status(steps=3))
    assert len(held(changes)) - 1 == 50 // 11
    changes.add("a", None, status(steps=1000))
    assert held(changes) == [20, 21]
    for _ in range(100):
        changes.add("a")
    assert len(held(changes)) - 1 == 50


def test_the_changes_of_small_flows_fill_the_ring():
    """It is their number that bounds them, not their weight."""
    changes = Changes()
    for _ in range(2 * CHANGES):
        changes.add("a", status(), status())
    assert len(held(changes)) - 1 == CHANGES
    assert CHANGES * changes.next(changes.revision - 1).weight <= WEIGHT


@pytest.fixture
def _often_switched() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Reader(threading.Thread):
    """Reads changes without a lock; what it must not see is in ``faults``."""

    def __init__(self, changes: Changes) -> None:
        super().__init__()
        self._changes = changes
        self.over = threading.Event()
        self.faults: list[object] = []
        self.seen = 0

    def run(self) -> None:
        cursor = 0
        while not self.over.is_set():
            cursor = self._read(cursor)
            time.sleep(0)

    def _read(self, cursor: int) -> int:
        if cursor == self._changes.revision:
            return cursor
        change = self._changes.next(cursor)
        if change is None:
            if self._changes.holds(cursor):
                self.faults.append(("lost", cursor))
            return self._changes.revision
        if change.revision != cursor + 1 or change.after.message != f"{change.revision}":
            self.faults.append(change)
        self.seen += 1
        return change.revision


@pytest.mark.usefixtures("_often_switched")
def test_readers_see_every_change_or_that_they_were_too_slow():
    """While others publish: never a wrong one, none twice, none left out."""
    board = Board(FakeClock())
    board.changes = Changes(most=16)
    readers = [Reader(board.changes) for _ in range(4)]
    numbers = itertools.count(1)

    def enough() -> None:
        for _ in range(20):
            board.publish(status(message=f"{next(numbers)}"))
        assert all(reader.seen > 300 for reader in readers)

    for reader in readers:
        reader.start()
    try:
        eventually(enough, every=0)
    finally:
        for reader in readers:
            reader.over.set()
            reader.join()
    assert [reader.faults for reader in readers] == [[]] * 4


def test_numbers_of_two_boards_are_told_apart():
    """By an epoch that nobody can guess."""
    assert len({Board(FakeClock()).epoch for _ in range(100)}) == 100
