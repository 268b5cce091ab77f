"""``get`` and ``manifests``: what is configured."""

from __future__ import annotations

from typing import Literal

import click

from flow_operator.client import FlowClient, JsonObject
from flow_operator.flowctl.choice import Choice, choosing
from flow_operator.flowctl.failure import fail_if
from flow_operator.flowctl.output import (
    Format,
    Table,
    output_option,
    print_data,
    print_documents,
    print_table,
)
from flow_operator.flowctl.session import connected
from flow_operator.flowctl.text import age

Listing = Literal["table", "wide", "name", "json", "yaml"]

HEADERS = ("NAME", "STATE", "RUNNER", "REPLICAS", "SOURCE", "STEPS")
WIDE_HEADERS = ("GENERATION", "LABELS")
MANIFEST_HEADERS = ("FILE", "FLOWS", "HASH", "SINCE", "ERROR")

_HASH = 12
"""Characters of a hash that are enough to tell two contents apart."""


@click.command("get")
@choosing()
@click.option(
    *("-o", "--output"),
    type=click.Choice(["table", "wide", "name", "json", "yaml"]),
    default="table",
    show_default=True,
    help="What to print.",
)
@connected
def get(client: FlowClient, choice: Choice, output: Listing) -> None:
    """Show how flows are configured.

    STATE is what is wanted; `status` tells what is observed. -o yaml prints manifests that
    `apply -f` accepts again, -o name what other commands take as names.
    """
    flows, missing = choice.flows(client)
    documents = [manifest_of(flow) for flow in flows]
    if output in ("json", "yaml"):
        form: Format = "json" if output == "json" else "yaml"
        print_documents(documents, form, single=len(choice.names) == 1)
    elif output == "name":
        for document in documents:
            click.echo(f"flow/{document['metadata']['name']}")
    elif documents:
        statuses, _ = choice.statuses(client)
        print_table(_listed(documents, statuses, wide=output == "wide"))
    elif not missing:
        click.echo("No flows.", err=True)
    fail_if(missing)


def _listed(documents: list[JsonObject], statuses: dict[str, JsonObject], *, wide: bool) -> Table:
    rows = [_row(document, statuses) for document in documents]
    if not wide:
        return Table(HEADERS, rows)
    more = [_wide(document, statuses) for document in documents]
    # The steps stay last: that column is the one which may fold.
    return Table(
        (*HEADERS[:-1], *WIDE_HEADERS, HEADERS[-1]),
        [(*row[:-1], *cells, row[-1]) for row, cells in zip(rows, more, strict=True)],
    )


def _wide(document: JsonObject, statuses: dict[str, JsonObject]) -> tuple[object, ...]:
    labels = document["metadata"].get("labels") or {}
    status = statuses.get(document["metadata"]["name"], {})
    written = ",".join(f"{key}={value}" for key, value in labels.items())
    return status.get("generation"), written or None


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
