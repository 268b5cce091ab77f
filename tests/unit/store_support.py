"""Stores in a directory, kernels that refuse, and a look at what is on the disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from flow_operator.settings import Layout
from flow_operator.store import Desired, Store, StoredFlow, Transaction
from flow_operator.store.desired import created
from flow_operator.store.records import Origin
from support import make_manifest


def opened(root: Path) -> Store:
    """A store, recovered."""
    store = Store(Layout(root))
    store.recover()
    return store


@contextlib.contextmanager
def opening(root: Path) -> Iterator[Store]:
    """A store, closed in the end."""
    store = opened(root)
    try:
        yield store
    finally:
        store.close()


def names(root: Path) -> list[str]:
    """The files of the store."""
    return sorted(path.name for path in (root / "flows").iterdir())


def contents(root: Path) -> dict[str, bytes]:
    """The same with what is in them."""
    return {path.name: path.read_bytes() for path in (root / "flows").iterdir()}


def edits(store: Store) -> Desired:
    """The edits of a store of whose flows nothing runs."""
    return Desired(store, lambda _before, _after: "none")


def create(store: Store, *flow_ids: str, **spec: object) -> list[StoredFlow]:
    """Add flows in one transaction."""
    manifests = [make_manifest(flow_id, "x", **spec) for flow_id in flow_ids]
    return [edit.after for edit in edits(store).create(manifests)]


def put(transaction: Transaction, *flow_ids: str, script: str = "x") -> None:
    """Have flows created or overwritten, whatever stands."""
    for flow_id in flow_ids:
        transaction.put(created(transaction, make_manifest(flow_id, script), Origin()))


def script(store: Store, flow_id: str) -> str | None:
    """What the flow's only step runs, as a mark of which write stands."""
    record = store.get(flow_id)
    return record.flow.spec.steps[0].script if record else None


def no_checkpoints(store: Store) -> None:
    """Leave journals as they are, as an operator does that is killed at once."""
    store._later = lambda *_: None


def failing(
    monkeypatch, name: str, number: int, *, when: Callable[..., bool] = lambda *_: True
) -> list[int]:
    """Have one of ``os``' functions refuse; the list that is returned counts how often."""
    real = getattr(os, name)
    count: list[int] = []

    def refuse(*arguments: object, **options: object) -> object:
        if when(*arguments):
            count.append(number)
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    monkeypatch.setattr(os, name, refuse)
    return count


def is_directory(descriptor: int) -> bool:
    """Whether a descriptor is of a directory."""
    return Path(f"/proc/self/fd/{descriptor}").is_dir()
