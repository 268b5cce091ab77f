"""The benchmarks themselves, with few flows: that they measure, never how fast."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from speed.compiled import compile_programs, compiler
from speed.figures import Figures, Result
from speed.measures import FLOOR, MEASURES, OURS, OWN, PARSE, PYTHON_FLOOR, SHELL
from speed.processes import Watched, children_of, pss, usage
from speed.register import Register
from speed.session import end_workers
from support import ROOT, alive, eventually, require, spawned


@pytest.fixture(scope="module", autouse=True)
def _compiler() -> None:
    require(None if compiler() else "a C compiler")


@pytest.fixture
def register(root: Path):
    with Register(root / "register", 3) as made:
        yield made


@pytest.fixture
def worker(root: Path) -> Path:
    return compile_programs(root).worker


def test_workers_tell_the_register_that_they_run(root: Path, register, worker: Path) -> None:
    """Their own pids, their flows' numbers, and times that lie in between."""
    with (
        subprocess.Popen([worker, register.path, "7"]) as first,
        subprocess.Popen([worker, register.path, "8"]) as second,
    ):
        try:
            started = register.wait(2, within=20)
            assert {(s.number, s.pid) for s in started} == {(7, first.pid), (8, second.pid)}
            assert register.wait_for(8, after=0, within=20).pid == second.pid
            assert register.wait_for(9, after=0, within=0.01) is None
            assert register.pids() == {7: first.pid, 8: second.pid}
            assert pss([first.pid]) > 0
            assert usage([first.pid]).cpu > 0
        finally:
            end_workers(register)
    assert (first.returncode, second.returncode) == (-signal.SIGKILL, -signal.SIGKILL)


def test_an_entry_that_is_not_whole_is_none(root: Path, register) -> None:
    """A worker takes its entry before it fills it; what stands after it waits, too."""
    with register.path.open("r+b") as file:
        file.write(struct.pack("=Q", 2))
        file.seek(16 + 16)
        file.write(struct.pack("=qii", 5_000_000_000, 11, 1))
        file.flush()
        assert register.count() == 0
        file.seek(16)
        file.write(struct.pack("=qii", 4_000_000_000, 10, 0))
    assert register.count() == 2
    assert [(s.at, s.pid, s.number) for s in register.read()] == [(4.0, 10, 0), (5.0, 11, 1)]


def test_a_register_that_is_full_is_no_proof(register, worker: Path) -> None:
    """The worker fails, and writes nowhere else; whoever waits for it is told how many came."""
    running = [subprocess.Popen([worker, register.path, str(n)]) for n in range(4)]
    try:
        eventually(lambda: _assert_some_failed(running))
        with pytest.raises(TimeoutError, match="3 of 4"):
            register.wait(4, within=0.01)
    finally:
        end_workers(register)
        for process in running:
            process.wait()


def _assert_some_failed(running: list[subprocess.Popen]) -> None:
    assert [process.poll() for process in running if process.poll() is not None]


def test_only_workers_of_the_register_are_ended(register) -> None:
    """A pid that stands in it may by now be another process's."""
    with spawned(["/bin/sleep", "1000"]) as other:
        with register.path.open("r+b") as file:
            file.write(struct.pack("=Q", 1))
            file.seek(16)
            file.write(struct.pack("=qii", 1, other.pid, 0))
        end_workers(register)
        assert other.poll() is None


def test_a_process_that_stays_is_told(register) -> None:
    """Waiting has an end, and what is left can be killed."""
    with spawned(["/bin/sleep", "1000"]) as process, Watched([process.pid]) as watched:
        with pytest.raises(TimeoutError, match="1 processes still run"):
            watched.wait(0.01)
        watched.kill()
        watched.wait(20)
    assert process.returncode == -signal.SIGKILL


def test_a_quick_run_measures_everything(root: Path) -> None:
    """Each measure came about, every start was proved by its worker, and the page is written."""
    environment = {**os.environ, "PYTHONPATH": "benchmarks", "XDG_CACHE_HOME": str(root)}
    subprocess.run(
        [sys.executable, "-m", "speed", "--quick", "--docs", str(root)],
        cwd=ROOT,
        env=environment,
        check=True,
        timeout=170,
    )
    result = msgspec.json.decode((root / "performance/results.json").read_bytes(), type=Result)
    assert not result.failures
    figures = Figures(result.samples)
    for who, names in {
        OURS: {m.name for m in (*MEASURES, *OWN)} | {"pipeline", "drain"},
        FLOOR: {"start", "restart-p50", "restart-alone", "add", "stop", "memory", "cold-start"},
        PYTHON_FLOOR: {"start", "restart-p50", "add", "stop", "memory"},
        PARSE: {"cold-start"},
        SHELL: {"pipeline"},
    }.items():
        for name in names:
            assert figures.sizes(who, name), f"{name} of {who} was not measured"
    assert "# Performance" in (root / "performance.md").read_text()


def test_a_run_that_is_ended_leaves_nothing_behind(root: Path) -> None:
    """Whoever has seen enough ends it; what it has started ends with it."""
    environment = {**os.environ, "PYTHONPATH": "benchmarks", "XDG_CACHE_HOME": str(root)}
    with spawned(
        [sys.executable, "-m", "speed", "--quick", "--docs", str(root)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        worker, register = eventually(lambda: _worker_of(run.pid))
        run.terminate()
        told = run.communicate(timeout=60)[1]
    assert run.returncode == 1
    assert "ended by SIGTERM" in told
    assert not alive(worker)
    assert not register.exists()
    assert not (root / "performance.md").exists()


def _worker_of(pid: int) -> tuple[int, Path]:
    """One that the floor in C, the first contender, has started and that runs; its register."""
    for child in children_of(pid):
        for worker in children_of(child):
            words = Path(f"/proc/{worker}/cmdline").read_text().split("\0")
            if words[0].endswith("/worker"):
                return worker, Path(words[1])
    raise LookupError("no worker runs yet")
