"""What can be waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import click
from click.shell_completion import CompletionItem

from flow_operator.client import JsonObject
from flow_operator.flowctl.progress import arrived
from flow_operator.flowctl.text import clean

CONDITIONS = ("Ready", "Reconciling", "Stalled", "Silent", "Backpressured", "PipeUnheld")
PHASES = (
    *("pending", "starting", "running", "paused", "stopping", "stopped", "backoff"),
    *("failed", "completed", "unknown"),
)
"""What a status may be; a test holds them to the model, which takes too long to load for help."""
_DELETED = "deleted"
_CONDITION = "condition="

Reached = Callable[[JsonObject], bool]


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a flow is to come.

    Attributes:
        words: as the user wrote it.
        reached: whether a status shows it.
        deleted: whether it is that the flow is gone.
        failure: whether a flow that has failed for good cannot come there any more.
    """

    words: str
    reached: Reached
    deleted: bool = False
    failure: bool = True


class GoalType(click.ParamType[Goal]):
    """``running``, ``deleted``, ``condition=Ready`` or ``condition=Ready=False``."""

    name = "goal"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Goal:
        """What is to be reached."""
        words = str(value)
        if words.lower().startswith(_CONDITION):
            return _of_condition(words, words[len(_CONDITION) :])
        if words == _DELETED:
            return Goal(words, lambda _: False, deleted=True, failure=False)
        if words not in PHASES:
            known = ", ".join((*PHASES, _DELETED))
            self.fail(f"{words!r} is none of {known}, condition=TYPE[=STATUS].", param, ctx)
        return Goal(words, lambda status: arrived(status, (words,)), failure=words != "failed")

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """All of them."""
        del ctx, param
        words = (*PHASES, _DELETED, *(f"{_CONDITION}{kind}" for kind in CONDITIONS))
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _of_condition(words: str, text: str) -> Goal:
    kind, _, value = text.partition("=")
    wanted = (value or "True").lower()

    def reached(status: JsonObject) -> bool:
        return (
            status.get("observedGeneration") == status.get("generation")
            and _condition(status, kind) == wanted
        )

    return Goal(words, reached, failure=(kind.lower(), wanted) == ("ready", "true"))


def settled_goal(status: JsonObject) -> Goal:
    """That a flow is what its own configuration wants: running and ready, paused or stopped."""
    desired = str(status.get("desired", "running"))

    def reached(now: JsonObject) -> bool:
        wanted = now.get("desired", "running")
        if wanted != "running":
            return arrived(now, _SETTLED.get(str(wanted), (str(wanted),)))
        if arrived(now, ("completed",)):
            return True
        return arrived(now, ("running",)) and _condition(now, "Ready") == "true"

    return Goal("ready" if desired == "running" else desired, reached)


_SETTLED = {"paused": ("paused", "stopped", "completed"), "stopped": ("stopped", "completed")}


def _condition(status: JsonObject, kind: str) -> str:
    """Its status in small letters; a condition that is not there is not true."""
    for condition in status.get("conditions") or ():
        if str(condition.get("type")).lower() == kind.lower():
            return str(condition.get("status")).lower()
    return "false"


def doing(name: str, status: JsonObject) -> str:
    """What a flow does instead of what was waited for, and where more is told."""
    message = clean(status.get("message") or "")
    said = f"{status.get('status', 'unknown')}{f': {message}' if message else ''}"
    return f"{said}; flowctl describe {name} tells more"
