"""From one look at the folder to one change of the store.

Nothing here locks or writes: what comes of a look is worked out on a draft.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flow_operator.errors import Fault, InvalidError
from flow_operator.manifest import Document, Manifest, load_manifest
from flow_operator.sources.draft import Draft, depends
from flow_operator.sources.merge import merge
from flow_operator.sources.prune import Gone, Prune, Vanishing, judge, ripe
from flow_operator.sources.scan import Look, ManifestFile, Stamp
from flow_operator.store import Origin, StoredFlow
from flow_operator.store.desired import changed, check_dependencies, created, tombstone


class FileRecord(Struct, frozen=True, omit_defaults=True):
    """What is kept of a file, over restarts too.

    Attributes:
        sha256: of its content when it was last applied.
        flows: what that held.
        never: those of them that have always belonged to somebody else.
        documents: a digest of what that said, for :func:`recalled`.
        seen: SHA-256 of its content when it was last looked at.
        error: what was wrong then.
        since: wall time of when that began to be so.
        stamp: of the file when that content was last read; who finds it so need not read it again.
    """

    sha256: str = ""
    flows: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    documents: str = ""
    seen: str = ""
    error: str = ""
    since: float = 0.0
    stamp: Stamp | None = None


class Context(NamedTuple):
    """What was before, and the rules.

    Attributes:
        known: what is kept, by file.
        vanishing: what has vanished before.
        prune: what becomes of it.
        confirmed: flows that may go if they are held.
        device: the file system that the folder was on; 0 if nobody knows.
        monotonic: seconds, for delays.
        wall: seconds, for people.
    """

    known: Mapping[str, FileRecord]
    vanishing: Vanishing
    prune: Prune
    confirmed: frozenset[str]
    device: int
    monotonic: float
    wall: float


class Trouble(NamedTuple):
    """A fault of a file; of one flow in it, or of all of it."""

    fault: Fault
    flow_id: str | None = None


class Applied(Struct, frozen=True):
    """What came of a look.

    Attributes:
        records: by file; what is to be kept.
        troubles: by file; why some of it was not applied.
        vanishing: what has vanished and was left alone.
        pruned: flows that were removed.
    """

    records: Mapping[str, FileRecord] = {}
    troubles: Mapping[str, list[Trouble]] = {}
    vanishing: Vanishing = Vanishing()
    pruned: tuple[str, ...] = ()

    def error(self, file: str) -> str | None:
        """All that is wrong with a file, as text."""
        return "\n".join(str(trouble.fault) for trouble in self.troubles.get(file, ())) or None

    def flow_error(self, flow_id: str, file: str) -> str | None:
        """What is wrong with a flow's file that concerns the flow."""
        about = (None, flow_id)
        told = [str(t.fault) for t in self.troubles.get(file, ()) if t.flow_id in about]
        if flow_id in self.vanishing.held:
            told.append(f"{file} has gone: {self.vanishing.message}")
        return "\n".join(told) or None


class _Claim(NamedTuple):
    file: ManifestFile
    manifest: Manifest


class Apply:
    """Applies one look to a draft."""

    def __init__(self, draft: Draft, look: Look, context: Context) -> None:
        self._draft = draft
        self._look = look
        self._context = context
        self._known = context.known
        self._troubles: dict[str, list[Trouble]] = {}
        self._files = {name: self._usable(file) for name, file in look.files.items()}

    def run(self) -> Applied:
        """Do everything; a file that cannot be applied changes nothing."""
        for file in self._files.values():
            if file.faults:
                self._troubles[file.name] = [Trouble(fault) for fault in file.faults]
        claims = self._claims()
        self._apply_all(self._winners(claims))
        vanishing, pruned = self._prune(frozenset(claims))
        records = {name: self._record(file) for name, file in self._files.items()}
        return Applied({**self._kept(vanishing), **records}, self._troubles, vanishing, pruned)

    def _usable(self, file: ManifestFile) -> ManifestFile:
        """A file that held flows and holds nothing is none: an editor on a full disk leaves it."""
        known = self._known.get(file.name)
        if file.manifests or file.faults or known is None or not known.flows:
            return file
        said = "it is empty; its flows go on. Remove the file to remove them"
        return replace(file, faults=(Fault(said, file=file.name),))

    def _fail(self, file: str, said: str, flow_id: str | None = None) -> None:
        self._troubles.setdefault(file, []).append(Trouble(Fault(said, file=file), flow_id))

    # --- who has which flow --------------------------------------------------------------

    def _claims(self) -> dict[str, list[_Claim]]:
        """Flow id -> the files that hold it, by name."""
        claims: dict[str, list[_Claim]] = {}
        for name in sorted(self._files):
            for manifest in self._files[name].manifests:
                claims.setdefault(manifest.flow.flow_id, []).append(
                    _Claim(self._files[name], manifest)
                )
        return claims

    def _winners(self, claims: Mapping[str, list[_Claim]]) -> dict[str, list[Manifest]]:
        """File -> what of it is to be applied; who loses a flow to another is told."""
        winners: dict[str, list[Manifest]] = {}
        for flow_id in sorted(claims):
            chosen = self._chosen(flow_id, claims[flow_id])
            if chosen is not None:
                winners.setdefault(chosen.file.name, []).append(chosen.manifest)
        return winners

    def _chosen(self, flow_id: str, claims: list[_Claim]) -> _Claim | None:
        """The claim that has a flow: its present owner's, else that of the first file by name."""
        present = self._draft.get(flow_id)
        if present is None:
            self._tell_rivals(flow_id, claims, claims[0].file.name)
            return None if self._released(flow_id, claims[0].file) else claims[0]
        owner = present.origin.file
        chosen = next((claim for claim in claims if claim.file.name == owner), None)
        if chosen is None and owner is not None and self._has_gone(present):
            chosen = claims[0]
        self._tell_rivals(flow_id, claims, chosen.file.name if chosen else owner)
        return chosen

    def _tell_rivals(self, flow_id: str, claims: list[_Claim], owner: str | None) -> None:
        """Show a conflict on every file that holds the flow, the owner's too."""
        names = [claim.file.name for claim in claims]
        others = [name for name in names if name != owner]
        for name in others:
            holder = f"the file {owner}" if owner else "the API"
            said = f"Conflict: '{flow_id}' belongs to {holder}; remove it from one of them"
            self._fail(name, said, flow_id)
        if owner in names and others:
            there = ", ".join(others)
            told = (
                f"Conflict: '{flow_id}' also stands in {there}, which is ignored; remove it there"
            )
            self._fail(str(owner), told, _NO_FLOW)

    def _released(self, flow_id: str, file: ManifestFile) -> bool:
        """Whether the API has deleted a flow since its file was applied in its present form."""
        known = self._known.get(file.name)
        released = (
            known is not None
            and known.sha256 == file.sha256
            and flow_id in known.flows
            and flow_id not in known.never
        )
        if released:
            said = f"'{flow_id}' was deleted through the API; change the file to bring it back"
            self._fail(file.name, said, flow_id)
        return released

    def _has_gone(self, flow: StoredFlow) -> bool:
        """Whether the file that owns a flow exists no more, or no longer holds it."""
        owner = flow.origin.file or ""
        if owner in self._files:
            file = self._files[owner]
            holds = any(manifest.flow.flow_id == flow.flow_id for manifest in file.manifests)
            return not holds and not file.faults
        return not self._look.hides(owner) and not self._look.unsettled

    # --- applying ------------------------------------------------------------------------

    def _apply_all(self, winners: Mapping[str, list[Manifest]]) -> None:
        """Apply all files at once; one by one if they lead to a circle, to leave out who does."""
        before = dict(self._draft.changes)
        for name, manifests in winners.items():
            self._apply(self._files[name], manifests)
        if not depends(self._draft):
            return
        try:
            check_dependencies(self._draft)
        except InvalidError:
            self._draft.changes = before
            for name in sorted(winners):
                self._apply_checked(self._files[name], winners[name])

    def _apply_checked(self, file: ManifestFile, manifests: Iterable[Manifest]) -> None:
        before = dict(self._draft.changes)
        self._apply(file, manifests)
        try:
            check_dependencies(self._draft)
        except InvalidError as error:
            self._draft.changes = before
            self._troubles.setdefault(file.name, []).extend(
                Trouble(dataclasses.replace(fault, file=file.name)) for fault in error.faults
            )

    def _apply(self, file: ManifestFile, manifests: Iterable[Manifest]) -> None:
        for manifest in manifests:
            origin = Origin(file.name, file.base, manifest.document)
            present = self._draft.get(manifest.flow.flow_id)
            if present is None:
                self._draft.put(created(self._draft, manifest, origin))
            elif present.origin != origin:
                merged = _merged(present, manifest)
                self._draft.put(changed(self._draft, present, merged, origin))

    # --- pruning -------------------------------------------------------------------------

    def _prune(self, claimed: frozenset[str]) -> tuple[Vanishing, tuple[str, ...]]:
        context = self._context
        if self._look.unsettled:  # What is being written may be where they went.
            return context.vanishing, ()
        owned = owned_by_files(self._draft)
        lost = (flow for flow in owned if flow.flow_id not in claimed and self._has_gone(flow))
        flows = frozenset(flow.flow_id for flow in lost)
        before = sum(_of_a_file(record) for record in self._draft.before().values())
        moved = context.device not in (0, self._look.device)
        gone = Gone(flows, before, empty=not self._look.files, moved=moved)
        if context.confirmed:
            held = context.vanishing.held & flows
            left = replace(context.vanishing, held=held - context.confirmed)
            return left, self._remove(held & context.confirmed)
        state = judge(context.vanishing, gone, context.prune, context.monotonic)
        if ripe(state, context.monotonic):
            return replace(state, fresh=frozenset()), self._remove(state.fresh)
        return state, ()

    def _remove(self, flow_ids: frozenset[str]) -> tuple[str, ...]:
        for flow_id in sorted(flow_ids):
            present = self._draft.get(flow_id)
            if present is not None:
                act = self._draft.act("prune", present.origin.file)
                self._draft.put(tombstone(self._draft, present, act=act))
        return tuple(sorted(flow_ids))

    # --- what is kept --------------------------------------------------------------------

    def _record(self, file: ManifestFile) -> FileRecord:
        known = self._known.get(file.name, FileRecord())
        error = "\n".join(str(trouble.fault) for trouble in self._troubles.get(file.name, ()))
        if not file.faults and known.sha256 != file.sha256:
            documents = digest(manifest.document for manifest in file.manifests)
            flows = tuple(manifest.flow.flow_id for manifest in file.manifests)
            known = FileRecord(file.sha256, flows, flows, documents, known.seen, known.error)
        if not file.faults and known.stamp != file.stamp:
            known = replace(known, stamp=file.stamp)
        if known.never:
            never = tuple(f for f in known.never if not self._has(file.name, f))
            known = replace(known, never=never)
        if known.since and (known.seen, known.error) == (file.sha256, error):
            return known
        return replace(known, seen=file.sha256, error=error, since=self._context.wall)

    def _has(self, file: str, flow_id: str) -> bool:
        present = self._draft.get(flow_id)
        return present is not None and present.origin.file == file

    def _kept(self, vanishing: Vanishing) -> dict[str, FileRecord]:
        """Records of files that are not there now and may come back."""
        waiting = vanishing.held | vanishing.fresh
        return {
            name: record
            for name, record in self._known.items()
            if self._look.unsettled
            or self._look.hides(name)
            or not waiting.isdisjoint(record.flows)
        }


_NO_FLOW = ""
"""Of a trouble that is no flow's: the file was applied all the same."""


def owned_by_files(draft: Draft) -> list[StoredFlow]:
    """The flows that came from a file."""
    return [flow for flow in draft.flows().values() if flow.origin.file is not None]


def _of_a_file(record: object) -> bool:
    return isinstance(record, StoredFlow) and record.origin.file is not None


def digest(documents: Iterable[dict[str, Any]]) -> str:
    """Tells whether documents are the same, in the same order."""
    return hashlib.sha256(msgspec.json.encode(list(documents))).hexdigest()


def recalled(record: FileRecord, flows: Iterable[StoredFlow]) -> tuple[Manifest, ...] | None:
    """What an unchanged file holds, from the store: that saves parsing it.

    Args:
        record: what is kept of the file.
        flows: as the store has them, those that the file held.

    Raises:
        InvalidError: it would no longer be accepted.
    """
    pairs = [(flow, flow.origin.applied) for flow in flows if flow.origin.applied is not None]
    if not pairs or digest(applied for _, applied in pairs) != record.documents:
        return None
    return tuple(
        Manifest(flow.flow, applied)
        if flow.document() == applied  # Nobody has commanded another state.
        else load_manifest(Document(applied))
        for flow, applied in pairs
    )


def _merged(present: StoredFlow, manifest: Manifest) -> Manifest:
    """What becomes of a flow whose file has changed; others' edits of it stand."""
    applied = present.origin.applied
    live = present.document()
    if applied is None or live == applied:
        return manifest
    return load_manifest(Document(merge(live, applied, manifest.document)))
