"""What operators ask the shim for, in which order it is done, and what they are told."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow_operator.shim import protocol
from flow_operator.shim.connections import Client, Connections, UnknownRunError, listen


class World:
    """Connections, and the loop around them one turn after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.done: list[str] = []
        self.selector = selectors.DefaultSelector()
        self.connections = Connections(self.selector, listen(root), self._answer)

    def _answer(self, message: dict[str, Any], _client: Client, _following: Any) -> str:
        self.done.append(message["op"])
        if message["op"] == "unheard":
            raise UnknownRunError("r1")
        if message["op"] == "wrong":
            raise ZeroDivisionError("oh")
        return message["op"].upper()

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with protocol.SocketPath(self.root) as path:
            sock.connect(path)
        sock.settimeout(5)
        self.turn()
        return sock

    def turn(self) -> None:
        for key, mask in self.selector.select(0):
            key.data(key.fileobj, mask)
        self.connections.go_on()


@pytest.fixture
def world(root: Path) -> Iterator[World]:
    made = World(root)
    yield made
    while made.connections:  # They have hung up.
        made.turn()
    os.close(made.connections._reserve)
    made.connections.listener.close()
    made.selector.close()


def _ask(sock: socket.socket, number: int, op: str, **arguments: object) -> None:
    protocol.send(sock, protocol.encode({"id": number, "op": op, **arguments}))


def _many(*ops: object) -> dict[str, list[object]]:
    return {"requests": [{"op": op} if isinstance(op, str) else op for op in ops]}


def test_a_volley_is_answered_as_each_of_its_requests_would_be(world: World) -> None:
    """Also those that fail, whatever they are, between the others."""
    with world.connect() as sock:
        _ask(sock, 7, "many", **_many("a", "unheard", "wrong", 5, "b"))
        while world.connections.busy or not world.done:
            world.turn()
        answer = protocol.receive(sock)
        assert answer is not None
        assert answer["id"] == 7
        first, unheard, wrong, rubbish, last = answer["ok"]
        assert (first, last) == ({"ok": "A"}, {"ok": "B"})
        assert unheard == {"error": "r1", "unknown": True}
        assert wrong == {"error": "ZeroDivisionError: oh"}
        assert "TypeError" in rubbish["error"]


def test_one_request_does_not_wait_for_all_of_a_volley(world: World) -> None:
    """It is done between two of them, and answered before them."""
    with world.connect() as sock, world.connect() as other:
        _ask(sock, 1, "many", **_many("a", "b", "c"))
        world.turn()
        assert world.done == ["a"]
        _ask(sock, 2, "x")
        _ask(other, 3, "y")
        world.turn()
        assert sorted(world.done[1:3]) == ["x", "y"]
        assert world.connections.busy
        while world.connections.busy:
            world.turn()
        assert world.done[3:] == ["b", "c"]
        assert [protocol.receive(sock)["id"] for _ in range(2)] == [2, 1]  # type: ignore[index]


def test_of_a_volley_whose_sender_is_gone_nothing_more_is_done(world: World) -> None:
    """The operator that comes next asks for what is missing; others are served as before."""
    with world.connect() as other:
        with world.connect() as sock:
            _ask(sock, 1, "many", **_many("a", "b", "c"))
            _ask(other, 2, "many", **_many("d", "e"))
            while "a" not in world.done:
                world.turn()
        for _ in range(8):
            world.turn()
        assert "c" not in world.done
        assert not world.connections.busy
        assert protocol.receive(other) == {"id": 2, "ok": [{"ok": "D"}, {"ok": "E"}]}


def test_a_sender_may_go_while_the_last_of_its_volley_is_done(world: World) -> None:
    """What is told meanwhile finds it gone; the others are served as before."""
    with world.connect() as other:
        sock = world.connect()
        client = max(world.connections._clients, key=lambda one: one.sock.fileno())
        answer = world.connections._answer_one

        def leaving(message: dict[str, Any], asked: Client, following: Any) -> Any:
            world.connections._drop(client)
            return answer(message, asked, following)

        world.connections._answer_one = leaving
        _ask(sock, 1, "many", **_many("a"))
        while "a" not in world.done:
            world.turn()
        sock.close()
        world.connections._answer_one = answer
        world.turn()
        assert not world.connections.busy
        _ask(other, 2, "b")
        world.turn()
        assert protocol.receive(other) == {"id": 2, "ok": "B"}


@pytest.mark.parametrize("requests", [None, 5, {"op": "a"}])
def test_a_volley_that_is_none_is_an_error_of_who_has_sent_it(world: World, requests) -> None:
    """And leaves the shim as it is."""
    with world.connect() as sock:
        _ask(sock, 1, "many", requests=requests)
        _ask(sock, 2, "a")
        world.turn()
        world.turn()
        first, second = protocol.receive(sock), protocol.receive(sock)
        assert first is not None
        assert second == {"id": 2, "ok": "A"}


def test_an_empty_volley_is_answered(world: World) -> None:
    """With nothing."""
    with world.connect() as sock:
        _ask(sock, 1, "many", requests=[])
        world.turn()
        assert protocol.receive(sock) == {"id": 1, "ok": []}
