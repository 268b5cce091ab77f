"""The shim: upgraded while flows run, lost, hidden, and out of descriptors."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import flow_operator
from flow_operator.clock import SystemClock
from flow_operator.logs import Keeper
from flow_operator.runners.process import ProcessRunner
from flow_operator.settings import Layout
from support import Flowd, alive, always_for, eventually, injected, make_document, processes_of

OTHER = "\n# Another version of this program.\n"
COUNTS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.005; done"
TRANSPORT = "while read n; do echo $n; done"
STORES = "while read n; do echo $n >> $FLOW_DATA/out; done"

Make = Callable[..., Flowd]


@pytest.fixture
def other_version(root: Path) -> Path:
    """A source root with the same operator and a shim of other code."""
    package = Path(flow_operator.__file__).parent
    copy = root / "other" / "flow_operator"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "shim" / "runs.py").open("a") as file:
        file.write(OTHER)
    return copy.parent


def _numbers(flowd: Flowd) -> list[int]:
    return [int(line) for line in (flowd.work("piped") / "out").read_text().split()]


def _counts_on(flowd: Flowd) -> None:
    """The numbers at the end of the pipe grow, without a gap."""
    before = len(_numbers(flowd))
    eventually(lambda: _assert(len(_numbers(flowd)) > before + 20))
    numbers = _numbers(flowd)
    assert numbers == list(range(1, len(numbers) + 1))


# --- upgrades --------------------------------------------------------------------------------


@pytest.mark.parametrize("adopted", [False, True], ids=["children", "adopted"])
def test_an_upgraded_operator_upgrades_the_shim_under_running_flows(
    make_flowd: Make, other_version: Path, adopted: bool
) -> None:
    """Same shim process, same steps, whole pipes; exits, paused flows and drains are as before."""
    old = make_flowd(environment={"PYTHONPATH": str(other_version)}).start()
    old.create(
        make_document("piped", COUNTS, TRANSPORT, STORES),
        make_document("leaver", "while [ ! -e $FLOW_DATA/go ]; do sleep 0.01; done; exit 7"),
        make_document("still", COUNTS),
    )
    for name in ("piped", "leaver", "still"):
        old.await_status(name, "running")
    if adopted:
        shim = old.shim_pid()
        os.kill(shim, signal.SIGKILL)
        eventually(lambda: _assert(old.shim_pid() not in (0, shim)))
        eventually(lambda: _assert(old.command("stop", "leaver") == {"leaver": "stopped"}))
        old.command("start", "leaver")
    old.command("pause", "still")
    pids = {name: old.pids(name) for name in ("piped", "leaver", "still")}
    shim = old.shim_pid()
    old.kill()

    new = make_flowd()
    new.start()
    assert new.shim_pid() == shim
    assert str(other_version) not in Path(f"/proc/{shim}/cmdline").read_text()
    new.await_status("still", "paused")
    new.await_status("piped", "running")
    assert {name: new.pids(name) for name in pids} == pids
    _counts_on(new)
    (new.work("leaver") / "go").touch()

    def known() -> None:
        [step] = new.status("leaver")["steps"]
        assert step["restarts"] >= 1
        assert step["lastExit"]["code"] == 7

    eventually(known)
    os.kill(pids["piped"][1], signal.SIGKILL)
    eventually(lambda: _assert(new.status("piped")["steps"][1]["restarts"] == 1))
    assert new.pids("piped")[0] == pids["piped"][0], "the source saw a broken pipe"
    assert new.command("stop", "piped") == {"piped": "stopped"}
    assert new.command("resume", "still") == {"still": "running"}
    assert len(os.listdir(f"/proc/{shim}/fd")) < 40, "descriptors were left behind"


def test_a_shim_that_cannot_be_upgraded_goes_on(make_flowd: Make, other_version: Path) -> None:
    """What the new program cannot read is not handed over; flows are looked after as before."""
    with (other_version / "flow_operator" / "shim" / "handover.py").open("a") as file:
        file.write("\nFORMAT = 999\n")
    old = make_flowd(environment={"PYTHONPATH": str(other_version)}).start()
    old.create(make_document("piped", COUNTS, TRANSPORT, STORES))
    old.await_status("piped", "running")
    pids, shim = old.pids("piped"), old.shim_pid()
    old.kill()
    new = make_flowd()
    new.start()
    new.await_status("piped", "running")
    assert (new.shim_pid(), new.pids("piped")) == (shim, pids)
    assert "the shim stays as it is" in new.log.read_text()
    _counts_on(new)
    assert new.command("stop", "piped") == {"piped": "stopped"}


# --- what is missing -------------------------------------------------------------------------


def test_a_shim_whose_socket_was_removed_is_found(flowd: Flowd) -> None:
    """It makes another where the operator asks for it, and no second shim is started."""
    flowd.create(make_document("one"))
    flowd.await_status("one", "running")
    pids, shim = flowd.pids("one"), flowd.shim_pid()
    flowd.kill()
    (flowd.data / "shim.sock").unlink()
    flowd.start()
    flowd.await_status("one", "running")
    assert (flowd.pids("one"), flowd.shim_pid()) == (pids, shim)


def test_what_runs_without_any_record_is_ended_before_it_runs_twice(flowd: Flowd) -> None:
    """Shim, operator and run records are gone: the environment of the processes still tells."""
    flowd.create(make_document("one", "exec sleep 1000", "exec cat"))
    flowd.await_status("one", "running")
    before, shim = flowd.pids("one"), flowd.shim_pid()
    flowd.kill()
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: _assert(not alive(shim)))
    shutil.rmtree(flowd.data / "runs")
    flowd.start()

    def one_copy() -> None:
        flowd.await_status("one", "running")
        assert set(processes_of(flowd.data)) == set(flowd.pids("one"))
        assert not set(before) & set(flowd.pids("one"))

    eventually(one_copy)


@pytest.mark.parametrize("how", ["spawned", "forked", "forked into a group"])
def test_a_step_that_has_not_come_to_its_program_holds_up_the_next_shim(
    make_flowd: Make, how: str
) -> None:
    """Nobody can know it yet. It has what its shim had open, the lock among it."""
    flowd = make_flowd("--cgroups", "auto" if how == "forked into a group" else "off").start()
    shim = flowd.shim_pid()
    step = {"name": "s0", "script": "exec sleep 1000"}
    if how != "spawned":
        step["resources"] = {"rlimits": {"core": 0}}
    with injected(shim, "execve", "delay_enter=2000000"):
        flowd.create(make_document("one", step))

        def born() -> int:
            [child] = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
            assert os.getsid(int(child)) == int(child)
            return int(child)

        child = eventually(born)
        os.kill(shim, signal.SIGKILL)
        eventually(lambda: _assert(flowd.shim_pid() not in (0, shim, child)))
        flowd.await_status("one", "running")
        assert flowd.pids("one") == [child]
        assert processes_of(flowd.data) == [child]


# --- pipes that nobody holds -----------------------------------------------------------------

_COUNT = "import os, time\ni = 0\nwhile True: i += 1; os.write(3, b'%d\\n' % i); time.sleep(0.005)"
MOVED = f'exec 3>&1 > /dev/null; exec {sys.executable} -c "{_COUNT}"'
KEPT = "exec 3<&0 < /dev/null; exec cat /dev/fd/3 >> $FLOW_DATA/out"
"""Both have the pipe between them as descriptor 3, where no other shim looks for it."""


def _unheld(flowd: Flowd) -> dict[str, str]:
    conditions = flowd.status("piped")["conditions"]
    told: dict[str, str] = {c["type"]: c for c in conditions}["PipeUnheld"]
    return told


def _events(flowd: Flowd) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = flowd.client.get("/flows/piped/events").json()["events"]
    return told


def _reasons(flowd: Flowd) -> list[str]:
    return [event["reason"] for event in _events(flowd)]


def _lose_a_pipe(flowd: Flowd) -> list[int]:
    """A flow whose first pipe no shim holds; returns its pids, which go on."""
    flowd.create(make_document("piped", MOVED, KEPT, "exec sleep 1000", stop={"timeout": "1s"}))
    flowd.await_status("piped", "running")
    assert _unheld(flowd)["status"] == "False"
    eventually(lambda: _assert(_numbers(flowd)))
    pids, shim = flowd.pids("piped"), flowd.shim_pid()
    os.kill(shim, signal.SIGKILL)

    def told() -> None:
        condition = _unheld(flowd)
        assert (condition["status"], condition["reason"]) == ("True", "ShimLost")
        assert "between step 's0' and step 's1' is no longer held" in condition["message"]

    eventually(told)
    assert _reasons(flowd).count("PipeUnheld") == 1
    assert flowd.pids("piped") == pids
    _counts_on(flowd)
    return pids


@pytest.mark.parametrize("mended", ["restart", "broken"])
def test_a_pipe_that_no_shim_can_hold_again_is_told_until_it_is_replaced(
    flowd: Flowd, mended: str
) -> None:
    """Data goes on through it. A restart replaces it in order; an exit breaks it, as was said."""
    pids = _lose_a_pipe(flowd)
    if mended == "restart":
        flowd.command("restart", "piped")
    else:
        os.kill(pids[1], signal.SIGKILL)
        eventually(lambda: _assert(not alive(pids[0])))  # The writer has seen it break.
    eventually(lambda: _assert(_unheld(flowd)["status"] == "False"))
    flowd.await_status("piped", "running")
    assert not {pids[0], pids[1]} & set(flowd.pids("piped"))
    assert _reasons(flowd).count("NotPipeUnheld") == 1


def test_an_upgraded_shim_still_tells_of_a_pipe_that_nobody_holds(
    make_flowd: Make, other_version: Path
) -> None:
    """It is handed over with the run."""
    old = make_flowd().start()
    pids = _lose_a_pipe(old)
    old.kill()
    new = make_flowd(environment={"PYTHONPATH": str(other_version)}).start()
    assert str(other_version) in Path(f"/proc/{new.shim_pid()}/cmdline").read_text()
    eventually(lambda: _assert(_unheld(new)["status"] == "True"))
    assert new.pids("piped") == pids
    [event] = [e for e in _events(new) if e["reason"] == "PipeUnheld"]
    assert event["count"] == 1  # It was told by the operator before.


def test_a_pipe_of_a_steps_own_is_not_taken_for_ours(flowd: Flowd) -> None:
    """Were it held, its reader would never see its end."""
    aside = "mkfifo $FLOW_DATA/f; (cat $FLOW_DATA/f; echo end) > $FLOW_DATA/seen 3>&- & "
    stdout = "exec > $FLOW_DATA/f; while [ ! -e $FLOW_DATA/go ]; do sleep 0.01; done; exit 0"
    source = f"exec 3>&1; {aside}{stdout}"
    flowd.create(make_document("piped", source, "cat", restart={"policy": "Never"}))
    flowd.await_status("piped", "running")
    seen = flowd.work("piped") / "seen"
    eventually(lambda: _assert(seen.exists()))
    pid, shim = flowd.pids("piped")[0], flowd.shim_pid()
    eventually(lambda: _assert(os.readlink(f"/proc/{pid}/fd/1").endswith("/f")))
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: _assert(_unheld(flowd)["status"] == "True"))
    (flowd.work("piped") / "go").touch()
    eventually(lambda: _assert(seen.read_text() == "end\n"))


# --- its beginning and its end ---------------------------------------------------------------


def test_a_shim_starts_while_its_operator_has_other_things_to_do(root: Path) -> None:
    """The operator then finds it, and leaves no child of its own."""
    layout = Layout(root)
    logs = Keeper(layout, SystemClock(), 0, lambda _flow_id, _count: None)
    runner = ProcessRunner(layout, logs, cgroups=False)
    runner.prepare()
    shim, child = eventually(lambda: int((root / "shim.lock").read_text())), runner._starting
    runner.start(lambda _flow_id: None)
    runner.close(final=True)
    logs.close()
    assert child.returncode == 0
    assert not alive(shim), "another one was started"


def test_an_operator_that_cannot_start_leaves_no_shim(root: Path) -> None:
    """It was begun before anybody knew, and would have waited for a minute."""
    data = root / "data"
    data.mkdir()
    (data / "format").write_text("99\n")
    flowd = Flowd(root)
    with pytest.raises(AssertionError, match="another version"):
        flowd.start()
    assert flowd.wait() == 1
    flowd.client.close()
    assert (data / "shim.lock").exists(), "none was begun"
    eventually(lambda: _assert(not alive(int((data / "shim.lock").read_text()))))


def test_a_shim_that_goes_on_is_not_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It still runs something, and says so; we are such a shim, and end later than this test."""
    monkeypatch.setattr("flow_operator.runners.process._END_TIMEOUT", 10_000.0)
    layout = Layout(root)
    logs = Keeper(layout, SystemClock(), 0, lambda _flow_id, _count: None)
    runner = ProcessRunner(layout, logs, cgroups=False)
    runner._shim_pid = os.getpid()
    runner._end_shim(SimpleNamespace(call=lambda _op: False))
    logs.close()


LATE = """
_serve = Shim.serve


def _late(self):
    _serve(self)
    time.sleep(1)


Shim.serve = _late
"""


def test_an_operator_that_has_drained_everything_ends_after_its_shim(
    make_flowd: Make, other_version: Path
) -> None:
    """Who looks then finds nothing left, however long the shim needs."""
    with (other_version / "flow_operator" / "shim" / "server.py").open("a") as file:
        file.write(LATE)
    flowd = make_flowd(environment={"PYTHONPATH": str(other_version)}).start()
    shim = flowd.shim_pid()
    assert flowd.end() == 0
    assert not alive(shim)


# --- descriptors -----------------------------------------------------------------------------


def test_a_shim_without_descriptors_says_so_and_heals(make_flowd: Make) -> None:
    """Flows that do not fit wait with a reason; others go on, can be stopped, and make room."""
    limit = 96
    steps = ["exec sleep 1000", "cat", "cat", "cat"]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    flowd = make_flowd().start()
    shim = flowd.shim_pid()
    resource.prlimit(shim, resource.RLIMIT_NOFILE, (limit, hard))
    names = [f"many-{number:02}" for number in range(20)]
    flowd.create(*(make_document(name, *steps) for name in names))

    def settled() -> tuple[list[str], list[str]]:
        told = {name: flowd.status(name)["status"] for name in names}
        running = [name for name in names if told[name] == "running"]
        waiting = [name for name in names if told[name] == "backoff"]
        assert len(running) + len(waiting) == len(names), told
        assert waiting
        return running, waiting

    running, waiting = eventually(settled)
    assert len(os.listdir(f"/proc/{shim}/fd")) < limit - 8, "none was kept for operators and logs"
    message = flowd.status(waiting[0])["message"]
    assert "descriptor" in message.lower() or "Too many open files" in message, message
    before = _cpu_ticks(shim)
    always_for(0.5, lambda: _assert(flowd.status(running[0])["status"] == "running"))
    assert _cpu_ticks(shim) - before < 20, "the shim is busy with nothing"
    flowd.kill()
    flowd.start()  # A connection needs a descriptor too.
    assert flowd.command("stop", *running, type=1) == dict.fromkeys(running, "stopped")
    for name in waiting[: len(running)]:
        flowd.await_status(name, "running")


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# --- processes -------------------------------------------------------------------------------


@contextlib.contextmanager
def _at_most(processes: int, pid: int) -> Iterator[Path]:
    """A group of the pids controller, of whichever version, with a process and its limit."""
    for parent in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        group = parent / f"flow-test-{os.getpid()}-{time.monotonic_ns()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "pids.max").exists():
            break
        group.rmdir()
    else:
        pytest.skip("needs a pids controller that we may use")
    try:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "pids.max").write_text(str(processes))
        yield group
    finally:
        (group / "pids.max").write_text("max")
        for member in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.procs").write_text(member)
        eventually(group.rmdir, within=5)


def test_a_fork_that_fails_is_told_and_tried_again(make_flowd: Make) -> None:
    """At the limit of processes a flow waits with the reason; with room it runs."""
    flowd = make_flowd("--cgroups", "off").start()
    with _at_most(5, flowd.shim_pid()) as group:
        backoff = {"backoff": {"initial": "100ms", "max": "200ms"}}
        names = [f"f{number}" for number in range(8)]
        flowd.create(*(make_document(name, restart=backoff) for name in names))

        def told() -> list[str]:
            waiting = [name for name in names if flowd.status(name)["status"] == "backoff"]
            assert len(waiting) == len(names) - 4
            return waiting

        waiting = eventually(told)

        def why() -> None:
            status = flowd.status(waiting[0])  # It is tried again now and then.
            assert "limit of processes" in status["message"]
            [ready] = [each for each in status["conditions"] if each["type"] == "Ready"]
            assert (ready["status"], ready["reason"]) == ("False", "BackOff")
            assert "limit of processes" in ready["message"]

        eventually(why)
        (group / "pids.max").write_text("max")
        for name in names:
            flowd.await_status(name, "running")
        flowd.command("stop", type=1)


BURIES = """
import os, sys
from flow_operator.shim.runs import Run

sys.stdin.readline()
spec = {"argv": ["true"], "cwd": "/", "env": {}, "nofile": 64, "log": "/dev/null", "limits": {}}
buried = []
first, second = (Run(name, {"flow": name, "replica": 0}, 1) for name in "ab")
assert first.launch(0, 1, spec, dict(os.environ), None, lambda: None)
[dead] = [step.pid for step in first.steps]
os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
second.launch(0, 1, spec, dict(os.environ), None, lambda: buried.append(os.waitpid(dead, 0)[0]))
print(second.steps[0].exit, second.steps[0].pid > 0, buried == [dead])
"""


def test_the_dead_are_buried_before_a_fork_counts_as_failed() -> None:
    """One that has ended and was not reaped takes the last place; its successor gets it."""
    shim = subprocess.Popen(
        [sys.executable, "-c", BURIES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        with _at_most(2, shim.pid):
            told, _ = shim.communicate("go\n", timeout=20)
        assert told.strip() == "None True True"
    finally:
        shim.kill()
        shim.wait()


def _assert(condition: bool) -> None:
    assert condition
