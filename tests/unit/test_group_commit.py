"""Writers that come while others are written: one journal for all of them, or a refusal of all."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flow_operator.errors import InvalidError, StorageError, StorageFullError
from flow_operator.store import Store
from flow_operator.store import store as store_module
from support import eventually, make_manifest
from unit.store_support import create, edits, failing, is_directory, opened, opening, put, script


class Gate:
    """Holds each journal up until it is let through, and counts what is in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = store_module.write_journal
        self._open = threading.Semaphore(0)
        self.held = 0
        self.journals: list[int] = []
        self.refuse: OSError | None = None
        monkeypatch.setattr(store_module, "write_journal", self._write)

    def _write(self, path: Path, parts: list[bytes]) -> None:
        self.held += 1
        assert self._open.acquire(timeout=20)
        self.held -= 1
        if self.refuse is not None:
            full = self.refuse.errno == errno.ENOSPC
            raise (StorageFullError if full else StorageError)(str(self.refuse))
        self._real(path, parts)
        self.journals.append(len(parts))

    def let_through(self, count: int = 1) -> None:
        self._open.release(count)


class Writers:
    """Threads that write, and a store in which a journal is held up."""

    def __init__(self, store: Store, gate: Gate, pool: ThreadPoolExecutor) -> None:
        self.store = store
        self.gate = gate
        self._pool = pool

    def start(self, write: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._pool.submit(write, *arguments)

    def hold_one(self) -> Future[Any]:
        """Have a writer that is within its journal."""
        first = self.start(create, self.store, "first")
        eventually(lambda: _same(self.gate.held, 1))
        return first

    def await_at_the_door(self, count: int) -> None:
        eventually(lambda: _same(self.store._door._coming, count))


def _same(found: object, wanted: object) -> None:
    assert found == wanted


@pytest.fixture
def writers(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writers]:
    with opening(root) as store, ThreadPoolExecutor(16) as pool:
        gate = Gate(monkeypatch)
        yield Writers(store, gate, pool)
        gate.let_through(100)


def _put(store: Store, flow_id: str, content: str = "x") -> None:
    with store.transaction() as transaction:
        put(transaction, flow_id, script=content)


def test_writers_that_come_meanwhile_share_one_journal(root, writers):
    """However many they are; every one of them stands."""
    first = writers.hold_one()
    others = [writers.start(_put, writers.store, f"flow-{n}") for n in range(12)]
    writers.await_at_the_door(12)
    writers.gate.let_through(2)
    for future in [first, *others]:
        future.result(timeout=20)
    assert writers.gate.journals == [1, 12]
    with opening(root) as later:
        assert len(later.flows()) == 13


def test_nobody_sees_what_is_not_durable_yet(writers):
    """Not while the journal is written, and none of those who wait behind it."""
    told: list[str] = []
    writers.store.subscribe(told.extend)
    first = writers.hold_one()
    second = writers.start(_put, writers.store, "second")
    writers.await_at_the_door(1)
    assert (writers.store.flows(), told) == ([], [])
    assert not first.done()
    writers.gate.let_through()
    first.result(timeout=20)
    eventually(lambda: _same(writers.gate.held, 1))
    assert [record.flow_id for record in writers.store.flows()] == ["first"]
    assert not second.done()


def test_each_writer_sees_those_before_it(root):
    """From many threads no edit is lost, and none is based on what another has replaced."""
    with opening(root) as store:
        create(store, "a")
        desired = edits(store)

        def restart() -> None:
            for _ in range(25):
                desired.command("restart", ["a"])

        threads = [threading.Thread(target=restart) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        record = store.get("a")
        assert (record.token, record.generation, record.version) == (200, 201, 201)
        journals = store._sequence
    assert journals < 201, "no two writers have ever shared a journal"
    with opening(root) as later:
        assert later.get("a") == record


def test_members_see_each_other(root, writers):
    """Of two that create the same flow the later one is refused, though neither is durable yet."""
    first = writers.hold_one()
    twins = [writers.start(create, writers.store, "twin") for _ in range(2)]
    writers.await_at_the_door(2)
    writers.gate.let_through(2)
    first.result(timeout=20)
    refused = [twin.exception(timeout=20) for twin in twins]
    assert sorted(map(type, refused), key=str) == sorted([type(None), InvalidError], key=str)


def test_members_cannot_depend_on_each_other(writers):
    """A circle that two of them would close is seen by the second, whichever that is."""
    first = writers.hold_one()
    halves = [writers.start(_create_waiting, writers.store, *ids) for ids in ("ab", "ba")]
    writers.await_at_the_door(2)
    writers.gate.let_through(2)
    first.result(timeout=20)
    refused = [half.exception(timeout=20) for half in halves]
    assert [type(error) for error in refused if error] == [InvalidError]


def _create_waiting(store: Store, flow_id: str, dependency: str) -> None:
    waiting = make_manifest(flow_id, dependsOn=[{"name": dependency}])
    edits(store).create([waiting])


def test_a_refusal_is_of_the_whole_group_and_of_no_other(root, writers):
    """Those before it stand, those after it are written; of the group neither disk nor memory."""
    first = writers.hold_one()
    group = [writers.start(_put, writers.store, name) for name in ("a", "b", "c")]
    writers.await_at_the_door(3)
    writers.gate.let_through()
    first.result(timeout=20)
    eventually(lambda: _same(writers.gate.held, 1))
    writers.gate.refuse = OSError(errno.EIO, "refused")
    writers.gate.let_through()
    errors = [future.exception(timeout=20) for future in group]
    assert [type(error) for error in errors] == [StorageError] * 3
    assert len({id(error) for error in errors}) == 3, "each thread raises an error of its own"
    assert [record.flow_id for record in writers.store.flows()] == ["first"]
    writers.gate.refuse = None
    writers.gate.let_through(10)
    _put(writers.store, "a", "again")
    with opening(root) as later:
        assert {f.flow_id for f in later.flows()} == {"first", "a"}
        assert script(later, "a") == "again"


def test_who_relies_on_a_refused_record_is_refused_too(root, writers):
    """A stop that finds its flow stopped already by a member has nothing to write, but waits."""
    writers.gate.let_through()
    create(writers.store, "a")
    desired = edits(writers.store)
    first = writers.hold_one()
    stops = [writers.start(desired.command, "stop", ["a"]) for _ in range(2)]
    twins = [writers.start(create, writers.store, "twin") for _ in range(2)]
    writers.await_at_the_door(4)
    writers.gate.let_through()
    first.result(timeout=20)
    eventually(lambda: _same(writers.gate.held, 1))
    writers.gate.refuse = OSError(errno.EIO, "refused")
    writers.gate.let_through()
    for future in [*stops, *twins]:
        assert isinstance(future.exception(timeout=20), StorageError)
    assert writers.store.get("a").flow.spec.state == "running"


def test_a_dry_run_gives_no_reserve_back(root, writers):
    """It was refused with its group on a full disk, but there is nothing that it must write."""
    given: list[bool] = []
    writers.store.make_room = lambda: given.append(True)
    writers.gate.let_through()
    create(writers.store, "a")
    first = writers.hold_one()
    dry = writers.start(partial(edits(writers.store).command, "stop", ["a"], dry_run=True))
    other = writers.start(_put, writers.store, "other")
    writers.await_at_the_door(2)
    writers.gate.let_through()
    first.result(timeout=20)
    eventually(lambda: _same(writers.gate.held, 1))
    writers.gate.refuse = OSError(errno.ENOSPC, "refused")
    writers.gate.let_through()
    assert isinstance(other.exception(timeout=20), StorageFullError)
    assert isinstance(dry.exception(timeout=20), StorageFullError)
    assert given == []


def test_a_body_that_raises_neither_spoils_nor_holds_up_its_group(writers):
    """Also if it is the last one, which is to write for the others."""
    first = writers.hold_one()
    good = writers.start(_put, writers.store, "good")
    writers.await_at_the_door(1)
    bad = writers.start(_fail, writers.store)
    writers.await_at_the_door(2)
    writers.gate.let_through(2)
    first.result(timeout=20)
    good.result(timeout=20)
    assert isinstance(bad.exception(timeout=20), ZeroDivisionError)
    assert {record.flow_id for record in writers.store.flows()} == {"first", "good"}


def _fail(store: Store) -> None:
    with store.transaction() as transaction:
        put(transaction, "bad")
        raise ZeroDivisionError


def test_a_mistake_of_ours_lets_nobody_wait_for_ever(writers, monkeypatch):
    """Whatever the commit raises, every member hears of it."""
    writers.store._keep = lambda _record: 1 // 0
    first = writers.hold_one()
    other = writers.start(_put, writers.store, "other")
    writers.await_at_the_door(1)
    writers.gate.let_through(2)
    for future in (first, other):
        assert isinstance(future.exception(timeout=20), StorageError)


def test_nothing_is_acknowledged_over_a_refused_journal(root, monkeypatch):
    """It was renamed and can neither be made durable nor removed: the next start would find it."""
    with opening(root) as store:
        with monkeypatch.context() as patch:
            failing(patch, "fsync", errno.EIO, when=is_directory)
            failing(patch, "unlink", errno.EIO, when=lambda path, *_: "txn-" in str(path))
            with pytest.raises(StorageError):
                create(store, "refused", "too")
        with monkeypatch.context() as patch:
            failing(patch, "unlink", errno.EIO, when=lambda path, *_: "txn-" in str(path))
            with pytest.raises(StorageError, match="which was refused"):
                create(store, "next")
        create(store, "next")
    with opening(root) as later:
        assert [record.flow_id for record in later.flows()] == ["next"]


def test_a_refused_journal_is_gone_for_good(root, monkeypatch):
    """Its removal is made durable before anything else is acknowledged."""
    store = opened(root)
    store._later = lambda *_: None
    with monkeypatch.context() as patch:
        failing(patch, "fsync", errno.EIO, when=is_directory)
        with pytest.raises(StorageError):
            create(store, "refused")
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    create(store, "next")
    assert synced == ["flows", ".tmp-txn-000000000002.yaml", "flows"]
