"""``version``: of this program and of the operator."""

from __future__ import annotations

import click

from flow_operator import __version__
from flow_operator.flowctl.output import Format, output_option, print_data
from flow_operator.flowctl.session import connection_options, present_session


@click.command("version")
@click.option("--client", "alone", is_flag=True, help="Only this program's; asks no operator.")
@output_option
@connection_options(first=False)
def version(*, alone: bool, output: Format) -> None:
    """Show the versions of this program and of the operator."""
    import platform  # noqa: PLC0415 - help must not wait for it

    if output == "table":
        click.echo(f"flowctl    {__version__}")
    answer: dict[str, object] = {
        "client": {"version": __version__, "python": platform.python_version()}
    }
    if not alone:
        with present_session().connect() as client:
            ready, theirs, url = client.ready(), client.version(), client.url
        answer["operator"] = {"version": theirs, "ready": ready, "url": url}
        if output == "table":
            said = "ready" if ready else "not ready"
            click.echo(f"operator   {theirs}, {said}, at {url}")
    if output != "table":
        print_data(answer, output)
