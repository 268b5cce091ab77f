"""What an engine runs for this operator, kept up to date by its events.

An event is only a hint: the container is looked at again. Whenever the stream of events was broken,
all are.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable

import structlog

from flow_operator.backoff import requeue_delay
from flow_operator.clock import Clock
from flow_operator.errors import AwayError, FlowError, RetryableError, TerminalError
from flow_operator.runners.base import Handle, Launch, Notify
from flow_operator.runners.container_logs import ContainerLogs, LogKey
from flow_operator.runners.container_runs import Run
from flow_operator.runners.container_spec import OWNER
from flow_operator.runners.container_state import Box, box_of
from flow_operator.runners.engine import Engine, EngineInfo, Events, RefusedError
from flow_operator.settings import Layout

_FIRST_LOOK = 5.0
"""Seconds for which an operator that starts waits to be told what there is; an engine may hang."""

_LONGEST = 5.0
"""Seconds between two tries to reach an engine that is away, at most."""

_PATIENCE = 5.0
"""Seconds in which a container can be removed, or the next operator does it."""

_AGAIN = 2.0
"""Seconds until an engine that would not remove a container is asked once more."""

log = structlog.get_logger("container-runner")


class World:
    """The containers of one operator.

    Attributes:
        lock: guards ``runs`` and what is in them.
        runs: by run id.
        info: what the engine is.
        owner: this operator's id, with which its containers are labelled.
        closing: set when the runner is to end.
    """

    def __init__(self, engine: Engine, layout: Layout, copies: ContainerLogs, clock: Clock) -> None:
        self._engine = engine
        self._layout = layout
        self._copies = copies
        self._clock = clock
        self.lock = threading.RLock()
        self.runs: dict[str, Run] = {}
        self.info = EngineInfo()
        self.owner = ""
        self.closing = threading.Event()
        self.notify: Notify = lambda _flow_id: None
        self._recalled = False
        self._away: str | None = "the container engine has not answered yet"
        self._looked = threading.Event()
        self._events: Events | None = None
        self._retired: dict[str, Box] = {}
        self._removed = threading.Condition(self.lock)
        self._work = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, notify: Notify) -> None:
        """Look, and follow what happens; an engine that is away or hangs is waited for behind this.

        Raises:
            RetryableError: the operator's id cannot be kept.
        """
        self.notify = notify
        self.owner = _owner(self._layout)
        for name, work in (("engine", self._follow), ("containers", self._remove)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        if not self._looked.wait(_FIRST_LOOK):
            log.warning("the container engine has not answered yet; see what it does")

    def close(self, *, final: bool) -> None:
        """Follow no more; if nothing is to run any more, once all containers are removed."""
        if final:
            self._await_removed()
        self.closing.set()
        self._work.set()
        with self.lock:
            events = self._events
        if events is not None:
            events.cut_off()
        for thread in self._threads:
            thread.join(timeout=10)

    # --- what is there -------------------------------------------------------------------

    def check_there(self) -> None:
        """Nothing, while the engine answers.

        Raises:
            AwayError: it does not.
        """
        if self._away is not None:
            raise AwayError(self._away)

    def known(self, run: str) -> Run | None:
        """A run by its id, once it was launched."""
        with self.lock:
            found = self.runs.get(run)
            return found if found is not None and found.launched else None

    def of(self, flow_id: str) -> list[Run]:
        """The runs of a flow."""
        with self.lock:
            found = [run for run in self.runs.values() if run.flow_id == flow_id and run.launched]
        return sorted(found, key=lambda run: run.run)

    def begin(self, launch: Launch) -> Run:
        """The run of a launch.

        Raises:
            TerminalError: another run stands for the same replica.
        """
        flow_id, names = launch.flow.flow_id, tuple(step.name for step in launch.flow.spec.steps)
        with self.lock:
            others = [
                run
                for run in self.runs.values()
                if (run.flow_id, run.replica) == (flow_id, launch.replica) and run.run != launch.run
            ]
            if standing := [run.run for run in others if run.launched]:
                raise TerminalError(
                    f"the run {standing[0]} still stands for {flow_id}: stop it first"
                )
            found = self.runs.setdefault(
                launch.run, Run(launch.run, flow_id, launch.replica, names)
            )
        for run in others:
            # It waited for an image, and is not wanted any more.
            self.give_up(run)
        return found

    def give_up(self, run: Run) -> None:
        """Remove what was made for a run that cannot be launched."""
        with self.lock:
            self.runs.pop(run.run, None)
            boxes = list(run.boxes.values())
        for box in boxes:
            self._engine.remove(box.name)

    def look(self, name: str) -> Box | None:
        """Look at one container, and take over what is seen."""
        told = self._engine.inspect(name)
        box = None
        if told is not None:
            box = box_of(told, self._clock.wall(), self._clock.monotonic())
        if box is None or box.owner != self.owner:
            self._miss(name)  # Another operator's are nothing to us.
            return None
        self._take(box)
        return box

    def start_box(self, run: Run, name: str, index: int) -> None:
        """Start the container of a step; a refusal is told as its end."""
        try:
            self._engine.start(name)
        except RefusedError as error:
            run.refused[index] = _hinted(str(error), run)
        self.look(name)

    def _take(self, box: Box) -> None:
        with self.lock:
            retired = box.id in self._retired
            run = None if retired else self.runs.get(box.run)
            if run is None and not retired:
                run = self.runs[box.run] = Run(box.run, box.flow_id, box.replica, box.names)
            replaced = run.take(box) if run is not None else None
        if retired:
            self._end_again(box)
            return
        if box.started:
            key = LogKey(box.run, box.flow_id, box.replica, box.names[box.index], box.attempt)
            self._copies.follow(key, box.id)
        if replaced is not None:
            self._retire(replaced)
        self.notify(box.flow_id)

    def _end_again(self, box: Box) -> None:
        """What another has taken the place of must not run: its pipes are the other one's."""
        if box.alive:
            log.warning("somebody has started a container that was over", name=box.name)
            self._engine.signal(box.name, "SIGKILL")

    def _miss(self, name: str) -> None:
        """A container is there no more."""
        with self.lock:
            self._retired.pop(name, None)
            found = [
                (run, box)
                for run in self.runs.values()
                for box in run.boxes.values()
                if name in (box.id, box.name)
            ]
            for run, box in found:
                run.miss(box.index)
        for run, _ in found:
            self.notify(run.flow_id)

    def sweep(self, run: Run) -> None:
        """Say when nothing of a run is left."""
        for box in list(run.boxes.values()):
            if box.alive:
                self.look(box.id)
        with self.lock:
            run.sweeping = True
            run.gone = not run.alive
        if run.gone:
            self.notify(run.flow_id)

    def forget(self, run: Run) -> None:
        """Drop a run; its containers go once what they have printed is copied."""
        with self.lock:
            self.runs.pop(run.run, None)
            for box in run.boxes.values():
                self._retired[box.id] = box
        self._work.set()

    def _retire(self, box: Box) -> None:
        with self.lock:
            self._retired[box.id] = box
        self._work.set()

    # --- taking back ---------------------------------------------------------------------

    def recall(self, handles: Iterable[Handle]) -> None:
        """What an earlier operator had started, and decided."""
        with self.lock:
            self._recalled = True
            for handle in handles:
                run = self.runs.get(handle.run)
                if run is not None:
                    run.recall(handle)
                elif handle.started:
                    self.runs[handle.run] = Run.remembered(handle)
        if self._away is None:
            self._settle()

    def _settle(self) -> None:
        """Go on with launches that were cut off.

        All containers are made before any is started. So where some are missing, none was started,
        and they can go; where all are there, those that were not started are.
        """
        with self.lock:
            begun = [run for run in self.runs.values() if not run.launched]
        for run in begun:
            with run.turn:
                if run.launched or not run.boxes:
                    continue
                if not run.complete:
                    log.warning("a launch that was cut off begins anew", run=run.run)
                    self.give_up(run)
                    continue
                run.launched = True
        with self.lock:
            # Not of a launch that is just being made: all of it comes before any start.
            idle = [
                (run, box)
                for run in self.runs.values()
                for box in run.boxes.values()
                if box.unstarted and run.launched
            ]
        for run, box in idle:
            self.start_box(run, box.name, box.index)

    # --- following -----------------------------------------------------------------------

    def _relist(self) -> None:
        self.info = self._engine.connect()
        with self.lock:
            before = {box.id for run in self.runs.values() for box in run.boxes.values()}
        seen = set()
        for name in self._engine.containers({OWNER: self.owner}):
            self.look(name)
            seen.add(name)
        with self.lock:
            lost = [
                (run, box.index)
                for run in self.runs.values()
                for box in run.boxes.values()
                if box.id in before - seen and run.launched
            ]
            for run, index in lost:
                run.miss(index)
            self._away = None

    def _went(self, why: str) -> None:
        with self.lock:
            told, self._away = self._away, why
            flow_ids = {run.flow_id for run in self.runs.values()}
        if told is None:
            log.warning("the container engine is away", error=why)
        for flow_id in flow_ids:
            self.notify(flow_id)

    def _back(self) -> None:
        if self._recalled:
            self._settle()
        with self.lock:
            flow_ids = {run.flow_id for run in self.runs.values()}
        for flow_id in flow_ids:
            self.notify(flow_id)

    def _look_first(self) -> None:
        try:
            self._relist()
        except FlowError as error:
            self._went(str(error))
        except Exception:
            log.exception("cannot look at the container engine")
        finally:
            self._looked.set()

    def _follow(self) -> None:
        self._look_first()
        failures = 0
        while not self.closing.is_set():
            try:
                with self._engine.events({OWNER: self.owner}) as events:
                    with self.lock:
                        self._events = events
                    if self.closing.is_set():
                        return
                    self._relist()
                    self._back()
                    failures = 0
                    self._hear(events)
                why = f"the container engine at {self._engine.url} has hung up; start it"
            except FlowError as error:
                why = str(error)
            except Exception:
                log.exception("cannot follow the container engine")
                why = "the container engine cannot be followed; see the log of flowd"
            if self.closing.is_set():
                return
            self._went(why)
            failures += 1
            self.closing.wait(min(requeue_delay(failures), _LONGEST))

    def _hear(self, events: Events) -> None:
        for what, container in events:
            if not what.startswith(("exec_", "top", "resize", "attach", "archive-path")):
                self.look(container)
            if self.closing.is_set():
                return

    # --- removing ------------------------------------------------------------------------

    def _remove(self) -> None:
        """Remove what is not needed any more, once all that it has printed is copied."""
        while not self.closing.is_set():
            refused = self._remove_copied()
            self._work.wait(_AGAIN if refused else None)
            self._work.clear()

    def _await_removed(self) -> None:
        """Wait for it, as long as it goes on."""
        with self._removed:
            while self._retired and self._away is None:
                if not self._removed.wait(_PATIENCE):
                    log.warning("containers are left to be removed", count=len(self._retired))
                    return

    def copied(self) -> None:
        """All of some container's output is in our log."""
        self._work.set()

    def _remove_copied(self) -> bool:
        """Returns whether the engine did not do what can be done."""
        refused = False
        with self.lock:
            retired = list(self._retired.values())
        for box in retired:
            if box.started and not self._copies.copied(box.id):
                continue
            try:
                self._engine.remove(box.id)
            except FlowError as error:
                log.debug("cannot remove a container yet", name=box.name, error=str(error))
                refused = True
                continue
            with self.lock:
                self._retired.pop(box.id, None)
                self._removed.notify_all()
                over = box.run not in self.runs and all(
                    other.run != box.run for other in self._retired.values()
                )
            if over:
                self._copies.forget(box.run)
        return refused


def _hinted(said: str, run: Run) -> str:
    if run.joined and '"sh"' in said:
        return (
            f"{said}; a step that has a neighbour needs `sh` in its image: use an image that has "
            "it, or make the step a flow of its own"
        )
    return said


def _owner(layout: Layout) -> str:
    """This operator's id: made once for a data directory.

    Raises:
        RetryableError: it cannot be kept.
    """
    path = layout.operator_id
    try:
        if path.exists():
            return path.read_text(encoding="ascii").strip()
        made = uuid.uuid4().hex
        fresh = path.with_suffix(f".{time.monotonic_ns()}")
        fresh.write_text(f"{made}\n", encoding="ascii")
        fresh.replace(path)
    except OSError as error:
        raise RetryableError(f"the operator's id cannot be kept in {path}: {error}") from error
    return made
