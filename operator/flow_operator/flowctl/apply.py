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
@click.option("--dry-run", is_flag=True, help="Only say what would happen, also to what runs.")
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
    made = _create(client, [wanted[name] for name in new], dry_run=dry_run) if new else []
    for name, answer in zip(new, made, strict=True):
        click.echo(f"flow/{name} created{_note(answer, dry_run=dry_run)}")

    def update(name: str) -> None:
        document = _keeping_state(wanted[name].manifest.document, present[name])
        if document == present[name]:
            click.echo(f"flow/{name} unchanged{_note({'change': 'none'}, dry_run=dry_run)}")
            return
        try:
            answer = client.replace(name, document, force=force, dry_run=dry_run)
        except ApiError as error:
            raise _placed(error, [wanted[name].document], root="/0") from None
        click.echo(f"flow/{name} configured{_note(answer, dry_run=dry_run)}")

    _, refused = each([name for name in wanted if name in present], update)
    fail_if(refused)


def _keeping_state(document: JsonObject, present: JsonObject) -> JsonObject:
    """The document to send: one that does not say a state must not undo a `stop`."""
    state = present["spec"].get("state")
    if state is None or "state" in document["spec"]:
        return document
    return {**document, "spec": {**document["spec"], "state": state}}


def _note(answer: JsonObject, *, dry_run: bool) -> str:
    """What a dry run adds: what would happen to processes."""
    return f" (dry run: {answer.get('change')})" if dry_run else ""


def _create(client: FlowClient, new: list[Wanted], *, dry_run: bool) -> list[JsonObject]:
    try:
        return client.create([one.manifest.document for one in new], dry_run=dry_run)
    except ApiError as error:
        raise _placed(error, [one.document for one in new]) from None


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
