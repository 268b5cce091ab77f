"""Flows of every kind under crashes, commands, edits and kills, for minutes.

After each burst everything must be as it was asked to be, nothing may run twice and nothing may be
left over; meanwhile neither operator nor shim may grow. A short one always; ``--soak`` runs as
many minutes as SOAK_MINUTES says (10), the second half without kills of operator and shim.
SOAK_SEED repeats a run's choices.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
import signal
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flow_operator.prober import WORKERS
from flow_operator.runners.procfs import Identity, Proc
from support import (
    Flowd,
    always_for,
    eventually,
    make_document,
    members_of,
    processes_of,
    read_proc,
)

CONVERGE = 20.0
"""Seconds within which everything is as it was asked to be."""

QUARTERS = 4
"""Into so many parts the time without kills is divided, to see what grows; each has a sample."""

EVENT_KIB = 2
"""What the operator may grow by for each event that it keeps; there are 100 of a flow at most."""

LOG_SIZE, LOG_FILES = 64 * 1024, 3

NUMBERS = 'n=0; while :; do n=$((n+1)); echo "$FLOW_RUN/$FLOW_ATTEMPT $n"; sleep 0.2; done'
PASSES_ON = 'while read -r line; do echo "$line"; done'
STORES = 'while read -r line; do echo "$line" >>$FLOW_DATA/stored; done'
CHATTY = "while :; do seq 1 2000; sleep 0.2; done"
CHECK = {"exec": {"command": ["test", "-d", "/proc/self"]}, "period": "1s", "timeout": "10s"}

Member = tuple[Proc, Identity]


def plain(_: int) -> dict[str, Any]:
    return {"steps": ["exec sleep 1000"]}


def piped(_: int) -> dict[str, Any]:
    return {"steps": [NUMBERS, PASSES_ON, STORES]}


def failing(number: int) -> dict[str, Any]:
    return {"steps": [f"sleep 0.{number % 10}; exit 1"]}


def probed(_: int) -> dict[str, Any]:
    line = {"logLine": {"pattern": "^up$"}, "period": "200ms"}
    step = {"name": "s0", "script": "echo up; exec sleep 1000", "startupProbe": line}
    return {"steps": [{**step, "readinessProbe": CHECK, "livenessProbe": CHECK}]}


def dependent(number: int) -> dict[str, Any]:
    needs = [{"name": f"plain-{number}", "condition": "Ready"}]
    return {"steps": ["exec sleep 1000"], "dependsOn": needs}


def doubled(_: int) -> dict[str, Any]:
    return {"steps": ["exec sleep 1000", "exec cat"], "replicas": 2}


def chatty(_: int) -> dict[str, Any]:
    logs = {"maxSize": f"{LOG_SIZE // 1024}Ki", "maxFiles": LOG_FILES}
    return {"steps": [CHATTY], "logs": logs}


KINDS = (plain, piped, failing, probed, dependent, doubled, chatty)

ALWAYS = {
    "restart": {"backoff": {"initial": "100ms", "max": "1s"}},
    "stop": {"timeout": "3s"},
}


@dataclass
class Sample:
    """What one of our processes holds at a moment."""

    pid: int
    descriptors: int
    threads: int
    pss_kib: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        root = Path("/proc") / str(pid)
        rollup = (root / "smaps_rollup").read_text()
        pss = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
        return cls(
            pid,
            len(os.listdir(root / "fd")),
            len(os.listdir(root / "task")),
            int(pss.split()[1]),
        )


@dataclass
class Churn:
    """The flows, what is wanted of them, and what was done to them."""

    flowd: Flowd
    count: int
    chance: random.Random
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    # --- what is wanted ------------------------------------------------------------------

    def create(self) -> None:
        for number in range(self.count):
            kind = KINDS[number % len(KINDS)]
            name = f"{kind.__name__}-{number // len(KINDS)}"
            given = kind(number // len(KINDS))
            steps = given.pop("steps")
            self.documents[name] = make_document(name, *steps, **ALWAYS, **given)
        self.flowd.create(*self.documents.values())

    def desired(self, name: str) -> str:
        return str(self.documents[name]["spec"].get("state", "running"))

    def some(self, most: int) -> list[str]:
        names = sorted(self.documents)
        return self.chance.sample(names, self.chance.randint(1, min(most, len(names))))

    # --- what is done --------------------------------------------------------------------

    def note(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        self.done.append(what)

    def crash(self) -> None:
        """kill -9 of one step of some flows."""
        victims = set(self.some(10))
        for proc, who in members_of(self.flowd.data):
            if who.flow_id in victims and proc.pid == proc.sid:
                victims.discard(who.flow_id)
                self.note("crashes", f"crash {who.flow_id} {who.step}")
                kill(proc)

    def command(self) -> None:
        names = self.some(10)
        command, state = self.chance.choice(
            [
                ("start", "running"),
                ("start", "running"),
                ("stop", "stopped"),
                ("pause", "paused"),
                ("resume", "running"),
                ("restart", "running"),
            ]
        )
        extra = {"type": self.chance.randrange(2)} if command == "stop" else {}
        self.flowd.command(command, *names, timeout=0, **extra)
        for name in names:
            self.documents[name]["spec"]["state"] = state
        self.note("commands", f"{command} {extra} {' '.join(names)}")

    def edit(self) -> None:
        """By PUT: in place, or so that it restarts."""
        for name in self.some(3):
            document = copy.deepcopy(self.documents[name])
            spec = document["spec"]
            stamp = str(self.chance.randrange(10**9))
            if name.startswith("doubled") and self.chance.random() < 0.5:
                spec["replicas"] = self.chance.randint(1, 3)
            elif self.chance.random() < 0.5:
                spec["description"] = stamp
            else:
                spec["steps"][0]["env"] = [{"name": "EDITED", "value": stamp}]
            answer = self.flowd.client.put(f"/flows/{name}", json=document)
            assert answer.status_code == 200, answer.text
            self.documents[name] = document
            self.note("edits", f"edit {name}")

    def strike(self) -> None:
        operator, shim = self.chance.choice([(True, False), (False, True), (True, True)])
        self.note("kills", f"kill operator={operator} shim={shim}")
        self.flowd.strike(operator=operator, shim=shim)
        if operator:
            self.flowd.start()

    def burst(self, *, kills: bool) -> None:
        """Several things one upon the other, then as many seconds as it takes to settle."""
        del self.done[:]
        actions = [self.crash, self.command, self.command, self.edit]
        actions += [self.strike, self.strike] if kills else []
        for action in self.chance.choices(actions, k=self.chance.randint(1, 6)):
            action()
        begun = time.monotonic()
        try:
            eventually(self.converged, within=CONVERGE, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\nafter {self.done}") from error
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.counts["bursts"] += 1

    # --- what must hold ------------------------------------------------------------------

    def converged(self) -> None:
        """Desired is observed, each wanted process is there once, and no other."""
        statuses = self.flowd.statuses()
        members = members_of(self.flowd.data)
        self.never_twice(members)
        assert statuses.keys() == self.documents.keys()
        by_flow: dict[str, list[Member]] = defaultdict(list)
        for proc, who in members:
            by_flow[who.flow_id].append((proc, who))
        assert by_flow.keys() <= self.documents.keys(), "an orphan of no flow"
        for name, status in statuses.items():
            try:
                self.as_wanted(name, statuses, by_flow[name])
            except AssertionError as error:
                told = (status["status"], status["message"], status["conditions"], by_flow[name])
                raise AssertionError(
                    f"{name}, to be {self.desired(name)}: {error} {told}"
                ) from None

    def never_twice(self, members: list[Member]) -> None:
        """At no time do two runs of one replica live, nor two attempts of one step."""
        leaders: dict[tuple[str, int, str], list[Member]] = defaultdict(list)
        runs: dict[tuple[str, int], dict[str, Member]] = defaultdict(dict)
        for proc, who in members:
            if proc.pid == proc.sid:
                leaders[who.flow_id, who.replica, who.step].append((proc, who))
                runs[who.flow_id, who.replica][who.run] = proc, who
        for key, found in (*leaders.items(), *((k, list(r.values())) for k, r in runs.items())):
            if len(found) > 1:
                # One may have ended, and its successor begun, while we went over /proc.
                still = [(proc, who) for proc, who in found if lives(proc)]
                if len(still) > 1:
                    record = (self.flowd.data / "runs" / f"{key[0]}.json").read_text()
                    pytest.fail(f"{key} runs twice: {still}, {record}, after {self.done}")

    def as_wanted(self, name: str, statuses: dict[str, Any], members: list[Member]) -> None:
        status, desired = statuses[name], self.desired(name)
        spec = self.documents[name]["spec"]
        assert status["desired"] == desired
        assert status["generation"] == status["observedGeneration"]
        assert status["status"] in self.allowed(name, statuses)
        if status["status"] in ("stopped", "pending"):
            assert members == [], "it has processes"
            return
        failing_one = name.startswith("failing")
        # The child of a step that was killed belongs to its run; a leader must be told by its pid.
        assert {who.run for _, who in members} <= {step["run"] for step in status["steps"]}
        leaders = {proc.pid for proc, _ in members if proc.pid == proc.sid}
        assert failing_one or leaders <= {step["pid"] for step in status["steps"]}, "an orphan"
        if status["status"] == "running" and not failing_one:
            led = Counter((who.replica, who.step) for proc, who in members if proc.pid == proc.sid)
            replicas = range(spec.get("replicas", 1))
            names = [step["name"] for step in spec["steps"]]
            assert led == Counter((replica, step) for replica in replicas for step in names)
            ready = next(each for each in status["conditions"] if each["type"] == "Ready")
            assert ready["status"] == "True"

    def allowed(self, name: str, statuses: dict[str, Any]) -> set[str]:
        desired = self.desired(name)
        if desired == "paused":
            return {"paused", "stopped"}
        if desired == "running" and name.startswith("failing"):
            return {"running", "backoff"}
        if desired == "running" and name.startswith("dependent"):
            needed = self.documents[name]["spec"]["dependsOn"][0]["name"]
            # A dependency holds back a launch, and stops nobody.
            return {"running"} if self.desired(needed) == "running" else {"running", "pending"}
        return {desired}

    def streams_in_order(self) -> int:
        """What sinks have stored of each attempt of a source goes up; returns how many lines."""
        lines = 0
        for name in self.documents:
            path = self.flowd.work(name) / "stored"
            last: dict[str, int] = {}
            for line in path.read_text().splitlines() if path.exists() else ():
                source, _, number = line.partition(" ")
                # A step that was killed in mid-line leaves the rest of it to its successor.
                if source.startswith(f"{name}-") and number.isdigit():
                    lines += 1
                    assert int(number) > last.get(source, 0), f"{name}: {line} came twice"
                    last[source] = int(number)
        return lines

    def logs_bounded(self) -> None:
        """What chatty flows have printed takes no more room than it may."""
        for name in self.documents:
            if name.startswith("chatty"):
                files = list((self.flowd.data / "logs" / name).rglob("*.log*"))
                taken = sum(path.stat().st_blocks * 512 for path in files)
                assert taken <= LOG_SIZE * (LOG_FILES + 1), (name, taken)


def kill(proc: Proc) -> None:
    with contextlib.suppress(ProcessLookupError):
        if lives(proc):
            os.kill(proc.pid, signal.SIGKILL)


def lives(proc: Proc) -> bool:
    """Whether it is still the same process, and runs."""
    now = read_proc(proc.pid)
    return now is not None and now.start == proc.start and now.state not in "ZX"


@dataclass
class Samples:
    """Of operator and shim, over the time without kills."""

    operator: list[Sample] = field(default_factory=list)
    shim: list[Sample] = field(default_factory=list)
    events: list[int] = field(default_factory=list)

    def take(self, flowd: Flowd) -> None:
        self.operator.append(Sample.of(flowd.pid))
        self.shim.append(Sample.of(flowd.shim_pid()))
        self.events.append(len(flowd.client.get("/events").json()["events"]))

    def quarters(self, who: str, what: str) -> list[float]:
        return self.medians([getattr(sample, what) for sample in getattr(self, who)])

    @staticmethod
    def medians(values: list[int]) -> list[float]:
        size = len(values) // QUARTERS
        return [statistics.median(values[n * size : (n + 1) * size]) for n in range(QUARTERS)]

    def table(self) -> str:
        rows = [
            f"  {who:9} {what:12}" + "".join(f"{value:10.0f}" for value in self.quarters(who, what))
            for who in ("operator", "shim")
            for what in ("descriptors", "threads", "pss_kib")
        ]
        kept = "".join(f"{value:10.0f}" for value in self.medians(self.events))
        return "\n".join(["  medians by quarter", *rows, f"  {'operator':9} {'events':12}{kept}"])

    def check_flat(self, *, memory: bool) -> None:
        """Descriptors and threads are what they were; memory has ceased to grow.

        Threads that run probes come when they are needed, and stay.
        """
        for who in ("operator", "shim"):
            assert len({sample.pid for sample in getattr(self, who)}) == 1
            for what, slack in (("descriptors", 4), ("threads", WORKERS)):
                _, second, _, last = self.quarters(who, what)
                if not (who == "shim" and what == "descriptors"):  # Those go with what runs.
                    assert last <= second + slack, (who, what, self.table())
            if memory:
                _, second, _, last = self.quarters(who, "pss_kib")
                _, events, _, more = self.medians(self.events)
                told = EVENT_KIB * (more - events) if who == "operator" else 0
                assert last <= 1.05 * second + 1024 + told, (who, self.table())


def churn(flowd: Flowd, count: int, seconds: float) -> str:
    """Returns what is to be told of it."""
    seed = int(os.environ.get("SOAK_SEED", random.randrange(10**6)))
    sys.stdout.write(f"\nSOAK_SEED={seed}\n")
    empty = Sample.of(flowd.shim_pid())
    world = Churn(flowd, count, random.Random(seed))
    world.create()
    eventually(world.converged, within=3 * CONVERGE, every=0.1)
    begun = time.monotonic()
    while time.monotonic() < begun + seconds / 2:
        world.burst(kills=True)
    samples = Samples()
    while time.monotonic() < begun + seconds or len(samples.operator) < QUARTERS:
        world.burst(kills=False)
        samples.take(flowd)
    eventually(world.logs_bounded)
    flowd.command("stop", timeout=60)
    for document in world.documents.values():
        document["spec"]["state"] = "stopped"
    eventually(world.converged, within=CONVERGE)
    lines = world.streams_in_order()
    assert lines > 0
    assert processes_of(flowd.data) == []

    def given_back() -> None:
        assert Sample.of(flowd.shim_pid()).descriptors == empty.descriptors

    eventually(given_back)
    always_for(0.5, given_back)
    last = Sample.of(flowd.shim_pid())
    told = (
        f"{count} flows, {seconds:.0f} s: {dict(world.counts)}, {lines} numbered lines, "
        f"converged within {world.slowest:.1f} s at most\n{samples.table()}\n"
        f"  shim with nothing to run: {empty} before, {last} after\n"
    )
    sys.stdout.write(told)
    samples.check_flat(memory=seconds >= 300)
    return told


def test_churn_leaves_everything_as_it_was_asked_to_be(flowd: Flowd) -> None:
    """Fifteen seconds of it, with two flows of each kind."""
    churn(flowd, 2 * len(KINDS), 15)


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_churn_for_long(flowd: Flowd, record_property: Callable[[str, str], None]) -> None:
    """The same with a hundred flows, for so long that a leak would show."""
    minutes = float(os.environ.get("SOAK_MINUTES", "10"))
    record_property("churn", churn(flowd, 100, 60 * minutes))
