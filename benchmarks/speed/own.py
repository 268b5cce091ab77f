"""What only this operator does: commands, folders of manifests, pipelines, drains."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from speed import ours as operator
from speed.compiled import Programs
from speed.contender import flow_name
from speed.figures import Sample
from speed.measures import OURS, PARSE, SHELL
from speed.ours import Ours
from speed.processes import Watched
from speed.register import Register
from speed.session import end_workers, workplace

PATIENCE = 120.0
"""Seconds after which nothing more is waited for."""

DRAIN_RATE = 2**17
"""Bytes a second of the sink that is slow, so that a pipe of 64 KiB takes half a second."""

PAIRS = 4
"""How often a pipeline is compared with one in a shell in one round."""


@dataclass(frozen=True)
class Own:
    """Measures of one round.

    Attributes:
        programs: what flows run.
        record: takes a sample.
        round: its number.
    """

    programs: Programs
    record: Callable[[Sample], None]
    round: int

    def _tell(self, measure: str, flows: int, value: float, who: str = OURS) -> None:
        self.record(Sample(who, measure, flows, self.round, value))

    def commands(self, flows: int) -> None:
        """Creating all at once, and commands to all of them."""
        with workplace(self.programs.worker, flows) as (root, work, register):
            ours = Ours(root, work, self.programs.client)
            try:
                operator.start_empty(ours, register)
                self._create(ours, register, flows)
                ours.await_statuses("running", flows)
                for measure, verb, extra, reached in (
                    ("pause", "pause", {}, "paused"),
                    ("resume", "resume", {}, "running"),
                    ("soft-stop", "stop", {}, "stopped"),
                    ("start-command", "start", {}, "running"),
                    ("hard-stop", "stop", {"type": 1}, "stopped"),
                ):
                    begun = time.monotonic()
                    told = ours.command(verb, **extra)
                    took = time.monotonic() - begun
                    if sum(status == reached for status in told.values()) < flows:
                        raise RuntimeError(f"not every flow was {reached} when {verb} was answered")
                    self._tell(measure, flows, took)
            finally:
                ours.close()
                end_workers(register)

    def _create(self, ours: Ours, register: Register, flows: int) -> None:
        documents = [ours.document(number) for number in range(flows)]
        first, begun = register.count(), time.monotonic()
        ours.post(documents)
        self._tell("post", flows, time.monotonic() - begun)
        started = register.wait(first + flows, PATIENCE)[first:]
        self._tell("post-start", flows, max(start.at for start in started) - begun)

    def folder(self, flows: int) -> None:
        """A folder of new manifests, and a new operator that finds nothing changed."""
        with workplace(self.programs.worker, flows) as (root, work, register):
            ours = Ours(root, work, self.programs.client)
            for number in range(flows):
                (ours.manifests / f"{flow_name(number)}.yaml").write_text(_manifest(ours, number))
            texts = [path.read_text() for path in sorted(ours.manifests.iterdir())]
            begun = time.monotonic()
            for text in texts:
                yaml.load(text, yaml.CSafeLoader)
            self._tell("cold-start", flows, time.monotonic() - begun, PARSE)
            try:
                begun = time.monotonic()
                ours.start()
                started = register.wait(flows, 2 * PATIENCE)
                self._tell("cold-start", flows, max(start.at for start in started) - begun)
                ours.await_statuses("running", flows)
                ours.end(signal.SIGKILL)
                begun = time.monotonic()
                ours.start()
                ours.await_ready()
                ours.watch_statuses("running", flows)
                self._tell("restart-unchanged", flows, time.monotonic() - begun)
                if register.count() != flows:
                    raise RuntimeError("a restart without changes has started processes")
            finally:
                ours.close()
                end_workers(register)

    def pipeline(self, size: int) -> None:
        """Bytes through three steps: as a flow, and in a shell. Bytes a second."""
        pipe = str(self.programs.pipe)
        with workplace(self.programs.worker, 1) as (root, work, register):
            ours, sunk = Ours(root, work, self.programs.client), root / "sunk"
            commands = [[pipe, "source", str(size)], ["cat"], [pipe, "sink", str(sunk)]]
            shell = f"{pipe} source {size} | cat | {pipe} sink {sunk}"

            def in_shell(_turn: int) -> None:
                subprocess.run(["/bin/sh", "-c", shell], check=True, timeout=PATIENCE)

            def as_flow(turn: int) -> None:
                ours.post([_flow(f"pipe-{turn}", commands, restart={"policy": "Never"})])

            try:
                operator.start_empty(ours, register)
                ways = [(SHELL, in_shell), (OURS, as_flow)]
                # One pair tells little: which steps share a processor is the scheduler's mood. In
                # turn: whoever is second finds the machine warmed up, or worn out.
                for turn in range(PAIRS):
                    for who, begin in ways[:: -1 if turn % 2 else 1]:
                        begin(turn)
                        self._tell("pipeline", 1, _rate(sunk, size), who)
            finally:
                ours.close()
                end_workers(register)

    def drain(self, sizes: list[int]) -> None:
        """How long a soft stop takes, by what was in the pipe; in place of flows, KiB."""
        pipe = str(self.programs.pipe)
        with workplace(self.programs.worker, 1) as (root, work, register):
            ours = Ours(root, work, self.programs.client)
            try:
                operator.start_empty(ours, register)
                for size in sizes:
                    name, sunk = f"drain-{size}", root / f"sunk-{size}"
                    slow = [pipe, "slow", str(sunk), str(DRAIN_RATE)]
                    commands = [[pipe, "burst", str(size)], slow]
                    ours.post([_flow(name, commands)])
                    backlog = _backlog(ours, name)
                    pids = [step["pid"] for step in ours.status(name)["steps"]]
                    with Watched(pids) as watched:
                        begun = time.monotonic()
                        ours.http.patch(
                            "/flows/commands?timeout=0",
                            json={"command": "stop", "flow_ids": [name]},
                        ).raise_for_status()
                        took = watched.wait(PATIENCE) - begun
                    _rate(sunk, size)  # all of it has come
                    self._tell("drain", backlog // 1024, took)
            finally:
                ours.close()
                end_workers(register)


def _manifest(ours: Ours, number: int) -> str:
    """One flow as people write it."""
    program, *arguments = ours.work.command(number)
    return (
        f"flow_id: {flow_name(number)}\nspec:\n  steps:\n  - name: work\n    command:\n"
        f"    - {program}\n" + "".join(f'    - "{argument}"\n' for argument in arguments)
    )


def _flow(name: str, commands: list[list[str]], **spec: object) -> dict[str, object]:
    steps = [{"name": f"s{n}", "command": command} for n, command in enumerate(commands)]
    return {"flow_id": name, "spec": {"steps": steps, **spec}}


def _rate(sunk: Path, size: int) -> float:
    """Bytes a second that the sink saw, once it has ended.

    Raises:
        TimeoutError: it did not end.
        RuntimeError: it has not seen everything.
    """
    end = time.monotonic() + PATIENCE
    while not (sunk.exists() and (text := sunk.read_text()).endswith("\n")):
        if time.monotonic() > end:
            raise TimeoutError(f"the sink has not ended within {PATIENCE:.0f} s")
        time.sleep(0.002)
    total, nanoseconds = map(int, text.split())
    sunk.unlink()
    if total != size:
        raise RuntimeError(f"{total} of {size} bytes have come through")
    return total / nanoseconds * 1e9


def _backlog(ours: Ours, name: str) -> int:
    """Bytes that wait for the second step, once it has begun to read."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        status = ours.status(name)
        waiting = [step.get("inFlightBytes") or 0 for step in status["steps"]]
        if status["status"] == "running" and sum(waiting):
            return sum(waiting)
        time.sleep(0.005)
    raise TimeoutError("nothing is in the pipe")
