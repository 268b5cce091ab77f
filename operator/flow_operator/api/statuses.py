"""The statuses as they are told: encoded once for all who ask."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from flow_operator.figures import MAX_AGE
from flow_operator.model.status import FlowStatus, Source
from flow_operator.store import StoredFlow

if TYPE_CHECKING:
    from flow_operator.api.app import Services


class Told:
    """One status as it is told.

    Attributes:
        status: as it stands on the board, without figures.
        keyed: with figures, as a member of a JSON object, its flow_id before it.
    """

    __slots__ = ("keyed", "status")

    def __init__(self, status: FlowStatus, body: bytes) -> None:
        self.status = status
        self.keyed = b'"%b":%b' % (status.flow_id.encode(), body)

    @property
    def body(self) -> bytes:
        """With figures, as JSON."""
        return self.keyed[len(self.status.flow_id.encode()) + 3 :]


class Snapshot:
    """All statuses at one moment, by flow_id; joined once for everybody who asks for all.

    Attributes:
        told: each of them.
        etag: of all of them; no other snapshot has it, of this operator or another.
    """

    def __init__(self, told: tuple[Told, ...], etag: str) -> None:
        self.told = told
        self.etag = etag
        self._joining = threading.Lock()
        self._whole = b""

    def whole(self) -> bytes:
        """The JSON object of all."""
        with self._joining:
            self._whole = self._whole or b"{%b}" % b",".join([entry.keyed for entry in self.told])
            return self._whole


class Statuses:
    """The status of every flow, each encoded once per change, or once per sample of its figures."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._key: tuple[int, int] = (-1, -1)
        self._sampled = -MAX_AGE
        self._known: dict[str, Told] = {}
        self._epoch = secrets.token_hex(8)
        self._snapshot = Snapshot((), f'"{self._epoch}"')
        self._snapshots = 0

    def now(self) -> Snapshot:
        """What stands now; figures are at most two seconds old."""
        services = self._services
        with self._lock:
            moment = services.clock.monotonic()
            stale = moment - self._sampled >= MAX_AGE
            # Read before what it speaks of: what changes meanwhile is seen next time.
            key = (services.board.version, services.store.version)
            if stale or key != self._key:
                self._take(_statuses(services), stale=stale)
                self._key = key
                self._sampled = moment if stale else self._sampled
            return self._snapshot

    def standing(self) -> dict[str, FlowStatus]:
        """All as they stand, without figures; by flow_id, in no order."""
        return _statuses(self._services)

    def of(self, statuses: Iterable[FlowStatus]) -> list[Told]:
        """Some of those that stand; figures are taken of no others.

        What was encoded for a list of all is used as long as that is good.
        """
        with self._lock:
            good = self._services.clock.monotonic() - self._sampled < MAX_AGE
            known = self._known if good else {}
        asked = list(statuses)
        fresh = self._encoded(status for status in asked if not _stands(known, status))
        return [fresh.get(status.flow_id) or known[status.flow_id] for status in asked]

    def _take(self, statuses: Mapping[str, FlowStatus], *, stale: bool) -> None:
        known = self._known
        changed = (s for s in statuses.values() if stale or not _stands(known, s))
        now = known | {
            flow_id: entry
            for flow_id, entry in self._encoded(changed).items()
            if not _stands(known, entry.status) or known[flow_id].keyed != entry.keyed
        }
        told = tuple(now[flow_id] for flow_id in sorted(statuses))
        if told != self._snapshot.told:
            self._snapshots += 1
            self._snapshot = Snapshot(told, f'"{self._epoch}-{self._snapshots}"')
        self._known = {entry.status.flow_id: entry for entry in told}

    def _encoded(self, statuses: Iterable[FlowStatus]) -> dict[str, Told]:
        """With their figures, by flow_id."""
        changed = list(statuses)
        figured = self._services.figures.added(changed)
        pairs = zip(changed, figured, strict=True)
        return {status.flow_id: Told(status, msgspec.json.encode(told)) for status, told in pairs}


def _stands(known: Mapping[str, Told], status: FlowStatus) -> bool:
    """Whether a status is told as it is.

    Those of the board are the same objects until they change; those of flows that nobody has looked
    at are made each time.
    """
    told = known.get(status.flow_id)
    return told is not None and (told.status is status or told.status == status)


def _statuses(services: Services) -> dict[str, FlowStatus]:
    statuses = dict(services.board.all())
    for record in services.store.flows():
        if record.flow_id not in statuses:
            statuses[record.flow_id] = _pending(record)
    return statuses


def status_of(services: Services, flow_id: str) -> FlowStatus | None:
    """The observed status; ``pending`` for a flow that nobody has looked at yet."""
    status = services.board.get(flow_id)
    if status is not None:
        return status
    record = services.store.get(flow_id)
    return _pending(record) if record is not None else None


def _pending(record: StoredFlow) -> FlowStatus:
    file = record.origin.file
    return FlowStatus(
        flow_id=record.flow_id,
        uid=record.uid,
        status="pending",
        desired=record.flow.spec.state,
        generation=record.generation,
        observed_generation=0,
        restarts=0,
        replicas=record.flow.spec.replicas,
        ready_replicas=0,
        started_at=None,
        message="not yet looked at",
        source=Source("file" if file else "api", file),
        conditions=(),
        steps=(),
        labels=record.flow.metadata.labels,
    )
