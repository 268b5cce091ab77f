"""``events``: what has happened to flows."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from flow_operator.client import FlowClient, JsonObject
from flow_operator.errors import FlowError
from flow_operator.flowctl.choice import Choice, choosing
from flow_operator.flowctl.failure import each, fail_if
from flow_operator.flowctl.output import (
    Format,
    Table,
    output_option,
    plain_lines,
    print_data,
    print_table,
)
from flow_operator.flowctl.session import connected
from flow_operator.flowctl.text import age

HEADERS = ("LAST", "COUNT", "NAME", "TYPE", "REASON", "MESSAGE")


@click.command("events")
@choosing()
@click.option("-w", "--watch", is_flag=True, help="Go on until Ctrl-C, with what happens.")
@output_option
@connected
def events(client: FlowClient, choice: Choice, *, watch: bool, output: Format) -> None:
    """Show what has happened to flows lately, oldest first.

    Of all flows if none is named. COUNT is how often; LAST how long ago the last time was.
    """
    if watch:
        if output != "table":
            raise click.UsageError("--watch shows lines; leave -o out.")
        _print_changes(client, choice)
    listed, missing = _listed(client, choice)
    if output != "table":
        print_data(listed, output)
    elif listed:
        print_table(Table(HEADERS, [event_row(event, age(event["at"])) for event in listed]))
    elif not missing:
        click.echo("No events.", err=True)
    fail_if(missing)


def _listed(client: FlowClient, choice: Choice) -> tuple[list[JsonObject], list[FlowError]]:
    if choice.names:
        found, missing = each(choice.names, client.events)
        return sorted((event for told in found.values() for event in told), key=_last), missing
    told = client.events()
    if choice.selects:
        chosen = choice.statuses(client)[0]
        told = [event for event in told if event["flow_id"] in chosen]
    return sorted(told, key=_last), []


def _last(event: JsonObject) -> str:
    at: str = event["at"]
    return at


def event_row(event: JsonObject, last: str | None) -> tuple[object, ...]:
    """What ``HEADERS`` name, with when it last happened."""
    return last, event["count"], *(event[key] for key in ("flow_id", "type", "reason", "message"))


def _print_changes(client: FlowClient, choice: Choice) -> None:
    """Never returns: lines with times, as what is far up must still be right."""
    widths = [0] * len(HEADERS)
    skipped = 0
    for event in _happening(client, choice):
        lines = plain_lines(Table(HEADERS, [event_row(event, event["at"])]), widths)
        for line in lines[skipped:]:
            click.echo(line)
        skipped = 1
        sys.stdout.flush()


def _happening(client: FlowClient, choice: Choice) -> Iterator[JsonObject]:
    """Of a selector: of the flows that it chooses when the event is told."""
    if len(choice.names) == 1:
        changes = client.watch_events(choice.names[0])
    else:
        for name in choice.names:
            client.status(name)  # A name that there is not is most likely mistyped.
        changes = client.watch_events()
    for change in changes:
        if change.type != "DELETED" and _speaks_of(client, choice, change.object["flow_id"]):
            yield change.object


def _speaks_of(client: FlowClient, choice: Choice, name: str) -> bool:
    if choice.selects:
        return name in choice.statuses(client)[0]
    return not choice.names or name in choice.names
