"""``start``, ``stop``, ``pause``, ``resume`` and ``restart``: change what is wanted, and wait."""

from __future__ import annotations

from dataclasses import dataclass

import click

from flow_operator.client import FlowClient, JsonObject
from flow_operator.flowctl.choice import Choice, choosing
from flow_operator.flowctl.failure import FAILED
from flow_operator.flowctl.goals import doing
from flow_operator.flowctl.progress import Look, progress
from flow_operator.flowctl.session import Session, connected, present_session
from flow_operator.flowctl.values import Seconds


@dataclass(frozen=True, slots=True)
class Verb:
    """One command.

    Attributes:
        name: as the API and the user call it.
        goal: the status that it is to end in.
        help: what it does, in one line.
        content: the statuses that it is content with too. A pause holds a flow that was not
            running as it is; a flow that has run to its end was started.
        patience: seconds to wait by default; a stop takes up to 35 s with the default settings,
            as does a pause of the intake.
    """

    name: str
    goal: str
    help: str
    content: tuple[str, ...] = ()
    patience: float = 10.0

    @property
    def goals(self) -> tuple[str, ...]:
        """Where it may end."""
        return (self.goal, *self.content)


VERBS = (
    Verb("start", "running", "Run flows.", ("completed",)),
    Verb("stop", "stopped", "Stop flows, until every process is gone.", patience=40.0),
    Verb(
        *("pause", "paused", "Hold flows still, each as its pause.mode says."),
        ("stopped", "completed"),
        patience=40.0,
    ),
    Verb("resume", "running", "Let paused flows go on; the same as start.", ("completed",)),
    Verb("restart", "running", "Stop flows and run them again.", ("completed",), 40.0),
)


LONGEST = 600.0
"""Seconds that the API waits at most."""
_LOOK_SECONDS = 2.0
_FEW = 5
"""Up to so many names each is asked for by itself; one list of all costs less than more."""


def _command(verb: Verb) -> click.Command:
    @click.command(verb.name, help=verb.help, no_args_is_help=False)
    @choosing(required=True, everything=True)
    @click.option(
        "--wait/--no-wait", default=True, help="Until the flows are there; waits by default."
    )
    @click.option(
        "--timeout",
        type=Seconds(LONGEST),
        default=verb.patience,
        metavar="TIME",
        help=f"How long to wait, {verb.patience:g}s by default and 10m at most; 0: not at all.",
    )
    @connected
    def run(
        client: FlowClient, choice: Choice, *, wait: bool, timeout: float, hard: bool = False
    ) -> None:
        patience = timeout if wait else 0.0
        observed = _commanded(client, verb, choice, hard=hard, timeout=patience)
        if not observed:
            click.echo("No flows.", err=True)
        for name, status in observed.items():
            click.echo(f"flow/{name} {status if patience else f'{verb.name} requested'}")
        late = [name for name, status in observed.items() if status not in verb.goals]
        if late and patience:
            _explain(client, late, f"not {verb.goal} after {patience:g}s")
            raise click.exceptions.Exit(FAILED)

    if verb.name == "stop":
        hard = click.option("--hard", is_flag=True, help="Kill at once; what is in flight is lost.")
        return hard(run)
    return run


def _commanded(
    client: FlowClient, verb: Verb, choice: Choice, *, hard: bool, timeout: float
) -> dict[str, str]:
    """Send the command, and show meanwhile what the flows do; returns what was observed."""

    def send() -> dict[str, str]:
        return client.command(
            verb.name, choice.names or None, hard=hard, timeout=timeout, **choice.selectors
        )

    if not timeout:
        return send()
    shown = choice
    if choice.fields is not None:
        # Those that failed are not failed any more once they are started.
        shown = Choice(choice.named(client))
        if not shown.names:
            return {}
    with progress(_looks(present_session(), shown), verb.goals):
        return send()


def _looks(session: Session, choice: Choice) -> Look:
    """Looks of another thread, by a connection of its own."""

    def look() -> dict[str, JsonObject]:
        with session.connect(_LOOK_SECONDS, retry_for=0) as client:
            if len(choice.names) <= _FEW:
                return choice.statuses(client)[0]
            statuses = client.statuses()
        return {name: statuses[name] for name in choice.names if name in statuses}

    return look


def _explain(client: FlowClient, names: list[str], trouble: str) -> None:
    """Say what the flows are doing that did not get there in time."""
    statuses = client.statuses()
    for name in names:
        click.echo(
            f"Error: flow/{name} is {trouble} but {doing(name, statuses.get(name, {}))}", err=True
        )


start, stop, pause, resume, restart = (_command(verb) for verb in VERBS)
