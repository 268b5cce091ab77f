"""What an engine tells of a log, and which of it is new."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_operator.runners.engine_log import SLACK, Entry, Place, Places, entries

AT = b"2026-11-26T00:17:%02d.378980324Z"


def frame(entry: Entry) -> bytes:
    """An entry as an engine sends it."""
    body = entry.stamp + b" " + entry.text
    return struct.pack(">BxxxI", entry.stream, len(body)) + body


def at(second: int, text: bytes = b"x\n", stream: int = 1) -> Entry:
    return Entry(stream, AT % second, text)


def seen(log: Iterable[Entry]) -> Places:
    places = Places()
    for entry in log:
        places.passed(entry)
    return places


ENTRIES = st.lists(
    st.builds(at, st.integers(0, 3), st.binary(max_size=40), st.sampled_from([1, 2])), max_size=20
)


@given(log=ENTRIES, cut=st.lists(st.integers(0, 2000), max_size=8))
def test_an_answer_is_read_however_it_is_cut(log: list[Entry], cut: list[int]) -> None:
    """Chunks end anywhere, and bytes may be any."""
    data = b"".join(map(frame, log))
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in cut)})
    chunks = [data[a:b] for a, b in pairwise(ends)]
    assert list(entries(chunks)) == log


@pytest.mark.parametrize("missing", [1, 5, 30])
def test_an_answer_that_ends_within_an_entry_is_none(missing: int) -> None:
    """What was whole before that is told."""
    read = entries([frame(at(1)) + frame(at(2))[:-missing]])
    assert next(read) == at(1)
    with pytest.raises(OSError, match="cut off"):
        next(read)


def test_what_the_engine_says_of_itself_is_no_output() -> None:
    """It tells in a stream of its own that it could not read further."""
    with pytest.raises(OSError, match="Error grabbing logs"):
        list(entries([frame(Entry(3, b"Error", b"grabbing logs: EOF"))]))


@given(log=ENTRIES, split=st.integers(0, 20))
def test_what_is_behind_a_place_is_new_and_nothing_else(log: list[Entry], split: int) -> None:
    """Whatever the times: many at once, and clocks that were set back.

    Only where a stream comes back to the same time after another one can it not be told.
    """
    stamps = [[entry.stamp for entry in log if entry.stream == stream] for stream in (1, 2)]
    runs = [[a for a, b in zip(row, [None, *row], strict=False) if a != b] for row in stamps]
    if any(len(set(row)) != len(row) for row in runs):
        return
    before, after = log[:split], log[split:]
    places = seen(before)
    kept = Places(places.told()).kept(log)
    assert kept.told() == places.told()
    assert list(kept.after(log)) == after


def test_what_is_no_longer_kept_does_not_hide_what_is() -> None:
    """Neither an old place of a silent stream, nor one that the engine has rotated away."""
    places = seen([at(1, stream=2), at(2), at(3)])
    kept = places.kept([at(3), at(4), at(5, stream=2)])
    assert kept.told() == {1: Place((AT % 3).decode(), 1)}
    assert list(kept.after([at(3), at(4), at(5, stream=2)])) == [at(4), at(5, stream=2)]
    assert not places.kept([at(4), at(5)])
    assert kept.newest == places.newest != places.kept([at(4)]).newest


def test_where_to_begin_is_shortly_before_the_newest_place() -> None:
    """Times of Podman have an offset and as many digits as are needed."""
    assert Places().since() == 0
    second = 1795652233
    stamps: Sequence[str] = ("2026-11-26T00:17:13.4Z", "2026-11-26T02:17:13.123456789+02:00")
    for stamp in stamps:
        places = Places({1: Place("2026-01-01T00:00:00Z", 1), 2: Place(stamp, 3)})
        assert places.since() == second - SLACK
