"""Named pipes that the shim holds for containers, with real readers and writers."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flow_operator.clock import SystemClock
from flow_operator.errors import AwayError, RetryableError, TerminalError
from flow_operator.logs import Keeper
from flow_operator.runners.base import Handle, PipeView, StepView
from flow_operator.runners.container import ContainerRunner
from flow_operator.runners.engine import Engine
from flow_operator.runners.held_pipes import MOUNT, HeldPipes, on_pipes
from flow_operator.runners.process import ProcessRunner
from flow_operator.runners.shim_link import ShimLink, shim_command
from flow_operator.settings import Layout
from runners.engines import engine
from support import alive, always_for, eventually, require

COUNTS = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; done"]
LAST = ["sh", "-c", "while read line; do echo $line; done"]


class World:
    """A data directory with a shim and operators, and the steps that an engine would run."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.logs = Keeper(self.layout, SystemClock(), 0, lambda _flow_id, _count: None)
        self.operators: list[ProcessRunner] = []
        self.steps: list[subprocess.Popen[bytes]] = []
        self.notified = threading.Event()

    def operator(self) -> ProcessRunner:
        """Another operator; the one before hangs up, as if it were killed."""
        for before in self.operators:
            before.close(final=False)
        runner = ProcessRunner(self.layout, self.logs, cgroups=False)
        runner.start(lambda _flow_id: None)
        self.operators.append(runner)
        return runner

    @property
    def held(self) -> HeldPipes:
        return self.operators[-1].held

    @property
    def shim(self) -> int:
        return int((self.layout.root / "shim.lock").read_text())

    def kill_shim(self) -> None:
        """Kill it; returns when another one is there and holds everything."""
        runner, before = self.operators[-1], self.operators[-1].shims_replaced
        os.kill(self.shim, signal.SIGKILL)
        eventually(lambda: _assert(runner.shims_replaced > before))

    def step(
        self, argv: list[str], index: int, count: int, out: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one, as a container would be started."""
        mount = str(self.layout.pipes / "r1")
        with (out or Path(os.devnull)).open("ab") as file:
            process = subprocess.Popen(
                on_pipes(argv, index, count, mount), stdin=subprocess.DEVNULL, stdout=file
            )
        self.steps.append(process)
        return process

    def write(self, index: int, data: bytes) -> None:
        """Have a step write, and end."""
        count = index + 2
        process = self.step(["sh", "-c", f"printf {data.decode()!r}"], index, count)
        assert process.wait(20) == 0

    def close(self) -> None:
        for process in self.steps:
            process.kill()
            process.wait()
        for runner in self.operators:
            runner.close(final=False)
        self.operator().close(final=True)
        self.logs.close()


@pytest.fixture
def world(root: Path) -> Iterator[World]:
    made = World(root)
    previous = os.umask(0o077)  # As strict as the operator of a machine may have it.
    made.operator()
    os.umask(previous)
    yield made
    made.close()


def _assert(condition: object) -> None:
    assert condition


def _lines(path: Path) -> list[int]:
    """The whole lines of a file that is being written."""
    return [int(line) for line in path.read_bytes().rpartition(b"\n")[0].split()]


def _grows(path: Path) -> None:
    """The numbers go on, and not one is missing."""
    before = len(path.read_bytes())
    eventually(lambda: _assert(len(path.read_bytes()) > before + 200_000))
    numbers = _lines(path)
    assert numbers == list(range(1, len(numbers) + 1))


# --- what a pipe is for ----------------------------------------------------------------------


def test_whoever_is_killed_of_shim_and_operator_no_number_is_missing(
    world: World, root: Path
) -> None:
    """Reader and writer go on in the middle of their stream; a successor holds the pipe."""
    out = root / "out"
    world.held.hold("r1", 3)
    writer = world.step(COUNTS, 0, 3)
    world.step(["cat"], 1, 3)
    world.step(["cat"], 2, 3, out)
    _grows(out)
    world.kill_shim()
    _grows(out)
    world.operator().held.hold("r1", 3)
    _grows(out)
    os.kill(world.shim, signal.SIGKILL)
    world.operators[-1].close(final=False)
    _grows(out)
    world.operator().held.hold("r1", 3)
    _grows(out)
    assert not world.held.cut("r1")

    writer.kill()
    world.held.end("r1", 0)
    assert world.steps[1].wait(20) == 0, "no end of file behind the first step"
    world.held.end("r1", 1)
    assert world.steps[2].wait(20) == 0
    assert world.held.in_flight(["r1"]) == {"r1": (0, 0, 0)}
    numbers = _lines(out)
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("replaced", [False, True], ids=["same-shim", "another-shim"])
def test_a_step_that_crashes_breaks_no_pipe(world: World, root: Path, replaced: bool) -> None:
    """Who writes before it waits, who reads after it waits, and what was written is kept."""
    world.held.hold("r1", 3)
    writer, middle = world.step(COUNTS, 0, 3), world.step(["cat"], 1, 3)
    reader = world.step(["cat"], 2, 3, root / "out")
    eventually(lambda: _assert((root / "out").stat().st_size > 1000))
    if replaced:
        world.kill_shim()
    middle.kill()
    middle.wait()
    eventually(lambda: _assert(world.held.fills(["r1"])["r1"][1].full))
    always_for(0.2, lambda: _assert(writer.poll() is None and reader.poll() is None))
    size = (root / "out").stat().st_size
    world.held.hold("r1", 3, starting=[1])
    world.step(["cat"], 1, 3)
    eventually(lambda: _assert((root / "out").stat().st_size > size + 100_000))


def test_what_the_last_writer_left_is_read_by_a_reader_that_comes_later(
    world: World, root: Path
) -> None:
    """It was ended for good: the reader neither waits for a writer, nor forever for more."""
    world.held.hold("r1", 2)
    world.write(0, b"left behind")
    world.held.end("r1", 0)
    for _ in range(2):
        reader = world.step(["cat"], 1, 2, root / "out")
        assert reader.wait(20) == 0
    assert (root / "out").read_bytes() == b"left behind"


def test_who_writes_before_a_step_that_has_ended_for_good_meets_a_broken_pipe(world: World) -> None:
    """Also one that is started only then; it does not wait for a reader."""
    world.held.hold("r1", 2)
    writer = world.step(COUNTS, 0, 2)
    world.held.end("r1", 1)
    assert writer.wait(20) == -signal.SIGPIPE
    assert world.step(COUNTS, 0, 2).wait(20) == -signal.SIGPIPE


def test_a_step_has_its_pipes_and_no_descriptor_besides(world: World) -> None:
    """One more writing end would keep the next step from ever seeing the end."""
    world.held.hold("r1", 3)
    step = world.step(["sleep", "1000"], 1, 3)
    pipes = world.layout.pipes / "r1"

    def as_told() -> None:
        opened = {fd.name: str(fd.readlink()) for fd in Path(f"/proc/{step.pid}/fd").iterdir()}
        assert sorted(opened) == ["0", "1", "2"]
        assert (opened["0"], opened["1"]) == (str(pipes / "0.fifo"), str(pipes / "1.fifo"))

    eventually(as_told)


def test_words_are_passed_on_as_they_are() -> None:
    """Whatever stands in them; a step without a neighbour needs no shell."""
    odd = ["printf", "%s|", "a b", "$HOME", "'", "", "-x"]
    assert on_pipes(odd, 0, 1) == odd
    with tempfile.TemporaryDirectory() as mount:
        os.mkfifo(f"{mount}/0.fifo")
        held = os.open(f"{mount}/0.fifo", os.O_RDWR)
        subprocess.run(on_pipes(odd, 0, 2, mount), check=True)
        assert os.read(held, 1000) == b"a b|$HOME|'||-x|"
        os.close(held)


def test_unread_bytes_and_full_pipes_are_told(world: World) -> None:
    """As of the pipes of local steps, of all runs in one call."""
    world.held.hold("r1", 2)
    world.held.hold("r2", 3)
    world.write(0, b"12345")
    assert world.held.in_flight(["r1", "r2", "unknown"]) == {"r1": (0, 5), "r2": (0, 0, 0)}
    assert world.held.fills(["r1"]) == {"r1": (PipeView(), PipeView(5, full=False))}
    world.step(COUNTS, 0, 2)
    eventually(lambda: _assert(world.held.fills(["r1"])["r1"][1].full))


# --- who holds it ----------------------------------------------------------------------------


def test_holding_is_idempotent(world: World) -> None:
    """The second operator finds what the first has left; nothing is made twice."""
    path = world.held.hold("r1", 2)
    assert path == world.layout.pipes / "r1"
    world.write(0, b"12345")
    descriptors = len(os.listdir(f"/proc/{world.shim}/fd"))
    assert world.operator().held.hold("r1", 2) == path
    assert world.held.in_flight(["r1"]) == {"r1": (0, 5)}
    assert len(os.listdir(f"/proc/{world.shim}/fd")) == descriptors


def test_another_shim_holds_what_was_held_and_no_end_that_was_let_go(world: World) -> None:
    """Whoever let go meanwhile stays gone."""
    world.held.hold("r1", 3)
    reader, writer = world.step(["cat"], 1, 3), world.step(["sleep", "1000"], 0, 3)
    eventually(lambda: _assert(_opens(reader) == {0, 1} and _opens(writer) == {1}))
    world.held.end("r1", 0)
    world.kill_shim()
    writer.kill()
    assert reader.wait(20) == 0


def _opens(step: subprocess.Popen[bytes]) -> set[int]:
    """Which of its descriptors are pipes with names, once it is what was to be started."""
    found = set()
    with suppress(FileNotFoundError):
        if Path(f"/proc/{step.pid}/comm").read_text().strip() != "sh":
            for fd in (0, 1):
                if os.readlink(f"/proc/{step.pid}/fd/{fd}").endswith(".fifo"):
                    found.add(fd)
    return found


def test_an_end_that_was_none_is_told_of_those_who_saw_it(world: World) -> None:
    """Shim and writer are gone at once: the reader saw an end. Told until it starts anew."""
    world.held.hold("r1", 3)
    writer, middle = world.step(["sleep", "1000"], 0, 3), world.step(["cat"], 1, 3)
    eventually(lambda: _assert(_opens(middle) == {0, 1} and _opens(writer) == {1}))
    world.kill_shim()
    assert not world.held.cut("r1"), "both writers live"
    writer.kill()
    writer.wait()
    world.kill_shim()
    assert 1 in world.held.cut("r1")
    assert middle.wait(20) == 0
    world.operator().held.hold("r1", 3)
    assert 1 in world.held.cut("r1"), "it is kept by the shim"
    world.held.hold("r1", 3, starting=[1, 2])
    assert not world.held.cut("r1")


def test_the_end_of_a_step_that_has_ended_is_no_mistake(world: World) -> None:
    """It has no process either, and need not."""
    world.held.hold("r1", 2)
    world.held.end("r1", 0)
    world.kill_shim()
    assert not world.held.cut("r1")


def test_pipes_survive_an_upgrade_of_the_shim(world: World) -> None:
    """The program that the shim becomes has both ends of each, and lacks what was let go."""
    world.held.hold("r1", 3)
    world.write(0, b"12345")
    world.held.end("r1", 0)
    before, ends = world.shim, _ends(world)
    assert len(ends) == 3
    link = ShimLink(world.layout.root, lambda _: None, lambda _: None)
    with pytest.raises(RetryableError):
        link.call("upgrade", command=shim_command())
    link.close()
    eventually(lambda: _assert(world.operators[-1].shims_replaced == 1))
    assert world.shim == before
    assert _ends(world) == ends
    assert world.held.in_flight(["r1"]) == {"r1": (0, 5, 0)}
    reader = world.step(["cat"], 1, 3)
    assert reader.wait(20) == 0
    world.held.release("r1")
    assert _ends(world) == []


def _ends(world: World) -> list[str]:
    """The named pipes that the shim has open, once for each end."""
    directory = Path(f"/proc/{world.shim}/fd")
    paths = [os.readlink(entry) for entry in directory.iterdir()]
    return sorted(path for path in paths if "/pipes/" in path)


def test_no_step_of_the_shims_own_inherits_a_named_pipe(world: World) -> None:
    """Not even after an upgrade: it would keep the pipe from ever ending."""
    world.held.hold("r1", 2)
    link = ShimLink(world.layout.root, lambda _: None, lambda _: None)
    with pytest.raises(RetryableError):
        link.call("upgrade", command=shim_command())
    link.close()
    eventually(lambda: _assert(world.operators[-1].shims_replaced == 1))
    link = ShimLink(world.layout.root, lambda _: None, lambda _: None)
    spec = {
        "argv": ["sleep", "1000"],
        "cwd": "/",
        "env": {},
        "nofile": 1024,
        "limits": {},
        "log": "/dev/null",
    }
    labels = {"flow": "own", "replica": 0, "steps": ["s0"]}
    try:
        state = link.call("start", run="own", labels=labels, steps=[spec])
        pid = state["steps"][0]["pid"]
        # Again where one was closed meanwhile: it is just being loaded.
        opened = eventually(
            lambda: [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        )
        assert not [path for path in opened if "/pipes/" in path]
    finally:
        link.call("signal", run="own", steps=[0], signal="SIGKILL")
        eventually(lambda: _assert(_forgotten(link, "own")))
        link.close()


def _forgotten(link: ShimLink, run: str) -> bool:
    try:
        return bool(link.call("forget", run=run))
    except TerminalError:
        return False  # It was not reaped yet.


IDLE = (
    "import sys; sys.path.insert(0, sys.argv[1]); import flow_operator.shim.server as server; "
    "server._IDLE_EXIT = 1.0; server.main(sys.argv[2])"
)


def test_a_shim_without_a_run_stays_while_it_holds_a_pipe(root: Path) -> None:
    """Else a pipe would break when operator and shim have been alone for a minute."""
    source = shim_command()[-1]
    subprocess.run([sys.executable, "-I", "-S", "-c", IDLE, source, str(root)], check=True)
    shim = int((root / "shim.lock").read_text())
    with _linked(root) as call:
        call("hold", run="r1", count=2, ended=[], starting=[])
    always_for(2, lambda: _assert(alive(shim)))
    with _linked(root) as call:
        call("release", run="r1")
    eventually(lambda: _assert(not alive(shim)))


@contextmanager
def _linked(root: Path) -> Iterator[Callable[..., object]]:
    link = ShimLink(root, lambda _: None, lambda _: None)
    yield link.call
    link.close()


def test_without_a_shim_verbs_are_to_be_tried_again(world: World) -> None:
    """What was asked for meanwhile is done by the next shim, asked again or not."""
    world.held.hold("r1", 2)
    runner = world.operators[-1]
    link, runner._link = runner._link, None
    for verb in (
        lambda: world.held.hold("r2", 2),
        lambda: world.held.end("r1", 0),
        lambda: world.held.release("r1"),
        lambda: world.held.in_flight(["r1"]),
        lambda: world.held.fills(["r1"]),
    ):
        with pytest.raises(RetryableError):
            verb()
    runner._link = link
    world.held.release("r1")
    world.kill_shim()
    assert set(world.held.in_flight(["r1", "r2"])) == {"r2"}


def test_an_unknown_run_is_no_error(world: World) -> None:
    """Absence is an answer."""
    world.held.end("r1", 0)
    world.held.release("r1")
    world.held.release_all_but([])
    assert not world.held.cut("r1")


# --- the directory ---------------------------------------------------------------------------


def test_what_nobody_knows_is_removed(world: World) -> None:
    """Of runs whose records are lost, held or not; nothing else."""
    world.held.hold("r1", 2)
    world.held.hold("r2", 2)
    (world.layout.pipes / "r3").mkdir()
    world.operator().held.release_all_but(["r2"])
    assert [path.name for path in world.layout.pipes.iterdir()] == ["r2"]
    assert len(_ends(world)) == 2


def test_a_final_close_takes_the_pipes_along(world: World) -> None:
    """Nothing runs any more that could need them."""
    world.held.hold("r1", 2)
    world.operators[-1].close(final=True)
    eventually(lambda: _assert(not list(world.layout.pipes.iterdir())))


OPENS = "import os, sys; os.close(os.open(sys.argv[1], os.O_RDWR))"


def test_any_user_may_open_a_pipe_but_only_in_the_container(world: World) -> None:
    """On the machine the way leads through a directory that only the operator may pass."""
    require(None if os.geteuid() == 0 else "only root can be somebody else")
    world.layout.root.chmod(0o755)
    path = world.held.hold("r1", 2)
    assert stat.S_IMODE(world.layout.pipes.stat().st_mode) == 0o700
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    refused = subprocess.run(
        ["sh", "-c", ": <> $0", f"{path}/0.fifo"], check=False, capture_output=True, **nobody
    )
    assert b"Permission denied" in refused.stderr
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        subprocess.run(
            ["sh", "-c", ": <> $0", f"/proc/self/fd/{directory}/0.fifo"],
            check=True,
            pass_fds=[directory],
            **nobody,
        )
    finally:
        os.close(directory)


def test_what_is_no_pipe_is_not_opened(world: World, root: Path) -> None:
    """Somebody within a container could have put a link to anything of the machine there."""
    path = world.held.hold("r1", 2)
    target = root / "target"
    os.mkfifo(target)
    (path / "0.fifo").unlink()
    (path / "0.fifo").symlink_to(target)
    world.kill_shim()
    with pytest.raises(TerminalError):
        world.held.hold("r1", 2)
    (path / "0.fifo").unlink()
    (path / "0.fifo").write_bytes(b"")
    with pytest.raises(TerminalError, match="is no pipe"):
        world.held.hold("r1", 2)
    (path / "0.fifo").unlink()
    (path / "1.fifo").write_bytes(b"")
    with pytest.raises(TerminalError, match="is no pipe"):
        world.held.hold("r1", 3)
    assert _ends(world) == [], "those that could be opened"
    world.held.hold("r1", 2)


def test_a_run_that_does_not_fit_is_refused_and_leaves_nothing_open(world: World) -> None:
    """The shim needs descriptors for others; the reason tells what to do."""
    before = _ends(world)
    resource.prlimit(world.shim, resource.RLIMIT_NOFILE, (60, 60))
    with pytest.raises(TerminalError, match="ulimit -Hn"):
        world.held.hold("r1", 100)
    assert _ends(world) == before
    world.held.hold("r2", 2)


# --- containers ------------------------------------------------------------------------------


def test_containers_are_joined_whoever_they_run_as(world: World, root: Path) -> None:
    """Their user is nobody, the mount is read-only; the pipe is whole while the shim is killed."""
    with engine() as real:
        directory = world.held.hold("r1", 3)
        out = root / "out"
        out.mkdir()
        out.chmod(0o777)
        mounted = (f"{directory}:{MOUNT}:ro", f"{out}:/out")
        programs = (["seq", "1", "300000"], ["cat"], ["sh", "-c", "cat > /out/numbers"])
        started = [
            real.run(*on_pipes(argv, index, 3), binds=mounted, user="65534:65534")
            for index, argv in reversed(list(enumerate(programs)))
        ]
        eventually(lambda: _assert((out / "numbers").stat().st_size))
        world.kill_shim()
        for index, container in enumerate(reversed(started)):
            assert real.wait(container) == (0, "")
            world.held.end("r1", index)
        assert _lines(out / "numbers") == list(range(1, 300001))
        replacing = real.run(
            "rm", f"{MOUNT}/0.fifo", binds=(f"{directory}:{MOUNT}:ro",), user="0:0"
        )
        assert "Read-only file system" in real.wait(replacing)[1]


class AwayEngine(Engine):
    @property
    def _api(self) -> None:
        raise AwayError("away")


def test_what_may_run_keeps_its_pipes_while_the_engine_is_away(world: World) -> None:
    """A run that was intended: nobody can ask whether its containers are there."""
    world.held.hold("r1", 2)
    world.held.hold("r2", 2)
    away = AwayEngine("unix:///missing.sock")
    runner = ContainerRunner(away, world.layout, world.logs, world.operator().held, SystemClock())
    runner.start(lambda _flow_id: None)
    try:
        runner.recover([Handle("r1", "demo", 0, ("s0", "s1"), (StepView(), StepView()))])
        assert [path.name for path in world.layout.pipes.iterdir()] == ["r1"]
        assert len(_ends(world)) == 2
    finally:
        runner.close(final=False)
