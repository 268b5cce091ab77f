"""The process runner keeps the contract; what only real processes do."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flow_operator import turns
from flow_operator.clock import SystemClock
from flow_operator.errors import RetryableError, TerminalError
from flow_operator.logs import Keeper
from flow_operator.runners import groups, measure, process
from flow_operator.runners.base import Call, Handle, Launch, LogPart, Runner, StepView
from flow_operator.runners.process import ProcessRunner
from flow_operator.runners.procfs import read_proc, told_by
from flow_operator.settings import Layout
from flow_operator.shim import cgroups, protocol
from runners.contract import FOREVER, RunnerContract
from support import alive, always_for, eventually, make_manifest, processes_of


@contextmanager
def reaping() -> Iterator[Callable[[int], None]]:
    """Be the one to whom orphans fall, as a machine's init is; reap one by its pid."""
    become = ctypes.CDLL(None).prctl
    become(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield lambda pid: os.waitpid(pid, 0) and None
    finally:
        become(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


PR_SET_CHILD_SUBREAPER = 36

CLEARED = "exec env -i sleep 1000"

TITLED = f"""exec {sys.executable} -c '
import time
begin, end = map(int, open("/proc/self/stat").read().split()[-3:-1])
with open("/proc/self/mem", "r+b", buffering=0) as memory:
    memory.seek(begin)
    memory.write(b"postgres: checkpointer".ljust(end - begin))
time.sleep(1000)'"""
"""What setproctitle(3) does."""

COUNTING = "sh -c 'while :; do echo tick; sleep 0.01; done'"


class TestProcessRunner(RunnerContract):
    runner_class = ProcessRunner
    cgroups = False

    @pytest.fixture(autouse=True)
    def _data(self, root: Path) -> Iterator[None]:
        self.layout = Layout(root)
        self.logs = Keeper(self.layout, SystemClock(), 0, lambda _flow_id, _count: None)
        self.heard: list[str] = []
        self.runners: list[ProcessRunner] = []
        yield
        last = ProcessRunner(self.layout, self.logs, cgroups=self.cgroups)
        last.start(lambda _flow_id: None)
        for flow_id in last.flow_ids():
            for instance in last.observe(flow_id):
                last.sweep(instance.run, "SIGKILL")
                self.await_gone(last, instance.run, flow_id)
                last.forget(instance.run)
        last.close(final=True)
        self.logs.close()
        assert processes_of(root) == []

    @contextmanager
    def connect(self) -> Iterator[Runner]:
        runner = ProcessRunner(self.layout, self.logs, cgroups=self.cgroups)
        runner.start(self.heard.append)
        self.runners.append(runner)
        yield runner
        runner.close(final=False)

    def run(self, runner: Runner, *scripts: str, **spec: object) -> Launch:
        wanted = Launch("r1", 0, make_manifest("demo", *scripts, **spec).flow, "/")
        runner.launch(wanted)
        return wanted

    def replace_shim(self) -> int:
        """Kill the shim, and wait for the next; returns the pid of the dead one."""
        runner = self.runners[-1]
        shim = runner._shim_pid
        os.kill(shim, signal.SIGKILL)
        eventually(lambda: _assert(runner._shim_pid != shim))
        return shim

    def test_the_processor_is_offered_to_others_between_two(self, runner, monkeypatch) -> None:
        """What is to be started was to be made up for each of them."""
        yields: list[str] = []
        monkeypatch.setattr(turns.os, "sched_yield", lambda: yields.append("yield"))
        assert runner.begin(3 * [Call("forget", ("nobody",))])() == 3 * [None]
        assert len(yields) == 2

    def test_what_outlives_its_step_and_stands_still_is_let_go_on(self, runner: Runner) -> None:
        """Else it could not end by itself, nor by SIGTERM."""
        self.run(runner, "sleep 0.5 & exec sleep 1000")
        eventually(lambda: _assert(len(processes_of(self.layout.root)) == 2))
        [leader] = [step.pid for step in self.one(runner).steps]
        [child] = set(processes_of(self.layout.root)) - {leader}
        os.kill(child, signal.SIGSTOP)
        os.kill(leader, signal.SIGKILL)
        self.await_exit(runner)
        runner.sweep("r1", None)
        self.await_gone(runner, "r1")
        assert not alive(child)

    def test_a_check_ends_with_its_shim(self, runner: Runner) -> None:
        """Nobody tells its end any more, and it says nothing about the step."""
        launch = self.run(runner, FOREVER)
        [step], ended = launch.flow.spec.steps, queue.SimpleQueue[Exception]()

        def check() -> None:
            try:
                runner.check(launch, step, ("sleep", "1000"), 1000.0)
            except RetryableError as error:
                ended.put(error)

        thread = threading.Thread(target=check, daemon=True)
        thread.start()
        eventually(lambda: _assert(len(processes_of(self.layout.root)) == 2))
        self.replace_shim()
        assert "the shim went away" in str(ended.get(timeout=20))
        thread.join()

    def work(self) -> Path:
        return Path(self.layout.work_dir("demo"))

    def read(self, name: str) -> str:
        def there() -> str:
            path = self.work() / name
            assert path.exists()
            assert path.read_text().endswith("\n")
            return path.read_text()

        return eventually(there)

    def await_deaf(self, runner: Runner) -> None:
        [view] = self.one(runner).steps

        def ignores() -> None:
            status = Path(f"/proc/{view.pid}/status").read_text()
            ignored = int(status.split("SigIgn:")[1].split()[0], 16)
            assert ignored & 1 << (signal.SIGTERM - 1)

        eventually(ignores)

    # --- what a step starts with ---------------------------------------------------------

    def test_the_environment_of_a_step(self, runner: Runner, root: Path) -> None:
        """env, envFrom, valueFrom, and who it is; nothing of the operator's own settings."""
        (root / "env").write_text("# comment\nFROM_FILE='quoted value'\nexport OTHER=1\nOVER=a\n")
        (root / "secret").write_text("hush\n")
        os.environ["FLOWD_LOG_LEVEL"] = "debug"
        try:
            with self.connect() as fresh:
                step = {
                    "name": "s0",
                    "script": "env > $FLOW_DATA/env.new; mv $FLOW_DATA/env.new $FLOW_DATA/env",
                    "envFrom": [{"file": str(root / "env")}],
                    "env": [
                        {"name": "OVER", "value": "b"},
                        {"name": "SECRET", "valueFrom": {"file": str(root / "secret")}},
                    ],
                }
                fresh.launch(Launch("r1", 0, make_manifest("demo", step).flow, "/"))
                env = dict(line.split("=", 1) for line in self.read("env").splitlines())
        finally:
            del os.environ["FLOWD_LOG_LEVEL"]
        assert env["FROM_FILE"] == "quoted value"
        assert (env["OTHER"], env["OVER"], env["SECRET"]) == ("1", "b", "hush")
        assert (env["FLOW_ID"], env["FLOW_RUN"], env["FLOW_STEP"]) == ("demo", "r1", "s0")
        assert env["FLOW_REPLICA"] == "0"
        assert env["FLOW_DATA"] == str(self.work())
        assert env["PATH"] == os.environ["PATH"]
        assert "FLOWD_LOG_LEVEL" not in env

    def test_a_missing_environment_file_is_the_users_to_mend(self, runner: Runner) -> None:
        """Nothing is started, and the file is named."""
        step = {"name": "s0", "script": FOREVER, "envFrom": [{"file": "/nonexistent/env"}]}
        with pytest.raises(TerminalError, match="/nonexistent/env"):
            runner.launch(Launch("r1", 0, make_manifest("demo", step).flow, "/"))
        assert runner.observe("demo") == ()

    def test_the_shim_may_tell_of_names_that_are_not_utf_8(self) -> None:
        """As Python has them: each byte that fits nowhere is a lone surrogate."""
        with self.connect() as runner:
            runner.launch(msgspec.structs.replace(self.launch("r1", FOREVER), base="/no\udcff"))
            [instance] = runner.observe("demo")
            assert instance.steps[0].exit is not None
            assert "/no\udcff" in instance.steps[0].exit.detail

    def test_signals_and_descriptors_of_a_step_are_as_new(self, runner: Runner) -> None:
        """Default handlers, nothing blocked, 0 to 2 open, and the usual soft limit."""
        self.run(
            runner, "ulimit -n; ls /proc/$$/fd; exec grep -E '^Sig(Blk|Ign)' /proc/self/status"
        )
        self.await_exit(runner)
        limit, *rest = Path(self.layout.log_file("demo", 0, "s0")).read_text().split()
        assert limit == subprocess.check_output(["sh", "-c", "ulimit -n"], text=True).strip()
        assert rest[:3] == ["0", "1", "2"]
        assert rest[3] == "SigBlk:"
        # 32 and 33 belong to the C library, which lets nobody set them.
        blocked, ignored = (int(rest[n], 16) & ~(0b11 << 31) for n in (4, 6))
        assert blocked == ignored == 0

    def test_the_limit_of_open_files_is_hard(self, runner: Runner) -> None:
        """resources.limits.openFiles is what the step can have."""
        step = {
            "name": "s0",
            "script": "sleep 0.1; ulimit -Hn > $FLOW_DATA/o",
            "resources": {"limits": {"openFiles": 64}},
        }
        runner.launch(Launch("r1", 0, make_manifest("demo", step).flow, "/"))
        assert self.read("o") == "64\n"

    def test_many_verbs_at_once_are_one_message(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thousand flows that start or stop cost some sixty."""
        sent: list[dict[str, Any]] = []
        send = protocol.send

        def sending(sock: socket.socket, data: bytes) -> None:
            sent.append(json.loads(data))
            send(sock, data)

        monkeypatch.setattr(protocol, "send", sending)
        launches = [self.launch(f"r{n}", FOREVER, flow=f"f{n}") for n in range(5)]
        assert runner.begin([Call("launch", (one,)) for one in launches])() == [None] * 5
        assert all(self.one(runner, f"f{n}").alive for n in range(5))
        assert [message["op"] for message in sent] == ["many"]

    def test_without_a_shim_none_of_many_is_done(self, runner: Runner) -> None:
        """Each of them is to be tried again."""
        self.runners[-1]._link, link = None, self.runners[-1]._link
        launches = [self.launch(f"r{n}", FOREVER, flow=f"f{n}") for n in range(3)]
        calls = [Call("launch", (one,)) for one in launches]
        assert [type(error) for error in runner.begin(calls)()] == [RetryableError] * 3
        self.runners[-1]._link = link
        assert runner.begin(calls)() == [None] * 3

    @pytest.mark.parametrize(
        ("step", "said"),
        [
            ({"command": ["/nonexistent/program"]}, "No such file"),
            ({"command": ["no-such-program-anywhere"]}, "no such program on PATH"),
            ({"command": ["/etc/passwd"]}, "Permission denied"),
            ({"command": ["true"], "workingDir": "/nonexistent"}, "/nonexistent"),
        ],
    )
    def test_a_step_that_cannot_be_started_says_why(
        self, runner: Runner, step: dict[str, object], said: str
    ) -> None:
        """It counts as one that exited; its neighbours run."""
        flow = make_manifest("demo", FOREVER, {"name": "bad", **step}).flow
        runner.launch(Launch("r1", 0, flow, "/"))
        instance = self.one(runner)
        ended = instance.steps[1].exit
        assert ended is not None
        assert ended.reason == "SpawnFailed"
        assert said in ended.detail
        assert instance.steps[0].alive

    def test_output_goes_to_files(self, runner: Runner) -> None:
        """Every step's stderr, and the last one's stdout."""
        self.run(runner, "echo out; echo err >&2", "cat; echo done; echo oops >&2")
        self.await_exit(runner)
        runner.end_step("r1", 0)
        self.await_exit(runner, 1)
        assert Path(self.layout.log_file("demo", 0, "s0")).read_text() == "err\n"
        assert Path(self.layout.log_file("demo", 0, "s1")).read_text() == "out\ndone\noops\n"

    # --- gone means gone -----------------------------------------------------------------

    @pytest.mark.parametrize(
        "script",
        [
            "sleep 1000 & exec sleep 1000",
            "setsid sleep 1000 & exit 0",
            "(setsid sh -c 'sleep 1000 & exec sleep 1000' &) ; exit 0",
            "sh -c 'trap \"\" TERM HUP; sleep 1000; sleep 1000' & exit 0",
        ],
        ids=["child", "session", "double fork", "deaf orphan"],
    )
    def test_escaped_grandchildren_are_found(self, runner: Runner, script: str) -> None:
        """A leader's exit is not the flow's: what it left is named, then ended."""
        self.run(runner, script)
        stays = "exec" in script.rpartition("&")[2]
        eventually(lambda: _assert(len(processes_of(self.layout.root)) > stays))
        [leader] = self.one(runner).steps
        if stays:
            os.kill(leader.pid, signal.SIGKILL)
        self.await_exit(runner)
        eventually(lambda: _assert(len(processes_of(self.layout.root)) >= 1))
        runner.sweep("r1", None)

        def named() -> None:
            survivors = self.one(runner).survivors
            assert survivors
            assert set(survivors) <= set(processes_of(self.layout.root))

        eventually(named)
        always_for(0.15, lambda: _assert(not self.one(runner).gone))
        runner.sweep("r1", "SIGKILL")
        self.await_gone(runner, "r1")
        assert processes_of(self.layout.root) == []

    def test_an_orphan_without_our_environment_is_found_by_its_session(
        self, runner: Runner
    ) -> None:
        """``env -i`` hides the run id, not the session that fell to the shim."""
        self.run(runner, "env -i sleep 1234 & exit 0")
        self.await_exit(runner)
        runner.sweep("r1", None)
        eventually(lambda: _assert(bool(self.one(runner).survivors)))
        [pid] = self.one(runner).survivors
        assert alive(pid)
        runner.sweep("r1", "SIGKILL")
        self.await_gone(runner, "r1")
        assert not alive(pid)

    def test_freeze_stops_children_too_and_is_put_right(self, runner: Runner) -> None:
        """Every process stands still; somebody's SIGCONT is undone by the next freeze."""
        self.run(runner, COUNTING + " & " + COUNTING + " & wait")
        eventually(lambda: _assert(len(processes_of(self.layout.root)) == 3))
        log = Path(self.layout.log_file("demo", 0, "s0"))
        eventually(lambda: _assert(log.stat().st_size > 0))
        runner.freeze("r1")
        self.await_frozen(runner, frozen=True)
        size = log.stat().st_size
        always_for(0.2, lambda: _assert(log.stat().st_size == size))
        for pid in processes_of(self.layout.root):
            os.kill(pid, signal.SIGCONT)
        runner.freeze("r1")
        self.await_frozen(runner, frozen=True)

        def still() -> None:
            size = log.stat().st_size
            always_for(0.1, lambda: _assert(log.stat().st_size == size))

        eventually(still)
        runner.thaw("r1")
        self.await_frozen(runner, frozen=False)
        size = log.stat().st_size
        eventually(lambda: _assert(log.stat().st_size > size))

    # --- never somebody else's -----------------------------------------------------------

    def test_a_record_that_points_at_a_foreign_process_harms_nobody(self, runner: Runner) -> None:
        """pid, start time and run id must match, else nothing is signalled."""
        bystander = subprocess.Popen(["sleep", "1000"])
        try:
            proc = read_proc(bystander.pid)
            for start in (proc.start, proc.start + 1):
                forged = StepView(attempt=1, pid=bystander.pid, start=start)
                runner.recover([Handle(f"forged-{start}", "demo", start, ("s0",), (forged,))])
            for instance in runner.observe("demo"):
                assert not instance.alive
                runner.signal(instance.run, [0], "SIGKILL")
                runner.sweep(instance.run, "SIGKILL")
                self.await_gone(runner, instance.run)
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()

    def test_a_start_that_was_never_recorded_is_found(self, runner: Runner) -> None:
        """Operator and shim died between the start and the record: the run id tells."""
        self.run(runner, FOREVER)
        [view] = self.one(runner).steps
        os.kill(self.runners[-1]._shim_pid, signal.SIGKILL)
        eventually(lambda: _assert(self.one(runner).steps[0].pid == view.pid))
        with self.connect() as other:
            unknown = StepView(attempt=1)
            other.recover([Handle("r1", "demo", 0, ("s0",), (unknown,))])
            assert self.one(other).steps[0].pid == view.pid

    @pytest.mark.parametrize("script", [CLEARED, TITLED], ids=["cleared", "titled"])
    def test_a_step_whose_environment_tells_nothing_is_taken_back(
        self, runner: Runner, script: str
    ) -> None:
        """Programs write their title there. Taken for gone, it would be started a second time."""
        self.assert_taken_back(runner, script)

    def assert_taken_back(self, runner: Runner, script: str) -> None:
        self.run(runner, script)
        [view] = self.one(runner).steps
        eventually(lambda: _assert(told_by(view.pid) == ("", "")))
        self.replace_shim()
        eventually(lambda: _assert(len(runner.observe("demo")) == 1))
        assert self.one(runner).steps[0].pid == view.pid

    @pytest.mark.skipif(
        tuple(map(int, os.uname().release.split(".")[:2])) < (6, 15),
        reason="Linux tells the exit of an adopted process from 6.15 on",
    )
    def test_the_exit_of_an_adopted_process_is_told_by_the_kernel(self, runner: Runner) -> None:
        """Somebody else's child has exited with 7: its pidfd knows."""
        with reaping() as reap:
            self.replace_shim()  # By one whose orphans fall to us.
            self.run(runner, "while [ ! -e $FLOW_DATA/go ]; do sleep 0.01; done; exit 7")
            [view] = self.one(runner).steps
            reap(self.replace_shim())
            (self.work() / "go").touch()
            reap(view.pid)
            ended = self.await_exit(runner).steps[0].exit
            last = self.replace_shim()
        reap(last)
        assert ended is not None
        assert (ended.reason, ended.code) == ("Error", 7)

    @pytest.mark.parametrize("source_runs", [False, True])
    def test_a_step_whose_input_was_cut_by_the_death_of_a_shim_is_known(
        self, runner: Runner, source_runs: bool
    ) -> None:
        """While nobody else could write: it has seen an end. Its next attempt has not."""
        wanted = self.run(runner, FOREVER, "cat; sleep 0.5; exec sleep 1000", "cat")
        assert not any(step.cut for step in self.one(runner).steps)
        if not source_runs:
            runner.signal("r1", [0], "SIGTERM")
            self.await_exit(runner)
        self.replace_shim()
        eventually(lambda: _assert(len(runner.observe("demo")) == 1))
        cut = [step.cut for step in self.one(runner).steps]
        assert cut == [False, not source_runs, False]
        runner.signal("r1", [1], "SIGKILL")
        assert self.await_exit(runner, 1).steps[1].cut is not source_runs
        runner.start_step(wanted, 1, 2)
        assert not self.one(runner).steps[1].cut

    # --- numbers -------------------------------------------------------------------------

    def test_usage_is_measured(self, runner: Runner) -> None:
        """CPU that was burnt, memory that is held, bytes that wait in a pipe."""
        self.run(
            runner, "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo 12345", "sleep 1000"
        )

        def measured() -> None:
            burner, sleeper = runner.usage(["demo"])["r1"]
            assert sleeper.in_flight_bytes == 6
            assert sleeper.memory_bytes > 100_000
            assert burner.in_flight_bytes == 0

        eventually(measured)

    def test_usage_is_of_all_descendants(self, runner: Runner) -> None:
        """Memory, CPU and descriptors of children and their children count as the step's."""
        hold = "import os; held = bytearray(50_000_000); fds = [os.dup(0) for _ in range(40)]; "
        burn = "any(n < 0 for n in range(3_000_000)); import time; time.sleep(1000)"
        child = f"{sys.executable} -I -S -c '{hold}{burn}'"
        self.run(runner, f'sh -c "{child} & wait" & exec sleep 1000')

        def measured() -> None:
            [used] = runner.usage(["demo"])["r1"]
            assert used.memory_bytes > 50_000_000
            assert used.cpu_seconds > 0.03
            assert 43 + 3 + 3 <= used.open_files < 80

        eventually(measured)

    def test_what_may_not_be_read_is_not_counted(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another user's descriptors, where the kernel hides them: 0, and the rest is told."""
        self.run(runner, FOREVER)

        def hides(real: Callable[..., Any]) -> Callable[..., Any]:
            def told(path: str, **named: Any) -> Any:
                if str(path).endswith("/fd"):
                    raise PermissionError(13, "Permission denied", path)
                return real(path, **named)

            return told

        for name in ("listdir", "stat"):
            monkeypatch.setattr(os, name, hides(getattr(os, name)))

        def told() -> None:
            [used] = runner.usage(["demo"])["r1"]
            assert used.open_files == 0
            assert used.memory_bytes > 0

        eventually(told)

    @pytest.mark.parametrize(
        "script",
        [
            "while :; do echo x; sleep 0.02; done",
            "while :; do echo x > /dev/null; sleep 0.02; done",
            "(while :; do echo x > /dev/null; sleep 0.02; done) & wait",
            "while :; do /bin/echo x > /dev/null; sleep 0.02; done",
        ],
        ids=["to its log", "to a file", "a child", "children that end"],
    )
    def test_whatever_is_written_anywhere_is_output(self, runner: Runner, script: str) -> None:
        """By the step or what it has started, to a pipe, a log or any file."""
        self.run(runner, script, FOREVER)
        before = runner.output(["r1"])["r1"][0]
        eventually(lambda: _assert(runner.output(["r1"])["r1"][0] != before))

    def test_where_output_may_not_be_read_the_log_stands_for_it(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of another user's process only what it prints is seen, not what it writes elsewhere."""
        monkeypatch.setattr(measure, "written_bytes", lambda _pid: None)
        self.run(
            runner,
            "while [ ! -e $FLOW_DATA/go ]; do echo x > /dev/null; sleep 0.01; done; echo y >&2; "
            + FOREVER,
        )
        [before] = runner.output(["r1"])["r1"]
        always_for(0.2, lambda: _assert(runner.output(["r1"])["r1"] == (before,)))
        (self.work() / "go").touch()
        eventually(lambda: _assert(runner.output(["r1"])["r1"] != (before,)))

    def test_a_pipe_is_full_when_its_writer_must_wait(self, runner: Runner) -> None:
        """Also if it writes less than whole pages, and the pipe holds fewer bytes than it could."""
        write = "import os\nwhile True: os.write(1, b'x' * 3000)"
        step = {"name": "s0", "command": [sys.executable, "-I", "-S", "-c", write]}
        runner.launch(Launch("r1", 0, make_manifest("demo", step, FOREVER).flow, "/"))

        def full() -> None:
            pipe = runner.pipes(["r1"])["r1"][1]
            assert pipe.full
            assert pipe.unread_bytes == 16 * 3000

        eventually(full)

    def test_a_pipe_whose_writer_has_ended_is_not_full(self, runner: Runner) -> None:
        """Nobody waits for room in it."""
        self.run(runner, "exec yes", FOREVER)
        eventually(lambda: _assert(runner.pipes(["r1"])["r1"][1].full))
        runner.signal("r1", [0], "SIGKILL")
        self.await_exit(runner)
        runner.end_step("r1", 0)
        pipe = runner.pipes(["r1"])["r1"][1]
        assert pipe.unread_bytes > 0
        assert not pipe.full

    # --- logs ----------------------------------------------------------------------------

    def test_a_log_that_was_emptied_is_read_from_its_beginning(self, runner: Runner) -> None:
        """What stands in it now was printed since."""
        log = Path(self.layout.log_file("demo", 0, "s0"))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"old\n" * 100)
        self.run(runner, FOREVER)
        assert runner.read_log("r1", 0, None).data == b""
        log.write_bytes(b"new\n")
        assert runner.read_log("r1", 0, None) == LogPart(400, b"new\n")
        assert runner.read_log("r1", 0, 400).data == b"new\n"
        log.unlink()
        assert runner.read_log("r1", 0, 400) == LogPart(404)

    def test_where_an_attempt_began_outlives_the_shim(self, runner: Runner) -> None:
        """The operator tells the next shim; where nobody knows it, the whole log counts."""
        log = Path(self.layout.log_file("demo", 0, "s0"))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"old\n")
        self.run(runner, FOREVER)
        [view] = self.one(runner).steps
        assert view.log_from == 4
        shim = self.runners[-1]._shim_pid
        os.kill(shim, signal.SIGKILL)
        eventually(lambda: _assert(self.runners[-1]._shim_pid != shim))
        assert self.one(runner).steps[0] == view
        self.runners[-1]._runs["r1"].steps = (msgspec.structs.replace(view, log_from=None),)
        assert runner.read_log("r1", 0, None).data == b"old\n"

    def test_a_start_that_was_asked_for_twice_keeps_its_first_position(
        self, runner: Runner
    ) -> None:
        """What was printed between the two is the attempt's own."""
        wanted = self.run(runner, f"echo word; {FOREVER}")
        self.await_log(runner, b"word\n")
        runner.launch(wanted)
        runner.start_step(wanted, 0, 1)
        assert runner.read_log("r1", 0, None).data == b"word\n"

    def test_a_thousand_exits_at_once_are_all_seen(self, runner: Runner) -> None:
        """One kill for all of them, one report for each."""
        count = 300
        for number in range(count):
            runner.launch(self.launch(f"n{number}", FOREVER, flow=f"f{number}"))
        pids = [self.one(runner, f"f{number}").steps[0].pid for number in range(count)]
        begun = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

        def all_seen() -> None:
            for number in range(count):
                ended = self.one(runner, f"f{number}").steps[0].exit
                assert ended is not None
                assert ended.signal == signal.SIGKILL

        eventually(all_seen)
        assert time.monotonic() - begun < 15


class TestProcessRunnerInCgroups(TestProcessRunner):
    cgroups = True

    @pytest.fixture(autouse=True)
    def _groups(self, _data: None) -> None:
        with self.connect() as runner:
            self.run(runner, "exit 0")
            if self.group(runner) is None:
                pytest.skip("needs a cgroup v2 group that we may write")
            runner.sweep("r1", "SIGKILL")
            self.await_gone(runner, "r1")
            runner.forget("r1")

    def test_the_group_tells_whose_a_step_is_that_prints_elsewhere(self, runner: Runner) -> None:
        """And that has cleared its environment."""
        self.assert_taken_back(runner, f"exec > /dev/null 2>&1; {CLEARED}")

    @pytest.mark.parametrize("how", ["lost", "removed"])
    def test_a_group_that_is_gone_is_made_anew(self, runner: Runner, how: str) -> None:
        """It goes while nobody is in it: with a shim that tidies up, or by somebody's hand.

        Who has ended and was not reaped is still shown in it, and counts as gone.
        """
        with reaping() as reap:
            self.replace_shim()  # By one whose orphans fall to us.
            wanted = self.run(runner, FOREVER)
            [dead] = self.one(runner).steps
            shim = self.runners[-1]._shim_pid
            if how == "lost":
                os.kill(shim, signal.SIGSTOP)
                os.kill(dead.pid, signal.SIGKILL)
                reap(self.replace_shim())
            else:
                runner.signal("r1", [0], "SIGKILL")
                self.await_exit(runner)
                group = self.group(runner)
                assert group is not None
                cgroups.remove(str(group))
            ended = self.await_exit(runner).steps[0].exit
            assert ended is not None
            if how == "lost":
                assert ended.detail == "ended while no shim was watching"
            runner.start_step(wanted, 0, 2)
            [view] = self.one(runner).steps
            group = self.group(runner)
            assert view.pid > 0
            assert group is not None
            assert view.pid in groups.members(str(group))
            last = self.replace_shim()
            if how == "lost":
                reap(dead.pid)
        reap(last)

    def group(self, runner: Runner) -> Path | None:
        path = runner._runs["r1"].group
        return Path(path) if path else None

    def members(self, runner: Runner) -> frozenset[int]:
        group = self.group(runner)
        assert group is not None
        return groups.members(str(group))

    def test_nobody_leaves_a_group(self, runner: Runner) -> None:
        """Another session, another parent and an empty environment do not hide a process."""
        self.run(runner, "env -i setsid sleep 1235 & env -i setsid sleep 1236 & exit 0")
        self.await_exit(runner)
        runner.sweep("r1", None)

        def named() -> None:
            survivors = self.one(runner).survivors
            assert set(survivors) == self.members(runner)
            assert len(survivors) == 2

        eventually(named)
        pids = self.members(runner)
        runner.sweep("r1", "SIGKILL")
        self.await_gone(runner, "r1")
        assert not any(map(alive, pids))

    def test_what_forks_all_the_time_is_killed_at_once(self, runner: Runner) -> None:
        """A process whose pid is another one at each look is killed by its group."""
        runs_away = "import os\nwhile True:\n if os.fork(): os._exit(0)"
        self.run(runner, f"exec python3 -c '{runs_away}'")
        self.await_exit(runner)
        eventually(lambda: _assert(bool(self.members(runner))))
        runner.sweep("r1", "SIGKILL")
        self.await_gone(runner, "r1")
        assert not self.members(runner)

    def test_somebodys_continue_does_not_thaw(self, runner: Runner) -> None:
        """A frozen group stands still whoever sends SIGCONT."""
        self.run(runner, COUNTING)
        log = Path(self.layout.log_file("demo", 0, "s0"))
        eventually(lambda: _assert(log.stat().st_size > 0))
        runner.freeze("r1")
        self.await_frozen(runner, frozen=True)
        size = log.stat().st_size
        for pid in processes_of(self.layout.root):
            os.kill(pid, signal.SIGCONT)
        always_for(0.2, lambda: _assert(log.stat().st_size == size))
        runner.thaw("r1")
        eventually(lambda: _assert(log.stat().st_size > size))

    def test_what_is_done_to_a_group_is_not_done_to_the_shim(self, runner: Runner) -> None:
        """It goes from one run's group into the next, but into no other business from there."""
        ours = self.runners[-1]
        launches = [self.launch(f"r{n}", FOREVER, flow=f"f{n}") for n in range(3)]
        starts = [next(ours._launch(one)) for one in launches]
        kill = ("group", {"run": "r1", "what": "kill"})
        shim = ours._shim_pid
        answers = ours._link.ask_many([*starts[:2], kill, starts[2]])()
        assert [answer if answer is True else answer["run"] for answer in answers] == [
            *("r0", "r1"),
            *(True, "r2"),
        ]
        assert runner.begin([Call("launch", (one,)) for one in launches])() == [None] * 3
        assert ours._shim_pid == shim
        eventually(lambda: _assert(not self.one(runner, "f1").alive))
        assert self.one(runner, "f0").alive
        assert self.one(runner, "f2").alive

    def test_the_shim_has_left_a_group_when_it_answers(self, runner: Runner) -> None:
        """Whoever has the answer may have everybody killed who is in it."""
        shim = self.runners[-1]._shim_pid
        launches = [self.launch(f"r{n}", FOREVER, flow=f"f{n}") for n in range(9)]
        for one in launches[:5]:
            runner.launch(one)
            assert Path(f"/proc/{shim}/cgroup").read_text().rstrip().endswith("/shim")
        assert runner.begin([Call("launch", (one,)) for one in launches[5:]])() == [None] * 4
        assert Path(f"/proc/{shim}/cgroup").read_text().rstrip().endswith("/shim")

    def test_nobody_is_started_in_a_group_that_stands_still(self, runner: Runner) -> None:
        """Its shim would stand still with it: who is resumed first can be started."""
        launch = self.run(runner, FOREVER)
        os.kill(self.one(runner).steps[0].pid, signal.SIGKILL)
        self.await_exit(runner)
        group = self.group(runner)
        assert group is not None
        (group / "cgroup.freeze").write_text("1")
        runner.start_step(launch, 0, 2)
        exit_ = self.one(runner).steps[0].exit
        assert exit_ is not None
        assert "resume it first" in exit_.detail
        (group / "cgroup.freeze").write_text("0")
        runner.start_step(launch, 0, 3)
        assert self.one(runner).alive

    def test_a_group_outlives_its_shim_and_goes_with_its_run(self, runner: Runner) -> None:
        """The next shim finds it by its members, and leaves nothing behind."""
        self.run(runner, FOREVER, "cat")
        group = self.group(runner)
        assert group is not None
        os.kill(self.runners[-1]._shim_pid, signal.SIGKILL)

        def taken_over() -> None:
            assert runner._runs["r1"].seq[1] <= 2
            assert self.group(runner) == group
            assert self.members(runner) == set(processes_of(self.layout.root))

        eventually(taken_over)
        runner.freeze("r1")
        self.await_frozen(runner, frozen=True)
        with self.connect() as other:
            assert self.one(other).frozen
        runner.sweep("r1", "SIGKILL")
        self.await_gone(runner, "r1")
        runner.forget("r1")
        assert not group.exists()
        assert group.parent.exists()

    def test_steps_that_have_left_their_group_are_found_paused(self, runner: Runner) -> None:
        """They stand still by a signal; of a group that has gone nobody can be asked."""
        self.run(runner, FOREVER)
        group, [view] = self.group(runner), self.one(runner).steps
        assert group is not None
        (group.parent / "cgroup.procs").write_text(str(view.pid))
        with self.connect() as other:
            assert not self.one(other).frozen
        cgroups.remove(str(group))
        runner.freeze("r1")
        self.await_frozen(runner, frozen=True)
        assert groups.state(str(group)) == (False, False)
        with self.connect() as other:
            assert self.one(other).frozen

    def test_whom_the_group_tells_of_is_not_looked_at(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There may be ten thousand of them to be taken back."""
        self.run(runner, FOREVER)
        looked: list[int] = []
        monkeypatch.setattr(process, "read_proc", looked.append)
        with self.connect() as other:
            assert not self.one(other).frozen
        assert looked == []

    def test_a_group_outlives_its_shim_also_without_a_step(self, runner: Runner) -> None:
        """What has outlived every step, and the shim too, is found by the group, and killed."""
        self.run(runner, "env -i setsid sleep 1000 & exec sleep 1000")
        eventually(lambda: _assert(len(self.members(runner)) == 2))
        group, [view] = self.group(runner), self.one(runner).steps
        os.kill(view.pid, signal.SIGKILL)
        self.await_exit(runner)
        [left] = self.members(runner)
        self.replace_shim()
        eventually(lambda: _assert(self.group(runner) == group))
        runner.sweep("r1", "SIGKILL")
        self.await_gone(runner, "r1")
        assert not alive(left)

    def test_a_group_that_has_gone_with_its_last_member_stands_still(self, runner: Runner) -> None:
        """A new shim tidies away what is empty; whoever waits for a freeze is not left waiting."""
        self.run(runner, FOREVER)
        os.kill(self.one(runner).steps[0].pid, signal.SIGKILL)
        self.await_exit(runner)
        group = self.group(runner)
        assert group is not None
        cgroups.remove(str(group))
        assert not group.exists()
        runner.freeze("r1")
        self.await_frozen(runner, frozen=True)
        assert self.one(runner).survivors == ()
        runner.thaw("r1")
        self.await_frozen(runner, frozen=False)


def _assert(condition: bool) -> None:
    assert condition
