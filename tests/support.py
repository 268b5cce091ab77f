"""What tests share: waiting for conditions, clocks, flows, and a real operator."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from flow_operator.manifest import Document, Manifest, load_manifest
from flow_operator.runners.procfs import Identity, Proc, environment, identity, read_proc

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(__file__).parent / "programs"

DEADLINE = 20.0
"""Seconds after which a condition counts as never met; passing tests are far from it."""


GONE = (FileNotFoundError, ProcessLookupError)
"""What the kernel says of a file, or of one in /proc whose process ends while it is read."""


def eventually(check: Callable[[], T], within: float = DEADLINE, every: float = 0.01) -> T:
    """Call until it raises nothing; the last assertion is raised when time is up.

    What is not there yet (a key, a row, a file, a process) is as good as a failed assertion.
    """
    end = time.monotonic() + within
    while True:
        try:
            return check()
        except (AssertionError, LookupError, ValueError, *GONE):
            if time.monotonic() > end:
                raise
        time.sleep(every)


def always_for(seconds: float, check: Callable[[], Any], every: float = 0.02) -> None:
    """Call again and again; it must never raise."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        check()
        time.sleep(every)


@contextlib.contextmanager
def spawned(command: Sequence[Any], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that does not outlive the block, which a failed assertion may have ended.

    ``subprocess.Popen`` alone would wait for it to end, and hide the failure behind that.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def injected(pid: int, call: str, what: str) -> Iterator[None]:
    """A system call of a process, of its threads and of its children goes otherwise.

    Args:
        pid: of the process.
        call: the name of the call.
        what: how it goes, as strace(1) takes it: ``error=EIO``, ``delay_enter=MICROSECONDS``.
    """
    require(None if shutil.which("strace") else "needs strace")
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:{what}"]
    with subprocess.Popen(
        ["strace", "-f", "-p", str(pid), *inject],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as tracer:
        assert tracer.stderr is not None
        if "attached" not in tracer.stderr.readline():
            pytest.skip("nobody may be traced here")
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            try:
                tracer.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                tracer.kill()  # The kernel lets go of whom it still waits for.


def require(missing: str | None) -> None:
    """Skip a test where something is missing; a machine of CI must have everything.

    Args:
        missing: why the test cannot be made here; None if it can.
    """
    if missing is not None:
        assert not os.environ.get("CI"), f"CI may skip nothing: {missing}"
        pytest.skip(missing)


class FakeClock:
    """Time that passes when told to."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self.now = monotonic
        self.wall_now = wall

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.wall_now

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall_now += seconds


def make_document(name: str = "demo", *steps: str | dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A configuration; a step given as text is a script."""
    given = steps or ("exec sleep 1000",)
    listed = [
        step if isinstance(step, dict) else {"name": f"s{index}", "script": step}
        for index, step in enumerate(given)
    ]
    return {"flow_id": name, "spec": {"steps": listed, **spec}}


def make_manifest(name: str = "demo", *steps: str | dict[str, Any], **spec: Any) -> Manifest:
    """The same, checked."""
    return load_manifest(Document(make_document(name, *steps, **spec)))


def program(name: str, *arguments: str) -> dict[str, Any]:
    """A step that runs one of the tests' own programs."""
    command = [sys.executable, str(PROGRAMS / f"{name}.py"), *arguments]
    return {"name": name, "command": command}


@contextlib.contextmanager
def memory_directory() -> Iterator[Path]:
    """A directory in memory, where the machine has one: disks differ, tests should not."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="flow-test-", dir=parent) as name:
        yield Path(name)


def processes_of(data: Path) -> list[int]:
    """Every living process that was started for a data directory, by its environment."""
    mark = f"FLOW_DATA={data}/work/".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and mark in environment(int(name)):
            proc = read_proc(int(name))
            if proc is not None and proc.state not in "ZX":
                found.append(proc.pid)
    return sorted(found)


def members_of(data: Path) -> list[tuple[Proc, Identity]]:
    """The same, each with who it was started as; the checks of probes, of attempt 0, left out."""
    found = ((read_proc(pid), identity(environment(pid), str(data))) for pid in processes_of(data))
    return [
        (proc, who) for proc, who in found if proc is not None and who is not None and who.attempt
    ]


def steps_of(data: Path) -> Counter[tuple[str, int, str]]:
    """How many processes lead each (flow, replica, step) of a data directory; one is right."""
    return Counter(
        (who.flow_id, who.replica, who.step)
        for proc, who in members_of(data)
        if proc.pid == proc.sid
    )


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    proc = read_proc(pid)
    return proc is not None and proc.state not in "ZX"


def _what_it_does(pid: int) -> str:
    """Where each thread of a process and of its children is in the kernel."""
    lines = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            stack = (task / "stack").read_text().split("\n")
            lines.append(f"{task} {(task / 'comm').read_text().strip()}: {stack[:3]}")
            lines += [
                _what_it_does(int(child)) for child in (task / "children").read_text().split()
            ]
    return "\n".join(lines)


def _kill(pid: int) -> None:
    """End a process, unless it has ended by now: who only starts a shim looks like one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Flowd:
    """A real operator in a process of its own, on a data directory in memory.

    Attributes:
        program: what Python is to run.
    """

    program: Sequence[str] = ("-m", "flow_operator.flowd")

    def __init__(
        self,
        root: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        within: Sequence[str] = (),
    ):
        """``within`` is a command that runs the operator in other conditions."""
        self.data = root / "data"
        self.manifests = root / "manifests"
        self.manifests.mkdir(exist_ok=True)
        self.log = root / "flowd.log"
        self._arguments = arguments
        self._environment = environment or {}
        self.under = within  # the program that starts it, if another one does
        self.process: subprocess.Popen[str] | None = None
        self.welcome: list[str] = []
        self.client = httpx.Client(timeout=60)

    def start(self) -> Flowd:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    *self.under,
                    *(sys.executable, *self.program),
                    *("--data", str(self.data), "--listen", "127.0.0.1:0"),
                    *("--manifests", str(self.manifests)),
                    *self._arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **self._environment},
            )
        assert self.process.stdout is not None
        self.welcome = []
        for line in self.process.stdout:
            self.welcome.append(line.rstrip("\n"))
            if line.startswith("  stop"):
                break
        assert self.welcome, f"flowd did not start:\n{self.log.read_text()}"
        self.client.base_url = self.welcome[0].split(" serves ")[1]
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """As a crash would: flows go on."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals = signal.SIGTERM, within: float = 60) -> int:
        """Signal the operator and wait for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait(within)

    def wait(self, within: float = 60) -> int:
        assert self.process is not None
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired as error:
            error.add_note(_what_it_does(self.pid))
            raise
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def strike(self, *, operator: bool, shim: bool) -> None:
        """kill -9 of either or both, at once."""
        pid = self.shim_pid() if shim else 0
        if pid:
            _kill(pid)
        if operator:
            self.kill()

    def shim_pid(self) -> int:
        """The shim of this data directory; 0 if there is none.

        The oldest that looks like it: so does a child that it is just starting. Its lock would
        tell, but not on a disk whose power was cut.
        """
        found: list[tuple[int, int]] = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                proc = read_proc(int(name))
                if proc and str(self.data).encode() in words and b"-S" in words:
                    found.append((proc.start, proc.pid))
        return min(found, default=(0, 0))[1]

    def destroy(self) -> None:
        """Leave nothing behind, whatever the test did."""
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shim = self.shim_pid()
        if shim:
            _kill(shim)
        eventually(self._kill_what_is_left)

    def _kill_what_is_left(self) -> None:
        """Until there is nothing: a step that was just being started shows a moment later."""
        left = processes_of(self.data)
        for pid in left:
            _kill(pid)
        assert not left

    # --- the API -------------------------------------------------------------------------

    def create(self, *documents: dict[str, Any]) -> None:
        answer = self.client.post("/flows", json=list(documents))
        assert answer.status_code == 201, answer.text

    def command(self, command: str, *flow_ids: str, **extra: Any) -> dict[str, str]:
        timeout = extra.pop("timeout", 30)
        body = {"command": command, "flow_ids": list(flow_ids), **extra}
        if not flow_ids:
            del body["flow_ids"]
        answer = self.client.patch(f"/flows/commands?timeout={timeout}", json=body)
        assert answer.status_code == 200, answer.text
        return {row["flow_id"]: row["status"] for row in answer.json()["details"]}

    def status(self, flow_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/flows/status/{flow_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def statuses(self) -> dict[str, Any]:
        return self.client.get("/flows/status").json()

    def await_status(self, flow_id: str, wanted: str, within: float = DEADLINE) -> dict[str, Any]:
        def check() -> dict[str, Any]:
            status = self.status(flow_id)
            assert status["status"] == wanted, status
            return status

        return eventually(check, within)

    def await_ready(self) -> None:
        """Until it has looked at all that runs."""

        def check() -> None:
            assert self.client.get("/readyz").status_code == 200

        eventually(check)

    def await_gone(self, flow_id: str) -> None:
        def check() -> None:
            assert self.client.get(f"/flows/status/{flow_id}").status_code == 404

        eventually(check)

    def pids(self, flow_id: str) -> list[int]:
        """The pids of a flow's steps, in their order."""
        return [step["pid"] for step in self.status(flow_id)["steps"]]

    def crash(self, flow_id: str) -> None:
        """Have the first step end, and see it run again."""
        before = self.pids(flow_id)
        os.kill(before[0], signal.SIGKILL)

        def again() -> None:
            status = self.status(flow_id)
            assert status["status"] == "running", status
            assert [step["pid"] for step in status["steps"]] != before

        eventually(again)

    def work(self, flow_id: str) -> Path:
        """The flow's own directory."""
        return self.data / "work" / flow_id

    def logs(self, flow_id: str, step: str) -> str:
        return (self.data / "logs" / flow_id / "0" / f"{step}.log").read_text()
