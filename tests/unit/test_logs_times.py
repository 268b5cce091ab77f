"""By when what was printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flow_operator.logs import times
from flow_operator.logs.times import TimeIndex


@pytest.fixture
def index(root: Path) -> TimeIndex:
    """Up to 10 was printed by second 100, up to 20 by 105, up to 50 by 106."""
    index = TimeIndex(str(root / "step.times"))
    for second, end in [(100, 10), (105, 20), (106, 50)]:
        index.add(second, end)
    return index


def test_a_byte_is_as_old_as_the_look_that_first_saw_it(index: TimeIndex) -> None:
    """What is behind the last look is of no time yet."""
    assert index.seconds_of([0, 9, 10, 19, 20, 49, 50, 999]) == [
        *(100, 100, 105, 105, 106, 106),
        *(None, None),
    ]


@pytest.mark.parametrize(
    ("second", "position"), [(0, 0), (100, 0), (101, 10), (105, 10), (106, 20), (107, 50)]
)
def test_since_begins_where_nothing_before_is_new_enough(
    index: TimeIndex, second: int, position: int
) -> None:
    """Behind the last look everything is new."""
    assert index.position_of(second) == position


def test_one_second_is_one_entry(index: TimeIndex) -> None:
    """A log that is looked at often costs no more than one that is not."""
    size = os.stat(index._path).st_size
    index.add(106, 60)
    index.add(106, 70)
    assert os.stat(index._path).st_size == size
    assert index.seconds_of([69, 70]) == [106, None]


def test_an_index_is_read_again(index: TimeIndex) -> None:
    """By the operator that follows."""
    again = TimeIndex(index._path)
    assert again.last == (106, 50)
    again.add(106, 55)
    again.add(107, 60)
    assert again.seconds_of([54, 59]) == [106, 107]


def test_a_torn_entry_is_ignored_and_written_over(index: TimeIndex) -> None:
    """A crash in the midst of a write costs one look."""
    with open(index._path, "ab") as file:
        file.write(b"half")
    again = TimeIndex(index._path)
    assert again.last == (106, 50)
    again.add(108, 70)
    assert TimeIndex(index._path).seconds_of([60]) == [108]


def test_a_clock_that_was_set_back_hides_nothing(index: TimeIndex) -> None:
    """Too much is told rather than too little."""
    index.add(90, 80)
    assert index.seconds_of([60]) == [90]
    assert index.position_of(89) == 0
    assert index.position_of(106) == 20


def test_what_is_no_longer_kept_needs_no_times(index: TimeIndex) -> None:
    """The entry that a position falls into stays."""
    index.trim(15)
    assert index.seconds_of([15, 49]) == [105, 106]
    assert index.position_of(0) == 0
    assert TimeIndex(index._path).seconds_of([15]) == [105]


def test_an_index_is_bounded(index: TimeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older half is thinned: what went counts as printed later, never earlier."""
    monkeypatch.setattr(times, "MOST", 12)
    for second in range(107, 117):
        index.add(second, second)
    assert index.full
    before = index.seconds_of(list(range(50, 117)))
    index.trim(0)
    assert not index.full
    after = index.seconds_of(list(range(50, 117)))
    assert all(late >= early for early, late in zip(before, after, strict=True) if early)
    assert after[-7:] == before[-7:]
    assert after != before
    index.add(200, 300)
    assert TimeIndex(index._path).seconds_of([299]) == [200]


def test_nothing_is_known_of_a_lost_index(root: Path) -> None:
    """And nothing else is lost."""
    index = TimeIndex(str(root / "none.times"))
    assert (index.last, index.seconds_of([5]), index.position_of(5)) == ((0, 0), [None], 0)
