"""What flowd has freed is the machine's again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes
from flow_operator.process import give_memory_back

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]

def mapped():  # hblks of mallinfo2(3)
    return told().d

told = ctypes.CDLL(None).mallinfo2
told.restype = Info
give_memory_back()
large = bytes(10_000_000)
del large
before = mapped()
kept = bytes(1_000_000)
print(mapped() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
def test_a_large_block_has_a_mapping_of_its_own_also_after_a_larger_one() -> None:
    """So that it goes back when it is freed; glibc by itself would have learnt to keep it."""
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=30
    )
    assert told.stdout.strip() == "1"


FLOWD = """
import gc, sys
import flow_operator.flowd as flowd

def instead(*_):
    print(gc.get_threshold()[0])
    sys.exit()

flowd.Operator = instead
flowd.main()
"""
SHIM = """
import gc, sys
from flow_operator.shim.server import Shim, claim

Shim(sys.argv[2], *claim(sys.argv[2]))
print(gc.get_threshold()[0])
"""


@pytest.mark.parametrize("script", [FLOWD, SHIM])
def test_what_is_no_garbage_is_seldom_looked_through_for_some(script, tmp_path) -> None:
    """Each look goes through flows by the thousand, and nothing goes on meanwhile."""
    told = subprocess.run(
        [sys.executable, "-c", script, "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert int(told.stdout) > 10_000  # Python's own is 700, from 3.12 on 2,000


STARTED = """
import gc, sys
import flow_operator.flowd as flowd

recover = flowd.Operator._recover

def seen(self):
    print("off" if not gc.isenabled() else "on")
    recover(self)

def instead(self, signals):
    print("on" if gc.isenabled() else "off", gc.get_freeze_count())

flowd.Operator._recover = seen
flowd.Operator.run_until = instead
flowd.main()
"""


def test_what_is_read_at_the_start_is_never_looked_through(tmp_path) -> None:
    """It stays: flows, what is remembered of them, and modules."""
    listen = f"unix:{tmp_path}/sock"
    told = subprocess.run(
        [sys.executable, "-c", STARTED, "--data", str(tmp_path / "data"), "--listen", listen],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    words = [line for line in told.stdout.splitlines() if line.startswith(("on", "off"))]
    assert words[0] == "off"
    state, frozen = words[1].split()
    assert state == "on"
    assert int(frozen) > 10_000
