"""What the store tells of its work, and of how it does."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator

import pytest

from flow_operator.errors import StorageError, StorageFullError
from flow_operator.meter import Meter
from flow_operator.settings import Layout
from flow_operator.store import Store
from support import FakeClock, eventually, make_manifest
from unit.store_support import create, edits, failing, is_directory, put


class Told(Meter):
    """What was told; each sync takes a second."""

    def __init__(self) -> None:
        self.commits: list[tuple[int, int, int, float]] = []
        self.syncs: list[tuple[str, float]] = []
        self.refusals: list[bool] = []

    def committed(self, writers: int, records: int, size: int, seconds: float) -> None:
        self.commits.append((writers, records, size, seconds))

    def synced(self, kind: str, seconds: float) -> None:
        self.syncs.append((kind, seconds))

    def refused(self, *, full: bool) -> None:
        self.refusals.append(full)


@pytest.fixture
def meter() -> Told:
    return Told()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(root, meter, clock) -> Iterator[Store]:
    made = Store(Layout(root), clock, meter=meter)
    made.recover()
    yield made
    made.close()


def _slow(monkeypatch, clock: FakeClock) -> None:
    """A disk on which each sync takes a second."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        clock.advance(1)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_write_is_told_with_its_size_and_its_time(store, meter, clock, monkeypatch):
    """Two syncs: of the journal, and of its name."""
    _slow(monkeypatch, clock)
    create(store, "a", "b")
    (writers, records, size, seconds) = meter.commits[0]
    assert (writers, records, seconds) == (1, 2, 2)
    assert size > 400
    assert ("journal", 2.0) in meter.syncs


def test_what_follows_behind_is_told(store, meter):
    """The audit log, and the files that people read."""
    create(store, "a")
    eventually(
        lambda: _assert({kind for kind, _ in meter.syncs} == {"journal", "audit", "checkpoint"})
    )
    eventually(lambda: _assert(store.health().journals == 0))


def test_journals_that_wait_are_told(store):
    """For half a second; then the files have been written."""
    create(store, "a")
    assert store.health().journals == 1
    eventually(lambda: _assert(store.health().journals == 0))


def test_writers_that_share_a_journal_are_told(store, meter):
    """Who comes while another is within; who changes nothing is no writer."""
    create(store, "a")
    inside, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with store.transaction() as transaction:
            inside.set()
            go_on.wait()
            put(transaction, "b")

    def second() -> None:
        create(store, "c")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    inside.wait()
    threads[1].start()
    eventually(lambda: _assert(store._door._coming == 1))
    go_on.set()
    for thread in threads:
        thread.join()
    assert [commit[:2] for commit in meter.commits] == [(1, 1), (2, 2)]
    with store.transaction():
        pass
    assert len(meter.commits) == 2


@pytest.mark.parametrize(("number", "full"), [(errno.EIO, False), (errno.ENOSPC, True)])
def test_a_refused_write_is_told_and_the_store_is_degraded_until_one_succeeds(
    store, meter, monkeypatch, number, full
):
    """With the reason."""
    with monkeypatch.context() as patch:
        failing(patch, "fsync", number)
        with pytest.raises(StorageFullError if full else StorageError):
            create(store, "a")
        assert meter.refusals == [full]
        assert store.health().failing
    create(store, "b")
    assert not store.health().failing
    assert meter.refusals == [full]
    assert len(meter.commits) == 1


def test_a_dry_run_that_would_be_refused_is_no_refused_write(store, meter, monkeypatch):
    """It was not to be written anyway."""
    failing(monkeypatch, "posix_fallocate", errno.ENOSPC)
    store.make_room()
    with pytest.raises(StorageFullError):
        edits(store).create([make_manifest("a")], dry_run=True)
    assert meter.refusals == []
    with pytest.raises(StorageFullError):
        create(store, "a")
    assert meter.refusals == [True]


def test_edits_that_are_not_valid_are_no_refused_writes(store, meter):
    """Somebody else is to blame."""
    create(store, "a")
    with pytest.raises(Exception, match="exists"):
        create(store, "a")
    assert meter.refusals == []


def test_a_disk_that_refuses_what_follows_behind_degrades_the_store(store, meter, monkeypatch):
    """Until it lets it be done: the journals stand meanwhile."""
    with monkeypatch.context() as patch:
        create(store, "a")
        failing(patch, "fsync", errno.EIO, when=lambda fd: not is_directory(fd))
        eventually(lambda: _assert(store.health().failing))
        assert store.health().journals == 1
    eventually(lambda: _assert(not store.health().failing))


def test_a_reserve_that_was_given_back_is_told(store):
    """Nothing but what stops or deletes is written until it is there again."""
    assert store.health().reserve
    assert store.make_room()
    assert not store.health().reserve
    eventually(lambda: _assert(store.health().reserve))


def test_flows_that_cannot_be_read_are_told(root, meter):
    """As many as are set aside."""
    (root / "flows").mkdir(parents=True)
    (root / "flows" / "a.yaml").write_text("{")
    store = Store(Layout(root), meter=meter)
    store.recover()
    assert store.health().corrupt == 1
    store.close()


def _assert(holds: bool) -> None:
    assert holds
