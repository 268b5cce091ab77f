"""``history`` and ``rollback``: what a flow was, and making it so again."""

from __future__ import annotations

import click

from flow_operator.client import FlowClient, JsonObject
from flow_operator.errors import InvalidError
from flow_operator.flowctl.output import (
    Format,
    Table,
    output_option,
    print_data,
    print_documents,
    print_table,
)
from flow_operator.flowctl.read import manifest_of
from flow_operator.flowctl.session import FlowName, connected
from flow_operator.flowctl.text import age, clean

HEADERS = ("GENERATION", "AGE", "ACTION", "CHANGE", "BY")


@click.command("history")
@click.argument("name", type=FlowName())
@click.option(
    "--diff", "diff", type=click.IntRange(min=1), metavar="N", help="What generation N has changed."
)
@click.option(
    "--show", type=click.IntRange(min=1), metavar="N", help="The manifest of generation N."
)
@output_option
@connected
def history(
    client: FlowClient, name: str, diff: int | None, show: int | None, output: Format
) -> None:
    """Show the last ten generations of a flow, the present one first.

    CHANGE is what each did to processes: none, inPlace, restart, start or stop.
    """
    if diff is not None and show is not None:
        raise click.UsageError("Say --diff or --show; not both.")
    if show is not None:
        form: Format = "yaml" if output == "table" else output
        print_documents([manifest_of(client.generation(name, show))], form, single=True)
        return
    kept = client.history(name)
    if diff is not None:
        click.echo(_diff(name, kept, diff), nl=False)
    elif output == "table":
        print_table(Table(HEADERS, [_row(entry) for entry in kept]))
    else:
        print_data(kept, output)


def _row(entry: JsonObject) -> tuple[object, ...]:
    return (
        entry.get("generation"),
        age(entry.get("at")),
        entry.get("action"),
        entry.get("change"),
        entry.get("by"),
    )


def _diff(name: str, kept: list[JsonObject], generation: int) -> str:
    """The difference, line by line cleaned for a terminal.

    Raises:
        InvalidError: it cannot be told.
    """
    found = [entry for entry in kept if entry.get("generation") == generation]
    if not found:
        there = ", ".join(str(entry.get("generation")) for entry in kept)
        raise InvalidError(f"generation {generation} of '{name}' is not kept; use one of {there}")
    text = found[0].get("diff")
    if text is None:
        raise InvalidError(
            f"the generation before {generation} of '{name}' is not kept any more; "
            f"--show {generation} shows it whole"
        )
    return "".join(f"{line[:1]}{_cleaned(line[1:])}\n" for line in str(text).splitlines())


def _cleaned(text: str) -> str:
    blank = len(text) - len(text.lstrip(" "))
    return " " * blank + clean(text[blank:]) if text.strip() else ""


@click.command("rollback")
@click.argument("name", type=FlowName())
@click.option(
    "--to",
    type=click.IntRange(min=1),
    metavar="N",
    help="The generation; without it the last one that differs from the present one.",
)
@click.option("--force", is_flag=True, help="Take the flow over from the file that owns it.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen to what runs.")
@connected
def rollback(client: FlowClient, name: str, to: int | None, *, force: bool, dry_run: bool) -> None:
    """Make an earlier configuration the present one again, as a new generation.

    `history` tells which there are. The state is part of it: going back to before a `stop` starts
    the flow.
    """
    answer = client.rollback(name, to, force=force, dry_run=dry_run)
    if dry_run:
        click.echo(f"flow/{name} rolled back (dry run: {answer.get('change')})")
        return
    went, now = answer.get("to"), answer.get("generation")
    click.echo(f"flow/{name} rolled back to generation {went}, as generation {now}")
