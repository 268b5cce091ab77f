"""A transaction that is thought out before the store is locked.

To check and merge thousands of configurations takes a second in which nobody else should have to
wait. So they are worked out on what the store held when we began, and all that is done under its
lock is to see that nobody has changed one of them meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping

from flow_operator.errors import InvalidError
from flow_operator.store import Foresee, Store, StoredFlow, Transaction
from flow_operator.store.desired import check_dependencies, put
from flow_operator.store.group import Group
from flow_operator.store.records import Record
from flow_operator.store.store import OPERATOR


class MovedError(Exception):
    """Somebody has changed what a draft was made from; make another."""


class Draft(Transaction):
    """Changes to the records of one moment.

    Their versions and times only fill their places: the transaction gives the real ones.
    """

    def __init__(self, store: Store) -> None:
        self._moment = _Moment(store.records())
        super().__init__(self._moment, Group(store.version), OPERATOR, "")

    def before(self) -> Mapping[str, Record]:
        """All records as they were."""
        return self._moment.records()

    def put_into(self, transaction: Transaction, foresee: Foresee) -> None:
        """Make the changes of a transaction of this draft.

        Args:
            transaction: what they become part of.
            foresee: tells what a change does to processes.

        Raises:
            MovedError: they no longer fit.
        """
        for flow_id, record in self.changes.items():
            before = self._moment.record(flow_id)
            if transaction.record(flow_id) is not before:
                raise MovedError
            after = record.written(transaction.next_version(), transaction.at)
            put(transaction, before if isinstance(before, StoredFlow) else None, after, foresee)
        if depends(transaction):
            try:
                check_dependencies(transaction)
            except InvalidError as error:
                raise MovedError from error


class _Moment:
    """The records as they were when a draft was begun."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._records = records

    def record(self, flow_id: str) -> Record | None:
        """A record, tombstones included."""
        return self._records.get(flow_id)

    def records(self) -> Mapping[str, Record]:
        """All records."""
        return self._records


def depends(transaction: Transaction) -> bool:
    """Whether any changed flow waits for others."""
    records = transaction.changes.values()
    return any(isinstance(r, StoredFlow) and r.flow.spec.depends_on for r in records)
