"""Starting one process.

``posix_spawn`` costs the same however large the parent is, but cannot change the directory or the
limits of the child. The shim has one thread, so it changes its own for the moment of the spawn.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SOFT, _HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
"""The limits that this process was started with; children get the same soft limit."""

_HOME = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
_DEFAULT_SIGNALS = sorted(
    signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} - set(range(32, 35))
)
"""All that can be set; 32 to 34 belong to the C library."""


class SpawnError(Exception):
    """The process could not be started; ``str()`` tells why."""


def raise_own_limit() -> None:
    """Let this process hold as many descriptors as it may: it keeps two for each pipe."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (_HARD, _HARD))


def spawn(spec: Mapping[str, Any], env: Mapping[str, str], stdio: Sequence[int]) -> int:
    """Start ``spec["argv"]`` as the leader of a session of its own; returns its pid.

    Args:
        spec: ``argv``, ``cwd`` and, optionally, ``nofile`` (descriptors).
        env: the whole environment.
        stdio: what becomes descriptors 0, 1 and 2.

    Raises:
        SpawnError: no such program or directory, no permission, or no process to be had.
    """
    limit = spec.get("nofile")
    try:
        with _inside(spec["cwd"]), _soft_limit(min(limit or _SOFT, _HARD)):
            program = _find(spec["argv"][0], env)
            pid = os.posix_spawn(
                program,
                spec["argv"],
                env,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(stdio)],
                setsid=True,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
    except OSError as error:
        where = f": {error.filename}" if error.filename not in (None, spec["argv"][0]) else ""
        raise SpawnError(f"cannot start {spec['argv'][0]!r}: {error.strerror}{where}") from None
    except ValueError as error:
        raise SpawnError(f"cannot start {spec['argv'][0]!r}: {error}") from None
    if limit:
        _set_hard_limit(pid, min(limit, _HARD))
    return pid


@contextlib.contextmanager
def _inside(directory: str) -> Iterator[None]:
    os.chdir(directory)
    try:
        yield
    finally:
        os.fchdir(_HOME)


@contextlib.contextmanager
def _soft_limit(limit: int) -> Iterator[None]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, _HARD))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_HARD, _HARD))


def _find(program: str, env: Mapping[str, str]) -> str:
    found = shutil.which(program, path=env.get("PATH", os.defpath))
    if found is None:
        # The kernel's own word for a path; a search has no file to name.
        if "/" in program:
            return program
        raise SpawnError(f"cannot start {program!r}: no such program on PATH")
    return found


def _set_hard_limit(pid: int, limit: int) -> None:
    # It may have ended already, or be a program that runs as somebody else.
    with contextlib.suppress(OSError):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
