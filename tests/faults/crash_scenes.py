"""What is done to a data directory while its writer is killed at every call.

A scene is a generator: what it does before its first ``yield`` is left in peace, each later one
acknowledges what was done since the one before it, which must stand whole from then on and before
that whole or not at all. What it yields is the state as it stands then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_operator.board import Board
from flow_operator.manifest import dump_yaml
from flow_operator.memory import FlowMemory, encode_memory
from flow_operator.settings import Layout
from flow_operator.sources import FolderSource
from flow_operator.sources.prune import QUIET
from flow_operator.store import DataLock, Memories, Store, StoredFlow, Tombstone
from support import FakeClock, make_document, make_manifest
from unit.store_support import create, edits, no_checkpoints, opened, opening, put

State = dict[str, Any]
MANY = [f"flow-{n:02}" for n in range(20)]
FEW = MANY[:8]


def state_of(store: Store) -> State:
    """Every record as far as it follows from what was done, and the largest version."""
    found: State = {"version": store.version}
    for flow_id, record in store.records().items():
        common = (record.version, record.generation, record.hard)
        if isinstance(record, StoredFlow):
            (step, *_) = record.flow.spec.steps
            spec = record.flow.spec
            found[flow_id] = (*common, step.script, spec.state, record.token, record.origin.file)
        else:
            found[flow_id] = (*common, "deleted")
    return found


def read_store(root: Path) -> State:
    """What the next operator finds; it finds it whole, and leaves nothing lying about."""
    with opening(root / "data") as store:
        assert store.corrupt == {}
        return state_of(store)


def old_or_new(old: State, new: State, found: State) -> bool:
    """What was under way stands as a whole or not at all."""
    return found in (old, new)


@dataclass(frozen=True)
class Scene:
    """One row of the test.

    Attributes:
        play: what is done.
        prepare: makes what it is done to.
        read: what the next operator finds.
        right: whether that may be, by what was acknowledged last and what was under way.
        go_on: has the next operator do by itself what was under way; returns what comes of it.
    """

    play: Callable[[Path], Iterator[State]]
    prepare: Callable[[Path], None] = lambda _root: None
    read: Callable[[Path], State] = read_store
    right: Callable[[State, State, State], bool] = old_or_new
    go_on: Callable[[Path], State] | None = None


# --- one write, many writes ------------------------------------------------------------------


def single_writes(root: Path) -> Iterator[State]:
    """A flow is created, replaced and commanded; another one is created."""
    with opening(root / "data") as store:
        desired = edits(store)
        yield state_of(store)
        desired.create([make_manifest("a", "one")])
        yield state_of(store)
        desired.replace(make_manifest("a", "two"))
        yield state_of(store)
        desired.command("stop", ["a"], hard=True)
        yield state_of(store)
        desired.create([make_manifest("b", "one")])
        yield state_of(store)


def batch(root: Path) -> Iterator[State]:
    """Twenty flows at once; their files are written behind it."""
    with opening(root / "data") as store:
        yield state_of(store)
        create(store, *MANY)
        yield state_of(store)


def command_on_many(root: Path) -> Iterator[State]:
    """All flows are commanded twice, while files of the first command are still written."""
    with opening(root / "data") as store:
        yield state_of(store)
        edits(store).command("stop", None)
        yield state_of(store)
        edits(store).replace(make_manifest(FEW[3], "other"))
        yield state_of(store)
        edits(store).command("restart", None)
        yield state_of(store)


def some_flows(root: Path) -> None:
    with opening(root / "data") as store:
        create(store, *FEW)


def deletes(root: Path) -> Iterator[State]:
    """Flows are deleted and purged, while files of a batch that they came with are written."""
    with opening(root / "data") as store:
        desired = edits(store)
        yield state_of(store)
        create(store, "b", "c", "d")
        yield state_of(store)
        for flow_id in ("d", "a", "b"):
            desired.delete(flow_id, hard=True)
            yield state_of(store)
            tombstone = store.record(flow_id)
            assert isinstance(tombstone, Tombstone)
            assert store.purge(tombstone)
            yield state_of(store)
        create(store, "d")
        yield state_of(store)


def one_flow(root: Path) -> None:
    with opening(root / "data") as store:
        create(store, "a")


def writers_together(root: Path) -> Iterator[State]:
    """Four clients at once, one of them with a batch."""
    with opening(root / "data") as store:
        yield state_of(store)
        parts = [["one"], ["two"], ["three"], ["many-1", "many-2", "many-3"]]
        threads = [threading.Thread(target=create, args=(store, *part)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield state_of(store)


def each_old_or_new(old: State, new: State, found: State) -> bool:
    """Of writers at once each one's part stands as a whole or not at all."""
    present = found.keys() & new.keys()
    parts = {flow_id for flow_id in found if flow_id.startswith("many")}
    return present == found.keys() and old.keys() <= found.keys() and len(parts) in (0, 3)


# --- recovery --------------------------------------------------------------------------------


def left_by_a_crash(root: Path) -> None:
    """Two journals that were not written out, a newer file, halves of a file and of a journal."""
    store = opened(root / "data")
    no_checkpoints(store)
    create(store, *MANY)
    with store.transaction() as transaction:
        put(transaction, *MANY[5:15], script="later")
    edits(store).command("stop", [MANY[6]])
    edits(store).delete(MANY[7])
    flows = root / "data" / "flows"
    journal = next(flows.glob("txn-*1.yaml")).read_bytes()
    (flows / ".tmp-txn-000000000009.yaml").write_bytes(journal[: len(journal) // 2])
    (flows / f".tmp-{MANY[0]}.yaml").write_bytes(b"kind: Fl")
    (root / "data" / ".tmp-format").write_bytes(b"")


def recovery(root: Path) -> Iterator[State]:
    """What a crash has left is taken up; that may be killed like anything else."""
    yield {}
    with opening(root / "data") as store:
        yield state_of(store)


def first_start(root: Path) -> Iterator[State]:
    """A data directory is made."""
    yield {"version": 0}
    (root / "data").mkdir(exist_ok=True)
    lock = DataLock(root / "data" / "lock")
    with opening(root / "data") as store:
        yield state_of(store)
    lock.release()


# --- what is remembered of runs --------------------------------------------------------------


def memories(root: Path) -> Iterator[State]:
    """Intents are written, replaced and dropped."""
    kept = Memories(Layout(root / "data"))
    kept.recover()
    yield _remembered(kept)
    for boot in ("one", "two"):
        for flow_id in ("a", "b"):
            kept.put(flow_id, FlowMemory(boot=boot))
            yield _remembered(kept)
    kept.drop("a")
    yield _remembered(kept)


def read_memories(root: Path) -> State:
    kept = Memories(Layout(root / "data"))
    kept.recover()
    return _remembered(kept)


def _remembered(kept: Memories) -> State:
    return {name: encode_memory(kept.get(name)) for name in sorted(kept.flow_ids())}


# --- the watched folder ----------------------------------------------------------------------


def folder_of(root: Path, store: Store, clock: FakeClock | None = None) -> FolderSource:
    """The folder, looked at whenever ``scan`` is called."""
    clock = clock or FakeClock(
        wall=time.time() + 10
    )  # Its files are old enough to be read at once.
    return FolderSource(
        folder=root / "manifests",
        store=store,
        board=Board(clock),
        state=root / "data" / "folder.json",
        prune="always",
        foresee=lambda _before, _after: "none",
        clock=clock,
    )


def _file(root: Path, name: str, script: str, *flow_ids: str) -> None:
    documents = [make_document(flow_id, script) for flow_id in flow_ids]
    (root / "manifests").mkdir(exist_ok=True)
    (root / "manifests" / name).write_text(dump_yaml(documents))


def folder(root: Path) -> Iterator[State]:
    """Files are there, and are applied for the first time."""
    with opening(root / "data") as store:
        two_files(root)
        yield state_of(store)
        folder_of(root, store).scan()
        yield state_of(store)


def two_files(root: Path) -> None:
    _file(root, "one.yaml", "x", "a", "b")
    _file(root, "two.yaml", "x", "c", "d")


def folder_changes(root: Path) -> Iterator[State]:
    """Files have come and changed: one transaction."""
    with opening(root / "data") as store:
        _file(root, "one.yaml", "y", "a", "b")
        _file(root, "three.yaml", "y", "e", "f")
        yield state_of(store)
        folder_of(root, store).scan()
        yield state_of(store)


def folder_prunes(root: Path) -> Iterator[State]:
    """A file has gone with all its flows, and nothing more goes: one transaction."""
    with opening(root / "data") as store:
        (root / "manifests" / "two.yaml").unlink()
        yield state_of(store)
        look_for_good(root, store)
        yield state_of(store)


def look_for_good(root: Path, store: Store) -> None:
    """Look, and once more when what has gone has been gone for long enough."""
    clock = FakeClock(wall=time.time() + 10)
    source = folder_of(root, store, clock)
    source.scan()
    clock.advance(QUIET)
    source.scan()


def applied_files(root: Path) -> None:
    two_files(root)
    scanned(root)


def folder_and_api(root: Path) -> Iterator[State]:
    """A flow that the API took from its file stays deleted, whatever happens to other files."""
    with opening(root / "data") as store:
        edits(store).delete("a", force=True)
        _file(root, "two.yaml", "y", "c", "d")
        yield state_of(store)
        folder_of(root, store).scan()
        yield state_of(store)


def scanned(root: Path) -> State:
    """The next operator looks at the folder, too."""
    with opening(root / "data") as store:
        look_for_good(root, store)
        return state_of(store)


SCENES: dict[str, Scene] = {
    "single writes": Scene(single_writes),
    "batch": Scene(batch),
    "command on many": Scene(command_on_many, some_flows),
    "deletes": Scene(deletes, one_flow),
    "writers together": Scene(writers_together, one_flow, right=each_old_or_new),
    "recovery": Scene(recovery, left_by_a_crash),
    "first start": Scene(first_start),
    "memories": Scene(memories, read=read_memories),
    "folder": Scene(folder, go_on=scanned),
    "folder changes": Scene(folder_changes, applied_files, go_on=scanned),
    "folder prunes": Scene(folder_prunes, applied_files, go_on=scanned),
    "folder and API": Scene(folder_and_api, applied_files, go_on=scanned),
}
