"""A log whose head is taken away under its writer: nothing is lost, and every position stays."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flow_operator.logs import space, times
from flow_operator.logs.lines import Line, Lines, since, tail
from flow_operator.logs.stream import Stream
from support import PROGRAMS, FakeClock, memory_directory

BLOCK = 4096
PIECE = 4 * BLOCK


@pytest.fixture(params=["memory", "disk"])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system that punches holes, and (as a rule) one that collapses ranges."""
    if request.param == "memory":
        with memory_directory() as path:
            yield path
    else:
        with tempfile.TemporaryDirectory(prefix="flow-test-", dir="/var/tmp") as name:
            yield Path(name)


@pytest.fixture
def path(place: Path) -> Path:
    """An empty log."""
    path = place / "step.log"
    path.touch()
    return path


def append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(data)


def numbered(count: int, start: int = 0) -> bytes:
    """As many lines, each other than all others."""
    return b"".join(b"%09d\n" % number for number in range(start, start + count))


def content(stream: Stream, start: int = 0) -> tuple[int, bytes]:
    """(position of the first byte that is kept from ``start`` on, all that follows)."""
    part = stream.read(start)
    first, data = part.start, part.data
    while part.data:
        part = stream.read(first + len(data))
        assert part.start == first + len(data)
        data += part.data
    return first, data


def rotate(stream: Stream, files: int) -> int:
    """Until there is nothing to do any more; returns the bytes that went for want of space."""
    lost = 0
    while True:
        before = stream.live_start, stream.total()
        lost += stream.rotate(PIECE, files)
        if before == (stream.live_start, stream.total()):
            return lost


def on_disk(path: Path) -> int:
    """Bytes that all files of a log take."""
    return sum(entry.stat().st_blocks * 512 for entry in path.parent.glob("step.log*"))


# --- rotating --------------------------------------------------------------------------------


def test_what_is_read_is_what_was_printed(path: Path) -> None:
    """Over any number of rotations, from any position."""
    stream = Stream(path)
    printed = b""
    dice = random.Random(1)
    while len(printed) < 40 * PIECE:
        more = numbered(dice.randrange(1, 2000), len(printed) // 10)
        append(path, more)
        printed += more
        assert rotate(stream, 1000) == 0
        assert stream.end() == len(printed)
    assert content(stream) == (0, printed)
    for start in (1, PIECE - 1, PIECE, PIECE + 1, len(printed) - 1):
        assert content(stream, start) == (start, printed[start:])
    assert content(Stream(path)) == (0, printed)
    assert path.stat().st_blocks * 512 <= 2 * PIECE


def test_no_more_is_kept_than_was_asked_for(path: Path) -> None:
    """The newest of it, in at most so many files; what is still there keeps its position."""
    stream = Stream(path)
    printed = b""
    for number in range(100):
        more = numbered(1000, number * 1000)
        append(path, more)
        printed += more
        rotate(stream, 3)
        assert on_disk(path) <= 3 * PIECE + BLOCK
    first, kept = content(stream)
    assert len(kept) >= 2 * PIECE - BLOCK
    assert kept == printed[first:]
    assert stream.first() == first
    assert len(list(path.parent.glob("step.log*"))) <= 3


@pytest.mark.parametrize("files", [1, 2])
def test_much_at_once_is_not_even_copied(path: Path, files: int) -> None:
    """What would have to go at once is given up where it stands."""
    stream = Stream(path)
    printed = numbered(50_000)
    append(path, printed)
    rotate(stream, files)
    first, kept = content(stream)
    assert kept == printed[first:]
    assert len(kept) <= files * PIECE + BLOCK
    assert on_disk(path) <= files * PIECE + BLOCK
    assert stream.end() == len(printed)


def test_fewer_files_than_before_are_kept_at_once(path: Path) -> None:
    """Also where nothing is printed any more."""
    stream = Stream(path)
    append(path, numbered(10_000))
    rotate(stream, 10)
    assert len(content(stream)[1]) == 100_000
    rotate(stream, 2)
    assert len(content(stream)[1]) <= 2 * PIECE


@pytest.mark.parametrize("place", ["memory", "disk"], indirect=True)
def test_300_000_lines_through_a_rotation_are_all_there(path: Path) -> None:
    """A real writer, as fast as it can, and a reader beside the rotation: each line once."""
    with path.open("ab", buffering=0) as file:
        writer = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "lines.py"), "300000"], stdout=file
        )
    stream = Stream(path)
    done, read = threading.Event(), list[bytes]()

    def follow() -> None:
        lines = Lines(stream, 0)
        while True:
            last = done.is_set()
            for piece in lines.read():
                read.extend(line.text for line in piece)
            if last:
                return

    reader = threading.Thread(target=follow)
    reader.start()
    rotations = 0
    while True:
        ended = writer.poll() is not None
        before = len(stream._kept)
        assert stream.rotate(PIECE, 100_000) == 0
        rotations += len(stream._kept) - before
        if ended and stream.live() <= PIECE:
            break
    done.set()
    reader.join(60)
    assert writer.returncode == 0
    expected = [b"%d" % number for number in range(300_000)]
    assert content(stream)[1].split() == expected
    assert read == expected
    assert rotations > 100


def test_lines_are_known_by_position_after_a_rotation(path: Path) -> None:
    """The last lines are found across files; so is what a follower has not read yet."""
    stream = Stream(path)
    append(path, numbered(5_000))
    lines = Lines(stream, tail(stream, 4_000))
    rotate(stream, 100)
    assert tail(stream, 4_000) == 10_000
    told = [line.text for piece in lines.read() for line in piece]
    assert told == numbered(4_000, 1_000).split()


def test_it_is_said_what_is_no_longer_kept(path: Path) -> None:
    """A reader that is too slow learns how much it has missed."""
    stream = Stream(path)
    append(path, numbered(1_000))
    lines = Lines(stream, 0)
    list(lines.read())
    append(path, numbered(50_000, 1_000))
    rotate(stream, 2)
    first, kept = content(stream)
    told = [line.text for piece in lines.read() for line in piece]
    assert told[0] == b"[flow-operator: %d bytes are no longer kept]" % (first - 10_000)
    assert told[2:] == kept.split()[1:]


# --- what somebody else does -----------------------------------------------------------------


def test_an_emptied_file_goes_on_where_it_was(path: Path) -> None:
    """Positions only grow; what came before is gone."""
    stream = Stream(path)
    append(path, numbered(10_000))
    rotate(stream, 100)
    older = stream.live_start
    os.truncate(path, 0)
    append(path, b"new\n")
    assert (stream.first(), stream.end()) == (0, 100_004)
    assert stream.read(older) == stream.read(100_000) == (100_000, b"new\n")
    assert stream.read(older - 10).data == numbered(10_000)[older - 10 : older]


def test_who_has_abandoned_a_log_takes_nothing_from_the_one_that_follows(path: Path) -> None:
    """Its files have the names of the old ones, and the disk may be full."""
    ours = Stream(path)
    append(path, numbered(10_000))
    rotate(ours, 100)
    ours.abandon()
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert ours.oldest() < math.inf
    assert ours.shed_kept() == ours.shed_live() == ours.rotate(1, 1) == 0
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_removed_file_is_no_error(path: Path) -> None:
    """Nor are older ones that somebody has removed."""
    stream = Stream(path)
    append(path, numbered(10_000))
    rotate(stream, 100)
    oldest = min(path.parent.glob("step.log.0*"))
    oldest.unlink()
    assert stream.read(0).start == PIECE
    path.unlink()
    end = stream.end()
    assert stream.read(end).data == b""
    path.write_bytes(b"again\n")
    assert stream.read(end).data == b"again\n"


def test_no_space_for_a_copy_costs_the_oldest_and_not_the_newest(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said how much has gone; the writer goes on."""
    stream = Stream(path)
    printed = numbered(6_000)
    append(path, printed)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(space, "copy", full)
    lost = rotate(stream, 100)
    first, kept = content(stream)
    assert lost == first == len(printed) // PIECE * PIECE
    assert kept == printed[first:]
    assert not path.with_suffix(".new").exists()


# --- after a crash ---------------------------------------------------------------------------


class Killed(BaseException):
    """Where the operator was killed."""


def killed_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Have the process end before or after one of the calls that change a file."""
    calls = itertools.count()

    def wrap(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*given: object, **named: object) -> object:
            if next(calls) == step:
                raise Killed
            result = call(*given, **named)
            if next(calls) == step:
                raise Killed
            return result

        return wrapped

    for owner, name in [
        (space, "copy"),
        (space, "take_away"),
        (os, "rename"),
        (os, "fdatasync"),
        (os, "unlink"),
        (json, "dump"),
        (Stream, "_keep_place"),
    ]:
        patch.setattr(owner, name, wrap(getattr(owner, name)))


def crashes(act: Callable[[], object]) -> Iterator[int]:
    """Act again and again, each time killed one call later; ends with the time it is not."""
    for step in itertools.count():
        with pytest.MonkeyPatch.context() as patch:
            killed_at(step, patch)
            try:
                act()
            except Killed:
                yield step
            else:
                assert step > 8
                return


@pytest.mark.parametrize("more", [b"", numbered(100, 10**6), numbered(9_000, 10**6)])
@pytest.mark.parametrize("rounds", [1, 3])
def test_a_kill_during_a_rotation_loses_and_doubles_nothing(
    place: Path, more: bytes, rounds: int
) -> None:
    """At each of its steps, however much is printed before the next operator looks."""
    places = (place / str(number) / "step.log" for number in itertools.count())
    made: list[tuple[Path, bytes]] = []

    def act() -> None:
        path = next(places)
        path.parent.mkdir()
        path.write_bytes(b"")
        made.append((path, b""))
        stream = Stream(path)
        for number in range(rounds):
            append(path, numbered(2_000, number * 2_000))
            made[-1] = (path, numbered((number + 1) * 2_000))
            rotate(stream, 100)

    for step in crashes(act):
        path, printed = made[-1]
        append(path, more)
        stream = Stream(path)
        assert content(stream) == (0, printed + more), step
        assert content(Stream(path)) == (0, printed + more), step
        append(path, b"end\n")
        rotate(stream, 100)
        assert content(Stream(path)) == (0, printed + more + b"end\n"), step
        left = {entry.name for entry in path.parent.iterdir()}
        assert not left & {"step.new", "step.rotating"}, step


def test_lines_that_are_all_the_same_are_not_taken_for_ones_that_are_still_there(
    place: Path,
) -> None:
    """Killed after the head was taken away: the file is shorter than it was, or begins later."""
    places = (place / str(number) / "step.log" for number in itertools.count())
    made: list[Path] = []

    def act() -> None:
        path = next(places)
        path.parent.mkdir()
        made.append(path)
        append(path, b"abc\n" * 9_000)
        stream = Stream(path)
        stream.rotate(PIECE, 100)

    for step in crashes(act):
        append(made[-1], b"abc\n")
        assert content(Stream(made[-1])) == (0, b"abc\n" * 9_001), step


def test_a_file_that_is_full_to_the_byte_waits_for_one_more(path: Path) -> None:
    """A range that reaches the end of a file cannot be collapsed."""
    stream = Stream(path)
    append(path, b"x" * PIECE)
    rotate(stream, 100)
    assert stream.live() == PIECE
    append(path, b"x")
    rotate(stream, 100)
    assert stream.live() == 1


def test_a_copy_is_on_the_disk_before_its_original_goes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may come at any moment."""
    order: list[str] = []

    def recorded(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def call(*given: object) -> object:
            order.append(name)
            return real(*given)

        monkeypatch.setattr(owner, name, call)

    for owner, name in [(space, "copy"), (os, "fdatasync"), (os, "rename"), (space, "take_away")]:
        recorded(owner, name)
    append(path, numbered(2_000))
    Stream(path).rotate(PIECE, 100)
    assert order == ["copy", "fdatasync", "rename", "take_away"]


def test_a_kill_while_dropping_leaves_the_newest(place: Path) -> None:
    """What was to go may be there a little longer."""
    places = (place / str(number) / "step.log" for number in itertools.count())
    made: list[Path] = []
    printed = numbered(20_000)

    def act() -> None:
        path = next(places)
        path.parent.mkdir()
        made.append(path)
        append(path, printed)
        rotate(Stream(path), 2)

    for step in crashes(act):
        stream = Stream(made[-1])
        _, kept = content(stream)
        assert printed.endswith(kept) or kept.endswith(printed[-PIECE:]), step
        append(made[-1], b"end\n")
        rotate(stream, 2)
        _, kept = content(stream)
        assert (printed + b"end\n").endswith(kept), step
        assert len(kept) >= PIECE, step
        assert on_disk(made[-1]) <= 2 * PIECE + BLOCK, step


# --- when ------------------------------------------------------------------------------------


def test_lines_have_their_times(path: Path) -> None:
    """By when each was begun; since tells those of a second and later."""
    stream, clock = Stream(path), FakeClock(wall=110)
    append(path, b"a\nb\n")
    stream.look(100)
    append(path, b"c\nlong")
    stream.look(105)
    append(path, b"er\nd\n")
    stream.look(106)
    append(path, b"new\n")
    [lines] = Lines(stream, 0, clock).read()
    assert lines == [
        Line(100, b"a", 2),
        Line(100, b"b", 4),
        Line(105, b"c", 6),
        Line(105, b"longer", 13),
        Line(106, b"d", 15),
        Line(110, b"new", 19),
    ]
    told = {second: since(stream, second) for second in (99, 100, 101, 105, 106, 107)}
    assert told == {99: 0, 100: 0, 101: 4, 105: 4, 106: 13, 107: 15}


@pytest.mark.parametrize("timed", [True, False])
def test_reading_goes_on_behind_any_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, timed: bool
) -> None:
    """Also behind one that was broken, as it is too long, and one that says what has gone."""
    monkeypatch.setattr("flow_operator.logs.lines.LONGEST", 2 * PIECE)
    stream, clock = Stream(path), FakeClock() if timed else None
    append(path, numbered(PIECE // 10) + b"x" * (3 * PIECE) + b"\nend\n\n")
    rotate(stream, 9)
    whole = [line for lines in Lines(stream, 0, clock).read() for line in lines]
    assert whole[-1].end == stream.end()
    for place in (0, 1, PIECE // 20, len(whole) - 4, len(whole) - 3, len(whole) - 2):
        rest = [line for lines in Lines(stream, whole[place].end, clock).read() for line in lines]
        assert [line.text for line in rest] == [line.text for line in whole[place + 1 :]]


def test_what_was_printed_while_nobody_looked_is_new(path: Path) -> None:
    """An operator that comes back does not take it for old."""
    stream = Stream(path)
    append(path, b"old\n")
    stream.look(100)
    append(path, b"meanwhile\n")
    later = Stream(path)
    assert later.look(1000) == 10
    [lines] = Lines(later, 0, FakeClock(wall=2000)).read()
    assert [(line.second, line.text) for line in lines] == [(100, b"old"), (1000, b"meanwhile")]
    assert since(later, 500) == 4


def test_a_file_that_was_emptied_while_nobody_looked_goes_on(path: Path) -> None:
    """Its index tells how far it had come."""
    stream = Stream(path)
    append(path, numbered(100))
    stream.look(100)
    path.write_bytes(b"new\n")
    later = Stream(path)
    assert later.end() == 1004
    assert later.read(1000).data == b"new\n"


def test_times_outlive_rotations(path: Path) -> None:
    """Positions stay, and so do they."""
    stream = Stream(path)
    for second in range(100, 120):
        append(path, numbered(1_000, second * 1_000))
        stream.look(second)
        rotate(stream, 4)
    lines = Lines(stream, stream.first(), FakeClock(wall=500))
    told = [line for piece in lines.read() for line in piece]
    assert told[-1] == Line(119, b"000119999", stream.end())
    assert all(line.second == int(line.text) // 1_000 for line in told[1:])
    position = since(stream, 117)
    assert stream.read(position).data.startswith(b"000117000\n")


def test_the_index_of_a_log_that_is_never_rotated_is_bounded_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log may grow slowly for long before its first rotation."""
    monkeypatch.setattr(times, "MOST", 12)
    stream = Stream(path)
    for second in range(100, 200):
        append(path, b"x\n")
        stream.look(second)
    assert not stream.times.full
    assert path.with_suffix(".times").stat().st_size <= 12 * 16
    assert stream.times.last == (199, 200)


def test_a_file_system_that_can_do_neither_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the caller's; nothing is lost."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(space, "_fallocate", refuse)
    monkeypatch.setattr(space, "copy", lambda *_: pytest.fail("a copy of no use"))
    stream = Stream(path)
    append(path, numbered(5_000))
    with pytest.raises(OSError, match="not supported"):
        rotate(stream, 100)
    with contextlib.suppress(OSError):
        rotate(stream, 100)
    assert content(Stream(path)) == (0, numbered(5_000))
