"""``import``: other programs' configurations as manifests."""

from __future__ import annotations

from pathlib import Path

import click

from flow_operator.flowctl.failure import FAILED
from flow_operator.flowctl.importing import FORMATS
from flow_operator.flowctl.text import clean


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@click.option(
    "--from",
    "form",
    type=click.Choice(FORMATS),
    help="Whose file it is, where neither its name nor what is in it tells.",
)
@click.option(
    "-o",
    "--output-dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write one file for each flow into DIR instead of printing them.",
)
@click.option("--force", is_flag=True, help="With -o, write over files that are there.")
@click.option("--strict", is_flag=True, help="Any remark is a failure, and nothing is written.")
@click.option(
    "--env", "profile", default="", metavar="NAME", help="PM2: use env_NAME, as pm2 --env does."
)
def import_(
    files: tuple[str, ...],
    form: str | None,
    folder: Path | None,
    profile: str,
    *,
    force: bool,
    strict: bool,
) -> None:
    """Turn other programs' configurations into manifests.

    Reads supervisord.conf, Procfile, process-compose.yaml, docker-compose.yaml, PM2's ecosystem
    as JSON, and systemd's .service files; - is stdin. What could not be carried over, or means
    something else now, is told on stderr as FILE:LINE, with what to do about it. The operator
    is not asked; `flowctl import Procfile | flowctl apply -f -` sends what was made.
    """
    from flow_operator.flowctl.importing import run  # noqa: PLC0415 - most commands import nothing
    from flow_operator.flowctl.importing.source import Remarks  # noqa: PLC0415

    remarks = Remarks()
    try:
        documents = run.import_files(files, form, profile, remarks)
    finally:
        for remark in remarks:
            click.echo(clean(remark), err=True)
    if strict and len(remarks):
        click.echo(
            f"Error: {len(remarks)} remarks, and --strict allows none; leave it out to have it",
            err=True,
        )
        raise click.exceptions.Exit(FAILED)
    if not documents:
        click.echo("No flows.", err=True)
    if folder is None:
        click.echo(run.to_yaml(documents), nl=False)
        return
    for path in run.to_folder(documents, folder, force=force):
        click.echo(f"{path} written")
