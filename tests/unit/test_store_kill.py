"""A writer that is killed at any moment: nothing acknowledged is lost, nothing is torn."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.store_support import names, opening, script
from unit.store_writer import plan_of

HERE = Path(__file__).parent
KILLS = 20
FLOWS = [f"flow-{n}" for n in range(5)]


@pytest.fixture
def writer(root: Path) -> Iterator[subprocess.Popen[str]]:
    """The program, which forks a writer for each line that it is given."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "store_writer.py"), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])},
    ) as process:
        yield process
        process.stdin.close()


def _write_and_kill(writer: subprocess.Popen[str], first: int, chance: random.Random) -> int:
    """Returns the number of the last transaction that was acknowledged."""
    writer.stdin.write(f"{first}\n")
    writer.stdin.flush()
    last, pid, enough = first - 1, 0, chance.randrange(0, 40)
    for line in writer.stdout:
        if line.startswith("pid"):
            pid = int(line.split()[1])
        elif line.startswith("dead"):
            return last
        else:
            last = int(line)
        if pid and last - first + 1 >= enough:
            time.sleep(chance.random() * 0.003)  # Any moment will do.
            os.kill(pid, signal.SIGKILL)
            pid, enough = 0, 10**9
    raise AssertionError("the writer has ended by itself")


def test_acknowledged_writes_outlive_any_kill(root, writer):
    """The last one told stands; of the one under way all stands, or nothing."""
    chance = random.Random()
    expected: dict[str, int] = {}
    number = 0
    for _ in range(KILLS):
        last = _write_and_kill(writer, number, chance)
        for done in range(number, last + 1):
            expected |= dict.fromkeys(plan_of(done), done)
        with opening(root) as store:
            found = {name: int(said) for name in FLOWS if (said := script(store, name))}
            assert store.corrupt == {}
        under_way = last + 1
        written = expected | dict.fromkeys(plan_of(under_way), under_way)
        assert found in (expected, written)
        assert names(root) == sorted(f"{name}.yaml" for name in found)
        expected, number = found, under_way + 1
    assert number > KILLS
