"""What is told of a flow: the observed state as frozen Structs.

Invariants, which the tests check after every reconcile:

1. ``status`` is what was observed; ``desired`` is what was asked for.
2. ``stopped`` means that no process of the flow exists.
3. ``observedGeneration`` is never larger than ``generation``.
4. ``Ready`` is True only while ``status`` is ``running``.
5. ``Reconciling`` is True until the observed state is the desired one, or cannot become it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from flow_operator.model.flow import ProbeKind
from flow_operator.structs import prepared

Phase = Literal[
    "pending",
    "starting",
    "running",
    "paused",
    "stopping",
    "stopped",
    "backoff",
    "failed",
    "completed",
    "unknown",
]

Change = Literal["none", "inPlace", "restart", "start", "stop"]
"""What an edit of the desired state does to the processes of a flow: nothing, something while they
go on, or that they are ended and started again, started, or ended."""

TERMINAL: frozenset[Phase] = frozenset({"failed", "completed"})
"""What does not change until somebody acts."""


def _name(field: str) -> str:
    """camelCase, but for ``flow_id``, which the REST contract spells so."""
    if field == "flow_id":
        return field
    first, *rest = field.split("_")
    return first + "".join(word.title() for word in rest)


class StatusPart(Struct, frozen=True, rename=_name):
    """Base of every part of a status; every field is always told."""


Truth = Literal["True", "False", "Unknown"]
"""Of a condition."""


class Condition(StatusPart, frozen=True):
    """One aspect of a flow.

    Attributes:
        type: Ready, Reconciling, Stalled, and for flows that can have them, Backpressured,
            PipeUnheld and Silent.
        reason: one CamelCase word for programs.
        message: a sentence for people.
        last_transition_time: RFC 3339; when ``status`` last changed.
    """

    type: str
    status: Truth
    reason: str
    message: str
    last_transition_time: str


class LastExit(StatusPart, frozen=True):
    """How a process ended.

    Attributes:
        code: the exit code; null if a signal ended it or nobody saw it.
        signal: the signal's number, if one ended it.
        reason: Completed, Error, Signaled, SpawnFailed or ExitUnknown.
        at: RFC 3339.
    """

    code: int | None
    signal: int | None
    reason: str
    detail: str
    at: str


class ProbeStatus(StatusPart, frozen=True):
    """What the checks of one probe have shown.

    Attributes:
        ok: whether the last check succeeded; null before the first one.
        checked_at: RFC 3339; when it was last checked. Null before that, also where ``ok`` is
            known from an earlier operator.
        successes: checks in a row that succeeded.
        failures: checks in a row that failed.
    """

    kind: ProbeKind
    ok: bool | None
    message: str
    checked_at: str | None = None
    successes: int = 0
    failures: int = 0


class StepStatus(StatusPart, frozen=True):
    """One step of one replica.

    Attributes:
        run: the id of the instance.
        state: running, frozen, waiting (for its restart, or to be resumed), exited.
        cpu_seconds: user and system time of its processes.
        memory_bytes: resident memory of its processes.
        in_flight_bytes: unread bytes in the pipe before it.
        open_files: descriptors that its processes hold; 0 where that may not be read.
        limits: each of ``resources.limits`` that its process was to be started with, and whether
            it is enforced; empty while there is no process.
        probes: one for each that is configured.
    """

    name: str
    replica: int
    run: str
    state: Literal["running", "frozen", "waiting", "exited"]
    pid: int | None
    restarts: int
    ready: bool
    last_exit: LastExit | None
    cpu_seconds: float
    memory_bytes: int
    in_flight_bytes: int
    open_files: int = 0
    limits: dict[str, bool] = {}
    probes: tuple[ProbeStatus, ...] = ()


class Source(StatusPart, frozen=True):
    """Where a flow's configuration comes from: the API, or a file of the manifest folder."""

    kind: Literal["api", "file"]
    file: str | None = None
    error: str | None = None


class FlowStatus(StatusPart, frozen=True):
    """The observed state of one flow.

    Attributes:
        flow_id: which flow.
        uid: tells it from an earlier or later one of the same name.
        status: its observed phase.
        desired: what its configuration asks for; ``deleted`` while it is being removed.
        generation: of the configuration.
        observed_generation: of the configuration that this status speaks of.
        started_at: RFC 3339; when the oldest running instance was launched.
        labels: of the configuration; the last ones while it is being removed.
        limits_enforced: whether every limit of every step that has a process is enforced; null
            where none is asked for.
    """

    flow_id: str
    uid: str
    status: Phase
    desired: Literal["running", "paused", "stopped", "deleted"]
    generation: int
    observed_generation: int
    restarts: int
    replicas: int
    ready_replicas: int
    started_at: str | None
    message: str
    source: Source
    conditions: tuple[Condition, ...]
    steps: tuple[StepStatus, ...]
    limits_enforced: bool | None = None
    labels: dict[str, str] = {}

    def condition(self, kind: str) -> Condition | None:
        """The condition of a type, if it is told."""
        return next((c for c in self.conditions if c.type == kind), None)

    @property
    def settled(self) -> bool:
        """Whether this speaks of the present generation and nothing more will happen by itself."""
        reconciling = self.condition("Reconciling")
        current = self.observed_generation == self.generation
        return current and reconciling is not None and reconciling.status == "False"


@prepared
class Event(StatusPart, frozen=True, gc=False):
    """Something that happened to a flow; type, reason and message tell it from its others.

    Attributes:
        at: RFC 3339; when it last happened.
        first_at: RFC 3339; when it first happened.
        count: how often.
    """

    flow_id: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    at: str
    first_at: str
    count: int = 1
