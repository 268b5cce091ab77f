"""Large answers: sent from where they are; and large requests: let go of."""

from __future__ import annotations

import contextlib
import gc
import os
import weakref
from typing import Any

import pytest
from serving import Peer, plain, serving

from flow_operator.api.buffers import Piece
from support import eventually

BODY = os.urandom(2**23)
READERS = 50


def large(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", str(len(BODY)))])
    return [BODY]


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def answered(server: Any) -> None:
    channels = tuple(server._server.active_channels.values())
    assert len(channels) == READERS
    for channel in channels:
        assert channel.total_outbufs_len > 2**20
        assert not channel.requests


def test_slow_readers_share_what_they_read() -> None:
    """Fifty who do not read 8 MiB hold neither copies nor files nor threads, and get it whole."""
    with serving(large) as server, contextlib.ExitStack() as stack:
        before, files = resident(), len(os.listdir("/proc/self/fd"))
        peers = [stack.enter_context(Peer(server, receive=4096)) for _ in range(READERS)]
        for peer in peers:
            peer.get("/")
        eventually(lambda: answered(server))
        assert resident() - before < 5 * len(BODY)
        assert len(os.listdir("/proc/self/fd")) - files <= 2 * READERS
        status, body = peers[7].answer()
    assert status == 200
    assert body == BODY


def test_a_body_goes_with_its_answer() -> None:
    """It does not stay until Python looks for garbage in cycles, which it seldom does."""
    bodies: list[weakref.ref[Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        bodies.append(weakref.ref(environ["wsgi.input"]))
        return plain(environ, start_response)

    def gone() -> None:
        assert not any(body() for body in bodies)

    gc.disable()
    try:
        with serving(app) as server, Peer(server) as peer:
            for _ in range(3):
                peer.get("/", method="POST", more="Content-Length: 100000\r\n")
                assert peer.send(b"x" * 100_000).answer() == (200, b"hello")
            eventually(gone)
    finally:
        gc.enable()
    assert len(bodies) == 3


@pytest.mark.parametrize("step", [1, 3, 10])
def test_a_piece_is_read_once(step: int) -> None:
    """Looked at without moving, skipped, or taken, in parts of any size."""
    piece = Piece(b"0123456789")
    got = b""
    while len(piece):
        assert bytes(piece.get(step)) == bytes(piece.get(step))
        part = bytes(piece.get(step, skip=True)) if len(got) % 2 else bytes(piece.get(step))
        if not len(got) % 2:
            piece.skip(len(part), allow_prune=True)
        got += part
    assert got == b"0123456789"
    assert bytes(piece.get()) == b""
    piece.close()
    assert len(piece) == 0
