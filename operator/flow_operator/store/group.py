"""Group commit: writers that come while others are written share the next journal.

The rule that everything follows from: a transaction's body runs alone, and never while a journal
is written. So it sees what is durable and what the members of its own group have staged, and never
what may still fail without it. Whoever finds nobody at the door when its body has ended writes for
the whole group; who does find somebody leaves it to them and waits. A lone writer therefore writes
at once, and as a member cannot come again before its group is done, a group has no more members
than there are threads.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from flow_operator.errors import StorageError
from flow_operator.store.records import Record


class Group:
    """Transactions that become durable together, or not at all.

    Attributes:
        staged: the newest record of each flow that a member has changed.
        records: every record, in the order of the transactions.
        parts: the same as they stand in the journal.
        version: the largest resourceVersion given away so far.
        writers: how many members have changed something.
    """

    def __init__(self, version: int) -> None:
        self.staged: dict[str, Record] = {}
        self.records: list[Record] = []
        self.parts: list[bytes] = []
        self.version = version
        self.writers = 0
        self._done = threading.Event()
        self._error: BaseException | None = None

    def stage(self, records: list[Record], parts: list[bytes], version: int) -> None:
        """Add what a transaction has changed."""
        self.staged.update((record.flow_id, record) for record in records)
        self.records += records
        self.parts += parts
        self.writers += bool(records)
        self.version = version

    def finish(self, error: BaseException | None = None) -> None:
        """Let the members go on, after all of it is durable and in memory, or refused."""
        self._error = error
        self._done.set()

    def wait(self) -> None:
        """Wait for the end of the group.

        Raises:
            StorageError: it was refused as a whole.
        """
        self._done.wait()
        error = self._error
        if isinstance(error, StorageError):
            raise type(error)(*error.args) from error
        if error is not None:
            raise StorageError(
                f"the write failed: {error!r}; nothing was changed: try it again"
            ) from error


class Door:
    """Lets transactions in, one at a time, and has each group written by its last member.

    Args:
        version: tells the largest resourceVersion so far.
        commit: makes a group durable and takes it into memory; what it raises is told to every
            member.
    """

    def __init__(self, version: Callable[[], int], commit: Callable[[Group], None]) -> None:
        self.alone = threading.Lock()
        """Held by whoever is within, and through each commit."""
        self._version = version
        self._commit = commit
        self._counting = threading.Lock()
        self._coming = 0
        self._group: Group | None = None

    @contextlib.contextmanager
    def member(self) -> Iterator[Group]:
        """Be within, as a member of the open group; ends when the group is done.

        Raises:
            StorageError: the group was refused. Also in place of what was raised within, which
                may be due to a record that does not stand.
        """
        self._count(1)
        group: Group | None = None
        try:
            with self.alone:
                self._count(-1)
                if self._group is None:
                    self._group = Group(self._version())
                group = self._group
                try:
                    yield group
                finally:
                    if not self._coming:
                        self._close(group)
        finally:
            if group is not None:
                group.wait()

    def _count(self, change: int) -> None:
        with self._counting:
            self._coming += change

    def _close(self, group: Group) -> None:
        self._group = None
        error: BaseException | None = None
        try:
            if group.records:
                self._commit(group)
        except BaseException as caught:  # noqa: BLE001 - every member raises it, this one too
            error = caught
        group.finish(error)
