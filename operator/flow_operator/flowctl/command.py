"""``start``, ``stop``, ``pause``, ``resume`` and ``restart``: change what is wanted, and wait."""

from __future__ import annotations

from dataclasses import dataclass

import click

from flow_operator.client import FlowClient
from flow_operator.flowctl.failure import FAILED
from flow_operator.flowctl.session import connected, names_argument
from flow_operator.flowctl.text import clean


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


def _command(verb: Verb) -> click.Command:
    @click.command(verb.name, help=verb.help, no_args_is_help=False)
    @names_argument()
    @click.option("--all", "everything", is_flag=True, help="Every flow.")
    @click.option(
        "--timeout",
        type=click.FloatRange(0, 600),
        default=verb.patience,
        metavar="SECONDS",
        help=f"How long to wait, {verb.patience:g} by default and 600 at most; 0: not at all.",
    )
    @connected
    def run(
        client: FlowClient,
        names: tuple[str, ...],
        *,
        everything: bool,
        timeout: float,
        hard: bool = False,
    ) -> None:
        if everything == bool(names):
            raise click.UsageError("Name the flows, or say --all; one of the two.")
        observed = client.command(
            verb.name, None if everything else names, hard=hard, timeout=timeout
        )
        if not observed:
            click.echo("No flows.", err=True)
        for name, status in observed.items():
            click.echo(f"flow/{name} {status}" if timeout else f"flow/{name} {verb.name} requested")
        reached = (verb.goal, *verb.content)
        late = [name for name, status in observed.items() if status not in reached]
        if late and timeout:
            _explain(client, late, f"not {verb.goal} after {timeout:g}s")
            raise click.exceptions.Exit(FAILED)

    if verb.name == "stop":
        hard = click.option("--hard", is_flag=True, help="Kill at once; what is in flight is lost.")
        return hard(run)
    return run


def _explain(client: FlowClient, names: list[str], trouble: str) -> None:
    """Say what the flows are doing that did not get there in time."""
    statuses = client.statuses()
    for name in names:
        status = statuses.get(name, {})
        doing = status.get("status", "unknown")
        message = status.get("message") or f"flowctl describe {name} tells more"
        click.echo(f"Error: flow/{name} is {trouble} but {doing}: {clean(message)}", err=True)


start, stop, pause, resume, restart = (_command(verb) for verb in VERBS)
