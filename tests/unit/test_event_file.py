"""Events outlive the operator, and the disk that keeps them may do what it likes."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from flow_operator.board import EVENTS, EVENTS_PER_FLOW, Board
from flow_operator.board.book import event_of
from flow_operator.model.status import Event
from flow_operator.store import EventFile, events
from support import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as told:
        yield told


@pytest.fixture
def path(root: Path) -> Path:
    return root / "data" / "events.jsonl"


@pytest.fixture
def open_board(path: Path, clock: FakeClock) -> Iterator[Callable[..., Board]]:
    """Boards of operators, one after the other; each but the last was killed."""
    path.parent.mkdir()
    boards: list[Board] = []

    def make(known: str = "abc") -> Board:
        boards.append(Board(clock, EventFile(path, clock)))
        boards[-1].recover(known)
        return boards[-1]

    yield make
    for board in boards:
        board.close()


@pytest.fixture
def largest() -> Iterator[Callable[[int], None]]:
    """Has the kernel refuse to write more than so many bytes into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(board: Board, *messages: str, flow_id: str = "a") -> None:
    for message in messages:
        board.record(flow_id, "Reason", message)


def test_events_are_there_after_a_kill(open_board, clock):
    """All of them as they were: order, times, counts."""
    first = open_board()
    for flow_id, message in (("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")):
        first.record(flow_id, "Reason", message, warning=flow_id == "a")
        clock.advance(1)
    second = open_board()
    assert second.events() == first.events()
    assert [event.count for event in second.events(["a"])] == [1, 2]
    record(second, "x", flow_id="b")
    assert open_board().events(["b"])[0].count == 2


def test_each_event_is_one_line_at_once(open_board, path):
    """Nothing waits in memory for more to come."""
    board = open_board()
    for number in range(3):
        record(board, f"{number}")
        assert [line["message"] for line in lines(path)][-1] == f"{number}"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_events_of_a_deleted_flow_go(open_board):
    """Also for the next operator, but for what a new flow of the name has done since."""
    board = open_board()
    record(board, "x", "y")
    record(board, "x", flow_id="b")
    board.remove("a")
    assert [event.flow_id for event in open_board().events()] == ["b"]
    record(board, "z")
    assert [event.message for event in open_board().events(["a"])] == ["z"]


def test_the_events_of_a_flow_that_nobody_knows_any_more_go(open_board):
    """An operator may be killed after a flow is gone and before that is told."""
    record(open_board(), "x")
    assert open_board(known="b").events() == []
    assert open_board(known="a").events() == []


@pytest.mark.parametrize(
    "rubbish",
    [b'{"flow_id":"a","type":"Nor', b"\0\0\0\0\n", b"\xff\xfe\n", b"[]\n{}\n", b'{"dropped":3}\n'],
)
def test_rubbish_is_skipped_and_cut(open_board, path, logged, rubbish):
    """A torn last line, or what a power cut has left: the events around it stand."""
    record(open_board(), "x")
    with path.open("ab") as file:
        file.write(rubbish)
    board = open_board()
    assert [event.message for event in board.events()] == ["x"]
    record(board, "y")
    assert [line["message"] for line in lines(path)] == ["x", "y"]
    assert [event["log_level"] for event in logged] == ["warning", "info"]
    assert [event.message for event in open_board().events()] == ["x", "y"]


def test_a_file_of_what_is_counted_up_does_not_grow(open_board, path, clock):
    """It is rewritten when it holds twice what lives, and some more."""
    board = open_board()
    record(board, *"xyz")
    longest = 0
    for _ in range(3 * events.SLACK):
        record(board, "x")
        longest = max(longest, len(lines(path)))
    assert longest <= 2 * 3 + events.SLACK + 1
    assert open_board().events() == board.events()


def test_it_is_not_asked_at_each_event_what_lives(path, clock):
    """That goes over all events of all flows."""
    path.parent.mkdir()
    file, asked, kept = EventFile(path, clock), 0, []

    def living() -> list[Event]:
        nonlocal asked
        asked += 1
        return kept

    for number in range(4 * events.SLACK):
        kept.append(event_of(f"f{number}", "Started", "x", "now", warning=False))
        file.keep(kept[-1], living)
    assert 1 <= asked <= 3
    file.close(living)


def test_what_an_operator_finds_counts_for_the_next_rewrite(open_board, path):
    """A file does not grow over restarts either."""
    for _ in range(6):
        record(open_board(), *["x"] * (events.SLACK // 2))
    assert len(lines(path)) <= 2 + events.SLACK
    assert open_board().events()[0].count == 6 * (events.SLACK // 2)


def test_bounds_hold_over_a_restart(open_board, path):
    """What was pushed out does not come back."""
    board = open_board()
    record(board, *map(str, range(EVENTS_PER_FLOW + 50)))
    assert open_board().events() == board.events()
    assert len(open_board().events()) == EVENTS_PER_FLOW


@pytest.mark.parametrize("refused", [0, 3])
def test_a_write_that_is_cut_short_disturbs_nobody(
    open_board, path, clock, logged, largest, refused
):
    """One warning; later the file is made whole, and holds what it could not take."""
    board = open_board()
    record(board, "x")
    largest(path.stat().st_size + 20)
    record(board, "cut")
    assert not path.read_bytes().endswith(b"\n")
    for _ in range(refused):
        record(board, "cut")
        clock.advance(events.RETRY)
    clock.advance(events.RETRY)
    assert [event["log_level"] for event in logged if event["log_level"] != "debug"] == ["warning"]
    assert [event.message for event in open_board().events()] == ["x"]
    largest(2**20)
    record(board, "last")
    assert [line["message"] for line in lines(path)] == ["x", "cut", "last"]
    assert open_board().events() == board.events()


def test_a_disk_that_refuses_is_not_asked_all_the_time(open_board, path, clock, monkeypatch):
    """Each try would write everything."""
    board = open_board()
    tries = []
    monkeypatch.setattr(events, "write_quietly", lambda *_: tries.append(clock.now))
    path.mkdir()
    for _ in range(20):
        record(board, "x")
        clock.advance(events.RETRY / 10)
    assert len(tries) == 1
    path.rmdir()


def test_what_the_disk_has_refused_is_written_at_the_end(open_board, path):
    """If it takes it by then."""
    board = open_board()
    path.mkdir()
    record(board, "x")
    path.rmdir()
    board.close()
    assert [line["message"] for line in lines(path)] == ["x"]


def test_a_file_that_cannot_be_read_is_replaced(open_board, path, clock, logged):
    """The operator begins without events, and says so."""
    path.mkdir()
    board = open_board()
    assert board.events() == []
    assert [event["log_level"] for event in logged] == ["warning"]
    path.rmdir()
    clock.advance(events.RETRY)
    record(board, "x")
    assert [line["message"] for line in lines(path)] == ["x"]


def test_what_stops_need_of_a_full_disk_is_left(open_board, path, monkeypatch):
    """Events are kept in memory only while little is free."""
    board = open_board()
    record(board, "x")
    told = os.statvfs(path)
    full = list(told)
    full[4] = (events._SPARE[0] + 10) // told.f_frsize  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(full))
    record(board, "y")
    monkeypatch.undo()
    assert [line["message"] for line in lines(path)] == ["x"]
    assert [event.message for event in board.events()] == ["x", "y"]


def test_ten_thousand_events_are_recovered(open_board, record_property):
    """As many as are kept of all flows together."""
    names = [f"f{number}" for number in range(EVENTS // 10)]
    board = open_board(known=names)
    for number in range(EVENTS + 10):
        record(board, f"replica 0 as run {number}", flow_id=names[number % len(names)])
    begun = time.perf_counter()
    again = open_board(known=names)
    record_property("recovery of 10,000 events, ms", f"{(time.perf_counter() - begun) * 1e3:.0f}")
    assert again.events() == board.events()
    assert len(again.events()) == EVENTS
