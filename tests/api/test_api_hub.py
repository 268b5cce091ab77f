"""When the hub looks at streams, and when it says something by itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
from serving import Tape

from flow_operator.api.hub import HEARTBEAT, Hub
from support import FakeClock


class Wire:
    """A connection that is told what it is."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.open = self.room = True
        self.ended: str | None = None

    def is_open(self) -> bool:
        return self.open

    def has_room(self) -> bool:
        return self.room

    def push(self, data: bytes) -> None:
        self.sent.append(data)

    def finish(self) -> None:
        self.ended = "whole"

    def abort(self) -> None:
        self.ended = "broken"


class World:
    def __init__(self) -> None:
        self.clock = FakeClock(1000.1)
        self.pulls = 0
        self.hub = Hub(self.pull, self.clock, most=2)

    def pull(self) -> None:
        self.pulls += 1

    def add(self, tape: Tape) -> Wire:
        assert self.hub.admit()
        wire = Wire()
        self.hub.add(tape, wire)
        self.hub.look()
        return wire

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.hub.look()

    def due(self) -> float:
        """Seconds until the hub would wake by itself."""
        at = min((stream.due() for stream in self.hub._streams), default=math.inf)
        return at - self.clock.now


@pytest.fixture
def world() -> World:
    return World()


def test_a_stream_without_a_period_costs_nothing_while_nobody_pokes(world: Any) -> None:
    """It is looked at when it begins, when poked, and never by the time."""
    tape = Tape()
    world.add(tape)
    assert (tape.looks, world.due()) == (1, math.inf)
    world.later(1000)
    assert tape.looks == 1
    world.hub.poke()
    world.later(1)
    assert tape.looks == 2


def test_pokes_in_a_row_are_one_look(world: Any) -> None:
    """A storm of changes takes a hundred looks a second at most, and none is forgotten."""
    tape = Tape()
    world.add(tape)
    world.hub.poke()
    world.later(1)
    looks = tape.looks
    for _ in range(9):
        world.hub.poke()
        world.later(0.001)
    assert tape.looks == looks
    world.later(0.005)
    assert tape.looks == looks + 1


def test_periods_of_all_streams_end_together(world: Any) -> None:
    """However many follow logs, the hub wakes five times a second for them."""
    one, two = Tape(period=0.2), Tape(period=0.2)
    world.add(one)
    first = world.due()
    world.clock.advance(0.07)
    world.add(two)
    assert {s.look_at for s in world.hub._streams} == {world.clock.now + world.due()}
    assert world.due() == pytest.approx(first - 0.07)
    world.hub.poke()
    world.hub.look()
    assert (one.looks, two.looks) == (1, 1)
    world.later(0.2)
    assert (one.looks, two.looks) == (2, 2)


@pytest.mark.parametrize("period", [None, 0.2])
def test_a_stream_that_has_a_time_is_looked_at_then(world: Any, period: float | None) -> None:
    """Once: what has not ended by then is left to its period and to pokes."""
    tape = Tape(period)
    tape.ends_at = world.clock.now + 0.05
    world.add(tape)
    assert world.due() == pytest.approx(0.05)
    world.later(0.05)
    assert tape.looks == 2
    assert world.due() > 0.05


def test_all_that_is_new_is_taken_at_once(world: Any) -> None:
    """One piece a round, so that no stream waits for the whole of another."""
    tape = Tape()
    tape.say(b"a", b"b")
    wire = world.add(tape)
    assert wire.sent == [b"a"]
    assert world.due() < 0
    world.hub.look()
    world.hub.look()
    assert wire.sent == [b"a", b"b"]
    assert world.due() == math.inf
    assert world.pulls == 2, "the loop is woken only where there is something to send"


def test_nothing_is_taken_for_who_does_not_read(world: Any) -> None:
    """Until the connection says that it has room again; pokes change nothing."""
    tape = Tape(period=0.2)
    wire = world.add(tape)
    wire.room = False
    tape.say(b"a")
    world.later(1)
    world.hub.poke()
    world.later(1)
    assert (tape.looks, world.due()) == (1, math.inf)
    wire.room = True
    [stream] = world.hub._streams
    world.hub.wake(stream)
    world.hub.look()
    assert wire.sent == [b"a"]


def test_a_silent_stream_has_a_heartbeat(world: Any) -> None:
    """After each 15 s in which nothing was sent; never on top of what is unsent."""
    tape = Tape(heartbeat=b":\n")
    wire = world.add(tape)
    assert world.due() == HEARTBEAT
    world.later(10)
    tape.say(b"a")
    world.hub.poke()
    world.hub.look()
    world.later(10)
    assert wire.sent == [b"a"]
    world.later(5)
    assert wire.sent == [b"a", b":\n"]
    wire.room = False
    world.later(15)
    assert wire.sent == [b"a", b":\n"]
    assert tape.looks == 3


def test_a_client_that_has_gone(world: Any) -> None:
    """Nothing more is taken; the source is closed once, and there is room for another."""
    tape = Tape()
    wire = world.add(tape)
    world.add(Tape())
    assert not world.hub.admit()
    wire.open = False
    [stream] = [s for s in world.hub._streams if s.source is tape]
    world.hub.wake(stream)
    world.hub.look()
    world.hub.wake(stream)
    world.hub.look()
    assert (tape.looks, tape.closed, wire.ended) == (1, 1, None)
    assert world.hub.admit()


def test_a_stream_that_comes_after_the_end(world: Any) -> None:
    """It is closed at once, and its client sees that nothing was whole."""
    tape, wire = Tape(), Wire()
    assert world.hub.admit()
    world.hub.close()
    world.hub.add(tape, wire)
    assert (tape.closed, wire.ended) == (1, "broken")
    assert not world.hub.admit()


def test_the_end_of_the_server(world: Any) -> None:
    """What is new is still sent; a body of which more is known does not look whole."""
    quiet, full = Tape(), Tape()
    told, slow = world.add(quiet), world.add(full)
    quiet.say(b"one", b"last")
    full.say(b"a")
    slow.room = False
    world.hub.start()
    world.hub.close()
    assert (told.sent, told.ended) == ([b"one", b"last"], "whole")
    assert (slow.sent, slow.ended) == ([], "broken")
    assert (quiet.closed, full.closed) == (1, 1)
