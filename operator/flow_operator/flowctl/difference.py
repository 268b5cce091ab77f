"""``diff``: what `apply` would change, in the text and of what runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from flow_operator.client import ApiError, FlowClient, JsonObject
from flow_operator.flowctl.failure import INVALID, report
from flow_operator.flowctl.keeping import kept
from flow_operator.flowctl.named import manifests_named
from flow_operator.flowctl.output import on_terminal
from flow_operator.flowctl.read import manifest_of
from flow_operator.flowctl.session import connected
from flow_operator.flowctl.text import clean

if TYPE_CHECKING:
    from flow_operator.flowctl.sources import Wanted

DIFFERENT = 1

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command("diff")
@manifests_named
@connected
def diff(client: FlowClient, names: tuple[str, ...]) -> None:
    """Show what `apply` would change.

    A unified diff of each flow's YAML, the operator's against the file's, and what would happen to
    processes. The exit code is 1 where there are differences; 2 where the operator refuses one.
    """
    from flow_operator.flowctl.sources import read_manifests  # noqa: PLC0415 - imports yaml

    wanted = read_manifests(names)
    present = {flow["flow_id"]: manifest_of(flow) for flow in client.flows()}
    code = 0
    for one in wanted:
        name = one.manifest.flow.flow_id
        live = present.get(name)
        document = kept(one.manifest.document, live)
        if document == live:
            continue
        code = max(code, DIFFERENT)
        try:
            change = _change(client, name, document, new=live is None)
        except ApiError as error:
            code = INVALID
            report(error)
            change = "refused"
        _print(one, live, document, change)
    raise click.exceptions.Exit(code)


def _change(client: FlowClient, name: str, document: JsonObject, *, new: bool) -> str:
    """What would happen to processes."""
    if new:
        return str(client.create([document], dry_run=True)[0].get("change"))
    # What a file owns is told by `apply`; here one wants to see the difference.
    return str(client.replace(name, document, force=True, dry_run=True).get("change"))


def _print(one: Wanted, live: JsonObject | None, document: JsonObject, change: str) -> None:
    name = one.manifest.flow.flow_id
    verb = "would be created" if live is None else "would be configured"
    click.echo(f"# flow/{name} {verb} (processes: {change})")
    for line in unified(live, document, f"live/{name}", one.document.file or name):
        colour = _COLOURS.get(line[:1]) if on_terminal() else None
        click.echo(coloured(line, colour))


def coloured(line: str, colour: str | None) -> str:
    """A line in a colour, unless ``NO_COLOR`` is set."""
    return line if colour is None or os.environ.get("NO_COLOR") else click.style(line, fg=colour)


def unified(
    before: JsonObject | None, after: JsonObject, name_before: str, name_after: str
) -> list[str]:
    """Two documents compared as YAML; each line is cleaned for a terminal."""
    import difflib  # noqa: PLC0415 - help must not wait for it

    lines = difflib.unified_diff(
        _lines(before), _lines(after), name_before, name_after, lineterm="", n=3
    )
    return [f"{line[:1]}{_cleaned(line[1:])}" for line in lines]


def _lines(document: JsonObject | None) -> list[str]:
    from flow_operator.manifest import dump_yaml  # noqa: PLC0415

    return dump_yaml([document]).splitlines() if document else []


def _cleaned(text: str) -> str:
    blank = len(text) - len(text.lstrip(" "))
    return " " * blank + clean(text[blank:]) if text.strip() else ""
