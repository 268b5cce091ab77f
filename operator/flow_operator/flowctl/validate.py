"""``validate``: check manifests without an operator."""

from __future__ import annotations

import click

from flow_operator.flowctl.named import manifests_named


@click.command("validate")
@manifests_named
def validate(names: tuple[str, ...]) -> None:
    """Check manifests, without asking an operator.

    Everything that is wrong is printed as compilers do, FILE:LINE:COLUMN: what; the exit code is 2
    then.
    """
    from flow_operator.flowctl.sources import read_manifests  # noqa: PLC0415 - imports yaml

    for wanted in read_manifests(names):
        place = wanted.document.file or ""
        click.echo(f"flow/{wanted.manifest.flow.flow_id} valid ({place})")
