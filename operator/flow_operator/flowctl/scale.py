"""``scale``: how many replicas of flows are wanted."""

from __future__ import annotations

from contextlib import suppress

import click

from flow_operator.client import FlowClient, PreconditionFailed
from flow_operator.flowctl.failure import each, fail_if
from flow_operator.flowctl.read import manifest_of
from flow_operator.flowctl.session import FlowName, connected

_TRIES = 5


class _Scaled(click.ParamType[tuple[str, int | None]]):
    """``NAME`` or ``NAME=N``."""

    name = "name"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | None]:
        """The name, and the number that stands behind it, if any."""
        name, equals, number = str(value).partition("=")
        return FlowName().convert(name), _count(number, param, ctx) if equals else None

    shell_complete = FlowName.shell_complete


def _count(text: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
    if text == "0":
        said = "replicas are 1 or more; to have none run: flowctl stop NAME."
        raise click.BadParameter(said, ctx, param)
    return click.IntRange(1, 1000)(text, param, ctx)


@click.command("scale")
@click.argument("flows", nargs=-1, required=True, type=_Scaled(), metavar="NAME[=N]...")
@click.option("--replicas", metavar="N", help="For the flows that are named without a number.")
@click.option("--force", is_flag=True, help="Take flows over from the files that own them.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen to what runs.")
@click.pass_context
@connected
def scale(
    client: FlowClient,
    ctx: click.Context,
    flows: tuple[tuple[str, int | None], ...],
    *,
    replicas: str | None,
    force: bool,
    dry_run: bool,
) -> None:
    """Change how many replicas of flows are wanted.

    Of what runs, nothing is restarted: replicas are added or drained.
    """
    rest = None if replicas is None else _count(replicas, None, ctx)
    wanted = {name: rest if number is None else number for name, number in flows}
    if without := [name for name, number in wanted.items() if number is None]:
        raise click.UsageError(f"How many of {', '.join(without)}? Say NAME=N, or --replicas N.")

    def scale_one(name: str) -> None:
        before, change = _replace(client, name, wanted[name], force=force, dry_run=dry_run)
        what = "unchanged" if before == wanted[name] else f"scaled from {before} to {wanted[name]}"
        click.echo(f"flow/{name} {what}{f' (dry run: {change})' if dry_run else ''}")

    _, refused = each(wanted, scale_one)
    fail_if(refused)


def _replace(
    client: FlowClient, name: str, replicas: int | None, *, force: bool, dry_run: bool
) -> tuple[int, str]:
    """Change one flow, and nothing that somebody else changes meanwhile.

    Returns:
        How many there were, and what happens to processes.
    """
    for _ in range(_TRIES - 1):
        with suppress(PreconditionFailed):
            return _try(client, name, replicas, force=force, dry_run=dry_run)
    return _try(client, name, replicas, force=force, dry_run=dry_run)


def _try(
    client: FlowClient, name: str, replicas: int | None, *, force: bool, dry_run: bool
) -> tuple[int, str]:
    flow, version = client.flow(name)
    document = manifest_of(flow)
    before = int(document["spec"].get("replicas", 1))
    if before == replicas:
        return before, "none"
    document = {**document, "spec": {**document["spec"], "replicas": replicas}}
    answer = client.replace(name, document, if_match=version, force=force, dry_run=dry_run)
    return before, str(answer.get("change"))
