"""What the figures were measured on, and what else ran there."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def describe() -> dict[str, str]:
    """The machine, by title."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processors": f"{os.cpu_count()} of {model}",
        "memory": f"{pages / 2**30:.0f} GiB; all data in it (/dev/shm)",
        "kernel": platform.release(),
        "cgroup2": _cgroups(),
        "C library": " ".join(platform.libc_ver()),
        "Python": platform.python_version(),
    }


def _cgroups() -> str:
    """How the groups of runs are mounted: ``favordynmods`` makes moving into one faster."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next((options for _, _, kind, options, *_ in mounts if kind == "cgroup2"), "none")


def load_average() -> float:
    """Of the last minute: how many processes wanted to run."""
    return os.getloadavg()[0]


def version_of(command: Sequence[str]) -> str:
    """The last word of what a program says of itself; empty if it does not."""
    if shutil.which(command[0]) is None:
        return ""
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    words = (told.stdout or told.stderr).split()
    return words[-1] if words else ""
