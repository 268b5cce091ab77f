"""Tables, JSON and YAML on stdout.

On a terminal rich draws the tables, with colours and folded messages. Anywhere else they are plain
aligned columns that are never cut or wrapped, for grep and awk.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import click

from flow_operator.flowctl.text import clean

Format = Literal["table", "json", "yaml"]

_GAP = "   "

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="What to print.",
)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headers; cells are cleaned when they are printed.

    Attributes:
        headers: one for each column; the last column is the one that may fold on a terminal.
        rows: as many cells each.
        indent: blanks before each line.
    """

    headers: tuple[str, ...]
    rows: list[tuple[object, ...]] = field(default_factory=list)
    indent: int = 0


def on_terminal() -> bool:
    """Whether a person reads stdout as it comes."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def print_table(table: Table) -> None:
    """Print a table as fits stdout."""
    if on_terminal():
        from flow_operator.flowctl.terminal import draw  # noqa: PLC0415 - imports rich

        draw(table)
        return
    for line in plain_lines(table):
        click.echo(line)


def plain_lines(table: Table, widths: list[int] | None = None) -> list[str]:
    """A table as aligned text, headers first.

    Args:
        table: what to write.
        widths: the least width of each column; widened in place to what is written.
    """
    lines = [table.headers, *(tuple(map(clean, row)) for row in table.rows)]
    widths = [0] * len(table.headers) if widths is None else widths
    for column in range(len(table.headers)):
        widths[column] = max(widths[column], *(len(line[column]) for line in lines))
    return [
        (" " * table.indent + _GAP.join(map(str.ljust, line, widths))).rstrip() for line in lines
    ]


def print_data(value: Any, form: Format) -> None:
    """Print one value as JSON or YAML."""
    print_documents([value], form, single=True)


def print_documents(documents: list[Any], form: Format, *, single: bool) -> None:
    """Print what ``apply`` reads again: YAML documents, or a JSON array.

    Args:
        documents: plain data.
        form: json or yaml.
        single: whether one was asked for, which then stands alone.
    """
    if form == "yaml":
        from flow_operator.manifest import dump_yaml  # noqa: PLC0415 - imports jsonschema

        click.echo(dump_yaml(documents, explicit_start=len(documents) > 1), nl=False)
        return
    if not single:
        click.echo(json.dumps(documents, indent=2, ensure_ascii=False))
    elif documents:
        click.echo(json.dumps(documents[0], indent=2, ensure_ascii=False))
