"""Looking for a line in a log that grows, is cut into parts, shrinks or loses its head."""

from __future__ import annotations

import pytest

from flow_operator.lines import LONGEST, LineSearch
from flow_operator.runners.base import LogPart


class Log:
    """A stream of which the head may be gone; ``began`` is where the attempt began."""

    def __init__(self, data: bytes = b"", began: int = 0, part: int = 1 << 20) -> None:
        self.data = data
        self.began = began
        self.kept = 0
        self.part = part
        self.asked: list[int | None] = []

    def read(self, position: int | None) -> LogPart:
        self.asked.append(position)
        start = max(self.began if position is None else position, self.kept)
        if start > len(self.data):
            start = 0
        return LogPart(start, self.data[start : start + self.part])


def _found(search: LineSearch, log: Log) -> bool:
    return search.go_on(log.read, lambda: False)


@pytest.mark.parametrize(
    ("data", "pattern"),
    [
        (b"one\nready\n", "^ready$"),
        (b"at 3: ready to serve\n", r"\d: ready"),
        (b"ready\r\n", "^ready$"),
        (b"\n", "^$"),
        (b"\xff\xfe ready\n", "ready"),
        ("fertig: ü\n".encode(), "ü$"),
    ],
)
def test_a_line_that_matches_anywhere_is_found(data, pattern):
    """The expression is searched for; anchors are the line's ends."""
    assert _found(LineSearch(pattern), Log(data))


@pytest.mark.parametrize("data", [b"", b"other\n", b"rea\ndy\n", b"not ready\n", b"ready"])
def test_no_line_that_matches(data):
    """Neither over the end of a line, nor in one that has not ended: it may go on."""
    assert not _found(LineSearch("^ready$"), Log(data))


@pytest.mark.parametrize("part", [1, 2, 3, 7])
def test_a_line_is_found_however_the_log_is_cut_into_parts(part):
    """What came before the cut is kept."""
    assert _found(LineSearch("^ready$"), Log(b"some\nready\nmore", part=part))
    assert not _found(LineSearch("^ready$"), Log(b"some\nready more\n", part=part))


def test_each_part_is_read_once():
    """The next look goes on where the last one ended, also within a line."""
    log, search = Log(b"one\nrea"), LineSearch("^ready$")
    assert not _found(search, log)
    log.data += b"dy\n"
    log.asked.clear()
    assert _found(search, log)
    assert log.asked == [7]


def test_what_stood_before_the_attempt_does_not_count():
    """The search begins where the step was started, also in the middle of a line."""
    log = Log(b"ready\nrea", began=6)
    search = LineSearch("^ready$")
    assert not _found(search, log)
    log.data += b"dy\n"
    assert _found(search, log)
    log = Log(b"ready\nrea", began=9)
    log.data += b"dy\n"
    assert not _found(LineSearch("^ready$"), log)


@pytest.mark.parametrize("part", [1000, LONGEST, 1 << 20])
def test_only_the_first_four_kibibytes_of_a_line_are_matched(part):
    """What comes after them is passed over, and the next line is a line again."""
    long = b"a" * (LONGEST - 5) + b"ready" + b"b" * 9000 + b"late" + b"\n"
    assert _found(LineSearch("ready"), Log(long, part=part))
    assert not _found(LineSearch("late"), Log(long, part=part))
    assert not _found(LineSearch("b$"), Log(long, part=part))
    assert _found(LineSearch("^ready$"), Log(long + b"ready\n", part=part))


def test_a_line_without_an_end_is_looked_at_once_it_is_long_enough():
    """And takes no more memory than that."""
    search = LineSearch("^a+$")
    log = Log(b"a" * (LONGEST - 1))
    assert not _found(search, log)
    log.data += b"a" * 100_000
    assert _found(search, log)
    other = LineSearch("x")
    assert not _found(other, Log(b"a" * 1_000_000, part=10_000))
    assert len(other._rest) <= LONGEST


def test_a_log_that_was_emptied_is_read_from_its_beginning():
    """What it held is gone, and half a line of it is not glued to what comes next."""
    log, search = Log(b"one two three\nrea"), LineSearch("^(rea)?dy$")
    assert not _found(search, log)
    log.data = b"dx\n"
    assert not _found(search, log)
    log.data += b"dy\n"
    assert _found(search, log)


def test_a_log_that_was_emptied_while_nothing_was_printed_is_read_from_its_beginning():
    """Also if it has grown past the old end until the next look but one."""
    log, search = Log(b"one\n"), LineSearch("^ready$")
    assert not _found(search, log)
    log.data = b""
    assert not _found(search, log)
    log.data = b"ready\nsomething more\n"
    assert _found(search, log)


def test_a_log_that_lost_its_head_is_read_from_the_oldest_that_is_kept():
    """What was rotated away before it was looked at cannot match any more."""
    log, search = Log(b"x\nrea"), LineSearch("^ready$")
    assert not _found(search, log)
    log.data += b"zz\nready\n"
    log.kept = 8
    assert log.data[8:] == b"ready\n"
    assert _found(search, log)
    log, search = Log(b"x\nrea"), LineSearch("^ready$")
    assert not _found(search, log)
    log.data += b"zz\ndy\n"
    log.kept = 8
    assert not _found(search, log), "the two halves were not neighbours"


def test_a_step_that_nobody_knows_yet_is_asked_for_again_from_its_start():
    """An empty answer says nothing about where the attempt began."""
    log = Log(b"ready\n")
    search = LineSearch("^ready$")
    assert not search.go_on(lambda _position: LogPart(0), lambda: False)
    log.began = 6
    assert not _found(search, log)


def test_it_stops_when_it_is_late_and_goes_on_the_next_time():
    """A log that grows faster than it is read holds nobody up."""
    log, search = Log(b"a\n" * 50 + b"ready\n", part=10), LineSearch("ready")
    assert not search.go_on(log.read, lambda: True)
    assert len(log.asked) == 1
    assert _found(search, log)


def test_once_found_it_is_not_read_any_more():
    """It stays found."""
    log, search = Log(b"ready\n"), LineSearch("ready")
    assert _found(search, log)
    log.data, count = b"", len(log.asked)
    assert _found(search, log)
    assert len(log.asked) == count
