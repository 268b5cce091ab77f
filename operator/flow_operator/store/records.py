"""What the store keeps of a flow, and how it stands in a file."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flow_operator.errors import InvalidError
from flow_operator.manifest import Document, Manifest, load_manifest
from flow_operator.model.flow import RESERVED_KEY, Flow, template_hash
from flow_operator.model.status import Change
from flow_operator.structs import prepared


class Origin(Struct, frozen=True, omit_defaults=True):
    """Where a configuration comes from.

    Attributes:
        file: the manifest file that owns it, relative to the folder; None for the API.
        base: the directory that relative paths start from; None for the operator's own.
        applied: the document that the file last held, for the three-way apply.
    """

    file: str | None = None
    base: str | None = None
    applied: dict[str, Any] | None = None


class Act(Struct, frozen=True, omit_defaults=True):
    """A write, as far as people ask for it.

    Attributes:
        at: when, as RFC 3339 writes it.
        by: who: ``api:ADDRESS``, with a token ``api:NAME@ADDRESS`` (over a unix socket the address
            is ``uid=N``), ``file:NAME`` for the manifest folder, or ``operator`` for the
            operator itself.
        action: ``create``, ``replace``, ``delete``, ``prune``, ``rollback``, or a command.
        change: what it did to processes, as it looked before it was written; None if nobody has
            looked.
    """

    at: str
    by: str
    action: str
    change: Change | None = None


@prepared
class Book(Struct, frozen=True, omit_defaults=True):
    """The operator's own bookkeeping of a flow.

    ``made`` is left out where it is the same as ``wrote``.
    """

    uid: str
    generation: int
    version: int
    token: int = 0
    hard: bool = False
    origin: Origin = Origin()
    wrote: Act | None = None
    made: Act | None = None


class StoredFlow(Struct, frozen=True):
    """A configuration as it stands.

    Attributes:
        flow: what the operator works with.
        body: the document as the API returns it, as JSON, ``flow_id`` first.
        uid: tells this flow from an earlier or later one of the same name.
        generation: grows with each change of the configuration.
        version: the resourceVersion: grows with each write, over all flows.
        token: grows with each wish to restart.
        hard: whether a stop was asked for at once.
        wrote: the write that left the record as it is; None if nobody knows.
        made: the write that made the generation.
    """

    flow: Flow
    body: bytes
    uid: str
    generation: int
    version: int
    token: int = 0
    hard: bool = False
    origin: Origin = Origin()
    template: str = ""
    wrote: Act | None = None
    made: Act | None = None

    @property
    def flow_id(self) -> str:
        """Its name."""
        return self.flow.flow_id

    def doing(self, change: Change) -> StoredFlow:
        """The same, and what its write does to processes."""
        return self._by(self.wrote and replace(self.wrote, change=change))

    def written(self, version: int, at: str) -> StoredFlow:
        """The same, of another moment: what was thought out is written now."""
        return replace(self._by(self.wrote and replace(self.wrote, at=at)), version=version)

    def _by(self, wrote: Act | None) -> StoredFlow:
        return replace(self, wrote=wrote, made=wrote if self.made is self.wrote else self.made)

    def document(self) -> dict[str, Any]:
        """The manifest; a fresh copy."""
        document: dict[str, Any] = msgspec.json.decode(self.body)
        del document["flow_id"]
        return document

    def book(self) -> Book:
        """What is kept beside the manifest."""
        return Book(
            uid=self.uid,
            generation=self.generation,
            version=self.version,
            token=self.token,
            hard=self.hard,
            origin=self.origin,
            wrote=self.wrote,
            made=self.made if self.made != self.wrote else None,
        )

    def to_document(self) -> dict[str, Any]:
        """As it is kept in a file."""
        return {**self.document(), RESERVED_KEY: msgspec.to_builtins(self.book())}


class Tombstone(Struct, frozen=True):
    """A flow that was deleted and whose processes may still have to go.

    Attributes:
        hard: whether they are to be killed at once.
    """

    flow_id: str
    uid: str
    generation: int
    version: int
    hard: bool = False
    wrote: Act | None = None

    def doing(self, change: Change) -> Tombstone:
        """The same, and what its write does to processes."""
        wrote = self.wrote and replace(self.wrote, change=change)
        return replace(self, wrote=wrote)

    def written(self, version: int, at: str) -> Tombstone:
        """The same, of another moment: what was thought out is written now."""
        wrote = self.wrote and replace(self.wrote, at=at)
        return replace(self, version=version, wrote=wrote)

    def to_document(self) -> dict[str, Any]:
        """As it is kept in a file."""
        book = Book(self.uid, self.generation, self.version, hard=self.hard, wrote=self.wrote)
        return {
            "kind": "Tombstone",
            "metadata": {"name": self.flow_id},
            RESERVED_KEY: msgspec.to_builtins(book),
        }


Record = StoredFlow | Tombstone


def stored(manifest: Manifest, book: Book) -> StoredFlow:
    """A record of a checked manifest."""
    flow = manifest.flow
    body = msgspec.json.encode({"flow_id": flow.flow_id, **manifest.document})
    return restored(flow, body, book, template_hash(flow, book.origin.base))


def restored(flow: Flow, body: bytes, book: Book, template: str) -> StoredFlow:
    """A record of its parts."""
    return StoredFlow(
        flow=flow,
        body=body,
        uid=book.uid,
        generation=book.generation,
        version=book.version,
        token=book.token,
        hard=book.hard,
        origin=book.origin,
        template=template,
        wrote=book.wrote,
        made=book.made or book.wrote,
    )


def from_document(document: Document) -> Record:
    """Read a record back.

    Raises:
        InvalidError: it is none.
    """
    if not isinstance(document.data, dict) or RESERVED_KEY not in document.data:
        raise InvalidError(f"not a stored flow: '{RESERVED_KEY}' is missing")
    data = dict(document.data)
    try:
        book = msgspec.convert(data.pop(RESERVED_KEY), Book)
    except msgspec.ValidationError as error:
        raise InvalidError(f"not a stored flow: {error}") from None
    if data.get("kind") == "Tombstone":
        metadata = data.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(name, str):
            raise InvalidError("a tombstone without a name")
        return Tombstone(name, book.uid, book.generation, book.version, book.hard, book.wrote)
    return stored(load_manifest(Document(data)), book)
