"""The question that an engine asks its container."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow_operator.shim import health
from flow_operator.shim.init import option


class Answering:
    """Answers one request with one line, over whatever socket."""

    def __init__(self, sock: socket.socket, line: bytes) -> None:
        self.request = b""
        self._sock, self._line = sock, line
        self._sock.listen()
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        connection, _ = self._sock.accept()
        with connection:
            self.request = connection.recv(1000)
            connection.sendall(self._line)

    def close(self) -> None:
        self._thread.join()
        self._sock.close()


@pytest.fixture
def port() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def test_it_asks_where_the_operator_listens(port: socket.socket) -> None:
    """Every address means this machine; the path of the base URL comes before the route."""
    answering = Answering(port, b"HTTP/1.0 200 OK\r\n\r\n")
    number = port.getsockname()[1]
    told = {"FLOWD_LISTEN": f"0.0.0.0:{number}", "app_url": "http://flows.example/ops/"}
    assert health.answer(told) == b"HTTP/1.0 200 OK\r\n"
    answering.close()
    assert answering.request.startswith(b"GET /ops/livez HTTP/1.0\r\n")


def test_it_asks_over_a_unix_socket(root: Path) -> None:
    """As --listen names it."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(root / "api.sock"))
    answering = Answering(sock, b"HTTP/1.0 200 OK\r\n\r\n")
    assert b" 200 " in health.answer({"FLOWD_LISTEN": f"unix:{root}/api.sock"})
    answering.close()


def test_what_is_not_well_is_told(monkeypatch: pytest.MonkeyPatch, port: socket.socket) -> None:
    """Another answer, none at all, and no word of where to ask."""
    answering = Answering(port, b"HTTP/1.0 503 Service Unavailable\r\n\r\n")
    monkeypatch.setenv("FLOWD_LISTEN", f"127.0.0.1:{port.getsockname()[1]}")
    with pytest.raises(SystemExit, match=r"not well: HTTP/1\.0 503"):
        health.main()
    answering.close()
    with pytest.raises(SystemExit, match="does not answer"):
        health.main()
    monkeypatch.delenv("FLOWD_LISTEN")
    with pytest.raises(SystemExit, match="say by it"):
        health.main()


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["--data", "a"], {}, "a"),
        (["--data=a", "--watch", "poll", "--data", "b"], {}, "b"),
        ([], {"FLOWD_DATA": "c"}, "c"),
        (["--data", "a"], {"FLOWD_DATA": "c"}, "a"),
        (["--data"], {}, ""),
        ([], {"FLOWD_DATA": ""}, None),
    ],
)
def test_pid_1_reads_options_as_the_operator_does(arguments, environment, told) -> None:
    """The command line before the environment, and the last one given."""
    assert option("data", arguments, environment) == told
