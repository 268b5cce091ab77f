"""Edits of desired state: what the API and the folder may do to configurations.

Every function works within one transaction, checks everything first and changes nothing if
anything is wrong.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flow_operator.errors import (
    ConflictError,
    Fault,
    InvalidError,
    NotFoundError,
    PreconditionError,
    StorageFullError,
)
from flow_operator.manifest import Document, Manifest, load_manifest
from flow_operator.model.flow import State
from flow_operator.model.status import Change
from flow_operator.store.records import Act, Book, Origin, Record, StoredFlow, Tombstone, stored
from flow_operator.store.store import OPERATOR, Store
from flow_operator.store.transaction import Transaction

T = TypeVar("T")

Command = Literal["start", "stop", "pause", "resume", "restart"]

COMMANDS: Mapping[Command, State] = {
    "start": "running",
    "stop": "stopped",
    "pause": "paused",
    "resume": "running",
    "restart": "running",
}
"""The desired state that each command leads to."""


Foresee = Callable[[StoredFlow | None, Record], Change]
"""Tells what it does to the processes of a flow that one record takes the place of another."""


class Edit(Struct, frozen=True):
    """One record that was, or in a dry run would be, put in the place of another.

    Attributes:
        before: None if the flow did not exist, or could not be read.
        change: what it does to processes, as it looked before it was written.
    """

    before: StoredFlow | None
    after: Record
    change: Change


class Desired:
    """The edits of one store.

    A dry run of each checks the same and raises the same, and writes nothing.

    Args:
        store: what is edited.
        foresee: tells what an edit does to processes.
    """

    def __init__(self, store: Store, foresee: Foresee) -> None:
        self._store = store
        self._foresee = foresee

    def create(
        self, manifests: Sequence[Manifest], *, by: str = OPERATOR, dry_run: bool = False
    ) -> list[Edit]:
        """Add configurations, all or none.

        Args:
            manifests: the configurations.
            by: who adds them.
            dry_run: whether to write nothing.

        Raises:
            InvalidError: naming every entry that exists already or stands twice.
            StorageError: nothing was changed.
        """
        with self._store.transaction(by=by, dry_run=dry_run) as transaction:
            edits: list[Edit] = []
            faults: list[Fault] = []
            for index, manifest in enumerate(manifests):
                flow_id = manifest.flow.flow_id
                if flow_id in transaction.changes:
                    faults.append(
                        Fault(f"the flow '{flow_id}' stands twice: leave one out", f"/{index}")
                    )
                elif transaction.get(flow_id) is not None:
                    said = f"the flow '{flow_id}' exists; PUT /flows/{flow_id} changes it"
                    faults.append(Fault(said, f"/{index}"))
                else:
                    record = created(transaction, manifest, Origin())
                    edits.append(self._put(transaction, None, record))
            if faults:
                raise InvalidError(faults)
            check_dependencies(transaction)
            return edits

    def replace(
        self,
        manifest: Manifest,
        *,
        force: bool = False,
        version: int | None = None,
        by: str = OPERATOR,
        dry_run: bool = False,
    ) -> Edit:
        """Replace a configuration.

        Args:
            manifest: the whole new configuration.
            force: take it over from the manifest file that owns it.
            version: the resourceVersion that must be the present one.
            by: who replaces it.
            dry_run: whether to write nothing.

        Raises:
            NotFoundError: there is none to replace.
            ConflictError: a file owns it.
            PreconditionError: it was changed meanwhile.
            StorageError: nothing was changed.
        """
        with self._store.transaction(by=by, dry_run=dry_run) as transaction:
            present = _present(transaction, manifest.flow.flow_id, force=force, version=version)
            origin = replace(present.origin, file=None, applied=None)
            record = changed(transaction, present, manifest, origin)
            edit = self._put(transaction, present, record)
            check_dependencies(transaction)
            return edit

    def delete(
        self,
        flow_id: str,
        *,
        hard: bool = False,
        force: bool = False,
        version: int | None = None,
        by: str = OPERATOR,
        dry_run: bool = False,
    ) -> Edit:
        """Remove a configuration; what runs of it is stopped afterwards.

        Raises:
            NotFoundError: there is none.
            ConflictError: a file owns it.
            PreconditionError: it was changed meanwhile.
            StorageError: nothing was changed.
        """

        def edit(transaction: Transaction) -> Edit:
            if flow_id in self._store.corrupt:
                number, act = transaction.next_version(), transaction.act("delete")
                unread = Tombstone(flow_id, "", 1, number, hard, act)
                return self._put(transaction, None, unread)
            present = _present(transaction, flow_id, force=force, version=version)
            return self._put(transaction, present, tombstone(transaction, present, hard=hard))

        return self._transact(edit, by=by, frees=True, dry_run=dry_run)

    def command(
        self,
        command: Command,
        flow_ids: Iterable[str] | None,
        *,
        chosen: Callable[[StoredFlow], bool] | None = None,
        hard: bool = False,
        ended: frozenset[str] = frozenset(),
        by: str = OPERATOR,
        dry_run: bool = False,
    ) -> list[Edit]:
        """Edit the desired state of flows, all or none; also tells of those that stay as they are.

        Args:
            command: what to do.
            flow_ids: which flows; None means all.
            chosen: which of them, where it matters.
            hard: whether a stop is to kill at once.
            ended: flows that have completed or failed, which a start runs again.
            by: who commands.
            dry_run: whether to write nothing.

        Raises:
            InvalidError: naming every id that does not exist.
            StorageError: nothing was changed.
        """
        named = None if flow_ids is None else list(dict.fromkeys(flow_ids))

        def edit(transaction: Transaction) -> list[Edit]:
            ids = sorted(transaction.flows()) if named is None else named
            unknown = [flow_id for flow_id in ids if transaction.get(flow_id) is None]
            if unknown:
                raise InvalidError(
                    [Fault(str(NotFoundError(name)), "/flow_ids") for name in unknown]
                )
            edits: list[Edit] = []
            for flow_id in ids:
                present = transaction.get(flow_id)
                assert present is not None  # noqa: S101 - checked above
                if chosen is not None and not chosen(present):
                    continue
                again = command == "restart" or (command != "pause" and flow_id in ended)
                record = _commanded(transaction, present, command, hard=hard, again=again)
                edits.append(self._put(transaction, present, record))
            return edits

        frees = command in ("stop", "pause")
        return self._transact(edit, by=by, frees=frees, dry_run=dry_run)

    def rollback(
        self,
        flow_id: str,
        generation: int | None = None,
        *,
        force: bool = False,
        version: int | None = None,
        by: str = OPERATOR,
        dry_run: bool = False,
    ) -> tuple[Edit, int]:
        """Make an earlier configuration the present one again, as a new generation.

        Args:
            flow_id: of the flow.
            generation: which; None is the last one that differs from the present one.
            force: take the flow over from the manifest file that owns it.
            version: the resourceVersion that must be the present one.
            by: who does it.
            dry_run: whether to write nothing.

        Returns:
            The edit, and the generation that the flow has become again.

        Raises:
            NotFoundError: there is no such flow.
            InvalidError: that generation is not kept.
            ConflictError: a file owns it.
            PreconditionError: it was changed meanwhile.
            StorageError: nothing was changed.
        """
        with self._store.transaction(by=by, dry_run=dry_run) as transaction:
            present = _present(transaction, flow_id, force=force, version=version)
            wanted = _generation(present, self._store.history(flow_id), generation)
            origin = Origin(base=wanted.origin.base)
            manifest = load_manifest(Document(wanted.document()))
            record = changed(transaction, present, manifest, origin, "rollback")
            edit = self._put(transaction, present, record)
            check_dependencies(transaction)
            return edit, wanted.generation

    def _put(self, transaction: Transaction, before: StoredFlow | None, after: Record) -> Edit:
        return put(transaction, before, after, self._foresee)

    def _transact(
        self, edit: Callable[[Transaction], T], *, by: str, frees: bool, dry_run: bool
    ) -> T:
        """Edit; on a full disk what stops or deletes is tried again in the room that was reserved.

        Raises:
            StorageError: nothing was changed.
        """
        try:
            with self._store.transaction(by=by, frees=frees, dry_run=dry_run) as transaction:
                return edit(transaction)
        except StorageFullError:
            if not frees or dry_run or not self._store.make_room():
                raise
        with self._store.transaction(by=by, frees=True) as transaction:
            return edit(transaction)


def _generation(
    present: StoredFlow, history: Iterable[StoredFlow], generation: int | None
) -> StoredFlow:
    """The record to go back to.

    Raises:
        InvalidError: there is none.
    """
    kept = [
        record
        for record in history
        if record.uid == present.uid and record.generation < present.generation
    ]
    for record in kept:
        if record.generation == generation:
            return record
        if generation is None and record.flow != present.flow:
            return record
    if generation is None:
        raise InvalidError(
            f"'{present.flow_id}' has had no other configuration that is kept; PUT one"
        )
    told = ", ".join(str(record.generation) for record in kept) or "none"
    said = f"generation {generation} of '{present.flow_id}' is not kept; choose one of {told}"
    raise InvalidError([Fault(said, "/generation")])


def put(
    transaction: Transaction, before: StoredFlow | None, after: Record, foresee: Foresee
) -> Edit:
    """Have a record take the place of another, and tell what that does to processes.

    A record that stays as it is is not written again.
    """
    change = foresee(before, after)
    if after != before:
        after = after.doing(change)
        transaction.put(after)
    return Edit(before, after, change)


def _present(
    transaction: Transaction, flow_id: str, *, force: bool, version: int | None
) -> StoredFlow:
    present = transaction.get(flow_id)
    if present is None:
        raise NotFoundError(flow_id)
    if version is not None and version != present.version:
        raise PreconditionError(
            f"'{flow_id}' is at version {present.version}, not {version}: read it again"
        )
    if present.origin.file is not None and not force:
        raise ConflictError(
            f"'{flow_id}' belongs to the manifest file {present.origin.file}: change it there, "
            "or take the flow over with ?force=true"
        )
    return present


def created(transaction: Transaction, manifest: Manifest, origin: Origin) -> StoredFlow:
    """A record of a new flow, for this transaction."""
    act = transaction.act("create", origin.file)
    book = Book(uuid.uuid4().hex, 1, transaction.next_version(), origin=origin, wrote=act)
    return stored(manifest, book)


def changed(
    transaction: Transaction,
    present: StoredFlow,
    manifest: Manifest,
    origin: Origin,
    action: str = "replace",
) -> StoredFlow:
    """A record with another configuration; the same one keeps its generation."""
    same = manifest.document == present.document()
    act = transaction.act(action, origin.file)
    book = Book(
        uid=present.uid,
        generation=present.generation + (not same),
        version=transaction.next_version(),
        token=present.token,
        hard=present.hard and manifest.flow.spec.state == "stopped",
        origin=origin,
        wrote=act,
        made=present.made if same else act,
    )
    return stored(manifest, book)


def tombstone(
    transaction: Transaction, present: StoredFlow, *, hard: bool = False, act: Act | None = None
) -> Tombstone:
    """A record of a deleted flow; without an ``act`` it is deleted by the transaction's maker."""
    return Tombstone(
        present.flow_id,
        present.uid,
        present.generation + 1,
        transaction.next_version(),
        hard,
        act or transaction.act("delete"),
    )


def _commanded(
    transaction: Transaction, present: StoredFlow, command: Command, *, hard: bool, again: bool
) -> StoredFlow:
    state = COMMANDS[command]
    # A soft stop never takes back a hard one that is under way.
    hard = command == "stop" and (hard or (present.hard and present.flow.spec.state == "stopped"))
    if state == present.flow.spec.state and hard == present.hard and not again:
        return present
    document = present.document()
    document["spec"]["state"] = state
    flow = replace(present.flow, spec=replace(present.flow.spec, state=state))
    act = transaction.act(command)
    return replace(
        present,
        flow=flow,
        body=msgspec.json.encode({"flow_id": present.flow_id, **document}),
        generation=present.generation + 1,
        version=transaction.next_version(),
        token=present.token + again,
        hard=hard,
        wrote=act,
        made=act,
    )


def check_dependencies(transaction: Transaction) -> None:
    """Refuse configurations that wait for each other.

    Raises:
        InvalidError: naming the circle.
    """
    flows = transaction.flows()
    done: set[str] = set()
    for flow_id in transaction.changes:
        circle = _circle(flow_id, flows, done)
        if circle:
            told = " -> ".join(circle)
            raise InvalidError(
                [
                    Fault(
                        f"flows depend on each other: {told}; one of them must not",
                        "/spec/dependsOn",
                    )
                ]
            )


def _circle(start: str, flows: Mapping[str, StoredFlow], done: set[str]) -> list[str]:
    """A circle that can be reached from a flow, or nothing.

    Depth first, each flow once: what is in ``done`` leads to no circle.
    """
    path: list[str] = []
    on_path: set[str] = set()
    todo: list[tuple[str, bool]] = [(start, False)]
    while todo:
        current, leaving = todo.pop()
        if leaving:
            path.pop()
            on_path.discard(current)
            done.add(current)
        elif current in on_path:
            return [*path[path.index(current) :], current]
        elif current not in done and current in flows:
            path.append(current)
            on_path.add(current)
            todo.append((current, True))
            todo += ((d.name, False) for d in flows[current].flow.spec.depends_on)
    return []
