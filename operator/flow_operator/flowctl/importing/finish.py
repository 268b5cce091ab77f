"""From drafts to manifests: names, dependencies, secrets, and a last check."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flow_operator.errors import Fault, InvalidError
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.source import Remarks
from flow_operator.manifest import Document, load_manifest
from flow_operator.model.names import RESERVED_NAMES

LONGEST_NAME = 52

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIAL|(^|_)KEY(_|$)|APIKEY", re.IGNORECASE)


def finish(drafts: Sequence[Draft], remarks: Remarks) -> list[dict[str, Any]]:
    """Make manifests that the operator takes.

    Raises:
        InvalidError: something that was read makes no valid flow, by file and line.
    """
    names = _names(drafts, remarks)
    called = _called(drafts)
    needs = [_needs(index, drafts, called, remarks) for index in range(len(drafts))]
    _break_circles(drafts, needs, remarks)
    documents = []
    faults: list[Fault] = []
    for index, draft in enumerate(drafts):
        _check_environment(draft, remarks)
        depends_on = [
            {"name": names[other], **({"condition": how} if how != "Started" else {})}
            for other, how in needs[index].items()
        ]
        document = draft.document(names[index], depends_on)
        faults += _faults(draft, document)
        documents.append(document)
    if faults:
        raise InvalidError(faults)
    return documents


def _faults(draft: Draft, document: dict[str, Any]) -> list[Fault]:
    try:
        load_manifest(Document(document))
    except InvalidError as error:
        place = draft.place
        return [
            Fault(
                f"'{draft.name}' makes no valid flow: {fault.pointer}: {fault.detail}",
                "",
                *(place.line, place.column, place.file),
            )
            for fault in error.faults
        ]
    return []


def _names(drafts: Sequence[Draft], remarks: Remarks) -> list[str]:
    """A name for each: its own where it can be; those are given away first."""
    taken: set[str] = set()
    given: dict[int, str] = {}
    order = sorted(range(len(drafts)), key=lambda i: valid_name(drafts[i].name) != drafts[i].name)
    for index in order:
        draft = drafts[index]
        name = given[index] = _unused(valid_name(draft.name), taken)
        taken.add(name)
        if name != draft.name:
            remarks.add(draft.place, f"'{draft.name}' is called '{name}' as a flow")
    return [given[index] for index in range(len(drafts))]


def valid_name(name: str) -> str:
    """The nearest name that a flow can have."""
    plain = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
    plain = plain[:LONGEST_NAME].strip("-") or "flow"
    return f"{plain}-flow" if plain in RESERVED_NAMES else plain


def _unused(name: str, taken: set[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        end = f"-{number}"
        found = name[: LONGEST_NAME - len(end)].rstrip("-") + end
    return found


Needs = dict[int, str]
"""Index of the draft that is needed -> condition."""


def _called(drafts: Sequence[Draft]) -> dict[str, list[int]]:
    """Whom others mean by a name."""
    called: dict[str, list[int]] = {}
    for index, draft in enumerate(drafts):
        for alias in dict.fromkeys(draft.aliases):
            called.setdefault(alias, []).append(index)
    return called


def _needs(
    own: int, drafts: Sequence[Draft], called: dict[str, list[int]], remarks: Remarks
) -> Needs:
    draft = drafts[own]
    found: Needs = {}
    for name, condition, place in draft.needs:
        others = [index for index in called.get(name, []) if index != own]
        near = [i for i in others if drafts[i].place.file == place.file] or others[:1]
        for index in near:
            found[index] = condition or drafts[index].reached
        if not near:
            remarks.add(
                place,
                f"'{name}' is not among what is imported, so that '{draft.name}' does not wait for "
                "it; import both at once, or add it to spec.dependsOn",
            )
    return found


def _break_circles(drafts: Sequence[Draft], needs: list[Needs], remarks: Remarks) -> None:
    """Drop what would make flows wait for each other for ever; the operator refuses that."""
    done: set[int] = set()
    for start in range(len(drafts)):
        path: list[int] = []
        pending = [start]
        while pending:
            index = pending[-1]
            if index in done or (path and path[-1] == index):
                pending.pop()
                if path and path[-1] == index:
                    path.pop()
                done.add(index)
                continue
            path.append(index)
            for other in [one for one in needs[index] if one in path]:
                del needs[index][other]
                remarks.add(
                    drafts[index].place,
                    f"'{drafts[index].name}' and '{drafts[other].name}' wait for each other; that "
                    "the former waits for the latter was left out",
                )
            pending += [other for other in needs[index] if other not in done]


def _check_environment(draft: Draft, remarks: Remarks) -> None:
    for name, (_, place) in list(draft.env.items()):
        if not _VARIABLE.fullmatch(name):
            remarks.add(place, f"the variable {name!r} has a name that no flow can set; left out")
            del draft.env[name]
        elif _SECRET.search(name):
            remarks.add(
                place,
                f"{name} looks like a secret and stands readably in the manifest; put it into a "
                "file and write valueFrom: {file: PATH}",
            )
