"""``logs``: what flows print."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from flow_operator.client import FlowClient, UnreachableError
from flow_operator.errors import FlowError
from flow_operator.flowctl.choice import Choice, choosing
from flow_operator.flowctl.failure import each, fail_if
from flow_operator.flowctl.session import Session, connected


def _complete_step(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The steps of the flows that are named."""
    del param
    # While an option lacks its value, click has not told names from the rest.
    names = ctx.params.get("names") or [word for word in ctx.args if not word.startswith("-")]
    try:
        with ctx.ensure_object(Session).connect(1.0, retry_for=0) as client:
            flows = [client.flow(name.removeprefix("flow/"))[0] for name in names]
    except FlowError:
        return []
    steps = dict.fromkeys(step["name"] for flow in flows for step in flow["spec"]["steps"])
    return [CompletionItem(step) for step in steps if step.startswith(incomplete)]


@click.command("logs")
@choosing(required=True, everything=True)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is printed from now on.")
@click.option("--step", metavar="STEP", help="Only this step.", shell_complete=_complete_step)
@click.option("--replica", metavar="N", type=click.IntRange(min=0), help="Only this replica.")
@click.option(
    *("-n", "--tail"),
    metavar="N",
    type=click.IntRange(min=0),
    help="Only the last lines of each step.",
)
@click.option("--since", metavar="TIME", help="Only what is newer: 10m, or 2026-01-31T08:00:00Z.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its second.")
@connected
def logs(client: FlowClient, /, choice: Choice, *, follow: bool, **chosen: Any) -> None:
    """Print what flows write.

    That is each step's stderr and the last step's stdout. Where several steps or replicas are
    shown, each line begins with the name of its own; where several flows are, with the flow's.
    """
    from flow_operator.flowctl.tails import Printer, follow_all  # noqa: PLC0415 - of use only here

    names = choice.named(client)
    if not names:
        click.echo("No flows.", err=True)
        return
    printer = Printer(names)
    if follow and len(names) > 1:
        _, missing = each(names, client.status)
        fail_if(missing)
        follow_all(names, printer, chosen)
    else:

        def print_one(name: str) -> None:
            for piece in client.logs(name, follow=follow, **chosen):
                printer.write(name, piece)
            printer.end(name)

        _, refused = each(names, print_one)
        fail_if(refused)
    if follow:
        # Only the operator ends what is followed, and a script must not take that for success.
        raise UnreachableError(client.url, "it has ended the stream")
