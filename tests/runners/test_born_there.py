"""Processes that are born in a cgroup while their parent is elsewhere, by whichever call can."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from flow_operator.shim import cgroups
from flow_operator.shim import spawn as spawning
from flow_operator.shim.cgroups import Cgroups
from flow_operator.shim.fork import ForkError
from flow_operator.shim.runs import Run
from flow_operator.shim.spawn import NULL, SpawnError, spawn
from flow_operator.shim.spawn_into import SPAWNS_INTO

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

needs_spawn = pytest.mark.skipif(not SPAWNS_INTO, reason="needs the GNU C library, 2.39 or newer")


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup that nobody is in."""
    try:
        base = cgroups._delegated()
        path = Path(base or "/no-cgroup") / f"flow-test-{os.getpid()}"
        path.mkdir()
    except OSError:
        pytest.skip("needs a cgroup of version 2 that we may write")
    yield path
    cgroups.remove(str(path))
    assert not path.exists(), "somebody is left in the group"


@pytest.fixture(params=["fork", pytest.param("spawn", marks=needs_spawn)])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How it is done; where it should be spawned, nobody forks."""

    def refused(_group: str) -> int:
        raise ForkError(errno.EPERM)

    monkeypatch.setattr(spawning, "SPAWNS_INTO", request.param == "spawn")
    if request.param == "spawn":
        monkeypatch.setattr(spawning, "fork_into", refused)
    return str(request.param)


def _printed(group: Path, cwd: Path, *argv: str) -> list[str]:
    """The lines of a program in the group."""
    spec = {"argv": argv, "cwd": str(cwd), "nofile": 64, "umask": 0o27}
    read, write = os.pipe2(os.O_CLOEXEC)
    with open(read) as file:
        try:
            pid = spawn(
                spec, {"PATH": "/usr/bin:/bin", "X": "päth"}, (NULL, write, NULL), str(group)
            )
        finally:
            os.close(write)
        assert os.getsid(pid) == pid
        lines = file.read().splitlines()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return lines


@pytest.mark.usefixtures("way")
def test_it_begins_as_any_other_process_of_ours(group: Path, tmp_path: Path) -> None:
    """In its group, its directory and a session; with what it was given and nothing else."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        lines = _printed(group, tmp_path, "cat", "/proc/self/cgroup", "/proc/self/status")
    finally:
        signal.signal(signal.SIGUSR2, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert any(line.startswith("0::") and line.endswith(f"/{group.name}") for line in lines)
    assert int(status["SigBlk"], 16) == 0
    c_library = 0b111 << 31  # Its own signals, 32 to 34, as whoever has started us left them.
    assert int(status["SigIgn"], 16) & ~c_library == 0
    assert int(status["Umask"], 8) == 0o27
    assert group.name not in Path("/proc/self/cgroup").read_text()
    script = ["sh", "-c", "echo $PWD $X $0 $1", "naught", "first"]
    assert _printed(group, tmp_path, *script) == [f"{tmp_path} päth naught first"]


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["/no/such"], r"cannot start '/no/such': No such file"),
        (["/bin/true", "a\0b"], r"cannot start '/bin/true': .* null byte"),
    ],
)
def test_what_cannot_be_started_there_is_told(argv: list[str], why: str, group: Path) -> None:
    """As where there is no group: by the program, and not as if the group were refused."""
    spec = {"argv": argv, "cwd": "/", "nofile": 64}
    open_before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(SpawnError, match=why):
        spawn(spec, {}, (NULL, NULL, NULL), str(group))
    assert set(os.listdir("/proc/self/fd")) == open_before


def test_a_group_that_is_gone_is_no_lasting_refusal(group: Path) -> None:
    """The next one may be there; and no descriptor is left open."""
    group.rmdir()
    spec = {"argv": ["/bin/true"], "cwd": "/", "nofile": 64}
    open_before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ForkError) as raised:
        spawn(spec, {}, (NULL, NULL, NULL), str(group))
    assert not raised.value.lasting
    assert set(os.listdir("/proc/self/fd")) == open_before


@pytest.mark.parametrize("grouped", [False, True])
def test_a_shim_of_many_pipes_still_spawns(
    grouped: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it passes on may have a number that the limit of the child does not reach.

    Afterwards nobody but who has been started holds the pipe.
    """
    group = str(request.getfixturevalue("group")) if grouped else None
    if not grouped or SPAWNS_INTO:
        monkeypatch.delattr(spawning, "_fork")
    spec = {"argv": ["/bin/sh", "-c", "ulimit -n"], "cwd": "/", "nofile": 64}
    low = os.pipe2(os.O_CLOEXEC)
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 700) for end in low)
    for end in low:
        os.close(end)
    with open(read, "rb") as file:
        try:
            pid = spawn(spec, {}, (NULL, write, NULL), group)
        finally:
            os.close(write)
        os.waitpid(pid, 0)
        os.set_blocking(read, False)
        assert file.read() == b"64\n"  # All of it: None would follow while the pipe is held.
        assert file.read() == b""


class TestSteps:
    """A run of one step, in groups of the kernel's."""

    SPEC: ClassVar = {"argv": ["true"], "cwd": "/", "nofile": 64, "log": os.devnull, "limits": {}}

    @pytest.mark.parametrize("more_follow", [False, True])
    @needs_spawn
    def test_nobody_moves_where_all_are_spawned(
        self, more_follow: bool, group: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither in a row nor alone; so the shim needs not go home either."""
        entered: list[str] = []
        monkeypatch.setattr(cgroups, "_enter", entered.append)
        monkeypatch.delattr(spawning, "_fork")
        groups = Cgroups(str(group))
        groups.more_follow = more_follow
        run = Run("r1", {"flow": "demo", "replica": 0, "steps": ["s0"]}, 1)
        try:
            for attempt in range(1, 8):
                assert run.launch(0, attempt, self.SPEC, dict(os.environ), groups, lambda: None)
                [step] = run.steps
                os.waitpid(step.pid, 0)
                step.left("Completed", 0, None)
                groups.go_home()
        finally:
            run.close()
        assert entered == []
        assert not groups.refused
