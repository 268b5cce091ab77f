"""``wait``: until flows are where one wants them, told by the operator's watch."""

from __future__ import annotations

import click

from flow_operator.client import FlowClient, JsonObject
from flow_operator.flowctl.choice import Choice, choosing
from flow_operator.flowctl.deadline import LateError, deadline
from flow_operator.flowctl.failure import FAILED, fail_if
from flow_operator.flowctl.goals import Goal, GoalType, doing
from flow_operator.flowctl.session import connected
from flow_operator.flowctl.values import Seconds

PATIENCE = 30.0

Goals = dict[str, Goal]
"""By name of flow."""


@click.command("wait")
@choosing(required=True, everything=True)
@click.option(
    "--for",
    "goal",
    type=GoalType(),
    default="running",
    show_default=True,
    metavar="GOAL",
    help="A status, deleted, or condition=TYPE[=STATUS], as in condition=Ready.",
)
@click.option(
    "--timeout",
    type=Seconds(),
    default=PATIENCE,
    metavar="TIME",
    help=f"How long; {PATIENCE:g}s by default, 0 looks once.",
)
@connected
def wait(client: FlowClient, choice: Choice, goal: Goal, timeout: float) -> None:
    """Wait until flows are where one wants them.

    A selector chooses flows when the wait begins. A flow that has failed for good, or is deleted,
    ends the wait at once.
    """
    seen, missing = choice.statuses(client)
    if goal.deleted:
        for name in choice.names:
            if name not in seen:
                click.echo(f"flow/{name} deleted")
        missing = []
    elif not seen and not missing:
        click.echo("Error: no flow matches; flowctl status lists those there are.", err=True)
        raise click.exceptions.Exit(FAILED)
    fail_if(missing)
    wait_for(client, dict.fromkeys(seen, goal), seen, timeout)


def wait_for(client: FlowClient, goals: Goals, seen: dict[str, JsonObject], timeout: float) -> None:
    """Print each flow that is there, until all are.

    Args:
        client: of the operator.
        goals: of each flow.
        seen: the flows' statuses when the wait begins.
        timeout: seconds.

    Raises:
        click.exceptions.Exit: one will not come there, or did not in time; that was told.
    """
    waiting = _Waiting(goals, seen)
    if waiting.settled() or waiting.lost:
        waiting.end("")
        return
    if timeout:
        try:
            with deadline(timeout):
                waiting.follow(client)
        except LateError:
            pass
    waiting.end(f" after {timeout:g}s" if timeout else "")


class _Waiting:
    def __init__(self, goals: Goals, seen: dict[str, JsonObject]) -> None:
        self._left = dict(goals)
        self._seen = dict(seen)
        self.lost: dict[str, str] = {}

    def settled(self) -> bool:
        """Tell what is there already; whether nothing is left to wait for."""
        for name in list(self._left):
            if name in self._seen:
                self._look(name, self._seen[name])
        return not self._left

    def follow(self, client: FlowClient) -> None:
        """Until nothing is left, or one will not come there."""
        only = next(iter(self._left)) if len(self._left) == 1 else None
        changes = client.watch_statuses(only)
        for change in changes:
            name = change.object["flow_id"]
            if name not in self._left:
                continue
            if change.type == "DELETED":
                self._gone(name)
            else:
                self._look(name, change.object)
            if self.lost or not self._left:
                return

    def end(self, when: str) -> None:
        """Tell what did not get there.

        Raises:
            click.exceptions.Exit: if there is any.
        """
        for name, goal in self._left.items():
            why = self.lost.get(name) or f"but {doing(name, self._seen.get(name, {}))}"
            past = "" if name in self.lost else when
            click.echo(f"Error: flow/{name} is not {goal.words}{past} {why}", err=True)
        if self._left:
            raise click.exceptions.Exit(FAILED)

    def _look(self, name: str, status: JsonObject) -> None:
        self._seen[name] = status
        goal = self._left[name]
        if goal.reached(status):
            click.echo(f"flow/{name} {goal.words}")
            del self._left[name]
        elif goal.failure and _failed(status):
            self.lost[name] = f"and will not be: {doing(name, status)}"

    def _gone(self, name: str) -> None:
        if self._left[name].deleted:
            click.echo(f"flow/{name} deleted")
            del self._left[name]
        else:
            self.lost[name] = "and will not be: it was deleted; flowctl apply makes it again"


def _failed(status: JsonObject) -> bool:
    """Whether it has failed, and is not about to be started again."""
    seen = status.get("observedGeneration") == status.get("generation")
    return bool(seen and status.get("status") == "failed")
