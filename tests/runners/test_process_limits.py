"""Who a step runs as, and what it may use."""

from __future__ import annotations

import os
import pwd
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flow_operator.clock import SystemClock
from flow_operator.errors import TerminalError
from flow_operator.logs import Keeper
from flow_operator.runners.base import Instance, Launch
from flow_operator.runners.process import ProcessRunner
from flow_operator.settings import Layout
from support import eventually, make_manifest, processes_of

NOBODY = pwd.getpwnam("nobody")

Run = Callable[..., None]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")


class Bench:
    """One runner, and the one run on it."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.layout = Layout(root)
        self.logs = Keeper(self.layout, SystemClock(), 0, lambda _flow_id, _count: None)
        self.runner = ProcessRunner(self.layout, self.logs, **options)
        self.runner.start(lambda _flow_id: None)

    def run(self, script: str, **step: Any) -> None:
        flow = make_manifest("demo", {"name": "s0", "script": script, **step}).flow
        self.runner.launch(Launch("r1", 0, flow, "/"))

    def one(self) -> Instance:
        [instance] = self.runner.observe("demo")
        return instance

    def printed(self) -> list[str]:
        """What the step has printed, once it has ended."""

        def ended() -> None:
            assert self.one().steps[0].exit is not None

        eventually(ended)
        return Path(self.layout.log_file("demo", 0, "s0")).read_text().splitlines()

    def close(self) -> None:
        for instance in self.runner.observe("demo"):
            self.runner.sweep(instance.run, "SIGKILL")
            eventually(lambda: _assert(self.one().gone and not self.one().alive))
            self.runner.forget(instance.run)
        self.runner.close(final=True)
        self.logs.close()
        assert processes_of(self.layout.root) == []


@pytest.fixture
def bench(root: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(root, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- limits of each process ------------------------------------------------------------------


def test_limits_and_the_mask_hold_from_the_first_moment(bench: Callable[..., Bench]) -> None:
    """setrlimit(2)'s names, soft and hard at once; files are made with the step's umask."""
    made = bench()
    rlimits = {"core": 0, "stack": "1Mi", "fsize": "64Ki", "as": "1Gi", "nproc": 5000}
    made.run(
        "for l in c s f v; do ulimit -S$l; ulimit -H$l; done; umask; touch $FLOW_DATA/f",
        umask="027",
        resources={"rlimits": rlimits, "limits": {"openFiles": 77}},
    )
    *told, mask = made.printed()
    kib = ["0", "0", "1024", "1024", "64", "64", "1048576", "1048576"]
    halves = ["0", "0", "1024", "1024", "128", "128", "1048576", "1048576"]
    assert told in (kib, halves), "fsize is told in blocks of 512 bytes by some shells"
    assert mask == "0027"
    assert stat.S_IMODE((Path(made.layout.work_dir("demo")) / "f").stat().st_mode) == 0o640


def test_a_mask_alone_is_the_steps_and_not_the_shims(bench: Callable[..., Bench]) -> None:
    """The next step's log is made as ever."""
    made = bench()
    made.run("umask", umask="077")
    assert made.printed() == ["0077"]
    log = Path(made.layout.log_file("demo", 0, "s0"))
    assert stat.S_IMODE(log.stat().st_mode) & 0o070, "the log has the step's mask"


def test_a_limit_above_the_operators_own_is_told(bench: Callable[..., Bench]) -> None:
    """What the kernel would not let us set is not silently left out."""
    made = bench()
    made.run("true", resources={"limits": {"openFiles": 1_048_576}, "rlimits": {"core": 0}})
    ended = made.one().steps[0].exit
    if ended is None or ended.reason != "SpawnFailed":
        pytest.skip("this machine lets us open a million files")
    assert "hard limits of flowd" in ended.detail


# --- users -----------------------------------------------------------------------------------


@as_root
def test_a_step_runs_as_another_user(bench: Callable[..., Bench]) -> None:
    """With its groups, a login's variables, and the flow's directory to write into."""
    made = bench(users=frozenset({"nobody"}))
    made.run(
        "id -un; id -Gn; echo $HOME $USER $LOGNAME; touch $FLOW_DATA/mine; "
        "cat $FLOW_DATA/../../format || echo hidden",
        user="nobody",
        workingDir="/",
    )
    name, groups, login, hidden, *_ = [
        line for line in made.printed() if not line.startswith("cat:")
    ]
    assert (name, groups) == ("nobody", "nogroup")
    assert login == f"{NOBODY.pw_dir} nobody nobody"
    assert hidden == "hidden"
    assert (Path(made.layout.work_dir("demo")) / "mine").stat().st_uid == NOBODY.pw_uid


@as_root
@pytest.mark.parametrize("users", [set(), {"daemon"}], ids=["nobody", "another"])
def test_a_user_that_is_not_allowed_is_refused(
    bench: Callable[..., Bench], users: set[str]
) -> None:
    """Nothing is started, and the option that would allow it is named."""
    made = bench(users=frozenset(users))
    with pytest.raises(TerminalError, match="--allow-users nobody"):
        made.run("true", user="nobody")
    assert made.runner.observe("demo") == ()


@as_root
def test_everybody_can_be_allowed(bench: Callable[..., Bench]) -> None:
    """``*``, and a uid for a name."""
    made = bench(users=frozenset({"*"}))
    made.run("id -un", user=str(NOBODY.pw_uid))
    assert made.printed() == ["nobody"]


def test_an_unknown_user_is_told(bench: Callable[..., Bench]) -> None:
    """Before anything is started."""
    made = bench(users=frozenset({"*"}))
    with pytest.raises(TerminalError, match="no user 'nosuchuser'"):
        made.run("true", user="nosuchuser")


def test_the_operators_own_user_needs_no_leave(bench: Callable[..., Bench]) -> None:
    """It changes nothing."""
    made = bench()
    made.run("id -u", user=pwd.getpwuid(os.geteuid()).pw_name)
    assert made.printed() == [str(os.geteuid())]


# --- limits of a step ------------------------------------------------------------------------


def controllers(bench: Bench) -> frozenset[str]:
    """The controllers of a run's group; empty where it has none."""
    group = bench.runner._runs["r1"].group
    if group is None:
        return frozenset()
    return frozenset((Path(group) / "cgroup.controllers").read_text().split())


def test_it_is_told_which_limits_are_enforced(bench: Callable[..., Bench]) -> None:
    """As many as the group's controllers can."""
    made = bench()
    made.run("exec sleep 1000", resources={"limits": {"cpu": "500m", "memory": "64Mi", "pids": 10}})
    can = controllers(made)
    assert dict(made.one().steps[0].limits) == {
        name: name in can for name in ("cpu", "memory", "pids")
    }


def test_without_groups_no_limit_is_enforced(bench: Callable[..., Bench]) -> None:
    """And that is said."""
    made = bench(cgroups=False)
    made.run("exec sleep 1000", resources={"limits": {"memory": "64Mi"}})
    assert made.one().steps[0].limits == (("memory", False),)


def test_the_next_shim_knows_which_limits_hold(bench: Callable[..., Bench]) -> None:
    """It reads them from the group of the attempt, in which the process still is."""
    made = bench()
    if not made.runner.capabilities.groups:
        pytest.skip("needs a cgroup of version 2 that we may write")
    made.run("exec sleep 1000", resources={"limits": {"cpu": "500m", "memory": "64Mi", "pids": 10}})
    group = Path(made.runner._runs["r1"].group)
    leaf = group / "0.1" if made.runner.capabilities.limits else group
    before, shim = _holding(made), made.runner._shim_pid
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: _assert(made.runner._shim_pid != shim))
    eventually(lambda: _assert(made.one().steps[0].alive))
    assert _holding(made) == before == set(made.runner.capabilities.limits)
    assert int((leaf / "cgroup.procs").read_text()) == made.one().steps[0].pid


def _holding(made: Bench) -> set[str]:
    return {name for name, held in made.one().steps[0].limits if held}


def test_the_runner_tells_what_it_can_enforce(bench: Callable[..., Bench]) -> None:
    """As found by the shim; nothing where groups are not to be used."""
    made = bench()
    made.run("exec sleep 1000", resources={"limits": {"cpu": "1", "memory": "64Mi", "pids": 10}})
    can = made.runner.capabilities
    assert can.groups == (made.runner._runs["r1"].group is not None)
    assert _holding(made) == set(can.limits)
    without = ProcessRunner(made.layout, made.logs, cgroups=False)
    without.start(lambda _flow_id: None)
    assert (without.capabilities.groups, without.capabilities.limits) == (False, ())
    without.close(final=False)


def _needs(made: Bench, controller: str) -> None:
    if controller not in controllers(made):
        pytest.skip(f"needs the {controller} controller of cgroup v2")


def test_more_memory_than_allowed_ends_the_step(bench: Callable[..., Bench]) -> None:
    """All of its processes, and the reason is told."""
    made = bench()
    made.run(
        "sleep 1000 & python3 -c 'import time; x = bytearray(64 * 2**20); time.sleep(1000)'; wait",
        resources={"limits": {"memory": "32Mi"}},
    )
    _needs(made, "memory")
    made.printed()
    ended = made.one().steps[0].exit
    assert ended is not None
    assert ended.reason == "OOMKilled"
    assert processes_of(made.layout.root) == []


def test_more_processes_than_allowed_cannot_be_started(bench: Callable[..., Bench]) -> None:
    """Threads count."""
    made = bench()
    made.run(
        "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & wait",
        resources={"limits": {"pids": 3}},
    )
    _needs(made, "pids")
    assert any("fork" in line for line in made.printed())


def test_more_cpu_than_allowed_is_not_given(bench: Callable[..., Bench]) -> None:
    """A loop that would take a whole core gets its share."""
    made = bench()
    made.run("while :; do :; done", resources={"limits": {"cpu": "100m"}})
    _needs(made, "cpu")
    group = Path(made.runner._runs["r1"].group) / "0.1"

    def throttled() -> None:
        words = (group / "cpu.stat").read_text().split()
        assert int(words[words.index("nr_throttled") + 1]) > 5

    eventually(throttled)


def _assert(condition: bool) -> None:
    assert condition
