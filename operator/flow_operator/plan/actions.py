"""What goes into a plan and what comes out."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from flow_operator.memory import FlowMemory, RunMemory
from flow_operator.model.flow import Flow, State
from flow_operator.runners.base import Instance


class Want(Struct, frozen=True):
    """What is wanted of a flow.

    Attributes:
        flow: the configuration; None once it was deleted.
        state: what is to be reached now: ``flow``'s own state, or stopped while the operator
            shuts down or the flow is deleted.
        hard: whether a stop is to kill at once.
        token: grows with each wish to restart.
        template: names what a running instance must have been started from.
        blocked: why it may not start yet; empty when it may.
        hold: whether a stop must wait, for flows that depend on this one.
        hurry: whether what still drains is to be told to end: the operator runs out of time.
    """

    flow: Flow | None
    uid: str = ""
    generation: int = 0
    state: State = "stopped"
    hard: bool = False
    token: int = 0
    template: str = ""
    base: str | None = None
    blocked: tuple[str, ...] = ()
    hold: bool = False
    hurry: bool = False

    @property
    def paused(self) -> bool:
        """Whether it is to hold still; also while its stop must wait for others."""
        held = self.hold and self.flow is not None and self.flow.spec.state == "paused"
        return self.state == "paused" or held

    def flow_of(self, run: RunMemory) -> Flow:
        """The flow whose steps a run has: as they are wanted now, if it still runs those."""
        current = self.flow is not None and (run.uid, run.template) == (self.uid, self.template)
        return self.flow if self.flow is not None and current else run.flow


class Seen(Struct, frozen=True):
    """What is observed of a flow.

    Attributes:
        boot: the machine's present boot.
        unhealthy: (run, step index, attempt) whose liveness or startup probe has failed.
        not_started: (run, step index) whose startup probe has not yet succeeded.
        not_ready: (run, step index) whose readiness probe does not succeed, with its message.
        printed: (run, step index, attempt, pattern) of lines that a probe has found printed.
        silent: (run, step index, attempt) that have written nothing for too long.
        backpressured: (run, step index) whose pipe stays full, with its unread bytes.
        restless: by run, those of the steps after the first one that have lately had something
            to read, written or computed. A run that was not looked at for long enough to tell
            has all of them, one that is not looked at is left out.
    """

    boot: str
    instances: tuple[Instance, ...] = ()
    unhealthy: frozenset[tuple[str, int, int]] = frozenset()
    not_started: frozenset[tuple[str, int]] = frozenset()
    not_ready: dict[tuple[str, int], str] = {}
    printed: frozenset[tuple[str, int, int, str]] = frozenset()
    silent: frozenset[tuple[str, int, int]] = frozenset()
    backpressured: Mapping[tuple[str, int], int] = {}
    restless: Mapping[str, frozenset[int]] = {}


class Action(Struct, frozen=True):
    """One thing for a runner to do.

    ``settles``: whether what it does can be observed when it returns, so that planning may go on
    at once; the others report by a notification.
    """

    run: str

    @property
    def settles(self) -> bool:
        """True for what is done when the verb returns."""
        return True


class LaunchRun(Action, frozen=True):
    """Start an instance."""

    memory: RunMemory


class StartStep(Action, frozen=True):
    """Start one step again; ``resumes`` after a pause, which is no restart."""

    memory: RunMemory
    index: int
    attempt: int
    resumes: bool = False


class EndStep(Action, frozen=True):
    """Let go of the pipes of a step that ended for good."""

    index: int


class _Awaited(Action, frozen=True):
    @property
    def settles(self) -> bool:
        """False: the runner notifies when it is done."""
        return False


class SignalSteps(_Awaited, frozen=True):
    """Signal steps; what they do about it is seen later."""

    indexes: tuple[int, ...]
    name: str


class Sweep(_Awaited, frozen=True):
    """Look for leftovers until there are none."""

    name: str


class Freeze(_Awaited, frozen=True):
    """Stop every process where it is."""


class Thaw(_Awaited, frozen=True):
    """Let every process go on."""


class Forget(Action, frozen=True):
    """Drop a run that is gone."""


class Note(Struct, frozen=True):
    """Something worth an event."""

    reason: str
    message: str
    warning: bool = False


class Decision(Struct, frozen=True):
    """What to do.

    Attributes:
        intent: to be remembered before any action: what stood, with the runs to be launched and
            the stops that are begun.
        memory: to be remembered once the actions were carried out; None when there is nothing
            left to keep. All but launches may be carried out twice, if the operator is killed
            before this is remembered, and do nothing the second time.
        actions: in this order.
        wake: when to plan again even if nothing happens (monotonic seconds).
        fixed: whether nothing but what was seen has changed what is remembered, so that the same
            would be planned again.
    """

    intent: FlowMemory
    memory: FlowMemory | None
    actions: tuple[Action, ...] = ()
    notes: tuple[Note, ...] = ()
    wake: float | None = None
    fixed: bool = False

    def goes_on(self, before: FlowMemory) -> bool:
        """Whether to plan again at once: there is more to be seen than when this was planned.

        What a runner tells later has to be waited for, and of a run that is being swept all that
        matters is that it is gone. So those that only were signalled let the next flow have its
        turn: of a thousand flows that stop, all are told to before the first is cleared away.

        Args:
            before: what was remembered when this was planned.
        """
        if not self.actions:
            return not self.fixed and self.memory != before
        swept = {action.run for action in self.actions if isinstance(action, Sweep)}
        return any(action.settles and action.run not in swept for action in self.actions)
