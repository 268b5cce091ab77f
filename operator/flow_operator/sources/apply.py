"""From one look at the folder to one transaction of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from msgspec import Struct

from flow_operator.errors import InvalidError
from flow_operator.manifest import Document, Manifest, load_manifest
from flow_operator.sources.merge import merge
from flow_operator.sources.scan import Look, ManifestFile
from flow_operator.store import Foresee, Origin, StoredFlow, Tombstone, Transaction
from flow_operator.store.desired import changed, check_dependencies, created, put, tombstone

Prune = Literal["auto", "always", "never"]

HOLD_MORE_THAN = 3
HOLD_SHARE = 0.3
"""More flows than this, and a larger share than this, vanishing at once look like an accident."""


class FileRecord(Struct, frozen=True):
    """What a file held when it was last applied, kept over restarts."""

    sha256: str
    flows: tuple[str, ...]


class Applied(Struct, frozen=True):
    """What came of a look.

    Attributes:
        records: by file; what is to be kept.
        errors: by file; why some of it was not applied.
        vanished: flows whose file no longer holds them and that were left alone.
        held: why they were; None if nothing was held back.
        pruned: flows that were removed.
    """

    records: dict[str, FileRecord]
    errors: dict[str, list[str]]
    vanished: tuple[str, ...] = ()
    held: str | None = None
    pruned: tuple[str, ...] = ()


class Apply:
    """Applies one look within one transaction."""

    def __init__(
        self,
        transaction: Transaction,
        look: Look,
        known: Mapping[str, FileRecord],
        prune: Prune,
        foresee: Foresee,
        *,
        confirmed: bool,
    ) -> None:
        self._transaction = transaction
        self._look = look
        self._known = known
        self._prune = prune
        self._foresee = foresee
        self._confirmed = confirmed
        self._errors: dict[str, list[str]] = {}
        for file in look.files.values():
            if file.error:
                self._fail(file.name, file.error)
            elif self._emptied(file):
                said = f"{file.name}: it is empty; its flows go on. Remove the file to remove them"
                self._fail(file.name, said)

    def run(self) -> Applied:
        """Do everything; a file that cannot be applied changes nothing."""
        claims = self._claims()
        for flow_id in sorted(claims):
            self._settle(flow_id, claims[flow_id])
        pruned, vanished, held = self._prune_vanished(claims)
        records = {
            file.name: FileRecord(file.sha256, tuple(m.flow.flow_id for m in file.manifests))
            if file.error is None and not self._emptied(file)
            else self._known.get(file.name, FileRecord("", ()))
            for file in self._look.files.values()
        }
        if held or self._look.unsettled:
            # What is not there now may come back: its file is remembered as it was.
            records = {**self._known, **records}
        return Applied(records, self._errors, vanished, held, pruned)

    def _emptied(self, file: ManifestFile) -> bool:
        """Whether a file that held flows holds nothing: an editor on a full disk leaves that."""
        known = self._known.get(file.name)
        return not file.manifests and known is not None and bool(known.flows)

    def _fail(self, file: str, message: str) -> None:
        self._errors.setdefault(file, []).append(message)

    def _claims(self) -> dict[str, list[tuple[ManifestFile, Manifest]]]:
        """Flow id -> the files that hold it, by name."""
        claims: dict[str, list[tuple[ManifestFile, Manifest]]] = {}
        for name in sorted(self._look.files):
            file = self._look.files[name]
            for manifest in file.manifests:
                claims.setdefault(manifest.flow.flow_id, []).append((file, manifest))
        return claims

    def _settle(self, flow_id: str, claims: list[tuple[ManifestFile, Manifest]]) -> None:
        """Decide which file has a flow, apply that one, and tell the others."""
        present = self._transaction.get(flow_id)
        owner = present.origin.file if present is not None else None
        chosen = next((claim for claim in claims if claim[0].name == owner), None)
        if chosen is None and (present is None or self._has_let_go(owner)):
            chosen = claims[0]
        for file, _ in claims:
            if chosen is None or file is not chosen[0]:
                other = owner or (chosen[0].name if chosen else None)
                self._conflict(flow_id, file, other, present is not None)
        if chosen is None or (present is None and self._released(flow_id, chosen[0])):
            return
        self._apply(present, *chosen)

    def _has_let_go(self, owner: str | None) -> bool:
        """Whether the file that owned a flow exists no more, or no longer holds it."""
        if owner is None:
            return False
        file = self._look.files.get(owner)
        return file is None or file.error is None

    def _released(self, flow_id: str, file: ManifestFile) -> bool:
        """Whether the API has deleted a flow since its file was applied in its present form."""
        known = self._known.get(file.name)
        released = known is not None and known.sha256 == file.sha256 and flow_id in known.flows
        if released:
            self._fail(
                file.name,
                f"{file.name}: '{flow_id}' was deleted through the API; "
                "change the file to bring it back",
            )
        return released

    def _conflict(self, flow_id: str, file: ManifestFile, other: str | None, there: bool) -> None:  # noqa: FBT001
        if other is None and not there:
            return
        holder = f"the file {other}" if other else "the API"
        self._fail(
            file.name,
            f"Conflict: {file.name}: '{flow_id}' belongs to {holder}; remove it from one of them",
        )

    def _apply(self, present: StoredFlow | None, file: ManifestFile, manifest: Manifest) -> None:
        origin = Origin(file.name, file.base, manifest.document)
        before = dict(self._transaction.changes)
        try:
            if present is None:
                self._put(None, created(self._transaction, manifest, origin))
            elif present.origin != origin:
                merged = _merged(present, manifest)
                self._put(present, changed(self._transaction, present, merged, origin))
            else:
                return
            if manifest.flow.spec.depends_on:
                check_dependencies(self._transaction)
        except InvalidError as error:
            self._transaction.changes = before
            for fault in error.faults:
                self._fail(file.name, str(replace(fault, file=file.name)))

    def _put(self, before: StoredFlow | None, after: StoredFlow | Tombstone) -> None:
        put(self._transaction, before, after, self._foresee)

    # --- pruning -------------------------------------------------------------------------

    def _prune_vanished(
        self, claims: Mapping[str, Any]
    ) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
        owned = [f for f in self._transaction.flows().values() if f.origin.file is not None]
        vanished = [f for f in owned if f.flow_id not in claims and self._lost(f)]
        names = tuple(sorted(f.flow_id for f in vanished))
        if not vanished or self._look.unsettled:
            return (), (), None  # What is still being written may be where they went.
        held = self._why_held(len(vanished), len(owned))
        if held:
            return (), names, held
        for flow in vanished:
            act = self._transaction.act("prune", flow.origin.file)
            self._put(flow, tombstone(self._transaction, flow, act=act))
        return names, (), None

    def _lost(self, flow: StoredFlow) -> bool:
        file = self._look.files.get(flow.origin.file or "")
        return file is None or (file.error is None and not self._emptied(file))

    def _why_held(self, vanished: int, owned: int) -> str | None:
        if self._prune == "never":
            return "--prune=never: flows whose file has gone are kept"
        if self._confirmed or self._prune == "always":
            return None
        if not self._look.files:
            return f"the folder is empty; {_kept(vanished)}"
        if vanished > HOLD_MORE_THAN and vanished > HOLD_SHARE * owned:
            return f"{vanished} of {owned} flows have vanished at once; {_kept(vanished)}"
        return None


def _kept(count: int) -> str:
    flows = "its flow goes" if count == 1 else f"their {count} flows go"
    return f"{flows} on until `flowctl prune` confirms it or the files return"


def _merged(present: StoredFlow, manifest: Manifest) -> Manifest:
    applied = present.origin.applied
    if applied is None:
        return manifest
    document = merge(present.document(), applied, manifest.document)
    return load_manifest(Document(document))
