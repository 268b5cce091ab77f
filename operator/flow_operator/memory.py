"""What the operator remembers of a flow between two looks at it.

The launch intent (a run id, before anything is started under it), how far a stop has come, and
what backoff needs. It is kept in a file for each flow, so that a later operator goes on where this
one was killed. Times are CLOCK_MONOTONIC seconds, good for one boot, whose id stands beside them.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from flow_operator.model.flow import Flow, decode_unit, encode_unit
from flow_operator.runners.base import Exit, Handle, StepView
from flow_operator.structs import prepared

StopMode = Literal["drain", "signal", "kill"]
Stage = Literal["drain", "term", "kill"]
Outcome = Literal["Completed", "Failed"]
StopOutcome = Literal["Drained", "DrainTimedOut", "Terminated", "Forced"]


class Record(Struct, frozen=True, omit_defaults=True):
    """Base of what is kept; fields may be added, with defaults."""


class StepMemory(Record, frozen=True):
    """One step of a run.

    Attributes:
        attempt: the last that was ordered.
        judged: the last whose exit was acted upon.
        restarts: how often it was started again within the run.
        failures: exits in a row that were followed by a restart; what backoff grows with.
        started_at: when the last attempt was ordered.
        retry_at: when the next attempt is due, if one is.
        term_at: when it was told to end because it was found unhealthy; ``killed`` whether
            SIGKILL has followed.
        pid: of its process, with ``start``; what a new shim needs to take it over. 0 once it
            has exited, and before the start was recorded.
        last_exit: how it last ended; ``exited`` is the attempt that did.
        log_from: where in its log the output of the last attempt begins; None if nobody knows.
        printed: patterns of log lines that were found, with the attempt that had printed them.
    """

    attempt: int = 1
    judged: int = 0
    restarts: int = 0
    failures: int = 0
    started_at: float = 0.0
    retry_at: float | None = None
    term_at: float | None = None
    pid: int = 0
    start: int = 0
    ended: bool = False
    last_exit: Exit | None = None
    exited: int = 0
    trouble: str = ""
    killed: bool = False
    log_from: int | None = None
    printed: dict[str, int] = {}


class Stopping(Record, frozen=True):
    """A stop that is under way.

    Attributes:
        mode: how it was begun.
        stage: how far it has come.
        reason: a condition reason: why.
        begun: when it was begun.
        deadline: when the next stage begins.
        signalled: whether this stage's signal was sent.
    """

    mode: StopMode
    stage: Stage
    reason: str
    deadline: float
    signalled: bool = False
    begun: float = 0.0

    @property
    def outcome(self) -> StopOutcome:
        """How it has gone, if nothing is left now."""
        if self.stage == "kill":
            return "Forced"
        if self.stage == "drain":
            return "Drained"
        return "DrainTimedOut" if self.mode == "drain" else "Terminated"


class Pausing(Record, frozen=True):
    """A pause that ends the first step and lets the others use up what it wrote.

    It is remembered before the step is signalled, so that its exit is never mistaken for one of
    its own accord.

    Attributes:
        begun: when it was begun.
        deadline: when the first step is killed if it is still there.
        told: the attempt of the first step that was told to end; 0 if none was running.
        signalled: whether that was done; ``killed`` whether SIGKILL has followed.
        late: whether it was said that the others take longer than ``stop.timeout``.
        idle: whether all that was written was seen to be used up.
    """

    begun: float
    deadline: float
    told: int = 0
    signalled: bool = False
    killed: bool = False
    late: bool = False
    idle: bool = False


class RunMemory(Record, frozen=True):
    """One launched instance.

    Attributes:
        run: its id.
        flow: what it was launched from.
        confirmed: whether a runner has shown it since; until then it is launched again under
            the same id, which changes nothing if it already runs.
        verify_at: when a run is looked at again that is frozen, or not yet seen to go on; else 0.
        failures: of flow-scoped restarts before it.
        pause: of its intake; kept until the first step is to run again.
    """

    run: str
    replica: int
    uid: str
    token: int
    template: str
    flow: Flow
    base: str | None
    launched_at: float
    steps: tuple[StepMemory, ...]
    confirmed: bool = False
    stop: Stopping | None = None
    verify_at: float = 0.0
    failures: int = 0
    pause: Pausing | None = None

    def handle(self) -> Handle:
        """What a runner needs to take the run back."""
        steps = tuple(
            StepView(
                s.attempt,
                s.pid,
                s.start,
                s.ended,
                s.last_exit if s.exited == s.attempt and not s.pid else None,
                log_from=s.log_from,
            )
            for s in self.steps
        )
        names = tuple(step.name for step in self.flow.spec.steps)
        return Handle(self.run, self.flow.flow_id, self.replica, names, steps)


class Relaunch(Record, frozen=True):
    """An instance that waits for its next launch."""

    failures: int
    at: float
    trouble: str


class Finished(Record, frozen=True):
    """An instance that ended for good; it runs again only for another token or template."""

    outcome: Outcome
    token: int
    template: str
    steps: tuple[StepMemory, ...]


@prepared
class FlowMemory(Record, frozen=True):
    """Everything that is remembered of one flow, by replica.

    Attributes:
        boot: the boot during which this was written.
        uid: the flow's, when this was last planned.
        launches: how many instances were launched; makes their run ids.
        restarts: of all steps and instances so far.
        last_stop: the outcome of the last stop: Drained, DrainTimedOut, Forced or Stopped.
    """

    boot: str = ""
    uid: str = ""
    launches: int = 0
    restarts: int = 0
    runs: dict[int, RunMemory] = {}
    relaunches: dict[int, Relaunch] = {}
    finished: dict[int, Finished] = {}
    last_stop: str = ""


def encode_memory(memory: FlowMemory) -> bytes:
    """As it is kept in a file."""
    return msgspec.json.encode(memory, enc_hook=encode_unit)


def decode_memory(data: bytes) -> FlowMemory:
    """From a file.

    Raises:
        msgspec.MsgspecError: the file is torn or of another layout.
    """
    try:
        return msgspec.json.decode(data, type=FlowMemory, dec_hook=decode_unit)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None
