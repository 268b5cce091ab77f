"""``events``: what has happened to flows."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from flow_operator.client import FlowClient, JsonObject
from flow_operator.flowctl.failure import each, fail_if
from flow_operator.flowctl.output import (
    Format,
    Table,
    output_option,
    plain_lines,
    print_data,
    print_table,
)
from flow_operator.flowctl.session import connected, names_argument
from flow_operator.flowctl.text import age

HEADERS = ("LAST", "COUNT", "NAME", "TYPE", "REASON", "MESSAGE")


@click.command("events")
@names_argument()
@click.option("-w", "--watch", is_flag=True, help="Go on until Ctrl-C, with what happens.")
@output_option
@connected
def events(client: FlowClient, names: tuple[str, ...], *, watch: bool, output: Format) -> None:
    """Show what has happened to flows lately, oldest first.

    Of all flows if none is named. COUNT is how often; LAST how long ago the last time was.
    """
    if watch:
        if output != "table":
            raise click.UsageError("--watch shows lines; leave -o out.")
        if len(names) > 1:
            raise click.UsageError("--watch shows one flow or all; name one at most.")
        _print_changes(client, names[0] if names else None)
    found, missing = each(names, client.events) if names else ({"": client.events()}, [])
    listed = sorted((event for told in found.values() for event in told), key=_last)
    if output != "table":
        print_data(listed, output)
    elif listed:
        print_table(Table(HEADERS, [event_row(event, age(event["at"])) for event in listed]))
    elif not missing:
        click.echo("No events.", err=True)
    fail_if(missing)


def _last(event: JsonObject) -> str:
    at: str = event["at"]
    return at


def event_row(event: JsonObject, last: str | None) -> tuple[object, ...]:
    """What ``HEADERS`` name, with when it last happened."""
    return last, event["count"], *(event[key] for key in ("flow_id", "type", "reason", "message"))


def _print_changes(client: FlowClient, name: str | None) -> None:
    """Never returns: lines with times, as what is far up must still be right."""
    widths = [0] * len(HEADERS)
    skipped = 0
    for event in _happening(client, name):
        lines = plain_lines(Table(HEADERS, [event_row(event, event["at"])]), widths)
        for line in lines[skipped:]:
            click.echo(line)
        skipped = 1
        sys.stdout.flush()


def _happening(client: FlowClient, name: str | None) -> Iterator[JsonObject]:
    for change in client.watch_events(name):
        if change.type != "DELETED":
            yield change.object
