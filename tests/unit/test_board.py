"""The board: what is told, to whom, and how often."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace

from flow_operator.board import EVENTS_PER_FLOW, Board
from flow_operator.board.book import EventBook, event_of
from flow_operator.model.status import FlowStatus
from flow_operator.teller import unknown_status
from support import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def board(clock: FakeClock) -> Board:
    return Board(clock)


def _status(flow_id: str = "a", message: str = "") -> FlowStatus:
    return unknown_status(flow_id, message)


def test_a_status_is_told_to_everybody_once(board):
    """Listeners hear of changes, not of repetitions."""
    heard: list[str] = []
    board.subscribe(heard.append)
    for message in ("x", "x", "y"):
        board.publish(_status(message=message))
    assert heard == ["a", "a"]
    assert board.version == 2
    assert board.get("a").message == "y"
    assert board.get("b") is None


def test_all_statuses_are_a_copy(board):
    """What a reader holds does not change under its hands."""
    board.publish(_status("a"))
    before = board.all()
    board.publish(_status("b"))
    assert set(before) == {"a"}
    assert set(board.all()) == {"a", "b"}


def test_events_keep_their_order_when_the_wall_clock_jumps(board, clock):
    """Oldest first is the order in which they came, a repeated one's by its last time."""
    for name, reason, jump in (("a", "first", -1e8), ("b", "second", 2e8), ("a", "third", -1e8)):
        board.record(name, reason, "m")
        clock.wall_now += jump
    assert [event.reason for event in board.events()] == ["first", "second", "third"]
    board.record("b", "second", "m")
    assert [event.reason for event in board.events()] == ["first", "third", "second"]
    assert [event.reason for event in board.events(["a"])] == ["first", "third"]


def test_a_flow_that_is_gone_leaves_nothing(board):
    """Neither status nor events; listeners hear of it once."""
    heard: list[str] = []
    board.publish(_status())
    board.record("a", "Reason", "m")
    board.subscribe(heard.append)
    board.remove("a")
    board.remove("a")
    assert heard == ["a"]
    assert board.get("a") is None
    assert board.events(["a"]) == []


def test_whoever_waits_wakes_when_it_is_so(board):
    """From another thread, as soon as the status changes."""
    reached = []
    waiting = threading.Thread(
        target=lambda: reached.append(board.wait(lambda: board.get("a") is not None, 10))
    )
    waiting.start()
    board.publish(_status())
    waiting.join(10)
    assert reached == [True]


def test_waiting_ends_when_time_is_up(board):
    """With the answer that it is not so."""
    assert board.wait(lambda: False, 0.01) is False


def test_a_source_error_is_told_to_whoever_writes_the_status(board):
    """Once for each change; the status itself has one writer."""
    heard = []
    board.subscribe_sources(heard.append)
    for error in ("a.yaml:3:1: bad", "a.yaml:3:1: bad", None, None):
        board.set_source_error("a", error)
        assert board.source_error("a") == error
    assert heard == ["a", "a"]


def test_a_source_error_may_come_before_the_status(board):
    """A file can be bad from the beginning."""
    board.set_source_error("a", "bad")
    assert board.get("a") is None
    assert board.source_error("a") == "bad"


def test_events_that_repeat_count_up(board, clock):
    """One row with its first and last time."""
    for _ in range(3):
        board.record("a", "BackOff", "m", warning=True)
        clock.advance(1)
    board.record("a", "Started", "m")
    first, second = board.events(["a"])
    assert (first.count, first.type, first.reason) == (3, "Warning", "BackOff")
    assert first.first_at < first.at
    assert (second.count, second.type, second.first_at) == (1, "Normal", second.at)


def test_an_event_counts_up_one_that_is_not_the_last(board, clock):
    """As long as the flow has it; it is the newest then, and keeps its first time."""
    for reason, message in (("Exited", "code 1"), ("BackOff", "1s"), ("Exited", "code 1")):
        board.record("a", reason, message)
        clock.advance(1)
    backoff, exited = board.events(["a"])
    assert (backoff.reason, exited.reason, exited.count) == ("BackOff", "Exited", 2)
    assert exited.first_at < backoff.at < exited.at


@pytest.mark.parametrize(
    ("flow_id", "reason", "message", "warning"),
    [("b", "R", "m", True), ("a", "S", "m", True), ("a", "R", "n", True), ("a", "R", "m", False)],
)
def test_events_that_differ_are_told_apart(board, flow_id, reason, message, warning):
    """By flow, reason, message or type."""
    board.record("a", "R", "m", warning=True)
    board.record(flow_id, reason, message, warning=warning)
    assert [event.count for event in board.events()] == [1, 1]


def test_the_oldest_events_of_all_flows_are_dropped():
    """However many flows there are, and in which of them something happens."""
    book = EventBook(per_flow=3, overall=5)
    for number in range(50):
        flow_id, message = "abcdefg"[number * 3 % 7], f"{number % 5}"
        book.add(event_of(flow_id, "R", message, f"{number}", warning=False))
        every = book.all()
        assert [event.at for event in every] == sorted((e.at for e in every), key=int)
        assert every[-1].at == f"{number}"
        assert len(every) <= 5
        assert all(len(book.of([flow_id])) <= 3 for flow_id in "abcdefg")
        assert book.of("abcdefg") == every
        assert book.flow_ids() == {event.flow_id for event in every}
    assert len(book.all()) == 5
    assert book.drop(every[0].flow_id)
    assert not book.drop(every[0].flow_id)
    assert every[0].flow_id not in book.flow_ids()


def test_the_newest_event_of_some_reasons_is_found(board):
    """None if there is none."""
    for reason in ("Silent", "NotSilent", "Drained"):
        board.record("a", reason, "m")
    board.record("b", "Silent", "m")
    found = board.last_event("a", "Silent", "NotSilent")
    assert (found.flow_id, found.reason) == ("a", "NotSilent")
    assert board.last_event("a", "Lost") is None
    assert board.last_event("c", "Silent") is None


def test_the_oldest_events_are_dropped(board):
    """A flow that is restarted for a year does not fill memory."""
    for n in range(EVENTS_PER_FLOW + 50):
        board.record("a", "Reason", f"{n}")
    events = board.events(["a"])
    assert len(events) == EVENTS_PER_FLOW
    assert events[-1].message == f"{EVENTS_PER_FLOW + 49}"


def test_events_of_several_flows_are_in_the_order_of_time(board, clock):
    """All of them if none are named."""
    for flow_id in "abcab":
        board.record(flow_id, "Reason", f"{clock.now}")
        clock.advance(1)
    assert [event.flow_id for event in board.events()] == list("abcab")
    assert [event.flow_id for event in board.events(["c", "b", "none"])] == list("bcb")


def test_a_listener_may_ask_the_board(board):
    """No lock is held while it is called."""
    seen = []
    board.subscribe(lambda _: seen.append(board.wait(lambda: True, 1)))
    board.publish(replace(_status(), message="x"))
    assert seen == [True]
