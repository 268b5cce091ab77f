"""PID 1 of a container, in a pid namespace of its own, without an engine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from flow_operator.runners.held_pipes import HeldPipes
from flow_operator.runners.procfs import read_proc
from flow_operator.runners.shim_link import ShimLink
from flow_operator.settings import Layout
from support import Flowd, eventually, make_document, require

NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
COUNTS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.005; done"
STORES = "while read n; do echo $n >> $FLOW_DATA/out; done"
DEAF = "trap '' TERM; echo up > $FLOW_DATA/up; while :; do sleep 0.1; done"


class Container(Flowd):
    """An operator under PID 1 of a namespace; only what an engine does more is missing."""

    program = ("-c", "from flow_operator.shim.init import main; main()")

    def __init__(self, root: Path, *arguments: str) -> None:
        """Its API is a socket, which stays where it is when another operator comes."""
        self.socket = root / "api.sock"
        super().__init__(root, "--listen", f"unix:{self.socket}", *arguments, within=NAMESPACE)
        self.client.close()
        self.client = httpx.Client(timeout=60, transport=httpx.HTTPTransport(uds=str(self.socket)))

    def start(self) -> Container:
        super().start()
        self.client.base_url = "http://localhost"
        return self

    @property
    def init(self) -> int:
        """PID 1, as it is called out here."""
        return _children(self.pid)[0]

    @property
    def operator(self) -> int:
        """The operator, as it is called out here."""
        found = [pid for pid in _children(self.init) if b"flowd\0" in _words(pid)]
        assert len(found) == 1, found
        return found[0]

    def signal(self, number: int) -> None:
        """What an engine does to a container."""
        os.kill(self.init, number)

    def members(self) -> list[str]:
        """The states of all processes of the namespace."""
        own = os.readlink(f"/proc/{self.init}/ns/pid")
        states = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                proc = read_proc(int(name)) if os.readlink(f"/proc/{name}/ns/pid") == own else None
            except OSError:
                continue
            if proc is not None:
                states.append(proc.state)
        return states

    def written(self, flow_id: str) -> list[int]:
        return [int(line) for line in (self.work(flow_id) / "out").read_text().split()]

    def answers(self) -> None:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
            assert self.client.get("/readyz").status_code == 200
        except (OSError, httpx.TransportError) as error:
            raise AssertionError(str(error)) from None


def _words(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


Make = Callable[..., Container]


@pytest.fixture
def contain(root: Path) -> Iterator[Make]:
    """Makes containers; they are destroyed at the end."""
    done = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, check=False)
    require(f"no pid namespace: {done.stderr.strip()}" if done.returncode else None)
    made: list[Container] = []

    def make(*arguments: str) -> Container:
        made.append(Container(root, *arguments))
        return made[-1]

    yield make
    for container in made:
        container.destroy()
        if container.process is not None and container.process.stdout is not None:
            container.process.stdout.close()


def _up(container: Container, flow_id: str) -> None:
    eventually((container.work(flow_id) / "up").read_text)


# --- the operator dies -----------------------------------------------------------------------


def test_a_killed_operator_is_followed_by_another_and_flows_go_on(contain: Make) -> None:
    """Twice; the same steps, no number missing, and PID 1 is the only shim."""
    container = contain().start()
    container.create(make_document("piped", COUNTS, STORES))
    container.await_status("piped", "running")
    pids = container.pids("piped")
    for _ in range(2):
        killed = container.operator
        os.kill(killed, signal.SIGKILL)
        eventually(lambda killed=killed: _replaced(container, killed))
        eventually(container.answers)
        container.await_status("piped", "running")
        assert container.pids("piped") == pids
    assert (container.data / "shim.lock").read_text() == "1\n"
    assert container.status("piped")["restarts"] == 0
    container.signal(signal.SIGTERM)
    assert container.wait() == 0
    numbers = container.written("piped")
    assert numbers == list(range(1, len(numbers) + 1))
    assert "was killed by signal 9" in container.log.read_text()


def test_an_operator_that_leaves_is_followed_by_another_and_pid_1_stays(contain: Make) -> None:
    """SIGQUIT is for the operator alone; an init before us would hand it on to PID 1, too."""
    container = contain().start()
    container.create(make_document("a"))
    container.await_status("a", "running")
    pids, left = container.pids("a"), container.operator
    assert int(_status(container.init, "SigIgn"), 16) & 1 << signal.SIGQUIT - 1
    os.kill(left, signal.SIGQUIT)
    eventually(lambda: _replaced(container, left))
    eventually(container.answers)
    container.await_status("a", "running")
    assert container.pids("a") == pids
    assert "the operator ended with code 0; flows go on" in container.log.read_text()
    container.signal(signal.SIGTERM)
    assert container.wait() == 0


def _status(pid: int, name: str) -> str:
    """A line of proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines)[name].strip()


def _replaced(container: Container, killed: int) -> None:
    assert container.operator != killed


TOKENS = "tokens: [{name: t, role: admin, token: 0123456789abcdef0123456789abcdef}]\n"


def _asking(contain: Make, tokens: Path) -> Container:
    """One that asks for a token, which its client sends."""
    tokens.write_text(TOKENS)
    tokens.chmod(0o600)
    container = contain("--tokens", str(tokens)).start()
    container.client.headers["Authorization"] = "Bearer 0123456789abcdef0123456789abcdef"
    return container


def test_flows_outlive_an_operator_that_refuses_to_start(contain: Make, root: Path) -> None:
    """A bad edit of its tokens: nothing is stopped, it is tried again, and mended it comes back."""
    tokens = root / "tokens.yaml"
    container = _asking(contain, tokens)
    container.create(make_document("one", "exec sleep 1000"))
    container.await_status("one", "running")
    pids = container.pids("one")
    tokens.write_text("tokens: 7\n")
    os.kill(container.operator, signal.SIGKILL)
    eventually(lambda: _says(container, "ended with code 1"))
    tokens.write_text(TOKENS)
    eventually(container.answers)
    container.await_status("one", "running")
    assert container.pids("one") == pids


def test_pipes_of_containers_outlive_an_operator_that_refuses_to_start(
    contain: Make, root: Path
) -> None:
    """They would break with PID 1, and what they join runs on outside of it."""
    tokens = root / "tokens.yaml"
    container = _asking(contain, tokens)
    link = ShimLink(container.data, lambda _event: None, lambda _link: None)
    try:
        pipes = HeldPipes(Layout(container.data), link.call)
        pipe = pipes.hold("run", 2) / "0.fifo"
        init = container.init
        tokens.write_text("tokens: 7\n")
        os.kill(container.operator, signal.SIGKILL)
        eventually(lambda: _says(container, "ended with code 1"))
        with pipe.open("r+b", buffering=0) as end:
            end.write(b"x")
            assert pipes.in_flight(["run"]) == {"run": (0, 1)}
        tokens.write_text(TOKENS)
        eventually(container.answers)
        assert container.init == init
        pipes.release("run")
    finally:
        link.close()


def _says(container: Container, what: str) -> None:
    assert what in container.log.read_text()


def test_a_mistake_in_the_options_ends_the_container_with_its_message(contain: Make) -> None:
    """It is not tried again and again."""
    container = contain("--prune", "perhaps")
    with pytest.raises(AssertionError, match="invalid choice: 'perhaps'"):
        container.start()
    assert container.wait() == 2
    assert container.log.read_text().count("invalid choice") == 1
    assert "so ends the container" in container.log.read_text()


def test_a_second_container_on_the_same_volume_ends_and_says_why(contain: Make) -> None:
    """The first one goes on."""
    first = contain().start()
    second = contain()
    with pytest.raises(AssertionError, match="in use by another container"):
        second.start()
    assert second.wait() == 1
    first.answers()


# --- orphans ---------------------------------------------------------------------------------


def test_fifty_orphans_leave_no_zombie(contain: Make) -> None:
    """Their parents are gone when they end; PID 1 reaps them."""
    container = contain().start()
    orphans = "for i in $(seq 50); do (sleep 0.2 &); done; echo up > $FLOW_DATA/up; exec sleep 1000"
    container.create(make_document("orphans", orphans))
    _up(container, "orphans")

    def only_the_step_is_left() -> None:
        states = container.members()
        assert "Z" not in states
        assert len(states) == 3, states  # PID 1, the operator, the step

    eventually(only_the_step_is_left)


# --- stops -----------------------------------------------------------------------------------


def test_a_stop_drains(contain: Make) -> None:
    """All that was counted is stored; the container ends with 0."""
    container = contain().start()
    container.create(make_document("piped", COUNTS, "while read n; do echo $n; done", STORES))
    eventually(lambda: _more(container, 20))
    container.signal(signal.SIGTERM)
    assert container.wait() == 0
    numbers = container.written("piped")
    assert numbers == list(range(1, len(numbers) + 1))
    assert "Drained" in (container.data / "events.jsonl").read_text()


def _more(container: Container, count: int) -> None:
    assert len(container.written("piped")) > count


def test_a_stop_within_a_grace_ends_every_step_in_its_time(contain: Make) -> None:
    """The source does not care for TERM, the sink is told to end, and then both are killed."""
    container = contain("--stop-grace", "15s").start()
    told = "trap 'echo told > $FLOW_DATA/told' TERM; while :; do sleep 0.1; done"
    container.create(make_document("deaf", DEAF, told, stop={"timeout": "10m"}))
    _up(container, "deaf")
    container.signal(signal.SIGTERM)
    assert container.wait() == 0, "before PID 1 had to kill the operator"
    assert (container.work("deaf") / "told").read_text() == "told\n"
    assert "DrainTimedOut" in (container.data / "events.jsonl").read_text()


def test_an_operator_that_hangs_is_not_waited_for(contain: Make) -> None:
    """Near the end of the grace PID 1 kills everything and says so."""
    container = contain("--stop-grace", "2s").start()
    container.create(make_document("deaf", DEAF, stop={"timeout": "10m"}))
    _up(container, "deaf")
    os.kill(container.operator, signal.SIGSTOP)
    container.signal(signal.SIGTERM)
    assert container.wait() == 137
    assert "everything is killed" in container.log.read_text()


def test_many_flows_are_started_and_stopped_at_once(contain: Make) -> None:
    """PID 1 goes on with what it was asked, also when nothing else happens."""
    container = contain().start()
    names = [f"f{number}" for number in range(40)]
    container.create(*(make_document(name, "exec sleep 1000") for name in names))
    for name in names:
        container.await_status(name, "running")
    container.signal(signal.SIGTERM)
    assert container.wait() == 0


def test_an_operator_that_is_away_when_the_stop_comes_is_started_to_drain(contain: Make) -> None:
    """Also where its next start was far away."""
    container = contain("--stop-grace", "20s").start()
    container.create(make_document("piped", COUNTS, STORES))
    eventually(lambda: _more(container, 20))
    killed: set[int] = set()

    def another() -> int:
        pid = container.operator
        assert pid not in killed
        return pid

    for _ in range(3):
        killed.add(pid := eventually(another))
        os.kill(pid, signal.SIGKILL)
    container.signal(signal.SIGTERM)
    assert container.wait() == 0
    numbers = container.written("piped")
    assert numbers == list(range(1, len(numbers) + 1))


def test_an_operator_that_dies_while_it_drains_is_followed_by_one_that_goes_on(
    contain: Make,
) -> None:
    """The stop is not forgotten."""
    container = contain().start()
    slow = "trap '' TERM; echo up > $FLOW_DATA/up; until test -e $FLOW_DATA/go; do sleep 0.05; done"
    container.create(make_document("slow", slow, "cat > $FLOW_DATA/out"))
    _up(container, "slow")
    container.signal(signal.SIGTERM)
    eventually(lambda: _says(container, "draining every flow"))
    os.kill(container.operator, signal.SIGKILL)
    eventually(lambda: _drains_again(container))
    (container.work("slow") / "go").touch()
    assert container.wait() == 0


def _drains_again(container: Container) -> None:
    assert container.log.read_text().count("draining every flow") == 2


def test_a_second_stop_does_not_wait(contain: Make) -> None:
    """Nobody else would end this flow within ten minutes."""
    container = contain().start()
    container.create(make_document("deaf", DEAF, stop={"timeout": "10m"}))
    _up(container, "deaf")
    container.signal(signal.SIGTERM)
    eventually(lambda: _says(container, "draining every flow"))
    container.signal(signal.SIGTERM)
    assert container.wait() == 0


def test_a_stop_during_the_start_is_not_lost(contain: Make) -> None:
    """The operator can not yet handle it: it does as soon as it can."""
    container = contain()
    command = [*NAMESPACE, *_command(container)]
    pipe = subprocess.PIPE
    container.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    eventually(lambda: container.operator)
    container.signal(signal.SIGTERM)
    assert container.process.stderr is not None
    with container.process.stderr as log:
        told = log.read()
    assert container.wait() == 0, told


def _command(container: Container) -> list[str]:
    return [
        *(sys.executable, *container.program, "--data", str(container.data)),
        *("--listen", f"unix:{container.socket}"),
    ]
