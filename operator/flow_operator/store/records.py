"""What the store keeps of a flow, and how it stands in a file."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from flow_operator.errors import InvalidError
from flow_operator.manifest import Document, Manifest, load_manifest
from flow_operator.model.flow import RESERVED_KEY, Flow, template_hash


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


class Book(Struct, frozen=True, omit_defaults=True):
    """The operator's own bookkeeping of a flow."""

    uid: str
    generation: int
    version: int
    token: int = 0
    hard: bool = False
    origin: Origin = Origin()


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

    @property
    def flow_id(self) -> str:
        """Its name."""
        return self.flow.flow_id

    def document(self) -> dict[str, Any]:
        """The manifest; a fresh copy."""
        document: dict[str, Any] = msgspec.json.decode(self.body)
        del document["flow_id"]
        return document

    def to_document(self) -> dict[str, Any]:
        """As it is kept in a file."""
        book = Book(self.uid, self.generation, self.version, self.token, self.hard, self.origin)
        return {**self.document(), RESERVED_KEY: msgspec.to_builtins(book)}


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

    def to_document(self) -> dict[str, Any]:
        """As it is kept in a file."""
        book = Book(self.uid, self.generation, self.version, hard=self.hard)
        return {
            "kind": "Tombstone",
            "metadata": {"name": self.flow_id},
            RESERVED_KEY: msgspec.to_builtins(book),
        }


Record = StoredFlow | Tombstone


def stored(manifest: Manifest, book: Book) -> StoredFlow:
    """A record of a checked manifest."""
    flow = manifest.flow
    return StoredFlow(
        flow=flow,
        body=msgspec.json.encode({"flow_id": flow.flow_id, **manifest.document}),
        uid=book.uid,
        generation=book.generation,
        version=book.version,
        token=book.token,
        hard=book.hard,
        origin=book.origin,
        template=template_hash(flow, book.origin.base),
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
        return Tombstone(name, book.uid, book.generation, book.version, book.hard)
    return stored(load_manifest(Document(data)), book)
