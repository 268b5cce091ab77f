"""Runs flows as local processes, children of the shim."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import uuid
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from signal import Signals
from subprocess import Popen
from typing import Any

import msgspec
import structlog

from flow_operator.backoff import retry_transient
from flow_operator.errors import RetryableError, RunnerError, TerminalError
from flow_operator.logs import Keeper
from flow_operator.model.flow import Step
from flow_operator.runners import groups
from flow_operator.runners.base import (
    Call,
    Capabilities,
    CheckResult,
    Exit,
    Finish,
    Handle,
    Instance,
    Launch,
    LogPart,
    Notify,
    PipeView,
    StepView,
    Usage,
    Verb,
)
from flow_operator.runners.census import Census, Job, Kind
from flow_operator.runners.environment import base_environment, step_environment
from flow_operator.runners.held_pipes import HeldPipes
from flow_operator.runners.limits import limits_of
from flow_operator.runners.measure import pipe_view, usage, written
from flow_operator.runners.procfs import (
    STOPPED_STATES,
    read_proc,
)
from flow_operator.runners.remains import Remains
from flow_operator.runners.shim_link import (
    Request,
    ShimLink,
    begin_shim,
    end_shim,
    shim_command,
)
from flow_operator.runners.users import Users
from flow_operator.settings import Layout, have_directory
from flow_operator.shim import protocol
from flow_operator.shim.pidfd import has_ended
from flow_operator.turns import in_turns

_END_TIMEOUT = 5.0
"""Seconds that a shim may take to end; it needs milliseconds."""

log = structlog.get_logger("process-runner")


_Talk = Generator[Request, Any, None]
"""A verb that asks the shim one thing at most, is given the answer and goes on."""


class _Run:
    """What the runner knows of one run; guarded by the runner's lock."""

    __slots__ = (
        *("flow_id", "replica", "names"),
        *("seq", "group", "unheld", "steps"),
        *("frozen", "gone", "leaders", "survivors", "thawed", "view"),
    )

    def __init__(self, state: Mapping[str, Any]) -> None:
        labels = state["labels"]
        self.flow_id: str = labels["flow"]
        self.replica: int = labels["replica"]
        self.names = tuple(map(sys.intern, labels["steps"]))
        self.seq: tuple[int, ...] = (0, 0)
        self.steps: tuple[StepView, ...] = ()
        self.leaders: dict[int, int] = {}
        self.frozen = self.thawed = False
        self.gone = False
        self.survivors: tuple[int, ...] = ()
        self.told(state)

    @property
    def led(self) -> bool:
        """Whether a step of it lives."""
        return any(step.pid for step in self.steps)

    def told(self, state: Mapping[str, Any]) -> None:
        """Take up what the shim tells; replies and events may overtake each other."""
        self.view: Instance | None = None  # as it was last observed; None once that has changed
        # Also of a state that was overtaken: each attempt led a session of its own.
        self.leaders |= {s["leader"]: s["start"] for s in state["steps"] if s["leader"]}
        seq = tuple(state["seq"])
        if seq < self.seq:
            return
        led, self.seq = self.led, seq
        self.group: str | None = state["group"]
        self.unheld = tuple(state["unheld"])
        self.steps = tuple(map(_step_view, state["steps"]))
        if led and not self.led:
            self.frozen = False  # What its steps have left behind was not looked at by itself.


class ProcessRunner:
    """The runner of local processes.

    Args:
        layout: where work directories and the shim's socket are.
        logs: keeps what steps print.
        cgroups: whether to use them where they can be used.
        users: whom steps may run as; ``*`` for everybody.
        grace: seconds that the operator has to end in, for a shim that is PID 1 and must see to it.

    Attributes:
        shims_replaced: how often another shim had to be started for one that was lost.
        held: the named pipes that the shim holds for steps of other runners.
    """

    quick = True

    def __init__(
        self,
        layout: Layout,
        logs: Keeper,
        *,
        cgroups: bool = True,
        users: frozenset[str] = frozenset(),
        grace: float | None = None,
    ) -> None:
        self._layout = layout
        self._logs = logs
        self._users = Users(users)
        self._hello = {"env": base_environment(), "cgroups": cgroups, "grace": grace}
        self._home = str(layout.root)
        self._lock = threading.RLock()
        self._runs: dict[str, _Run] = {}
        self._by_flow: dict[str, set[str]] = {}
        self._launching: dict[str, Handle] = {}
        self._checks: dict[str, Future[dict[str, Any]]] = {}
        self._notify: Notify = lambda _flow_id: None
        self._link: ShimLink | None = None
        self._starting: Popen[bytes] | None = None
        self._shim_pid = 0
        self._controllers: list[str] | None = None
        self._census: Census | None = None
        self._closed = False
        self._closing = threading.Event()
        self.shims_replaced = 0
        self.held = HeldPipes(layout, self._call)

    @property
    def connected(self) -> bool:
        """Whether there is a shim at the other end of the line."""
        return self._link is not None

    @property
    def capabilities(self) -> Capabilities:
        """Local processes can be frozen and restarted one by one; groups are as the shim found."""
        found = self._controllers
        return Capabilities(
            freeze=True, step_restart=True, groups=found is not None, limits=tuple(found or ())
        )

    # --- the line to the shim ------------------------------------------------------------

    def prepare(self) -> None:
        """Have a shim start meanwhile, if there is none: :meth:`start` waits for it."""
        self._starting = begin_shim(self._layout.root)

    def abandon(self) -> None:
        """End the shim that :meth:`prepare` has begun, if its operator cannot start after all."""
        starting, self._starting = self._starting, None
        if starting is not None:
            end_shim(self._layout.root, starting)

    def start(self, notify: Notify) -> None:
        """Connect to the shim, or start one; what it runs is observed from then on."""
        self._notify = notify
        retry_transient(lambda: self._join(()), self._closing)
        self._census = Census(
            self._home,
            lambda: self._shim_pid,
            self._steps_besides,
            self._job_done,
            self._survivors_seen,
            lambda changes: self._ask(
                [("group", {"run": run, "what": what}) for run, what in changes]
            )(),
        )

    def _join(self, handles: Iterable[Handle]) -> None:
        """Connect to the shim, or start one, and have it know what still lives.

        Only then can verbs reach it: one for a run that it does not know yet might start a
        second copy.

        Raises:
            RetryableError: there is no shim to be had now.
            TerminalError: the running shim speaks another version.
        """
        starting, self._starting = self._starting, None
        link = ShimLink(self._layout.root, self._event, self._lost, starting)
        try:
            hello = link.call("hello", **self._hello)
            if hello.get("code") != protocol.code():
                self._upgrade(link, hello)
            self._adopt(link, handles, self._told(hello))
            self.held.hold_again(link.call)
        except RunnerError:
            link.close()
            raise
        with self._lock:
            self._shim_pid = hello["pid"]
            self._controllers = hello.get("controllers")
            self._link = link if link.alive else None
        if not link.alive:
            raise RetryableError("the shim went away as soon as it had come")

    def _upgrade(self, link: ShimLink, hello: dict[str, Any]) -> None:
        """Have a shim that another version of the operator has started become ours.

        Raises:
            RetryableError: it has; connect again.
            TerminalError: it cannot, and does not speak our language.
        """
        log.info("upgrading the shim", pid=hello["pid"])
        try:
            link.call("upgrade", command=shim_command())
        except TerminalError as error:
            if hello["version"] == protocol.VERSION:
                log.warning("the shim stays as it is", pid=hello["pid"], error=str(error))
                return
            raise TerminalError(
                f"the running shim (pid {hello['pid']}) speaks version {hello['version']}, this "
                f"operator {protocol.VERSION}, and it cannot be upgraded ({error}): stop the flows "
                "with the operator that started it"
            ) from None

    def _lost(self, link: ShimLink) -> None:
        """The shim is gone: start another, and let it take over what still lives."""
        with self._lock:
            if self._closed or link is not self._link:
                return
            self._link = None
        log.warning("shim lost", pid=self._shim_pid)
        for tag in list(self._checks):
            check = self._checks.pop(tag, None)
            if check is not None:  # Its end would be waited for until the check's timeout.
                check.set_exception(RetryableError("the shim went away"))
        while not self._closing.is_set():
            try:
                retry_transient(lambda: self._join(self._handles()), self._closing)
                break
            except Exception:
                # Whatever it was: without a shim nothing can be looked after.
                log.exception("no shim to be had; trying again")
                self._closing.wait(1)
        self.shims_replaced += 1
        log.info("shim replaced", pid=self._shim_pid)
        for flow_id in self.flow_ids():
            self._notify(flow_id)

    def _handles(self) -> list[Handle]:
        """Everything that the last shim ran, or was just told to start."""
        with self._lock:
            known = [
                Handle(
                    name,
                    run.flow_id,
                    run.replica,
                    run.names,
                    run.steps,
                )
                for name, run in self._runs.items()
            ]
            started = [run for name, run in self._launching.items() if name not in self._runs]
        return known + started

    def recover(self, handles: Iterable[Handle]) -> None:
        """Have the shim adopt runs that it does not know, by pid, start time and run id."""
        listed = list(handles)

        def adopt() -> None:
            link = self._link
            if link is None:
                raise RetryableError("the shim is away")
            self._adopt(link, listed, self._runs)
            with self._lock:
                known = frozenset(self._runs) | {handle.run for handle in listed}
            steps = self._steps_besides(())
            for state in Remains(self._layout).strays(known, steps):
                log.warning("found a run that nobody knows", run=state["run"])
                self._took(state)

        retry_transient(adopt, self._closing)

    def _told(self, hello: dict[str, Any]) -> set[str]:
        """Take over what the shim says it runs; returns the run ids."""
        for state in hello["runs"]:
            self._took(state)
        return {state["run"] for state in hello["runs"]}

    def _adopt(self, link: ShimLink, handles: Iterable[Handle], known: Container[str]) -> None:
        remains = Remains(self._layout)
        for handle in handles:
            if handle.run in known:
                continue
            steps = [
                remains.step(handle, step, name)
                for step, name in zip(handle.steps, handle.names, strict=True)
            ]
            if not (handle.started or any(step["pid"] for step in steps)):
                continue  # It was intended, and never came about: it can still be launched.
            labels = _labels(handle.flow_id, handle.replica, handle.names)
            self._took(link.call("adopt", run=handle.run, labels=labels, steps=steps))

    def close(self, *, final: bool) -> None:
        """Hang up; a final close also ends the shim, unless something still runs."""
        with self._lock:
            already, self._closed = self._closed, True
            link = self._link
        if already:
            return
        self._closing.set()
        if self._census is not None:
            self._census.close()
        if link is not None:
            if final:
                self._end_shim(link)
            link.close()

    def _end_shim(self, link: ShimLink) -> None:
        """Have the shim end, and see it gone: whoever sees us end finds nothing left."""
        try:
            shim = os.pidfd_open(self._shim_pid)
        except ProcessLookupError:
            return
        try:
            ends = True
            # It may end before it can answer, which is what was asked.
            with contextlib.suppress(RetryableError):
                ends = link.call("shutdown")
            if ends and self._shim_pid != os.getppid():  # PID 1 of a container waits for us.
                has_ended(shim, _END_TIMEOUT)
        finally:
            os.close(shim)

    def _call(self, op: str, **arguments: Any) -> Any:
        link = self._link
        if link is None:
            raise RetryableError("the shim is away")
        return link.call(op, **arguments)

    # --- what is known -------------------------------------------------------------------

    def _event(self, event: dict[str, Any]) -> None:
        if event["event"] == "check":
            future = self._checks.pop(event["tag"], None)
            if future is not None:
                future.set_result(event)
            return
        with self._lock:
            for state in event["runs"]:
                self._take(state)
        for state in event["runs"]:
            self._notify(state["labels"]["flow"])

    def _took(self, state: dict[str, Any]) -> None:
        with self._lock:
            self._take(state)

    def _take(self, state: dict[str, Any]) -> None:
        name = state["run"]
        run = self._runs.get(name)
        if run is None:
            run = self._runs[name] = _Run(state)
            # What is just being launched here was stopped by nobody before.
            run.frozen = name not in self._launching and _all_stopped(run)
            run.survivors = _left_behind(run) if run.frozen else ()
            self._by_flow.setdefault(run.flow_id, set()).add(name)
        else:
            run.told(state)

    def flow_ids(self) -> frozenset[str]:
        """The flows with a run."""
        with self._lock:
            return frozenset(self._by_flow)

    def observe(self, flow_id: str) -> tuple[Instance, ...]:
        """The flow's runs as the shim and the census last told."""
        with self._lock:
            return tuple(
                self._instance(name, self._runs[name])
                for name in sorted(self._by_flow.get(flow_id, ()))
            )

    def _instance(self, name: str, run: _Run) -> Instance:
        if run.view is None:
            run.view = Instance(
                name,
                run.flow_id,
                run.replica,
                run.steps,
                run.frozen,
                run.gone,
                run.survivors,
                run.unheld,
                run.thawed,
            )
        return run.view

    def _steps_besides(self, runs: Container[str]) -> set[int]:
        """The living steps of all runs but those."""
        with self._lock:
            others = [run for name, run in self._runs.items() if name not in runs]
            return {step.pid for run in others for step in run.steps if step.pid}

    def _job_done(self, name: str, kind: Kind) -> None:
        with self._lock:
            run = self._runs.get(name)
            if run is None:
                return
            run.view = None
            if kind == "sweep":
                run.gone, run.survivors = True, ()
            else:
                run.frozen, run.thawed = kind == "freeze", kind == "thaw"
                run.survivors = run.survivors if run.frozen else ()
        self._notify(run.flow_id)

    def _survivors_seen(self, name: str, pids: tuple[int, ...]) -> None:
        with self._lock:
            run = self._runs.get(name)
            if run is None or run.survivors == pids:
                return
            run.view, run.survivors = None, pids
        self._notify(run.flow_id)

    # --- verbs ---------------------------------------------------------------------------

    def launch(self, launch: Launch) -> None:
        """Start a run: every step, joined by pipes."""
        self._now("launch", launch)

    def start_step(self, launch: Launch, index: int, attempt: int) -> None:
        """Start one step again on the pipes of its run."""
        self._now("start_step", launch, index, attempt)

    def end_step(self, run: str, index: int) -> None:
        """Let go of a step's pipes."""
        self._now("end_step", run, index)

    def signal(self, run: str, indexes: Iterable[int], name: str) -> None:
        """Signal the process groups of steps, through their parent."""
        self._now("signal", run, indexes, name)

    def forget(self, run: str) -> None:
        """Drop a run here and in the shim."""
        self._now("forget", run)

    def begin(self, calls: Sequence[Call]) -> Finish:
        """Ask the shim for all of it in one message."""
        begin: dict[Verb, Callable[..., _Talk | None]] = {
            "launch": self._launch,
            "start_step": self._start_step,
            "end_step": self._end_step,
            "signal": self._signal,
            "sweep": self.sweep,
            "freeze": self.freeze,
            "thaw": self.thaw,
            "forget": self._forget,
        }
        outcomes: list[Exception | None] = [None] * len(calls)
        asked: list[tuple[int, _Talk, Request]] = []
        for number, (verb, arguments) in enumerate(in_turns(calls)):
            with _failing(outcomes, number):
                talk = begin[verb](*arguments)
                if talk is not None:
                    asked.append((number, talk, next(talk)))
        answers = self._ask([request for _, _, request in asked])

        def finish() -> list[Exception | None]:
            for (number, talk, _), answer in zip(asked, answers(), strict=True):
                with _failing(outcomes, number):
                    if isinstance(answer, RunnerError):
                        talk.throw(answer)
                    talk.send(answer)
            return outcomes

        return finish

    def _now(self, verb: Verb, *arguments: Any) -> None:
        """Carry out one verb."""
        [error] = self.begin([Call(verb, arguments)])()
        if error is not None:
            raise error

    def _ask(self, requests: list[Request]) -> Callable[[], list[Any]]:
        """Ask the shim; returns what waits for its answers, of which some may be errors."""
        link = self._link
        if link is not None and len(requests) > 1:
            return link.ask_many(requests)
        answers = [self._answer(op, arguments) for op, arguments in requests]
        return lambda: answers

    def _answer(self, op: str, arguments: Mapping[str, Any]) -> Any:
        try:
            return self._call(op, **arguments)
        except RunnerError as error:
            return error

    def _launch(self, launch: Launch) -> _Talk:
        flow_id = launch.flow.flow_id
        spec = launch.flow.spec
        names = tuple(step.name for step in spec.steps)
        unstarted = tuple(StepView(attempt=1) for _ in names)
        handle = Handle(launch.run, flow_id, launch.replica, names, unstarted)
        with self._lock:
            self._launching[launch.run] = handle
        try:
            state = yield (
                "start",
                {
                    "run": launch.run,
                    "labels": _labels(flow_id, launch.replica, names),
                    "steps": [self._spec(launch, step, 1) for step in spec.steps],
                },
            )
            self._took(state)
        except TerminalError:
            self._launching.pop(launch.run, None)
            raise
        # Not when the shim went away: what it had started is then looked for.
        self._launching.pop(launch.run, None)

    def _start_step(self, launch: Launch, index: int, attempt: int) -> _Talk:
        if launch.run in self._runs:
            spec = self._spec(launch, launch.flow.spec.steps[index], attempt)
            asked = {"run": launch.run, "step": index, "attempt": attempt, "spec": spec}
            self._took((yield "spawn", asked))

    def _end_step(self, run: str, index: int) -> _Talk:
        if run in self._runs:
            self._took((yield "end", {"run": run, "step": index}))

    def _signal(self, run: str, indexes: Iterable[int], name: str) -> _Talk:
        if run in self._runs:
            yield "signal", {"run": run, "steps": list(indexes), "signal": name}

    def _forget(self, run: str) -> _Talk:
        if run not in self._runs:
            return
        yield "forget", {"run": run}
        assert self._census is not None  # noqa: S101 - start() comes first
        self._census.drop(run)
        with self._lock:
            known = self._runs.pop(run)
            names = self._by_flow[known.flow_id]
            names.discard(run)
            if not names:
                del self._by_flow[known.flow_id]

    def sweep(self, run: str, name: str | None) -> None:
        """Have the census look for leftovers."""
        self._want(run, "sweep", Signals[name] if name else None)

    def freeze(self, run: str) -> None:
        """Have the census stop every process of the run."""
        self._want(run, "freeze")

    def thaw(self, run: str) -> None:
        """Have the census let every process of the run go on."""
        self._want(run, "thaw")

    def _want(self, name: str, kind: Kind, number: Signals | None = None) -> None:
        with self._lock:
            run = self._runs.get(name)
            if run is None or (kind == "sweep" and run.gone):
                return
            job = Job(kind, dict(run.leaders), number, run.group)
            if kind == "freeze":
                run.thawed, run.view = False, None  # Whatever comes of it.
        assert self._census is not None  # noqa: S101 - start() comes first
        self._census.want(name, job)

    def purge(self, flow_id: str) -> None:
        """Remove its logs."""
        self._logs.purge(flow_id)

    # --- figures and checks --------------------------------------------------------------

    def usage(self, flow_ids: Iterable[str]) -> dict[str, tuple[Usage, ...]]:
        """CPU and memory from /proc, unread bytes from the shim's pipes."""
        with self._lock:
            pids = {
                name: [step.pid for step in self._runs[name].steps]
                for flow_id in flow_ids
                for name in self._by_flow.get(flow_id, ())
            }
        in_flight = self._call("usage", runs=list(pids))
        try:
            return {
                name: tuple(map(usage, steps, in_flight[name]))
                for name, steps in pids.items()
                if name in in_flight
            }
        except OSError as error:
            raise RetryableError(f"cannot look at processes: {error}") from error

    def pipes(self, runs: Iterable[str]) -> dict[str, tuple[PipeView, ...]]:
        """Of all runs by one call to the shim."""
        told = self._call("pipes", runs=list(runs))
        return {name: tuple(pipe_view(*fill) for fill in fills) for name, fills in told.items()}

    def output(self, runs: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """From /proc, or the log file where that may not be read."""
        with self._lock:
            known = {name: self._runs[name] for name in runs if name in self._runs}
        return {
            name: tuple(
                written(step.pid, self._log_of(run, index)) for index, step in enumerate(run.steps)
            )
            for name, run in known.items()
        }

    def read_log(self, run: str, index: int, position: int | None) -> LogPart:
        """From the step's log file."""
        with self._lock:
            known = self._runs.get(run)
        if known is None:
            return LogPart(position or 0)
        began = known.steps[index].log_from
        stream = self._logs.stream(known.flow_id, known.replica, known.names[index])
        return LogPart(*stream.read(began if position is None else position))

    def _log_of(self, run: _Run, index: int) -> Path:
        return Path(self._layout.log_file(run.flow_id, run.replica, run.names[index]))

    def address(self, run: str, index: int) -> str:
        """On this machine."""
        del run, index
        return "127.0.0.1"

    def check(
        self, launch: Launch, step: Step, command: tuple[str, ...], timeout: float
    ) -> CheckResult:
        """Have the shim run a command with a step's environment and directory."""
        tag = uuid.uuid4().hex
        future: Future[dict[str, Any]] = Future()
        self._checks[tag] = future
        try:
            spec = {**self._spec(launch, step, 0), "argv": list(command)}
            self._call("check", tag=tag, spec=spec)
            event = future.result(timeout)
        except FutureTimeoutError:
            self._call("check-kill", tag=tag)
            return CheckResult(ok=False, message=f"no answer within {timeout:g}s")
        except TerminalError as error:
            return CheckResult(ok=False, message=str(error))
        finally:
            self._checks.pop(tag, None)
        if event["signal"]:
            return CheckResult(ok=False, message=f"ended by signal {event['signal']}")
        return CheckResult(ok=event["code"] == 0, message=f"exit code {event['code']}")

    # --- what a step is started with -----------------------------------------------------

    def _spec(self, launch: Launch, step: Step, attempt: int) -> dict[str, Any]:
        flow_id = launch.flow.flow_id
        user = self._users.of(step)
        work = self._layout.work_dir(flow_id)
        try:
            have_directory(work)
            log = self._logs.opened(flow_id, launch.replica, step.name)
            position = log.end()
        except OSError as error:
            raise RetryableError(f"cannot make the files of a step: {error}") from error
        if user is not None:
            user.give(self._layout.root, Path(work))
        # Not by pathlib, which takes a tenth of a start.
        cwd = os.path.join(launch.base or os.getcwd(), step.working_dir or "")  # noqa: PTH109, PTH118
        return {
            "argv": list(step.argv),
            "cwd": cwd,
            "env": {
                **(user.environment() if user is not None else {}),
                **step_environment(step, cwd),
                "FLOW_OPERATOR": self._home,
                "FLOW_ID": flow_id,
                "FLOW_RUN": launch.run,
                "FLOW_STEP": step.name,
                "FLOW_ATTEMPT": str(attempt),
                "FLOW_REPLICA": str(launch.replica),
                "FLOW_DATA": work,
            },
            "log": log.path,
            "log_from": position,
            "user": user.ids() if user is not None else None,
            **limits_of(step),
        }


@contextlib.contextmanager
def _failing(outcomes: list[Exception | None], number: int) -> Iterator[None]:
    """Take down what goes wrong with one of several calls; the end of a talk is no error."""
    try:
        yield
    except StopIteration:
        pass
    except Exception as error:  # noqa: BLE001 - it is none of the others' fault
        outcomes[number] = error


def _labels(flow_id: str, replica: int, names: Iterable[str]) -> dict[str, Any]:
    return {"flow": flow_id, "replica": replica, "steps": list(names)}


def _all_stopped(run: _Run) -> bool:
    """Whether a run that an earlier operator left was paused by it.

    Its group tells; its leaders do where they are in none, or all have left it.
    """
    if run.group:
        frozen, populated = groups.state(run.group)
        if frozen or populated:
            return frozen
    procs = [read_proc(step.pid) for step in run.steps if step.pid]
    return bool(procs) and all(proc and proc.state in STOPPED_STATES for proc in procs)


def _left_behind(run: _Run) -> tuple[int, ...]:
    """What stands still in a run's group, if no step of it lives."""
    if run.group is None or run.led:
        return ()
    return tuple(sorted(groups.members(run.group)))


def _step_view(step: Mapping[str, Any]) -> StepView:
    return StepView(
        step["attempt"],
        step["pid"],
        step["start"],
        step["ended"],
        msgspec.convert(step["exit"], Exit) if step["exit"] else None,
        step["input"],
        tuple(sorted(step["limits"].items())),
        step.get("log_from"),
        step.get("cut", False),
    )
