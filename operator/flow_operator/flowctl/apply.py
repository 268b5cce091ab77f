"""``apply``: make the operator hold what manifests say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from flow_operator.client import ApiError, FlowClient, JsonObject
from flow_operator.errors import Fault
from flow_operator.flowctl.failure import each, fail_if
from flow_operator.flowctl.read import manifest_of
from flow_operator.flowctl.session import connected

if TYPE_CHECKING:
    from flow_operator.flowctl.sources import Wanted
    from flow_operator.manifest import Document


@click.command("apply")
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    metavar="FILE|DIR|-",
    help="A manifest, a directory of manifests, or - for stdin; may be given more than once.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--force", is_flag=True, help="Take flows over from the manifest files that own them."
)
@connected
def apply(client: FlowClient, files: tuple[str, ...], *, dry_run: bool, force: bool) -> None:
    """Create or change flows as manifests say.

    The manifests are checked first; if anything is wrong with one of them, nothing is sent. New
    flows are created all or none. A manifest without spec.state leaves the state as it is.
    """
    from flow_operator.flowctl.sources import read_manifests  # noqa: PLC0415 - imports jsonschema

    wanted = {one.manifest.flow.flow_id: one for one in read_manifests(files)}
    present = {flow["flow_id"]: manifest_of(flow) for flow in client.flows()}
    new = [name for name in wanted if name not in present]
    if new and not dry_run:
        _create(client, [wanted[name] for name in new])
    note = " (dry run)" if dry_run else ""
    for name in new:
        click.echo(f"flow/{name} created{note}")

    def update(name: str) -> None:
        document = _keeping_state(wanted[name].manifest.document, present[name])
        differs = document != present[name]
        if differs and not dry_run:
            _replace(client, name, document, wanted[name], force=force)
        click.echo(f"flow/{name} {'configured' if differs else 'unchanged'}{note}")

    _, refused = each([name for name in wanted if name in present], update)
    fail_if(refused)


def _keeping_state(document: JsonObject, present: JsonObject) -> JsonObject:
    """The document to send: one that does not say a state must not undo a `stop`."""
    state = present["spec"].get("state")
    if state is None or "state" in document["spec"]:
        return document
    return {**document, "spec": {**document["spec"], "state": state}}


def _create(client: FlowClient, new: list[Wanted]) -> None:
    try:
        client.create([one.manifest.document for one in new])
    except ApiError as error:
        raise _placed(error, [one.document for one in new]) from None


def _replace(
    client: FlowClient, name: str, document: JsonObject, wanted: Wanted, *, force: bool
) -> None:
    try:
        client.replace(name, document, force=force)
    except ApiError as error:
        raise _placed(error, [wanted.document], root="/0") from None


def _placed(error: ApiError, documents: list[Document], root: str = "") -> ApiError:
    """The error with the places in the user's files of what the operator refused.

    Args:
        error: with pointers into the body that was sent.
        documents: what the body's array was made of.
        root: the pointer of the body, if it was no array.
    """
    faults: list[Fault] = []
    for fault in error.faults:
        match = re.fullmatch(r"/(\d+)(/.*)?", root + fault.pointer, re.DOTALL)
        if match and int(match[1]) < len(documents):
            faults.append(documents[int(match[1])].fault(match[2] or "", fault.detail))
        else:
            faults.append(fault)
    return ApiError(error.status, error.detail, faults)
