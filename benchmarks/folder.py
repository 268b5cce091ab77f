"""What looks at a folder of manifests cost, in this process, on a file system in memory.

Usage: python benchmarks/folder.py [COUNT]
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from flow_operator.board import Board
from flow_operator.clock import SystemClock
from flow_operator.settings import Layout
from flow_operator.sources import FolderSource
from flow_operator.store import Store


def write(folder: Path, count: int, edition: int) -> None:
    """Manifests of one edition, old enough to be read at once."""
    for number in range(count):
        path = folder / f"f{number:05}.yaml"
        path.write_text(
            f"flow_id: f{number:05}\nspec:\n  state: stopped\n  description: edition {edition}\n"
            "  steps:\n  - name: main\n    script: exec sleep 1000\n"
        )
        os.utime(path, (1e9, 1e9))


def timed(what: str, work: Callable[[], object]) -> None:
    """Do something, and print how long it took: by the clock, and of the processor."""
    begun, used = time.perf_counter(), time.process_time()
    work()
    took, used = time.perf_counter() - begun, time.process_time() - used
    print(f"{what:42} {took:7.3f} s {used:7.3f} s")


def source(root: Path) -> tuple[FolderSource, Store]:
    """What an operator starts with."""
    layout, clock = Layout(root / "data"), SystemClock()
    store = Store(layout)
    timed("store: recover", store.recover)
    made = FolderSource(
        folder=root / "manifests",
        store=store,
        board=Board(clock),
        state=layout.folder_state,
        prune="auto",
        foresee=lambda _before, _after: "none",
        clock=clock,
    )
    return made, store


def main() -> None:
    """Print a line for each kind of look."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        root = Path(name)
        (root / "data").mkdir()
        (root / "manifests").mkdir()
        write(root / "manifests", count, 1)
        folder, store = source(root)
        timed(f"{count} new files", folder.scan)
        for _ in range(3):
            timed(f"{count} unchanged files", folder.scan)
        write(root / "manifests", min(1000, count), 2)
        timed(f"{min(1000, count)} of them changed", folder.scan)
        store.close()
        folder, store = source(root)
        timed("the first look after a restart", folder.scan)
        store.close()


if __name__ == "__main__":
    main()
