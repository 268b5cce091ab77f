"""``config``: the operators that are known by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from flow_operator.flowctl.contexts import Context, Contexts, config_path, load, save
from flow_operator.flowctl.output import Format, Table, output_option, print_data, print_table
from flow_operator.flowctl.session import ContextName

HEADERS = ("CURRENT", "NAME", "URL", "TOKEN-FILE", "CA")


@click.group("config")
def config() -> None:
    """Know several operators by name, and which is meant.

    They stand in ~/.config/flowctl/config.yaml (FLOWCTL_CONFIG names another file). --url and
    app_url go before the current context, --context before app_url.
    """


@config.command("get-contexts")
@click.option("-o", "--output", type=click.Choice(["table", "name"]), default="table")
def get_contexts(output: str) -> None:
    """List the contexts; the current one has a star."""
    known = load(config_path())
    if output == "name":
        for name in known.by_name:
            click.echo(name)
    elif known.by_name:
        print_table(Table(HEADERS, [_row(known, name) for name in known.by_name]))
    else:
        click.echo("No contexts; flowctl config set-context NAME --url URL makes one.", err=True)


def _row(known: Contexts, name: str) -> tuple[object, ...]:
    context = known.by_name[name]
    star = "*" if name == known.current else ""
    return star, name, context.url, context.token_file, context.ca


@config.command("current-context")
def current_context() -> None:
    """Print the name of the current context."""
    current = load(config_path()).current
    if current is None:
        click.echo("No context is current; flowctl config use-context NAME.", err=True)
        raise click.exceptions.Exit(1)
    click.echo(current)


@config.command("use-context")
@click.argument("name", type=ContextName())
def use_context(name: str) -> None:
    """Make a context the current one."""
    path = config_path()
    known = load(path)
    known.get(name)
    save(path, replace(known, current=name))
    click.echo(f"context/{name} is current")


@config.command("set-context")
@click.argument("name", type=ContextName())
@click.option("--url", metavar="URL", help="Where its operator is.")
@click.option("--token-file", metavar="FILE", help="Holds the token; none: an empty FILE.")
@click.option("--ca", metavar="FILE", help="Certificates (PEM) to trust; none: an empty FILE.")
@click.option("--use", is_flag=True, help="Make it the current one; the first one is anyway.")
def set_context(
    name: str, *, url: str | None, token_file: str | None, ca: str | None, use: bool
) -> None:
    """Make a context, or change what is named of one."""
    path = config_path()
    known = load(path)
    before = known.by_name.get(name)
    if before is None and not url:
        raise click.UsageError(f"Where is the operator of {name}? Say --url URL.")
    context = before or Context(url or "")
    context = Context(
        url or context.url,
        context.token_file if token_file is None else _absolute(token_file),
        context.ca if ca is None else _absolute(ca),
    )
    current = name if use or not known.by_name else known.current
    save(path, Contexts(current, {**known.by_name, name: context}))
    click.echo(f"context/{name} {'made' if before is None else 'changed'}")


def _absolute(file: str) -> str | None:
    """What is read from anywhere must not depend on where one was."""
    return str(Path(file).expanduser().absolute()) if file else None


@config.command("delete-context")
@click.argument("name", type=ContextName())
def delete_context(name: str) -> None:
    """Forget a context; its files stay."""
    path = config_path()
    known = load(path)
    known.get(name)
    rest = {other: context for other, context in known.by_name.items() if other != name}
    save(path, Contexts(None if known.current == name else known.current, rest))
    click.echo(f"context/{name} deleted")


@config.command("view")
@output_option
def view(output: Format) -> None:
    """Print the file; tokens do not stand in it."""
    print_data(load(config_path()).told(), "yaml" if output == "table" else output)
