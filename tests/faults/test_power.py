"""The power is cut while a store is written to: nothing acknowledged is lost.

A file system in an image is shut down at a random moment, by an ioctl that the kernel has for such
tests: what it had not yet handed to the disk is gone. 200 cuts in CI; ``--soak`` makes as many as
SOAK_CUTS says (2,000).
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from faults.crash_scenes import folder_of, two_files
from faults.disk import Disk, unavailable
from faults.ledger import Ledger
from faults.power_writer import THREADS, state_after
from support import Flowd, eventually, processes_of
from unit.store_support import edits, opening, script

HERE = Path(__file__).parent
CUTS = {"ext4": 150, "xfs": 50}
OPERATOR_CUTS = 5

OPTIONS = {"ext4": ["defaults", "noauto_da_alloc"], "xfs": ["defaults"]}
"""How it is mounted; by the second, ext4 does not write a file because it takes another's name."""

OUTLIVED = {"ext4": True, "xfs": False}
"""Whether half of the cuts leave the writer a moment without its disk, in which it must acknowledge
nothing. Not on XFS, which tells success for the fsync of a directory once it is shut down."""


class Cuts:
    """One disk, a writer, and what must stand on it.

    Attributes:
        acknowledged: how many transactions were.
        lost: what should have been there, in words.
    """

    def __init__(self, disk: Disk, writer: subprocess.Popen[str], without: str = "") -> None:
        self._disk = disk
        self._writer = writer
        self._without = without
        self._next = [0] * THREADS
        self._version = 0
        self.acknowledged = 0
        self.lost: list[str] = []

    def cut(self, options: str, *, outlived: bool) -> None:
        """Write, cut the power at some moment, and look what is there."""
        last = self._write_and_cut(outlived=outlived)
        self.acknowledged += sum(last) - sum(self._next) + THREADS
        self._disk.unmount()
        self._disk.mount(options)
        self._look(last)

    def _write_and_cut(self, *, outlived: bool) -> list[int]:
        """Returns the number of the last transaction that was acknowledged to each thread."""
        request = [str(self._disk.path / "data"), self._without, self._next]
        self._writer.stdin.write(json.dumps(request) + "\n")
        self._writer.stdin.flush()
        last = [number - 1 for number in self._next]
        pid, enough, was_cut = 0, random.randrange(1, 20), False
        for line in self._writer.stdout:
            words = line.split()
            if words[0] == "dead":
                assert was_cut, "the writer has ended by itself"
                return last
            if words[0] == "pid":
                pid = int(words[1])
                continue
            thread, number, version = map(int, words)
            last[thread], self._version = number, max(self._version, version)
            enough -= 1
            if enough == 0:
                time.sleep(random.random() * 0.003)  # Any moment will do.
                for cut in self._both(pid, outlived=outlived):
                    cut()
                was_cut = True
        raise AssertionError("nobody reads on")

    def _both(self, pid: int, *, outlived: bool) -> list[Callable[[], None]]:
        """The ends of disk and writer, in their order."""
        both = [lambda: os.kill(pid, signal.SIGKILL), self._disk.cut]
        return both[::-1] if outlived else both

    def _look(self, last: list[int]) -> None:
        """What is found goes on to be what must stand."""
        with opening(self._disk.path / "data") as store:
            if store.corrupt:
                self.lost.append(f"torn: {store.corrupt}")
            if store.version < self._version:
                self.lost.append(f"the version went back from {self._version} to {store.version}")
            names = [path.name for path in (self._disk.path / "data").rglob("*")]
            if any(name.startswith(".tmp-") or ".corrupt" in name for name in names):
                self.lost.append(f"left lying about: {names}")
            found = {flow.flow_id: script(store, flow.flow_id) for flow in store.flows()}
            lines = (self._disk.path / "data" / "audit.log").read_bytes().splitlines()
            told = [json.loads(line)["version"] for line in lines]
            if told != list(range(1, store.version + 1)):
                self.lost.append(f"the audit log tells of {told[-20:]}, not up to {store.version}")
        for thread, number in enumerate(last):
            mine = {k: v for k, v in found.items() if k.startswith(f"t{thread}-")}
            old, new = state_after(thread, number), state_after(thread, number + 1)
            if mine not in (old, new):
                self.lost.append(f"thread {thread}: {mine} is neither {old} nor {new}")
            self._next[thread] = number + 1 + (mine == new)


@pytest.fixture
def disk(request: pytest.FixtureRequest, root: Path) -> Iterator[Disk]:
    """Of the kind that the test's parameter names."""
    kind = getattr(request, "param", "ext4")
    missing = unavailable(kind)
    if missing is not None:
        pytest.skip(missing)
    made = Disk(root, kind)
    made.mount()
    yield made
    made.destroy()


@pytest.fixture
def writer() -> Iterator[subprocess.Popen[str]]:
    """The program, which forks a writer for each line that it is given."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "power_writer.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])},
    ) as process:
        yield process
        process.stdin.close()


def lose_nothing(cuts: Cuts, kind: str, count: int) -> None:
    """Cut so often, in every way."""
    for number in range(count):
        options = OPTIONS[kind][number % len(OPTIONS[kind])]
        cuts.cut(options, outlived=OUTLIVED[kind] and number % 4 < 2)
        assert cuts.lost == [], f"cut {number}, mounted with {options}"


@pytest.mark.parametrize("disk", CUTS, indirect=True)
def test_power_cuts_lose_nothing_that_was_acknowledged(
    disk: Disk,
    writer: subprocess.Popen[str],
    request: pytest.FixtureRequest,
    record_property: Callable[[str, int], None],
) -> None:
    """Nothing is torn, batches stand whole or not at all, versions never go back, all is told."""
    kind = request.node.callspec.params["disk"]
    cuts = Cuts(disk, writer)
    lose_nothing(cuts, kind, CUTS[kind])
    record_property("power cuts", CUTS[kind])
    record_property("writes acknowledged before them", cuts.acknowledged)


@pytest.mark.parametrize("without", ["files", "names"])
def test_a_store_that_does_not_sync_is_found_out(
    disk: Disk, writer: subprocess.Popen[str], without: str
) -> None:
    """Without the fsync of files or that of directories the cuts lose what was acknowledged."""
    opening_of(disk)
    cuts = Cuts(disk, writer, without)
    for _ in range(CUTS["ext4"]):
        cuts.cut("noauto_da_alloc", outlived=False)
        if cuts.lost:
            return
    raise AssertionError("the cuts find nothing")


def opening_of(disk: Disk) -> None:
    """A data directory that is there already: what is tried is the writing, not the beginning."""
    with opening(disk.path / "data"):
        os.sync()


def test_what_the_api_took_from_a_file_stays_deleted(disk: Disk) -> None:
    """That a file was applied is known after a power cut, else it would be applied once more."""
    disk.unmount()
    disk.mount("noauto_da_alloc")
    two_files(disk.path)
    os.sync()
    with opening(disk.path / "data") as store:
        folder_of(disk.path, store).scan()
        edits(store).delete("a", force=True)
        disk.cut()
    disk.unmount()
    disk.mount()
    with opening(disk.path / "data") as store:
        folder_of(disk.path, store).scan()
        assert [flow.flow_id for flow in store.flows()] == ["b", "c", "d"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("disk", CUTS, indirect=True)
def test_many_power_cuts(
    disk: Disk,
    writer: subprocess.Popen[str],
    request: pytest.FixtureRequest,
    record_property: Callable[[str, int], None],
) -> None:
    """The same, for long."""
    kind = request.node.callspec.params["disk"]
    cuts, count = Cuts(disk, writer), int(os.environ.get("SOAK_CUTS", "2000"))
    lose_nothing(cuts, kind, count)
    record_property("power cuts", count)
    record_property("writes acknowledged before them", cuts.acknowledged)


# --- a whole operator ------------------------------------------------------------------------


class Client(threading.Thread):
    """Writes through the API until something is refused or nobody answers."""

    def __init__(self, flowd: Flowd, ledger: Ledger, rounds: Iterator[int]) -> None:
        super().__init__(name="client", daemon=True)
        self._flowd = flowd
        self._ledger = ledger
        self._rounds = rounds
        self.begun = threading.Event()
        self.failure: AssertionError | None = None

    def run(self) -> None:
        try:
            while self._ledger.carry_out(self._flowd.client, next(self._rounds)):
                self.begun.set()
        except AssertionError as error:
            self.failure = error
        self.begun.set()


def cut_operator(disk: Disk, flowd: Flowd, ledger: Ledger, rounds: Iterator[int]) -> None:
    """The power is cut at some moment; the next operator comes to what was acknowledged."""
    client = Client(flowd, ledger, rounds)
    client.start()
    assert client.begun.wait(20)
    time.sleep(random.random() * 0.05)  # Any moment will do.
    disk.cut()
    client.join()
    flowd.destroy()
    assert client.failure is None, client.failure
    disk.unmount()
    disk.mount()


def come_back(flowd: Flowd, ledger: Ledger) -> None:
    """Start another operator on what is left, and have it look after everything."""
    flowd.client = httpx.Client(timeout=60)
    flowd.start()
    ledger.check(flowd)

    def converged() -> None:
        found = {name: told["status"] for name, told in flowd.statuses().items()}
        assert found == ledger.expected
        running = [name for name, state in ledger.expected.items() if state == "running"]
        assert len(processes_of(flowd.data)) == len(running)

    eventually(converged)


def test_an_operator_whose_power_is_cut_has_lost_nothing(
    disk: Disk, root: Path, record_property: Callable[[str, int], None]
) -> None:
    """The next one has every flow as it was acknowledged, and runs it."""
    flowd, ledger, rounds = Flowd(disk.path), Ledger(), itertools.count()
    flowd.log = root / "flowd.log"
    try:
        for _ in range(OPERATOR_CUTS):
            come_back(flowd, ledger)
            cut_operator(disk, flowd, ledger, rounds)
        come_back(flowd, ledger)
    finally:
        flowd.destroy()
        eventually(lambda: _none(processes_of(flowd.data)))
    record_property("power cuts", OPERATOR_CUTS)
    record_property("writes acknowledged before them", ledger.acknowledged)


def _none(pids: list[int]) -> None:
    assert not pids
