"""``status``: what is observed, once or as it changes."""

from __future__ import annotations

import click

from flow_operator.client import FlowClient, JsonObject
from flow_operator.flowctl.choice import Choice, choosing
from flow_operator.flowctl.failure import fail_if
from flow_operator.flowctl.output import Format, Table, output_option, print_data, print_table
from flow_operator.flowctl.session import connected
from flow_operator.flowctl.text import age

HEADERS = ("NAME", "STATUS", "DESIRED", "READY", "RESTARTS", "UPTIME", "MESSAGE")

Statuses = dict[str, JsonObject]


@click.command("status")
@choosing()
@click.option("-w", "--watch", is_flag=True, help="Go on until Ctrl-C, and show changes.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    metavar="SECONDS",
    help="With --watch: how often to look; every second by default.",
)
@output_option
@connected
def status(
    client: FlowClient, choice: Choice, *, watch: bool, interval: float, output: Format
) -> None:
    """Show what flows are observed to do."""
    if watch and output != "table":
        raise click.UsageError("--watch shows a table; leave -o out.")
    statuses, missing = choice.statuses(client)
    if watch and not missing:
        from flow_operator.flowctl.watch import watch as look  # noqa: PLC0415 - of use only here

        look(lambda: choice.statuses(client)[0], statuses, interval)
    elif output != "table":
        single = len(choice.names) == 1 and statuses
        print_data(statuses[choice.names[0]] if single else statuses, output)
    elif statuses:
        print_table(status_table(statuses))
    elif not missing:
        click.echo("No flows.", err=True)
    fail_if(missing)


def status_table(statuses: Statuses) -> Table:
    """One row for each flow, sorted by name."""
    return Table(HEADERS, [status_row(statuses[name]) for name in sorted(statuses)])


def status_row(status: JsonObject) -> tuple[object, ...]:
    """What ``HEADERS`` name."""
    return (
        status.get("flow_id"),
        status.get("status"),
        status.get("desired"),
        f"{status.get('readyReplicas', 0)}/{status.get('replicas', 1)}",
        status.get("restarts", 0),
        age(status.get("startedAt")),
        status.get("message") or "",
    )
