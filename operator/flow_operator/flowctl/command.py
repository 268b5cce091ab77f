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
        reached: the statuses that the command is content with. A flow that was not running is
            held by a pause where it is; one that has run to its end was started.
        help: one line.
    """

    name: str
    reached: frozenset[str]
    help: str


VERBS = (
    Verb("start", frozenset({"running", "completed"}), "Run flows."),
    Verb("stop", frozenset({"stopped"}), "Stop flows, and wait until every process is gone."),
    Verb(
        "pause",
        frozenset({"paused", "stopped", "completed"}),
        "Hold flows where they are; their memory is kept.",
    ),
    Verb("resume", frozenset({"running", "completed"}), "Let paused flows go on."),
    Verb("restart", frozenset({"running", "completed"}), "Stop flows and run them again."),
)


def _command(verb: Verb) -> click.Command:
    @click.command(verb.name, help=verb.help, no_args_is_help=False)
    @names_argument()
    @click.option("--all", "everything", is_flag=True, help="Every flow.")
    @click.option(
        "--timeout",
        type=click.FloatRange(0, 600),
        default=10.0,
        show_default="10",
        metavar="SECONDS",
        help="How long to wait for it; 0 does not wait.",
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
            click.echo(f"flow/{name} {status}")
        late = [name for name, status in observed.items() if status not in verb.reached]
        if late and timeout:
            _explain(client, late, timeout)
            raise click.exceptions.Exit(FAILED)

    if verb.name == "stop":
        hard = click.option("--hard", is_flag=True, help="Kill at once; what is in flight is lost.")
        return hard(run)
    return run


def _explain(client: FlowClient, names: list[str], timeout: float) -> None:
    """Say what the flows are doing that did not get there in time."""
    statuses = client.statuses()
    for name in names:
        status = statuses.get(name, {})
        doing = status.get("status", "unknown")
        message = status.get("message") or f"flowctl describe {name} tells more"
        click.echo(f"Error: flow/{name} is {doing} after {timeout:g}s: {clean(message)}", err=True)


COMMANDS = [_command(verb) for verb in VERBS]
