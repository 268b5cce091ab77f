"""Where peers come from: each into a directory of its own in the cache, nothing into the system."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

TIME = 300
"""Seconds that one installation may take."""


class MissingError(Exception):
    """A peer cannot be had here; the message says why."""


def cache() -> Path:
    """The directory of everything that was installed or compiled."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(home) / "flow-operator-bench"
    path.mkdir(parents=True, exist_ok=True)
    return path


def from_pypi(name: str, *requirements: str) -> Path:
    """The ``bin`` of an environment with these requirements."""

    def install(home: Path) -> None:
        _run([sys.executable, "-m", "venv", str(home)])
        pip = (str(home / "bin/python"), "-m", "pip", "install", "--quiet")
        _run([*pip, "--disable-pip-version-check", *requirements])

    return _once(name, install) / "bin"


def from_npm(name: str, requirement: str) -> Path:
    """The ``node_modules`` with this package."""
    if not shutil.which("npm") or not shutil.which("node"):
        raise MissingError("needs node and npm")

    def install(home: Path) -> None:
        options = ("--no-audit", "--no-fund", "--silent", "--prefix", str(home))
        _run(["npm", "install", *options, requirement])

    return _once(name, install) / "node_modules"


def from_debian(name: str, *packages: str) -> Path:
    """A directory with the files of packages, none of whose scripts was run."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise MissingError("needs Debian's apt-get and dpkg-deb")

    def install(home: Path) -> None:
        home.mkdir()
        _run(["apt-get", "download", "--quiet", *packages], home)
        for package in sorted(home.glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(package), str(home)])

    return _once(name, install)


def _once(name: str, install: Callable[[Path], None]) -> Path:
    """Install once, also when two do so at once; what has failed is tried anew the next time."""
    home, mark = cache() / name, cache() / f"{name}.installed"
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists():
            shutil.rmtree(home, ignore_errors=True)
            install(home)
            mark.touch()
    return home


def _run(command: Sequence[str], directory: Path | None = None) -> None:
    try:
        done = subprocess.run(  # noqa: PLW1510
            command, cwd=directory, capture_output=True, text=True, timeout=TIME
        )
    except subprocess.TimeoutExpired:
        raise MissingError(f"{command[0]} took more than {TIME} s") from None
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines()
        raise MissingError(f"{command[0]} failed: {told[-1] if told else done.returncode}")
