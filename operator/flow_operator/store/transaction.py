"""One transaction: what it sees, and what it changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from flow_operator.store.group import Group
from flow_operator.store.records import Act, Record, StoredFlow


class Readable(Protocol):
    """The durable records."""

    def record(self, flow_id: str) -> Record | None:
        """A record, tombstones included."""

    def records(self) -> Mapping[str, Record]:
        """All records."""


class Transaction:
    """Changes that become durable together, or not at all.

    It sees what stands, what earlier members of its group have staged, and its own changes.

    Args:
        store: what stands.
        group: what this transaction becomes durable with.
        by: who makes the changes.
        at: when, as RFC 3339 writes it.
    """

    def __init__(self, store: Readable, group: Group, by: str, at: str) -> None:
        self._store = store
        self._group = group
        self._by = by
        self.at = at
        self.version = group.version
        self.changes: dict[str, Record] = {}

    def get(self, flow_id: str) -> StoredFlow | None:
        """The configuration as this transaction sees it."""
        record = self.record(flow_id)
        return record if isinstance(record, StoredFlow) else None

    def record(self, flow_id: str) -> Record | None:
        """The record as this transaction sees it, tombstones included."""
        changed = self.changes.get(flow_id) or self._group.staged.get(flow_id)
        return changed or self._store.record(flow_id)

    def flows(self) -> Mapping[str, StoredFlow]:
        """All configurations as this transaction sees them."""
        merged = {**self._store.records(), **self._group.staged, **self.changes}
        return {key: r for key, r in merged.items() if isinstance(r, StoredFlow)}

    def act(self, action: str, file: str | None = None) -> Act:
        """What is to be told of a change: who makes it, a manifest file if one is named."""
        return Act(self.at, f"file:{file}" if file else self._by, action)

    def put(self, record: Record) -> None:
        """Have a record replaced at the end of the transaction."""
        self.changes[record.flow_id] = record

    def next_version(self) -> int:
        """A resourceVersion for the next record of this transaction; each only once."""
        self.version += 1
        return self.version
