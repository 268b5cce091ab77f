"""What the parts of the operator tell of their work, to whoever measures it."""

from __future__ import annotations

from typing import Literal

Lane = Literal["hurried", "normal"]
"""Of the workqueue: flows that somebody waits for, and all others."""

Looked = Literal["ok", "waiting", "retry", "error"]
"""How a look at a flow has ended: it was done, it waits for something, what it needs is away or
refused to be written, or something was wrong. The last two are tried again."""

Sync = Literal["journal", "audit", "checkpoint"]
"""What the store makes durable: a journal, which is what writers wait for, and behind it the lines
of the audit log and the files of the flows."""


class Meter:
    """Measures nothing; a subclass overrides what it counts.

    Called from many threads, some of them under locks: a call takes a microsecond or two, calls
    nothing else, and never raises.
    """

    def waited(self, lane: Lane, seconds: float) -> None:
        """A flow was handed to a worker so long after it was added to the queue."""

    def looked(self, result: Looked, seconds: float) -> None:
        """A worker has looked at a flow; of several at once the mean."""

    def launched(self) -> None:
        """A new run is about to be launched."""

    def exited(self, reason: str) -> None:
        """A step's process was seen to have ended; see :class:`~.runners.base.Exit`."""

    def ended(self, outcome: str) -> None:
        """Nothing of a run is left; see :func:`~.plan.tally.tally`."""

    def noted(self, reason: str, *, warning: bool) -> None:
        """An event was recorded."""

    def committed(self, writers: int, records: int, size: int, seconds: float) -> None:
        """So many transactions have become durable together, in a journal of ``size`` bytes."""

    def synced(self, kind: Sync, seconds: float) -> None:
        """Something was written and made durable, or the disk has refused it."""

    def refused(self, *, full: bool) -> None:
        """A transaction could not be made durable; ``full`` for want of space."""

    def asked(self) -> None:
        """A request has come."""

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered, with a stream if one follows.

        Args:
            route: the rule of its route, never its path; empty if there is none.
            method: as the client wrote it.
            status: of the answer.
            seconds: from when the handler had it until the head of the answer was made.
        """
