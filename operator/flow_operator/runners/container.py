"""Runs flows as containers, one for each step, by a Docker or Podman engine.

The engine parents them, so they outlive the operator; what they are is told by their labels. Pipes
between them are held by the shim (:mod:`~flow_operator.runners.held_pipes`), and what they print is
copied into the operator's own logs (:mod:`~flow_operator.runners.container_logs`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from flow_operator.backoff import retry_transient
from flow_operator.clock import Clock
from flow_operator.errors import RetryableError, TerminalError
from flow_operator.logs import Keeper
from flow_operator.model.flow import Step
from flow_operator.runners import container_usage as figures
from flow_operator.runners.base import (
    Call,
    Capabilities,
    CheckResult,
    Finish,
    Handle,
    Instance,
    Launch,
    LogPart,
    Notify,
    PipeView,
    Usage,
    one_by_one,
)
from flow_operator.runners.container_logs import ContainerLogs, LogKey
from flow_operator.runners.container_runs import Facts, Run
from flow_operator.runners.container_spec import (
    Places,
    config_of,
    container_name,
    host_of,
    image_of,
    refuse_dangers,
)
from flow_operator.runners.container_state import Box
from flow_operator.runners.container_world import World
from flow_operator.runners.engine import Engine, RefusedError
from flow_operator.runners.engine_paths import EnginePaths
from flow_operator.runners.held_pipes import HeldPipes
from flow_operator.runners.images import Images
from flow_operator.settings import Layout


class ContainerRunner:
    """The runner of containers.

    Args:
        engine: that runs them.
        layout: where pipes, logs and work directories are.
        logs: keeps what steps print.
        pipes: holds those between steps.
        clock: for times.
        allowed: which dangers a flow may ask for (``container_spec.DANGERS``).
    """

    quick = False

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        logs: Keeper,
        pipes: HeldPipes,
        clock: Clock,
        allowed: frozenset[str] = frozenset(),
    ) -> None:
        self._engine = engine
        self._layout = layout
        self._logs = logs
        self._pipes = pipes
        self._allowed = allowed
        self._copies = ContainerLogs(logs, engine, clock, lambda _key: self._world.copied())
        self._world = World(engine, layout, self._copies, clock)
        self._paths = EnginePaths(engine.socket_path, engine.inspect)
        self._images = Images(
            engine,
            clock,
            lambda flow_id: self._world.notify(flow_id),  # noqa: PLW0108 - known once it is started
        )

    @property
    def capabilities(self) -> Capabilities:
        """What containers can do; the limits are those that the engine enforces."""
        return Capabilities(
            freeze=True, step_restart=True, groups=True, limits=self._world.info.limits
        )

    def start(self, notify: Notify) -> None:
        """Find the containers that are there; an engine that is away is waited for behind this."""
        self._world.start(notify)

    def recover(self, handles: Iterable[Handle]) -> None:
        """Recall what an earlier operator had decided, and hold the pipes."""
        known = list(handles)
        self._world.recall(known)
        with self._world.lock:
            runs = [run for run in self._world.runs.values() if run.joined]
        for run in runs:
            retry_transient(lambda run=run: self._hold(run), self._world.closing)  # type: ignore[misc]
        # Also of what was only intended: while the engine is away nobody knows whether it runs.
        self._pipes.release_all_but({run.run for run in runs} | {handle.run for handle in known})

    def _hold(self, run: Run, starting: Iterable[int] = ()) -> None:
        if run.joined:
            self._pipes.hold(run.run, len(run.names), run.ended, starting)

    def close(self, *, final: bool) -> None:
        """Hang up; containers go on. A final close waits until those that have ended are gone."""
        self._world.close(final=final)
        self._copies.close()
        self._engine.close()

    # --- what is known -------------------------------------------------------------------

    def flow_ids(self) -> frozenset[str]:
        """The flows with a run."""
        with self._world.lock:
            return frozenset(run.flow_id for run in self._world.runs.values() if run.launched)

    def observe(self, flow_id: str) -> tuple[Instance, ...]:
        """The flow's runs, as the engine last told.

        Raises:
            AwayError: it has some, and the engine does not answer.
        """
        runs = self._world.of(flow_id)
        if runs:
            self._world.check_there()
        return tuple(run.instance(self._facts(run), self._world.info.limits) for run in runs)

    def _facts(self, run: Run) -> Facts:
        count = len(run.names)
        unread: tuple[int, ...] = (0,) * count
        if run.joined and any(not box.alive for box in run.boxes.values()):
            unread = self._pipes.in_flight([run.run]).get(run.run, unread)
        froms = (self._copies.log_from(self._key(run, index)) for index in range(count))
        return Facts(unread, self._pipes.cut(run.run), tuple(froms))

    def _key(self, run: Run, index: int) -> LogKey:
        return LogKey(run.run, run.flow_id, run.replica, run.names[index], run.attempt(index))

    # --- verbs ---------------------------------------------------------------------------

    def launch(self, launch: Launch) -> None:
        """Make every step's container, then start them, unless that was done.

        Raises:
            WaitingError: an image is being fetched.
        """
        self._world.check_there()
        run = self._world.begin(launch)
        with run.turn:
            if run.launched:
                return
            try:
                self._make(launch, run)
            except TerminalError:
                self._world.give_up(run)
                raise
            for index in range(len(run.names)):
                self._world.start_box(run, self._name(launch, index, 1), index)
            run.launched = True

    def _make(self, launch: Launch, run: Run) -> None:
        """All before any is started: what was not all made can be removed without a loss."""
        refuse_dangers(launch, self._allowed)
        indexes = range(len(run.names))
        for index in indexes:
            self._need(launch, index)
        self._hold(run)
        places = self._places(launch)
        for index in indexes:
            self._create(launch, index, 1, places)

    def _need(self, launch: Launch, index: int) -> None:
        policy = launch.flow.spec.contained.pull_policy
        self._images.need(image_of(launch, index), policy, launch.flow.flow_id, launch.run)

    def _places(self, launch: Launch) -> Places:
        """What of ours is mounted.

        Raises:
            RetryableError: it cannot be made.
        """
        work = Path(self._layout.work_dir(launch.flow.flow_id))
        try:
            work.mkdir(parents=True, exist_ok=True)
            # Whoever the image runs as; nobody else on this machine gets through to it.
            work.chmod(0o777)
        except OSError as error:
            raise RetryableError(f"cannot make the directory of a flow: {error}") from error
        pipes = self._layout.pipes / launch.run
        joined = len(launch.flow.spec.steps) > 1
        return Places(self._paths.of(pipes) if joined else None, self._paths.of(work))

    def _create(self, launch: Launch, index: int, attempt: int, places: Places) -> None:
        name = self._name(launch, index, attempt)
        argv = launch.flow.spec.steps[index].argv or self._images.command(image_of(launch, index))
        config = config_of(launch, index, attempt, self._world.owner, argv)
        self._engine.create(name, config, host_of(launch, index, places))
        box = self._world.look(name)
        if box is None:
            raise TerminalError(
                f"the engine has another container named {name}: remove it, or rename the flow"
            )

    def _name(self, launch: Launch, index: int, attempt: int) -> str:
        return container_name(launch, index, attempt, self._world.owner)

    def start_step(self, launch: Launch, index: int, attempt: int) -> None:
        """Start a step in another container, on the pipes of its run."""
        run = self._world.known(launch.run)
        if run is None:
            return
        with run.turn:
            living = run.living([index])
            if living or index in run.ended or attempt <= run.attempt(index):
                return
            self._need(launch, index)
            self._hold(run, [index])
            self._create(launch, index, attempt, self._places(launch))
            self._world.start_box(run, self._name(launch, index, attempt), index)

    def end_step(self, run: str, index: int) -> None:
        """Let go of a step's pipes."""
        known = self._world.known(run)
        if known is None:
            return
        with known.turn:
            known.ended.add(index)
            if known.joined:
                self._pipes.end(run, index)

    def signal(self, run: str, indexes: Iterable[int], name: str) -> None:
        """Signal the processes of those steps that live."""
        for box in self._living(run, indexes):
            if name == "SIGKILL" and box.phase == "paused":
                # Of a paused container Podman kills nothing, and cgroup v1 not before it goes on.
                self._engine.unpause(box.name)
            self._engine.signal(box.name, name)
            if name == "SIGKILL":
                self._world.look(box.name)

    def _living(self, run: str, indexes: Iterable[int] | None = None) -> Iterator[Box]:
        """Those containers of a run that live, while its turn is held."""
        known = self._world.known(run)
        if known is None:
            return
        with known.turn:
            chosen = range(len(known.names)) if indexes is None else indexes
            yield from known.living(chosen)

    def sweep(self, run: str, name: str | None) -> None:
        """Say when nothing of a run is left: its processes cannot outlive their containers."""
        known = self._world.known(run)
        if known is None:
            return
        if name is not None:
            self.signal(run, range(len(known.names)), name)
        self._world.sweep(known)

    def freeze(self, run: str) -> None:
        """Pause every container."""
        for box in self._living(run):
            if box.phase == "running":
                self._engine.pause(box.name)
                self._world.look(box.name)

    def thaw(self, run: str) -> None:
        """Let every container go on."""
        for box in self._living(run):
            if box.phase == "paused":
                self._engine.unpause(box.name)
                self._world.look(box.name)

    def forget(self, run: str) -> None:
        """Remove a run's containers, once all that they have printed is copied.

        Raises:
            TerminalError: it is alive.
        """
        known = self._world.known(run)
        if known is None:
            return
        with known.turn:
            if known.alive:
                raise TerminalError(f"the run {run} is alive: stop it first")
            if known.joined:
                self._pipes.release(run)
            self._images.forget(run)
            self._world.forget(known)

    def begin(self, calls: Sequence[Call]) -> Finish:
        """Carry verbs out one after the other."""
        return one_by_one(self, calls)

    def purge(self, flow_id: str) -> None:
        """Remove its logs."""
        self._logs.purge(flow_id)

    # --- figures and checks --------------------------------------------------------------

    def usage(self, flow_ids: Iterable[str]) -> dict[str, tuple[Usage, ...]]:
        """CPU and memory from cgroups, where those can be seen from here; unread bytes always."""
        runs = [run for flow_id in flow_ids for run in self._world.of(flow_id)]
        unread = self._pipes.in_flight(run.run for run in runs if run.joined)
        return {
            run.run: tuple(
                _usage(run.boxes.get(index), count)
                for index, count in enumerate(unread.get(run.run, (0,) * len(run.names)))
            )
            for run in runs
        }

    def pipes(self, runs: Iterable[str]) -> dict[str, tuple[PipeView, ...]]:
        """How full the pipe before each step is."""
        known = self._several(runs)
        fills = self._pipes.fills(run.run for run in known if run.joined)
        return {run.run: fills.get(run.run, (PipeView(),) * len(run.names)) for run in known}

    def output(self, runs: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """From /proc where that can be seen from here, and from the logs."""
        return {
            run.run: tuple(self._written(run, index) for index in range(len(run.names)))
            for run in self._several(runs)
        }

    def _written(self, run: Run, index: int) -> int:
        box = run.boxes.get(index)
        if box is None or not box.alive:
            return 0
        end = self._logs.stream(run.flow_id, run.replica, run.names[index]).end()
        return hash((box.id, end, figures.written(figures.groups_of(box.pid))))

    def _several(self, runs: Iterable[str]) -> list[Run]:
        return [run for run in map(self._world.known, runs) if run is not None]

    def read_log(self, run: str, index: int, position: int | None) -> LogPart:
        """From our copy of what the step has printed."""
        known = self._world.known(run)
        if known is None:
            return LogPart(position or 0)
        began = self._copies.log_from(self._key(known, index))
        stream = self._logs.stream(known.flow_id, known.replica, known.names[index])
        if began is None and position is None:
            return LogPart(stream.end())  # What the attempt before has printed is still copied.
        return LogPart(*stream.read(began if position is None else position))

    def address(self, run: str, index: int) -> str:
        """Of the step's container, in the engine's network."""
        known = self._world.known(run)
        box = known.boxes.get(index) if known is not None else None
        return (box.address if box is not None else "") or "127.0.0.1"

    def check(
        self, launch: Launch, step: Step, command: tuple[str, ...], timeout: float
    ) -> CheckResult:
        """Run a command in the step's container."""
        run = self._world.known(launch.run)
        index = launch.flow.spec.steps.index(step)
        living = run.living([index]) if run is not None else []
        if not living:
            return CheckResult(ok=False, message="its container does not run")
        try:
            code, pid = self._engine.execute(living[0].name, command, timeout)
        except RefusedError as error:
            return CheckResult(ok=False, message=str(error))
        if code < 0:
            _end_late(pid, living[0])
            return CheckResult(ok=False, message=f"no answer within {timeout:g}s")
        return CheckResult(ok=code == 0, message=f"exit code {code}")


def _usage(box: Box | None, unread: int) -> Usage:
    if box is None or not box.alive:
        return Usage(in_flight_bytes=unread)
    groups = figures.groups_of(box.pid)
    return Usage(
        figures.cpu_seconds(groups), figures.memory_bytes(groups), unread, figures.opened(groups)
    )


def _end_late(pid: int, box: Box) -> None:
    """Kill a check that is late, if it is to be seen from here, and is in that container."""
    if pid and pid in set(figures.members(figures.groups_of(box.pid))):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
