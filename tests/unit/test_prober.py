"""Probes over real HTTP and TCP on this machine."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from flow_operator.clock import SystemClock
from flow_operator.errors import RetryableError
from flow_operator.model.status import ProbeStatus
from flow_operator.prober import WORKERS, ProbeKey, Prober, Target, Verdict
from flow_operator.runners.base import CheckResult, Launch, LogPart
from support import always_for, eventually, make_manifest

FAST = {"period": "5ms", "timeout": "2s"}


class Bench:
    """A prober, and one step of one run to be probed."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.executed: list[tuple[str, ...]] = []
        self.ok = True
        self.log = b""
        self.log_from: int | None = 0
        self.read: list[int | None] = []
        self.prober = Prober(SystemClock(), self.told.append, {"process": self})

    def check(self, launch: Launch, step: Any, command: tuple[str, ...], timeout: float):
        self.executed.append(command)
        return CheckResult(ok=self.ok, message="as told")

    def read_log(self, run: str, index: int, position: int | None) -> LogPart:
        self.read.append(position)
        start = (self.log_from or 0) if position is None else position
        return LogPart(start, self.log[start:])

    def address(self, run: str, index: int) -> str:
        return "127.0.0.1"

    def results(self) -> dict[str, ProbeStatus]:
        """What is told of each probe, by kind."""
        told = self.prober.results("demo").get(("run", 0), ())
        return {result.kind: result for result in told}

    def targets(self, attempt: int = 1, **probes: dict[str, Any]) -> list[Target]:
        """One target for each kind that is given."""
        step = {"name": "s", "script": "x"}
        step |= {f"{kind}Probe": {**FAST, **probe} for kind, probe in probes.items()}
        flow = make_manifest("demo", step).flow
        launch, made = Launch("run", 0, flow), flow.spec.steps[0]
        return [
            Target(ProbeKey("run", 0, attempt, kind), getattr(made, f"{kind}_probe"), launch, made)
            for kind in probes
        ]

    def sync(self, attempt: int = 1, **probes: dict[str, Any]) -> None:
        self.prober.sync("demo", self.targets(attempt, **probes))

    def verdict(self) -> Verdict:
        return self.prober.verdict("demo")


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.prober.close()


@contextlib.contextmanager
def _listening() -> Iterator[int]:
    """A port that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _free_port() -> int:
    with _listening() as port:
        return port


@contextlib.contextmanager
def _web(statuses: dict[str, int]) -> Iterator[int]:
    """A web server with a status for each path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


EXEC = {"exec": {"command": ["check"]}}


def _assert(holds: object) -> None:
    assert holds


# --- the three ways --------------------------------------------------------------------------


def test_a_port_that_accepts_connections_is_ready(bench):
    """Until then the step is not ready, and the flow hears of the change."""
    port = _free_port()
    bench.sync(readiness={"tcpSocket": {"port": port}})
    assert bench.verdict().not_ready == {("run", 0): "step 's' is not ready: not yet checked"}
    eventually(lambda: _assert("refused" in str(bench.verdict().not_ready)))
    with socket.create_server(("127.0.0.1", port)):
        eventually(lambda: _assert(bench.verdict() == Verdict()))
    assert bench.told[-1] == "demo"


def test_statuses_from_200_to_399_are_success(bench):
    """Redirects included; the message tells the status."""
    paths = {"/ok": 200, "/moved": 302, "/bad": 400, "/worse": 503}
    with _web(paths) as port:
        for path, status in paths.items():
            bench.sync()
            bench.sync(readiness={"httpGet": {"port": port, "path": path}, "failureThreshold": 1})
            if status < 400:
                eventually(lambda: _assert(not bench.verdict().not_ready))
            else:
                told = f"step 's' is not ready: HTTP status {status}"
                eventually(lambda told=told: _same(bench.verdict().not_ready, told))


def _same(not_ready: dict[tuple[str, int], str], told: str) -> None:
    assert not_ready == {("run", 0): told}


def test_what_is_no_http_is_a_failure(bench):
    """A server that hangs up is not ready, and no exception escapes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        bench.sync(readiness={"httpGet": {"port": server.getsockname()[1]}})
        for _ in range(3):
            server.accept()[0].close()
        assert bench.verdict().not_ready


def test_a_command_is_run_beside_the_step(bench):
    """By the runner, with the probe's command."""
    bench.sync(readiness=EXEC)
    eventually(lambda: _assert(bench.verdict() == Verdict()))
    assert set(bench.executed) == {("check",)}


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".b"])
def test_a_host_that_no_name_can_be_is_a_failure_and_is_asked_again(bench, host):
    """No name ends the checking: a liveness probe must never fall silent."""
    probe = {"tcpSocket": {"port": 1, "host": host}, "failureThreshold": 2}
    bench.sync(liveness=probe)
    eventually(lambda: _assert(bench.verdict().unhealthy == {("run", 0, 1)}), within=5)


# --- thresholds ------------------------------------------------------------------------------


def test_liveness_fails_only_after_its_threshold(bench):
    """In a row; a success between starts the count again."""
    outcomes = iter([False, False, True, False, False, False])
    done = threading.Event()

    def execute(*arguments: object) -> CheckResult:
        ok = next(outcomes, None)
        if ok is None:
            done.set()
        seen.append(bench.verdict().unhealthy)
        return CheckResult(ok=bool(ok), message="")

    seen: list[frozenset[tuple[str, int, int]]] = []
    bench.check = execute
    bench.sync(liveness={**EXEC, "failureThreshold": 3})
    assert done.wait(10)
    assert seen[:6] == [frozenset()] * 6
    assert seen[6] == {("run", 0, 1)}


def test_a_look_that_nobody_could_take_says_nothing(bench):
    """A step is not ended because its runner was away, and is probed on."""
    calls: list[str] = []

    def execute(*arguments: object) -> CheckResult:
        calls.append("")
        if len(calls) < 5:
            raise RetryableError("the runner is away")
        return CheckResult(ok=False, message="as told")

    bench.check = execute
    bench.sync(liveness={**EXEC, "failureThreshold": 1})
    eventually(lambda: _assert(bench.verdict().unhealthy))
    assert len(calls) >= 5
    assert bench.results()["liveness"].message == "as told"


def test_readiness_succeeds_only_after_its_threshold(bench):
    """And is lost only after the other one."""
    calls: list[bool] = []

    def execute(*arguments: object) -> CheckResult:
        calls.append(not bench.verdict().not_ready)
        return CheckResult(ok=True, message="")

    bench.check = execute
    bench.sync(readiness={**EXEC, "successThreshold": 3})
    eventually(lambda: _assert(len(calls) > 4))
    assert calls[:4] == [False, False, False, True]


def test_a_startup_probe_that_uses_up_its_failures_is_unhealthy_and_asked_no_more(bench):
    """The step is started again, and has a new attempt to be probed."""
    bench.ok = False
    bench.sync(startup={**EXEC, "failureThreshold": 3})
    eventually(lambda: _assert(bench.verdict().unhealthy == {("run", 0, 1)}))
    assert bench.verdict().not_started == {("run", 0)}
    always_for(0.05, lambda: _assert(len(bench.executed) == 3))
    bench.ok = True
    bench.sync(attempt=2, startup={**EXEC, "failureThreshold": 3})
    eventually(lambda: _assert(bench.verdict() == Verdict()))


# --- startup holds the others ----------------------------------------------------------------


def test_a_startup_probe_holds_the_others_back(bench):
    """They are not asked, and cannot fail, before it has succeeded; then it is asked no more."""
    asked: list[str] = []
    started = threading.Event()

    def execute(launch: object, step: object, command: tuple[str, ...], timeout: float):
        asked.append(command[0])
        return CheckResult(ok=command[0] != "startup" or started.is_set(), message="")

    bench.check = execute
    bench.sync(
        startup={"exec": {"command": ["startup"]}, "failureThreshold": 10_000},
        liveness={"exec": {"command": ["liveness"]}},
        readiness={"exec": {"command": ["readiness"]}},
    )
    eventually(lambda: _assert(len(asked) > 5))
    assert set(asked) == {"startup"}
    assert bench.verdict().not_started == {("run", 0)}
    started.set()
    eventually(lambda: _assert({"liveness", "readiness"} <= set(asked)))
    eventually(lambda: _assert(bench.verdict() == Verdict()))
    count = asked.count("startup")
    eventually(lambda: _assert(asked.count("liveness") > 10))
    assert asked.count("startup") == count


def test_a_probe_that_is_edited_after_the_start_is_asked(bench):
    """The startup probe has done its work and holds nothing back any more."""
    bench.sync(startup=EXEC, readiness=EXEC)
    eventually(lambda: _assert(bench.verdict() == Verdict()))
    bench.sync(startup=EXEC, readiness={"exec": {"command": ["other"]}})
    eventually(lambda: _assert(("other",) in bench.executed), within=5)
    eventually(lambda: _assert(bench.verdict() == Verdict()))


def test_a_startup_probe_that_is_edited_does_not_have_the_others_asked_twice_as_often(bench):
    """One schedule for each probe."""
    ready = {"exec": {"command": ["ready"]}, "period": "20ms"}
    bench.sync(startup=EXEC, readiness=ready)
    eventually(lambda: _assert(("ready",) in bench.executed))
    for n in range(5):
        bench.sync(startup={"exec": {"command": [f"startup-{n}"]}}, readiness=ready)
        eventually(lambda: _assert(not bench.verdict().not_started))
    with bench.prober._changed:
        waiting = [entry for entry in bench.prober._due if entry[2].target.key.kind == "readiness"]
    assert len(waiting) <= 1


# --- which targets ---------------------------------------------------------------------------


def test_what_is_known_of_the_same_targets_is_kept(bench):
    """Each look at a flow names them again; a ready step must not blink."""
    bench.sync(readiness=EXEC)
    eventually(lambda: _assert(bench.verdict() == Verdict()))
    for _ in range(10):
        bench.sync(readiness=EXEC)
        assert bench.verdict() == Verdict()


def test_another_attempt_starts_from_nothing(bench):
    """It is another process."""
    bench.sync(readiness=EXEC)
    eventually(lambda: _assert(bench.verdict() == Verdict()))
    bench.ok = False
    bench.sync(attempt=2, readiness=EXEC)
    assert bench.verdict().not_ready


def test_a_flow_without_targets_is_not_probed(bench):
    """A frozen flow has none: its processes cannot answer, which is nobody's failure."""
    bench.ok = False
    bench.sync(liveness={**EXEC, "failureThreshold": 1})
    eventually(lambda: _assert(bench.verdict().unhealthy))
    bench.sync()
    assert bench.verdict() == Verdict()
    eventually(lambda: _assert(not bench.prober._due))
    count = len(bench.executed)
    always_for(0.05, lambda: _assert(len(bench.executed) <= count + 1))


def test_closing_ends_all_checks(bench):
    """No thread is left, however many probes there were."""
    bench.sync(readiness=EXEC)
    eventually(lambda: _assert(bench.executed))
    bench.prober.close()
    count = len(bench.executed)
    always_for(0.03, lambda: _assert(len(bench.executed) == count))


class Hanging:
    """A runner that does not answer until it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.answers = threading.Event()

    def check(self, launch: Launch, step: Any, command: tuple[str, ...], timeout: float):
        self.asked.release()
        self.answers.wait()
        return CheckResult(ok=True, message="at last")


def test_steps_of_one_runner_are_checked_while_another_one_hangs(bench):
    """However many steps it has."""
    hanging = Hanging()
    prober = Prober(SystemClock(), bench.told.append, {"process": bench, "container": hanging})
    step = {"name": "s", "script": "x", "readinessProbe": {**EXEC, **FAST}}
    flow = make_manifest("boxes", step, runner="container", container={"image": "x"}).flow
    made = flow.spec.steps[0]
    prober.sync(
        "boxes",
        [
            Target(ProbeKey(f"r{n}", 0, 1, "readiness"), made.readiness_probe, launch, made)
            for n in range(2 * WORKERS)
            for launch in (Launch(f"r{n}", 0, flow),)
        ],
    )
    try:
        for _ in range(WORKERS):
            assert hanging.asked.acquire(timeout=10)
        prober.sync("demo", bench.targets(readiness=EXEC))
        eventually(lambda: _assert(len(bench.executed) > 2))
    finally:
        hanging.answers.set()
        prober.close()


# --- lines in the log ------------------------------------------------------------------------

LINE = {"logLine": {"pattern": "^ready$"}}


def test_a_line_that_was_printed_makes_a_step_ready_for_good(bench):
    """And then nobody looks any more."""
    bench.log = b"starting\n"
    bench.sync(readiness=LINE)
    eventually(lambda: _assert(len(bench.read) > 4))
    told = "step 's' is not ready: no line that matches as yet"
    assert bench.verdict().not_ready == {("run", 0): told}
    bench.log += b"ready\n"
    eventually(lambda: _assert(not bench.verdict().not_ready))
    assert bench.verdict().printed == {("run", 0, 1, "^ready$")}
    assert set(bench.told) == {"demo"}
    bench.log, count = b"", len(bench.read)
    bench.sync(readiness=LINE)
    always_for(0.05, lambda: _assert(len(bench.read) == count))
    assert not bench.verdict().not_ready


def test_a_line_of_the_attempt_before_does_not_count(bench):
    """The next one's log begins where it was started."""
    bench.log = b"ready\n"
    bench.sync(readiness=LINE)
    eventually(lambda: _assert(not bench.verdict().not_ready))
    bench.log_from = len(bench.log)
    bench.sync(attempt=2, readiness=LINE)
    count = len(bench.read)
    eventually(lambda: _assert(len(bench.read) > count + 3))
    assert bench.verdict().not_ready
    bench.log += b"ready\n"
    eventually(lambda: _assert(not bench.verdict().not_ready))


@pytest.mark.parametrize("kind", ["startup", "readiness"])
def test_a_line_that_is_known_to_have_been_printed_is_not_looked_for(bench, kind):
    """An earlier operator has found it; the log may hold it no longer."""
    known = [structs.replace(target, printed=True) for target in bench.targets(**{kind: LINE})]
    bench.prober.sync("demo", known)
    assert bench.verdict() == Verdict(printed=frozenset({("run", 0, 1, "^ready$")}))
    always_for(0.05, lambda: _assert(bench.read == []))
    assert (bench.results()[kind].ok, bench.results()[kind].checked_at) == (True, None)


def test_a_startup_probe_may_wait_for_a_line(bench):
    """The others are asked from then on."""
    bench.sync(startup={**LINE, "failureThreshold": 10_000}, liveness=EXEC)
    eventually(lambda: _assert(len(bench.read) > 4))
    assert bench.executed == []
    assert bench.verdict().not_started == {("run", 0)}
    bench.log = b"ready\n"
    eventually(lambda: _assert(bench.executed))
    assert not bench.verdict().not_started


def test_another_pattern_is_looked_for_from_the_start_of_the_attempt(bench):
    """An edit of the probe finds what was printed before it."""
    bench.log = b"ready\nsteady\n"
    bench.sync(readiness=LINE)
    eventually(lambda: _assert(not bench.verdict().not_ready))
    bench.sync(readiness={"logLine": {"pattern": "^steady$"}})
    assert bench.verdict().not_ready
    eventually(lambda: _assert(not bench.verdict().not_ready))


def test_a_log_that_cannot_be_read_is_a_failure_that_says_why(bench):
    """And it is tried again."""

    def denied(*_: object) -> LogPart:
        bench.read.append(None)
        raise PermissionError(13, "Permission denied", "s.log")

    bench.read_log = denied
    bench.sync(readiness=LINE)
    eventually(lambda: _assert(len(bench.read) > 3))
    assert "Permission denied" in bench.results()["readiness"].message


# --- what is told of each probe --------------------------------------------------------------


def test_each_probe_tells_its_last_check(bench):
    """Kind, outcome, message, time, and how often in a row."""
    bench.sync(readiness={**EXEC, "initialDelay": "1h"}, liveness=EXEC)
    assert bench.results()["readiness"] == ProbeStatus("readiness", None, "not yet checked")
    eventually(lambda: _assert(bench.results()["liveness"].successes > 3))
    told = bench.results()["liveness"]
    assert (told.kind, told.ok, told.message, told.failures) == ("liveness", True, "as told", 0)
    checked = datetime.fromisoformat(told.checked_at)
    assert abs((datetime.now(UTC) - checked).total_seconds()) < 10
    bench.ok = False
    eventually(lambda: _assert(bench.results()["liveness"].failures > 2))
    told = bench.results()["liveness"]
    assert (told.ok, told.successes) == (False, 0)


def test_a_failure_below_the_threshold_is_told_though_nothing_follows_from_it(bench):
    """The step is still ready; who looks sees it coming."""
    bench.sync(readiness={**EXEC, "failureThreshold": 10_000})
    eventually(lambda: _assert(bench.results()["readiness"].ok))
    told = list(bench.told)
    bench.ok = False
    eventually(lambda: _assert(bench.results()["readiness"].ok is False))
    assert not bench.verdict().not_ready
    assert bench.told == told, "results alone are no news to the flow"


def test_a_startup_probe_that_is_edited_keeps_what_it_has_shown(bench):
    """It is asked no more."""
    bench.sync(startup=EXEC)
    eventually(lambda: _assert(bench.results()["startup"].ok))
    before = bench.results()["startup"]
    bench.sync(startup={"exec": {"command": ["other"]}})
    assert bench.results()["startup"] == before
