"""Answers of an engine are cut off, and nothing else is."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flow_operator.runners.answers import ALONE, Answer


class Response:
    """As ``requests`` have it; whoever asks for its number learns it just before it is closed."""

    def __init__(self, file: socket.socket) -> None:
        self.raw = self
        self._file = file
        self._number = file.fileno()

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The end that is read, and that of the engine."""
    ours, engine = socket.socketpair()
    with ours, engine:
        yield ours, engine


def test_who_reads_sees_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    """In another thread, where nothing comes."""
    ours, _ = pair
    seen: list[bytes] = []
    with Answer(Response(ours)) as answer:
        reader = threading.Thread(target=lambda: seen.append(ours.recv(100)))
        reader.start()
        answer.cut_off()
        reader.join()
    assert seen == [b""]


def test_another_connection_of_the_same_number_is_left_alone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The answer was closed meanwhile."""
    ours, _ = pair
    number = ours.fileno()
    answer = Answer(Response(ours))
    answer.close()
    others, peer = socket.socketpair()
    with others, peer:
        assert number in (others.fileno(), peer.fileno())
        answer.cut_off()
        others.sendall(b"to")
        peer.sendall(b"fro")
        assert (peer.recv(100), others.recv(100)) == (b"to", b"fro")


def test_another_file_of_the_same_number_is_not_kept_open(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """Such as the log into which the next answer is to be copied."""
    ours, _ = pair
    number = ours.fileno()
    answer = Answer(Response(ours))
    answer.close()
    with open(tmp_path / "s0.log", "wb") as log:
        assert log.fileno() == number
        before = os.listdir("/proc/self/fd")
        answer.cut_off()
        assert os.listdir("/proc/self/fd") == before


def test_what_is_no_connection_is_let_go_of(tmp_path: Path) -> None:
    """It ends by itself."""
    with open(tmp_path / "file", "wb") as file, open(tmp_path / "file", "rb") as raw:
        before = len(os.listdir("/proc/self/fd"))
        response = Response(file)  # type: ignore[arg-type] - on purpose
        response.raw = raw  # type: ignore[assignment]
        with Answer(response) as answer:
            assert len(os.listdir("/proc/self/fd")) == before
            answer.cut_off()


def test_an_answer_without_a_descriptor_is_read_to_its_end() -> None:
    """All of it had come with the head."""
    ours, engine = socket.socketpair()
    response = Response(ours)
    ours.close()
    engine.close()
    with Answer(response) as answer:
        answer.cut_off()


def test_an_engine_that_has_hung_up_is_cut_off_without_a_word(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The end was on its way."""
    ours, engine = pair
    engine.close()
    with Answer(Response(ours)) as answer:
        ours.shutdown(socket.SHUT_RDWR)
        answer.cut_off()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    peers: list[object]

    def do_GET(self) -> None:
        self.peers.append(self.client_address)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        if self.close_connection:  # A server should tell, and those of the engines do.
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


def test_the_connection_of_an_answer_that_has_ended_serves_nobody_else() -> None:
    """Or a request would be cut off in its stead."""
    requests = pytest.importorskip("requests")
    peers = _Handler.peers = []
    with _served() as url, requests.Session() as session:
        for headers in (ALONE, ALONE, None, None):
            assert session.get(url, headers=headers).content == b"ok"
    assert len(set(peers)) == 3, "that of the third is used again"


@contextlib.contextmanager
def _served() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
