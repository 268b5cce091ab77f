"""Probes: periodic checks of steps, as Kubernetes knows them, and one for lines in their logs.

A startup probe holds the others back until it has succeeded once. A readiness probe says whether
the step is ready; a liveness probe, and a startup probe that uses up its failures, say that it
must be started again. What follows from that is decided by the plan.
"""

from __future__ import annotations

import heapq
import http.client
import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from msgspec import Struct

from flow_operator.clock import Clock, rfc3339
from flow_operator.errors import FlowError, RetryableError
from flow_operator.lines import LineSearch
from flow_operator.model.flow import HttpGetAction, Probe, ProbeKind, Step, TcpSocketAction
from flow_operator.model.status import ProbeStatus
from flow_operator.runners.base import CheckResult, Launch, Runner

WORKERS = 16
"""Checks at once, of the steps of each runner: one takes at most its probe's timeout, unless who is
asked hangs, as a container engine may. The steps of others are checked on."""

_ACCEPTED = range(200, 400)


_PRINTED = "a line that matches was printed"


class ProbeKey(NamedTuple):
    """Which process is checked for what."""

    run: str
    step: int
    attempt: int
    kind: ProbeKind


class Target(Struct, frozen=True):
    """One check to be made over and over.

    ``printed``: whether the line that it waits for is known to have been printed.
    """

    key: ProbeKey
    probe: Probe
    launch: Launch
    step: Step
    printed: bool = False


class Verdict(Struct, frozen=True):
    """What the probes of a flow say, as the plan takes it.

    ``printed``: (run, step index, attempt, pattern) of the lines that were found.
    """

    unhealthy: frozenset[tuple[str, int, int]] = frozenset()
    not_started: frozenset[tuple[str, int]] = frozenset()
    not_ready: dict[tuple[str, int], str] = {}
    printed: frozenset[tuple[str, int, int, str]] = frozenset()


_NO_VERDICT = Verdict()


class _Watch:
    """One target and what its checks have shown."""

    __slots__ = (
        "checked_at",
        "failures",
        "message",
        "ok",
        "passing",
        "scheduled",
        "search",
        "successes",
        "target",
    )

    def __init__(self, target: Target) -> None:
        line = target.probe.log_line
        self.target = target
        self.search = None if line is None else LineSearch(line.pattern)
        self.passing: bool | None = True if target.printed else None
        self.ok = self.passing
        self.scheduled = False
        self.successes = 0
        self.failures = 0
        self.message = _PRINTED if target.printed else "not yet checked"
        self.checked_at: float | None = None

    def keep(self, former: _Watch) -> None:
        """Go on from what another one has shown."""
        self.passing, self.ok, self.message = former.passing, former.ok, former.message
        self.successes, self.failures = former.successes, former.failures
        self.checked_at = former.checked_at

    @property
    def settled(self) -> bool:
        """Whether there is nothing more to be learnt: a step starts up, and prints, only once."""
        if self.target.key.kind == "startup":
            return self.passing is not None
        return bool(self.passing) and self.search is not None

    def status(self) -> ProbeStatus:
        """What is told of it."""
        at = None if self.checked_at is None else rfc3339(self.checked_at)
        kind = self.target.key.kind
        return ProbeStatus(kind, self.ok, self.message, at, self.successes, self.failures)

    def add(self, result: CheckResult, wall: float) -> bool:
        """Take a result, as of ``wall``; returns whether the verdict has changed."""
        before = self.passing
        probe = self.target.probe
        self.message, self.ok, self.checked_at = result.message, result.ok, wall
        if result.ok:
            self.successes, self.failures = self.successes + 1, 0
            if self.successes >= probe.success_threshold:
                self.passing = True
        else:
            self.successes, self.failures = 0, self.failures + 1
            if self.failures >= probe.failure_threshold:
                self.passing = False
        return self.passing != before


class Prober:
    """Checks the targets of all flows until closed.

    Args:
        clock: when checks are due.
        notify: called with a flow's id when a verdict about it has changed.
        runners: by name, those that run the steps.
    """

    def __init__(
        self, clock: Clock, notify: Callable[[str], None], runners: Mapping[str, Runner]
    ) -> None:
        self._clock = clock
        self._notify = notify
        self._runners = runners
        self._changed = threading.Condition()
        self._watches: dict[str, dict[ProbeKey, _Watch]] = {}
        self._due: list[tuple[float, int, _Watch]] = []
        self._order = itertools.count()
        self._closed = False
        self._pools = {
            name: ThreadPoolExecutor(WORKERS, thread_name_prefix="probe") for name in runners
        }
        self._thread = threading.Thread(target=self._schedule, name="prober", daemon=True)
        self._thread.start()

    def sync(self, flow_id: str, targets: Iterable[Target]) -> None:
        """Have exactly these targets of a flow checked; what is known of the same ones is kept."""
        wanted = {target.key: target for target in targets}
        if not wanted and flow_id not in self._watches:
            return
        with self._changed:
            present = self._watches.get(flow_id, {})
            if not wanted:
                self._watches.pop(flow_id, None)
                return
            watches: dict[ProbeKey, _Watch] = {}
            for key, target in wanted.items():
                watch = present.get(key)
                if watch is None or watch.target.probe != target.probe:
                    former, watch = watch, _Watch(target)
                    if former is not None and key.kind == "startup" and former.passing:
                        watch.keep(former)
                watches[key] = watch
            self._watches[flow_id] = watches
            self._begin(watches)

    def _begin(self, watches: dict[ProbeKey, _Watch]) -> None:
        """Schedule what nothing holds back any more."""
        for key, watch in watches.items():
            startup = watches.get(key._replace(kind="startup"))
            held = key.kind != "startup" and startup is not None and not startup.passing
            if not (held or watch.settled or watch.scheduled):
                watch.scheduled = True
                self._push(watch, watch.target.probe.initial_delay.seconds)

    def _push(self, watch: _Watch, delay: float) -> None:
        moment = self._clock.monotonic() + delay
        heapq.heappush(self._due, (moment, next(self._order), watch))
        self._changed.notify()

    def verdict(self, flow_id: str) -> Verdict:
        """What the checks of a flow have shown so far."""
        if flow_id not in self._watches:
            return _NO_VERDICT
        with self._changed:
            watches = dict(self._watches.get(flow_id, {}))
        unhealthy, not_started, not_ready, printed = set(), set(), {}, set()
        for key, watch in watches.items():
            if key.kind == "readiness":
                if not watch.passing:
                    not_ready[key.run, key.step] = (
                        f"step '{watch.target.step.name}' is not ready: {watch.message}"
                    )
            elif watch.passing is False:
                unhealthy.add((key.run, key.step, key.attempt))
            if key.kind == "startup" and not watch.passing:
                not_started.add((key.run, key.step))
            line = watch.target.probe.log_line
            if line is not None and watch.passing:
                printed.add((key.run, key.step, key.attempt, line.pattern))
        return Verdict(frozenset(unhealthy), frozenset(not_started), not_ready, frozenset(printed))

    def results(self, flow_id: str) -> dict[tuple[str, int], tuple[ProbeStatus, ...]]:
        """What each probe has shown so far, by run and step index."""
        found: dict[tuple[str, int], tuple[ProbeStatus, ...]] = {}
        with self._changed:
            for key, watch in self._watches.get(flow_id, {}).items():
                told = found.get((key.run, key.step), ())
                found[key.run, key.step] = (*told, watch.status())
        return found

    def close(self) -> None:
        """End all checks."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def _schedule(self) -> None:
        while True:
            with self._changed:
                while not self._closed:
                    now = self._clock.monotonic()
                    if self._due and self._due[0][0] <= now:
                        break
                    self._changed.wait(self._due[0][0] - now if self._due else None)
                if self._closed:
                    return
                watch = heapq.heappop(self._due)[2]
                if not self._current(watch):
                    continue
            self._pools[watch.target.launch.flow.spec.runner].submit(self._run, watch)

    def _current(self, watch: _Watch) -> bool:
        flow_id = watch.target.launch.flow.flow_id
        return self._watches.get(flow_id, {}).get(watch.target.key) is watch

    def _run(self, watch: _Watch) -> None:
        target = watch.target
        result = self._check(watch)
        with self._changed:
            if self._closed or not self._current(watch):
                return
            changed = result is not None and watch.add(result, self._clock.wall())
            if not watch.settled:
                self._push(watch, target.probe.period.seconds)
            else:
                self._begin(self._watches[target.launch.flow.flow_id])
        if changed:
            self._notify(target.launch.flow.flow_id)

    def _check(self, watch: _Watch) -> CheckResult | None:
        """What a probe finds; None if nobody could look, which says nothing about the step."""
        target, probe = watch.target, watch.target.probe
        timeout = probe.timeout.seconds
        runner = self._runners[target.launch.flow.spec.runner]
        try:
            if probe.http_get is not None:
                return _http(probe.http_get, _host(probe.http_get, target.key, runner), timeout)
            if probe.tcp_socket is not None:
                return _tcp(probe.tcp_socket, _host(probe.tcp_socket, target.key, runner), timeout)
            if watch.search is not None:
                return self._look_for_line(watch.search, target.key, runner, timeout)
            assert probe.exec is not None  # noqa: S101 - validated: exactly one of the four
            return runner.check(target.launch, target.step, probe.exec.command, timeout)
        except RetryableError:
            return None
        except (OSError, ValueError, http.client.HTTPException, FlowError) as error:
            # ValueError: a host that is no name, as IDNA tells it.
            return CheckResult(ok=False, message=str(error) or type(error).__name__)

    def _look_for_line(
        self, search: LineSearch, key: ProbeKey, runner: Runner, timeout: float
    ) -> CheckResult:
        end = self._clock.monotonic() + timeout
        found = search.go_on(
            lambda position: runner.read_log(key.run, key.step, position),
            lambda: self._clock.monotonic() > end,
        )
        return CheckResult(ok=found, message=_PRINTED if found else "no line that matches as yet")


def _host(action: HttpGetAction | TcpSocketAction, key: ProbeKey, runner: Runner) -> str:
    return action.host or runner.address(key.run, key.step)


def _http(action: HttpGetAction, host: str, timeout: float) -> CheckResult:
    connection = http.client.HTTPConnection(host, action.port, timeout=timeout)
    try:
        connection.request("GET", action.path, headers={"User-Agent": "flow-operator-probe"})
        status = connection.getresponse().status
    finally:
        connection.close()
    return CheckResult(ok=status in _ACCEPTED, message=f"HTTP status {status}")


def _tcp(action: TcpSocketAction, host: str, timeout: float) -> CheckResult:
    with socket.create_connection((host, action.port), timeout=timeout):
        return CheckResult(ok=True, message="accepts connections")
