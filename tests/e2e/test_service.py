"""The operator as somebody's service: it ends without its flows, and tells how it is."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flow_operator.systemd import ServiceManager
from support import Flowd, alive, eventually, make_document, program, steps_of

PATIENT = """
trap 'while ! test -e $FLOW_DATA/go; do sleep 0.05; done; exit' TERM
while :; do sleep 0.05; done
"""


def test_it_ends_and_leaves_the_flows_to_the_next_one(flowd: Flowd) -> None:
    """SIGQUIT: well and soon, same processes, no number missing in a stream."""
    steps = (program("count"), program("copy"), program("store"))
    flowd.create(make_document("stream", *steps), make_document("sleeps"))
    for name in ("stream", "sleeps"):
        flowd.await_status(name, "running")
    pids = {name: flowd.pids(name) for name in ("stream", "sleeps")}
    path = flowd.work("stream") / "stored"
    for _ in range(3):
        assert flowd.end(signal.SIGQUIT) == 0
        size = path.stat().st_size
        eventually(lambda size=size: _assert(path.stat().st_size > size))  # with no operator there
        flowd.start()
        flowd.await_ready()
        assert {name: flowd.pids(name) for name in pids} == pids
    assert "flows go on" in flowd.log.read_text()
    assert set(flowd.command("stop").values()) == {"stopped"}
    count = int((flowd.work("stream") / "emitted").read_text().split()[0])
    assert path.read_text().split() == [str(number) for number in range(count)]


def test_a_drain_that_it_leaves_is_finished_by_the_next_one(flowd: Flowd) -> None:
    """And what only the operator wanted to end runs again."""
    flowd.create(make_document("slow", PATIENT))
    flowd.await_status("slow", "running")
    [pid] = flowd.pids("slow")
    assert flowd.process is not None
    flowd.process.send_signal(signal.SIGTERM)
    flowd.await_status("slow", "stopping")
    assert flowd.end(signal.SIGQUIT) == 0
    assert alive(pid)
    flowd.start()
    (flowd.work("slow") / "go").touch()
    eventually(lambda: _assert(not alive(pid)))
    flowd.await_status("slow", "running")
    assert steps_of(flowd.data) == {("slow", 0, "s0"): 1}


def test_it_leaves_nothing_where_nothing_runs(flowd: Flowd) -> None:
    """The shim has nobody to live for."""
    flowd.create(make_document("stopped", state="stopped"))
    flowd.await_status("stopped", "stopped")
    assert flowd.end(signal.SIGQUIT) == 0
    eventually(lambda: _assert(flowd.shim_pid() == 0))


def test_the_shim_ignores_what_ends_the_operator(flowd: Flowd) -> None:
    """Who signals all processes of a service at once would end everything."""
    flowd.create(make_document("a"))
    flowd.await_status("a", "running")
    shim, pids = flowd.shim_pid(), flowd.pids("a")
    os.kill(shim, signal.SIGQUIT)
    assert flowd.command("restart", "a") == {"a": "running"}  # Which it has to carry out.
    assert flowd.shim_pid() == shim
    assert flowd.pids("a") != pids


class Manager:
    """Who is told, as systemd is."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(30)
        self._socket.bind(address.replace("@", "\0", 1))

    def heard(self) -> list[str]:
        """The next message."""
        return self._socket.recv(4096).decode(errors="surrogateescape").split("\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, root: Path) -> str:
    """Where a service manager listens."""
    return str(root / "notify") if request.param == "path" else f"@{root}/notify"


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    with contextlib.closing(Manager(address)) as made:
        yield made


def test_it_tells_its_manager_when_all_is_taken_back_and_when_it_ends(
    make_flowd: Callable[..., Flowd], address: str, manager: Manager
) -> None:
    """READY=1 when statuses are what was observed; STOPPING=1 as a drain begins."""
    flowd = make_flowd(environment={"NOTIFY_SOCKET": address}).start()
    ready, status = manager.heard()
    assert ready == "READY=1"
    assert (
        status == f"STATUS=serves {flowd.client.base_url}; 0 flows, 0 running instances taken back"
    )
    flowd.create(make_document("a"), make_document("slow", PATIENT))
    flowd.await_status("a", "running")
    flowd.await_status("slow", "running")
    pids = flowd.pids("a")
    assert flowd.end(signal.SIGQUIT) == 0
    assert manager.heard() == ["STOPPING=1", "STATUS=flows go on"]
    flowd.start()
    ready, status = manager.heard()
    assert ready == "READY=1"
    assert status.endswith("2 flows, 2 running instances taken back")
    assert flowd.pids("a") == pids
    assert flowd.process is not None
    flowd.process.send_signal(signal.SIGTERM)
    assert manager.heard() == ["STOPPING=1", "STATUS=draining every flow"]
    assert flowd.process.poll() is None
    (flowd.work("slow") / "go").touch()
    assert flowd.wait() == 0


def test_who_ends_is_ready_no_more(address: str, manager: Manager) -> None:
    """What was looked at last may be so in the drain; a name need not be text."""
    told = ServiceManager({"NOTIFY_SOCKET": address})
    told.stopping("now \udcff")
    told.ready("serves")
    told.stopping("still")
    assert [manager.heard()[0] for _ in range(2)] == ["STOPPING=1", "STOPPING=1"]


def test_no_step_can_speak_for_it(
    make_flowd: Callable[..., Flowd], address: str, manager: Manager
) -> None:
    """The address is not handed on; a service manager believes whoever writes there."""
    flowd = make_flowd(environment={"NOTIFY_SOCKET": address}).start()
    manager.heard()
    flowd.create(make_document("a"))
    flowd.await_status("a", "running")
    for pid in (*flowd.pids("a"), flowd.shim_pid()):
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_manager_that_does_not_listen_is_told_of_in_the_log(
    make_flowd: Callable[..., Flowd], root: Path
) -> None:
    """Nothing else comes of it."""
    flowd = make_flowd(environment={"NOTIFY_SOCKET": str(root / "nobody")}).start()
    flowd.await_ready()
    eventually(lambda: _assert("the service manager cannot be told" in flowd.log.read_text()))
    assert flowd.end() == 0


def _assert(condition: object) -> None:
    assert condition
