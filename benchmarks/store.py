"""How many durable writes a second the store takes, as ratios to one lock around each write's sync.

    PYTHONPATH=operator:tests .venv/bin/python benchmarks/store.py [DIRECTORY]

Each writer commands its own three-step flow again and again; the directory (a temporary one in
/dev/shm and one in /tmp if none is given) decides what a sync costs. The base is what the store
would do without journals: the flow's file is replaced, synced and its directory synced, under one
lock. Rounds alternate, so that a machine that is busy is busy for both.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from flow_operator.manifest import dump_yaml
from flow_operator.settings import Layout
from flow_operator.store import Desired, Store
from flow_operator.store.files import write_durably
from support import make_manifest

ROUNDS = 5
WRITES = {1: 300, 8: 60}
"""Writes of each writer, by the number of writers."""


def rate(writers: int, write: Callable[[int], object]) -> float:
    """Writes per second of so many threads."""

    def work(number: int) -> None:
        for _ in range(WRITES[writers]):
            write(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(writers)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return writers * WRITES[writers] / (time.perf_counter() - begun)


def base_rate(directory: Path, writers: int) -> float:
    """One lock, one file, two syncs."""
    lock = threading.Lock()
    document = make_manifest("f", "a", "b", "c").document

    def write(number: int) -> None:
        with lock:
            write_durably(directory / f"f{number}.yaml", dump_yaml([document]).encode())

    return rate(writers, write)


def store_rate(directory: Path, writers: int) -> tuple[float, float]:
    """The store's, and the share of it that is left when writing the files out counts too."""
    store = Store(Layout(directory))
    store.recover()
    desired = Desired(store, lambda _before, _after: "none")
    desired.create([make_manifest(f"f{number}", "a", "b", "c") for number in range(writers)])
    begun = time.perf_counter()
    found = rate(writers, lambda number: desired.command("restart", [f"f{number}"]))
    acknowledged = time.perf_counter() - begun
    store.close()
    return found, acknowledged / (time.perf_counter() - begun)


def batch_seconds(directory: Path, count: int) -> tuple[float, float]:
    """Seconds until a batch of creations and one of commands are acknowledged."""
    store = Store(Layout(directory))
    store.recover()
    desired = Desired(store, lambda _before, _after: "none")
    manifests = [make_manifest(f"f{number}", "a", "b", "c") for number in range(count)]
    begun = time.perf_counter()
    desired.create(manifests)
    created = time.perf_counter()
    desired.command("stop", None)
    stopped = time.perf_counter()
    store.close()
    return created - begun, stopped - created


def measure(parent: Path) -> None:
    """Print the figures of one file system."""
    for writers in WRITES:
        base, ours, share = [], [], []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory(dir=parent) as name:
                base.append(base_rate(Path(name), writers))
            with tempfile.TemporaryDirectory(dir=parent) as name:
                found, left = store_rate(Path(name), writers)
                ours.append(found)
                share.append(left)
        middle, ours_middle = statistics.median(base), statistics.median(ours)
        print(
            f"{parent}: {writers} writers: {ours_middle:6.0f}/s, base {middle:5.0f}/s, "
            f"ratio {ours_middle / middle:.1f}; "
            f"with the files {ours_middle * statistics.median(share):.0f}/s"
        )
    found_seconds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=parent) as name:
            found_seconds.append(batch_seconds(Path(name), 1000))
    created, stopped = (
        1000 * statistics.median(column) for column in zip(*found_seconds, strict=True)
    )
    print(f"{parent}: 1,000 flows: created after {created:.0f} ms, stopped after {stopped:.0f} ms")


def main(arguments: Iterable[str]) -> None:
    """Measure."""
    for parent in arguments or ("/dev/shm", "/tmp"):  # noqa: S108 - what it is about
        measure(Path(parent))


if __name__ == "__main__":
    main(sys.argv[1:])
