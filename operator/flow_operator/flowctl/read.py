"""``get``, ``manifests`` and ``version``: what is configured."""

from __future__ import annotations

import click

from flow_operator import __version__
from flow_operator.client import FlowClient, JsonObject
from flow_operator.errors import FlowError
from flow_operator.flowctl.failure import each, fail_if
from flow_operator.flowctl.output import (
    Format,
    Table,
    output_option,
    print_data,
    print_documents,
    print_table,
)
from flow_operator.flowctl.session import Session, connected, connection_options, names_argument
from flow_operator.flowctl.status import observe
from flow_operator.flowctl.text import age

HEADERS = ("NAME", "STATE", "RUNNER", "REPLICAS", "SOURCE", "STEPS")
MANIFEST_HEADERS = ("FILE", "FLOWS", "HASH", "SINCE", "ERROR")

_HASH = 12
"""Characters of a hash that are enough to tell two contents apart."""


@click.command("get")
@names_argument()
@output_option
@connected
def get(client: FlowClient, names: tuple[str, ...], output: Format) -> None:
    """Show how flows are configured.

    STATE is what is wanted; `status` tells what is observed. -o yaml prints manifests that
    `apply -f` accepts again.
    """
    missing: list[FlowError] = []
    if names:
        found, missing = each(names, lambda name: client.flow(name)[0])
        flows = list(found.values())
    else:
        flows = client.flows()
    documents = [manifest_of(flow) for flow in flows]
    if output != "table":
        print_documents(documents, output, single=len(names) == 1)
    elif documents:
        statuses, _ = observe(client, names)
        print_table(Table(HEADERS, [_row(document, statuses) for document in documents]))
    elif not names:
        click.echo("No flows.", err=True)
    fail_if(missing)


def manifest_of(flow: JsonObject) -> JsonObject:
    """A configuration as its user would write it: ``metadata.name`` alone names it."""
    return {key: value for key, value in flow.items() if key != "flow_id"}


def source_of(status: JsonObject) -> str | None:
    """Where a flow's configuration comes from: ``api``, or the manifest file."""
    source = status.get("source") or {}
    return source.get("file") or source.get("kind")


def _row(document: JsonObject, statuses: dict[str, JsonObject]) -> tuple[object, ...]:
    from flow_operator.model.flow import Spec  # noqa: PLC0415 - help must not wait for it

    name, spec, default = document["metadata"]["name"], document["spec"], Spec(steps=())
    return (
        name,
        spec.get("state", default.state),
        spec.get("runner", default.runner),
        spec.get("replicas", default.replicas),
        source_of(statuses.get(name, {})),
        " | ".join(step["name"] for step in spec["steps"]),
    )


@click.command("manifests")
@output_option
@connected
def manifests(client: FlowClient, output: Format) -> None:
    """Show the files of the watched folder.

    The flows of each, its SHA-256, since when it has been so, what is wrong with it, and whether a
    prune is held.
    """
    answer = client.manifests()
    if output != "table":
        print_data(answer, output)
        return
    files = answer.get("files", [])
    if files:
        print_table(Table(MANIFEST_HEADERS, [_file_row(file) for file in files]))
    elif answer.get("folder"):
        click.echo(f"No manifests in {answer['folder']}.", err=True)
    else:
        click.echo("No folder is watched; start flowd with --manifests DIR.", err=True)
    watch = answer.get("watch") or {}
    if watch.get("mode") == "poll" and (why := watch.get("why")):
        click.echo(f"Not watched but looked at every {watch.get('every'):g} s: {why}", err=True)
    if held := answer.get("held"):
        click.echo(f"Pruning is held: {held}", err=True)
        if vanished := answer.get("vanished"):
            click.echo(f"These flows would go: {', '.join(vanished)}", err=True)
        click.echo("Confirm it with: flowctl prune", err=True)


def _file_row(file: JsonObject) -> tuple[object, ...]:
    flows = ",".join(file.get("flows") or ()) or None
    sha256 = (file.get("sha256") or "")[:_HASH] or None
    return file.get("file"), flows, sha256, age(file.get("since")), file.get("error")


@click.command("version")
@connection_options(first=False)
@click.pass_context
def version(ctx: click.Context) -> None:
    """Show the versions of this program and of the operator."""
    session = ctx.ensure_object(Session)
    click.echo(f"flowctl    {__version__}")
    with session.connect() as client:
        ready = "ready" if client.ready() else "not ready"
        click.echo(f"operator   {client.version()}, {ready}, at {session.url}")
