"""``logs``: what a flow prints, byte for byte."""

from __future__ import annotations

import sys
from typing import Any

import click

from flow_operator.client import FlowClient, UnreachableError
from flow_operator.flowctl.session import FlowName, connected


@click.command("logs")
@click.argument("name", type=FlowName())
@click.option("-f", "--follow", is_flag=True, help="Go on with what is printed from now on.")
@click.option("--step", metavar="STEP", help="Only this step.")
@click.option("--replica", metavar="N", type=click.IntRange(min=0), help="Only this replica.")
@click.option(
    "--tail", metavar="N", type=click.IntRange(min=0), help="Only the last lines of each step."
)
@click.option("--since", metavar="TIME", help="Only what is newer: 10m, or 2026-01-31T08:00:00Z.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its second.")
@connected
def logs(client: FlowClient, /, name: str, *, follow: bool, **chosen: Any) -> None:
    """Print what a flow writes.

    That is each step's stderr and the last step's stdout. Where several steps or replicas are
    shown, each line begins with the name of its own.
    """
    pieces = client.logs(name, follow=follow, **chosen)
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    if follow:
        # Only the operator ends what is followed, and a script must not take that for success.
        raise UnreachableError(client.url, "it has ended the stream")
