"""The unix socket: who may connect, and what is not removed for it."""

from __future__ import annotations

import grp
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow_operator.api import Access, Server
from flow_operator.api.unix_socket import bind_unix
from flow_operator.errors import ConflictError, InvalidError
from flow_operator.settings import Address
from support import require

CONNECT = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(65534)
asked = socket.socket(socket.AF_UNIX)
asked.connect(sys.argv[1])
asked.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
print(asked.recv(100).decode())
"""


@pytest.fixture
def path(root: Path) -> Path:
    root.chmod(0o755)
    return root / "api.sock"


def bound(path: Path, access: Access | None = None) -> socket.socket:
    return bind_unix(path, access or Access())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_closed_to_others_from_the_beginning(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the umask: made for the owner, widened, and only then listened on."""
    seen = []
    real = Path.chmod

    def chmod(self: Path, bits: int) -> None:
        seen.append(mode(self))
        real(self, bits)

    monkeypatch.setattr(Path, "chmod", chmod)
    previous = os.umask(0)
    try:
        with bound(path, Access(0o666)), socket.socket(socket.AF_UNIX) as early:
            assert seen == [0o600]
            assert mode(path) == 0o666
            with pytest.raises(ConnectionRefusedError):
                early.connect(str(path))
    finally:
        os.umask(previous)


def test_a_narrow_umask_does_not_narrow_it(path: Path) -> None:
    """What was asked for is what is given."""
    previous = os.umask(0o077)
    try:
        with bound(path, Access(0o660)):
            assert mode(path) == 0o660
    finally:
        os.umask(previous)


def test_what_a_killed_server_has_left_is_replaced(path: Path) -> None:
    """Nobody answers there."""
    bound(path).close()
    with bound(path):
        assert path.is_socket()


@pytest.mark.parametrize("backlog", [8, 0])
def test_somebody_elses_live_socket_is_left_alone(
    path: Path, backlog: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is too busy to answer."""
    monkeypatch.setattr("flow_operator.api.unix_socket._PATIENCE", 0.05)
    with bound(path) as other:
        other.listen(backlog)
        filling = []
        while not backlog:
            filling.append(socket.socket(socket.AF_UNIX))
            filling[-1].setblocking(False)
            try:
                filling[-1].connect(str(path))
            except BlockingIOError:
                break
        with pytest.raises(ConflictError, match="in use"):
            bound(path)
        for one in filling:
            one.close()
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link", "pipe"])
def test_what_is_no_socket_is_left_alone(root: Path, path: Path, kind: str) -> None:
    """A typing error must not cost anybody a file."""
    other = root / "other"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(other)
        if kind == "link":
            bound(other).close()
    before = path.lstat()
    with pytest.raises(ConflictError, match="no socket"):
        bound(path)
    assert path.lstat().st_ino == before.st_ino


def test_a_group_that_does_not_exist_is_told(path: Path) -> None:
    """By its name; nothing listens."""
    with pytest.raises(InvalidError, match="no-such-group"):
        bound(path, Access(0o660, "no-such-group"))


def test_its_group_is_the_one_that_was_named(path: Path) -> None:
    """Of all those on this machine that the operator may give it to."""
    group = grp.getgrgid(65534 if os.geteuid() == 0 else os.getegid())
    with bound(path, Access(0o660, group.gr_name)):
        assert path.stat().st_gid == group.gr_gid


def hello(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


@pytest.fixture
def serve(path: Path) -> Iterator[Any]:
    made: list[Server] = []

    def start(access: Access) -> Server:
        made.append(Server(hello, Address(unix=path), access))
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        server.close()


@pytest.mark.parametrize(
    ("access", "gid", "let_in"),
    [
        (Access(), 65534, False),
        (Access(0o660), 65534, False),
        (Access(0o660, "nogroup"), 65534, True),
        (Access(0o660, "nogroup"), 1, False),
        (Access(0o666), 1, True),
    ],
)
def test_who_may_connect(serve: Any, path: Path, access: Access, gid: int, *, let_in: bool) -> None:
    """The kernel asks for the mode of the socket."""
    require("only root may become others" if os.geteuid() else None)
    serve(access)
    command = [sys.executable, "-c", CONNECT, str(path), str(gid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ("200 OK" in done.stdout) is let_in, done
    assert ("PermissionError" in done.stderr) is not let_in


def test_at_its_end_a_server_removes_its_own_socket_only(path: Path) -> None:
    """Not that of one which stands in its place by now."""
    for taken in (False, True):
        server = Server(hello, Address(unix=path))
        server.start()
        if not taken:
            server.close()
            assert not path.exists()
            continue
        path.unlink()
        with bound(path):
            server.close()
            assert path.is_socket()
