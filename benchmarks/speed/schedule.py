"""The run: rounds in which contenders take turns, until the plan is done or its time is up."""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx

from flow_operator import __version__
from speed import floors, machine
from speed.compiled import compile_programs
from speed.contender import Contender, Work
from speed.figures import Result, Sample, summary
from speed.measures import FLOOR, OURS, PYTHON_FLOOR
from speed.ours import Ours
from speed.own import Own
from speed.peers.circus import VERSION as CIRCUS
from speed.peers.circus import Circus
from speed.peers.install import MissingError, cache
from speed.peers.pm2 import VERSION as PM2
from speed.peers.pm2 import Pm2
from speed.peers.runit import Runit
from speed.peers.s6 import S6
from speed.peers.supervisord import VERSION as SUPERVISOR
from speed.peers.supervisord import Supervisord
from speed.plan import Plan
from speed.session import Session, workplace

FAULTS = (
    *(TimeoutError, MissingError, OSError, RuntimeError, ValueError),
    *(httpx.HTTPError, subprocess.SubprocessError),
)
"""What one contender may fail with while the others are measured on."""

Maker = Callable[[Path, Work], Contender]
Job = tuple[str, Callable[[], None]]
"""A title for whoever watches, and what measures."""


class Run:
    """One run of a plan.

    Raises:
        FileNotFoundError: there is no C compiler.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._programs = compile_programs(cache())
        self._samples: list[Sample] = []
        self._failures: list[str] = []
        self._missing: dict[str, str] = {}
        self._begun = time.monotonic()
        self._makers: dict[str, Maker] = {
            FLOOR: floors.c_floor(self._programs.floor),
            PYTHON_FLOOR: floors.python_floor,
            OURS: lambda root, work: Ours(root, work, self._programs.client),
            "s6": S6,
            "runit": Runit,
            "circus": Circus,
            "pm2": Pm2,
            "supervisord": lambda root, work: Supervisord(root, work, self._programs.client),
        }

    def run(self) -> Result:
        """Measure; what fails or is missing is told in the result."""
        # A descriptor for each process that is waited for, and for each pipe and log of some peers.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        about = machine.describe()
        loads = [machine.load_average()]
        left_out = 0
        for title, job in self._jobs():
            if time.monotonic() - self._begun > self._plan.budget:
                left_out += 1
                continue
            self._tell(title)
            known = len(self._samples)
            try:
                job()
            except MissingError as error:
                self._missing[title.split()[0]] = str(error)
            except FAULTS as error:
                self._failures.append(f"{title}: {type(error).__name__}: {error}")
                self._tell(f"{title} failed: {error}")
            self._tell(f"  {summary(self._samples[known:])}")
            loads.append(machine.load_average())
        if left_out:
            self._failures.append(f"the time was up: {left_out} measurements were not begun")
        about["load average"] = (
            f"{loads[0]:.1f} before, {min(loads):.1f} to {max(loads):.1f} during"
        )
        return Result(
            machine=about,
            versions=self._versions(),
            missing=self._missing,
            failures=self._failures,
            seconds=time.monotonic() - self._begun,
            samples=self._samples,
        )

    def _tell(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:6.0f} s  {text}", file=sys.stderr, flush=True)

    def _jobs(self) -> Iterator[Job]:
        """Whole rounds, so that time that is up costs rounds and not measures."""
        plan = self._plan
        for number in range(plan.rounds):
            yield from self._contenders(plan.main, number)
            yield from self._own_jobs(number)
            for flows in plan.sizes[1:]:
                yield from self._contenders(flows, number)

    def _contenders(self, flows: int, number: int) -> Iterator[Job]:
        for name in (FLOOR, PYTHON_FLOOR, OURS, *self._plan.peers):
            if name not in self._missing and self._fits(name, flows, number):
                title = f"{name} with {flows} flows, round {number + 1}"
                yield title, partial(self._session, name, flows, number)

    def _own_jobs(self, number: int) -> Iterator[Job]:
        plan, suffix = self._plan, f", round {number + 1}"
        own = Own(self._programs, self._samples.append, number)
        yield f"commands to {plan.main} flows{suffix}", partial(own.commands, plan.main)
        yield f"a pipeline of three steps{suffix}", partial(own.pipeline, plan.pipeline)
        yield f"drains{suffix}", partial(own.drain, list(plan.drains))
        if number < 2:  # noqa: PLR2004 - it takes long, and says the same
            yield f"{FLOOR} with {plan.folder} flows", partial(self._floor_of_folder, number)
            yield f"a folder of {plan.folder} manifests", partial(own.folder, plan.folder)

    def _fits(self, name: str, flows: int, number: int) -> bool:
        """Whether a contender can have so many flows in the time that there is."""
        plan = self._plan
        if name not in plan.peers or flows == plan.main:
            return True
        return number == 0 and (flows < plan.many or name == "s6")

    def _session(self, name: str, flows: int, number: int) -> None:
        plan = self._plan
        idle = plan.idle[name != OURS] if number == 0 and flows == plan.main else 0.0
        effort = dataclasses.replace(plan.effort, idle=idle)

        def record(measure: str, value: float) -> None:
            self._samples.append(Sample(name, measure, flows, number, value))

        with workplace(self._programs.worker, flows) as (root, work, register):
            made = self._makers[name](root, work)
            Session(made, register, flows, effort, record).run()

    def _floor_of_folder(self, number: int) -> None:
        plan = self._plan
        with workplace(self._programs.worker, plan.folder) as (root, work, register):
            floor = self._makers[FLOOR](root, work)
            floor.prepare(plan.folder)
            try:
                begun = time.monotonic()
                floor.start()
                started = register.wait(plan.folder, plan.effort.patience)
                took = max(start.at for start in started) - begun
                self._samples.append(Sample(FLOOR, "cold-start", plan.folder, number, took))
                floor.stop_all()
            finally:
                floor.close()

    def _versions(self) -> dict[str, str]:
        told = {
            OURS: __version__,
            "s6": machine.version_of(["dpkg-query", "-W", "-f", "${Version}", "s6"]),
            "runit": ", ".join(p.name.split("_")[1] for p in cache().glob("runit/runit_*.deb")),
            "circus": CIRCUS,
            "pm2": PM2,
            "supervisord": SUPERVISOR,
            "C compiler": machine.version_of(["cc", "-dumpfullversion"]),
        }
        wanted = {OURS, "C compiler", *self._plan.peers} - self._missing.keys()
        return {name: version for name, version in told.items() if name in wanted and version}
