"""``delete`` and ``prune``: let flows go."""

from __future__ import annotations

import click

from flow_operator.client import FlowClient
from flow_operator.flowctl.choice import Choice, choosing
from flow_operator.flowctl.failure import each, fail_if
from flow_operator.flowctl.session import connected


@click.command("delete")
@choosing(required=True)
@click.option("--hard", is_flag=True, help="Kill at once; what is in flight is lost.")
@click.option("--force", is_flag=True, help="Even though a manifest file owns the flow.")
@connected
def delete(client: FlowClient, choice: Choice, *, hard: bool, force: bool) -> None:
    """Delete flows.

    Their processes are drained behind it; `status` shows a flow until the last one is gone.
    """

    def delete_one(name: str) -> None:
        client.delete(name, hard=hard, force=force)
        click.echo(f"flow/{name} deleted")

    names = choice.named(client)
    if not names:
        click.echo("No flows.", err=True)
    _, refused = each(names, delete_one)
    fail_if(refused)


@click.command("prune")
@connected
def prune(client: FlowClient) -> None:
    """Delete the flows whose files have gone.

    For when the operator holds that back: `manifests` tells whether, and why.
    """
    gone = client.prune()
    for name in gone:
        click.echo(f"flow/{name} pruned")
    if not gone:
        click.echo("Nothing to prune.", err=True)
