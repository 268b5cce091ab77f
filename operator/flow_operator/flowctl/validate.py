"""``validate``: check manifests without an operator."""

from __future__ import annotations

import click


@click.command("validate")
@click.argument("files", nargs=-1, metavar="[FILE|DIR|-]...")
@click.option(
    *("-f", "--filename", "more"),
    multiple=True,
    metavar="FILE|DIR|-",
    help="The same, as for `apply`.",
)
def validate(files: tuple[str, ...], more: tuple[str, ...]) -> None:
    """Check manifests, without asking an operator.

    Everything that is wrong is printed as compilers do, FILE:LINE:COLUMN: what; the exit code is 2
    then.
    """
    from flow_operator.flowctl.sources import read_manifests  # noqa: PLC0415 - imports yaml

    if not (files or more):
        raise click.UsageError("Which manifests? Name files, directories, or - for stdin.")
    for wanted in read_manifests((*files, *more)):
        place = wanted.document.file or ""
        click.echo(f"flow/{wanted.manifest.flow.flow_id} valid ({place})")
