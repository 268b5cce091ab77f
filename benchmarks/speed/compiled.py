"""The programs in C, compiled once for each version of their sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).parent / "programs"


class Programs(NamedTuple):
    """Where the programs are."""

    worker: Path
    floor: Path
    client: Path
    pipe: Path


def compiler() -> str | None:
    """The C compiler of this machine, if it has one."""
    return shutil.which(os.environ.get("CC", "cc"))


def compile_programs(directory: Path) -> Programs:
    """Compile what is not there yet.

    Raises:
        FileNotFoundError: there is no C compiler.
        subprocess.CalledProcessError: it failed; what it said went to stderr.
    """
    found = compiler()
    if found is None:
        raise FileNotFoundError(
            "the benchmarks need a C compiler for the work of the flows, and there is no `cc`: "
            "install one (on Debian: apt install gcc libc6-dev), or name yours with CC"
        )
    sources = sorted(SOURCES.glob("*.[ch]"))
    version = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    home = directory / f"programs-{version}"
    home.mkdir(parents=True, exist_ok=True)
    for name in Programs._fields:
        if not (home / name).exists():
            made = home / f"{name}.{os.getpid()}"
            flags = ("-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
            subprocess.run([found, *flags, "-o", made, SOURCES / f"{name}.c"], check=True)
            made.replace(home / name)
    return Programs(*(home / name for name in Programs._fields))
