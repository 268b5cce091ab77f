"""What a manifest leaves as it is, and which flows an apply set has made."""

from __future__ import annotations

from flow_operator.client import JsonObject

MARK = "flow-operator.dev/apply-set"
"""The annotation of a flow that ``apply --set SET`` has made: ``SET/FLOW``. The flow's own name is
in it, so that a copy of its manifest under another name is no member. It is taken from the operator
and never from a manifest, so that nobody makes a flow a member by writing it."""


def kept(document: JsonObject, live: JsonObject | None, made_by: str | None = None) -> JsonObject:
    """The document to send.

    One that does not say a state must not undo a ``stop``. A flow stays in the set that made it.

    Args:
        document: as the manifest says.
        live: as the operator holds it; None for a new flow.
        made_by: the apply set, for a new flow.
    """
    if live is None:
        name = document["metadata"]["name"]
        return _marked(document, f"{made_by}/{name}" if made_by else None)
    state = live["spec"].get("state")
    if state is not None and "state" not in document["spec"]:
        document = {**document, "spec": {**document["spec"], "state": state}}
    return _marked(document, mark_of(live))


def mark_of(document: JsonObject) -> str | None:
    """``SET/FLOW`` if it has one."""
    mark = (document["metadata"].get("annotations") or {}).get(MARK)
    return mark if isinstance(mark, str) else None


def made_by(document: JsonObject, apply_set: str) -> bool:
    """Whether that set has made this flow."""
    return mark_of(document) == f"{apply_set}/{document['metadata']['name']}"


def _marked(document: JsonObject, mark: str | None) -> JsonObject:
    if mark_of(document) == mark:
        return document
    metadata = dict(document["metadata"])
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != MARK}
    if mark is not None:
        annotations[MARK] = mark
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    return {**document, "metadata": metadata}
