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
