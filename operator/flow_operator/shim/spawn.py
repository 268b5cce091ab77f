"""Starting one process.

``posix_spawn`` costs the same however large the parent is, but cannot change the directory or the
limits of the child. The shim has one thread, so it changes its own for the moment of the spawn.
What needs more, another user or more limits, goes the slower way of a fork; so does what is to be
born in another cgroup, where the C library cannot spawn into one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterator, Mapping, Sequence

from flow_operator.shim.fork import fork_into, open_group, run_forked
from flow_operator.shim.spawn_into import SPAWNS_INTO, spawn_into

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NULL = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
"""What a process reads that is to read nothing."""

_LOW = tuple(os.dup(NULL) for _ in range(3))
"""What a process is to have as 0, 1 and 2, while it is spawned. The C library refuses numbers that
are not below the child's soft limit, and those may all be in use here."""

_HOME = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
DEFAULT_SIGNALS = tuple(
    sorted(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} - set(range(32, 35))))
)
"""All that can be set; 32 to 34 belong to the C library."""

ROOM = 16
"""Descriptors that no run may take: operators, messages and logs need some."""

_HINTS = {
    errno.EAGAIN: " (a limit of processes is reached)",
    errno.EMFILE: " (the shim has no descriptor left; raise its hard limit, see ulimit -Hn)",
}


class SpawnError(Exception):
    """The process could not be started; ``str()`` tells why.

    Attributes:
        errno: the system's reason, 0 if it was none of its.
    """

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


def raise_own_limit() -> None:
    """Let this process hold as many descriptors as it may: it keeps two for each pipe."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def require_room(count: int) -> None:
    """Have some descriptors left.

    Raises:
        OSError: EMFILE, with what to do about it.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(NULL)
    os.close(lowest)
    if lowest >= limit - count:
        raise OSError(
            errno.EMFILE,
            f"nearly all of the shim's {limit} descriptors are in use; raise the hard limit with "
            "which flowd is started (ulimit -Hn)",
        )


def spawn(
    spec: Mapping[str, Any],
    env: Mapping[str, str],
    stdio: Sequence[int],
    group: str | None = None,
) -> int:
    """Start ``spec["argv"]`` as the leader of a session of its own; returns its pid.

    Args:
        spec: ``argv``; ``cwd``; ``nofile``, the soft limit of descriptors; and optionally
            ``rlimits``, soft and hard at once, by their names in setrlimit(2); ``umask``;
            ``user``, with ``uid``, ``gid`` and ``groups``.
        env: the whole environment.
        stdio: what becomes descriptors 0, 1 and 2.
        group: the cgroup that it is to be born in, if not in ours.

    Raises:
        SpawnError: no such program or directory, no permission, or no process to be had.
        ForkError: nobody can be started in the group.
    """
    name = program = spec["argv"][0]
    try:
        with inside(spec["cwd"]):
            program = _find(name, env)
            if spec.get("user") or spec.get("rlimits") or (group is not None and not SPAWNS_INTO):
                return _fork(program, spec, env, stdio, group)
            with (
                _at_hand(stdio),
                open_group(group) if group is not None else contextlib.nullcontext() as place,
                _umask(spec.get("umask")),
                soft_limit(spec["nofile"]),  # Last, as it holds for what is opened here, too.
            ):
                if place is None:
                    return _spawn(program, spec["argv"], env)
                with contextlib.suppress(OSError):
                    return spawn_into(place, program, spec["argv"], env, _LOW, DEFAULT_SIGNALS)
            # For what it tells, if it fails as well: whether it was the program or the group.
            return _fork(program, spec, env, stdio, group)
    except OSError as error:
        where = f": {error.filename}" if error.filename not in (None, name, program) else ""
        hint = _HINTS.get(error.errno or 0, "")
        raise SpawnError(
            f"cannot start {name!r}: {error.strerror}{where}{hint}", error.errno or 0
        ) from None
    except ValueError as error:
        raise SpawnError(f"cannot start {name!r}: {error}") from None


def _spawn(program: str, argv: list[str], env: Mapping[str, str]) -> int:
    return os.posix_spawn(
        program,
        argv,
        env,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(_LOW)],
        setsid=True,
        setsigmask=(),
        setsigdef=DEFAULT_SIGNALS,
    )


def _fork(
    program: str,
    spec: Mapping[str, Any],
    env: Mapping[str, str],
    stdio: Sequence[int],
    group: str | None,
) -> int:
    """The descriptors of ours that it has until then are closed by its exec.

    Until then it is one of us, by its environment: no other shim is to come before that, and the
    lock says so.
    """

    def become() -> None:
        os.setsid()
        if user := spec.get("user"):
            os.setgroups(user["groups"])
            os.setgid(user["gid"])
            os.setuid(user["uid"])
        if (mask := spec.get("umask")) is not None:
            os.umask(mask)
        for number, descriptor in enumerate(stdio):
            os.dup2(descriptor, number)
        for number in DEFAULT_SIGNALS:
            if signal.getsignal(number) != signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
        _set_limits(spec["nofile"], spec.get("rlimits", {}))
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program, spec["argv"], env)  # noqa: S606 - no shell is wanted

    return run_forked(become, os.fork if group is None else lambda: fork_into(group))


def _set_limits(nofile: int, limits: Mapping[str, int]) -> None:
    """Set ``nofile`` as a soft limit, unless it is among the others: those are hard as well."""
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(nofile, hard), hard))
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    except (ValueError, OSError):
        raise OSError(
            errno.EPERM,
            f"its limits {dict(limits)} cannot be set; none may be above the hard limits of flowd",
        ) from None


@contextlib.contextmanager
def inside(directory: str) -> Iterator[None]:
    """Be in a directory, so that what is spawned begins there."""
    os.chdir(directory)
    try:
        yield
    finally:
        os.fchdir(_HOME)


@contextlib.contextmanager
def _at_hand(stdio: Sequence[int]) -> Iterator[None]:
    """Have them as :data:`_LOW`, and not for longer: somebody waits for the end of a pipe."""
    try:
        for descriptor, low in zip(stdio, _LOW, strict=True):
            os.dup2(descriptor, low, inheritable=False)
        yield
    finally:
        for low in _LOW:
            os.dup2(NULL, low, inheritable=False)


@contextlib.contextmanager
def soft_limit(limit: int) -> Iterator[None]:
    """Have a soft limit of descriptors that what is spawned inherits."""
    own, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if min(limit, hard) == own:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (own, hard))


@contextlib.contextmanager
def _umask(mask: int | None) -> Iterator[None]:
    previous = os.umask(mask) if mask is not None else None
    try:
        yield
    finally:
        if previous is not None:
            os.umask(previous)


def _find(program: str, env: Mapping[str, str]) -> str:
    if "/" in program:
        return program  # Whether it is there, the kernel tells.
    # As shutil.which, which takes 0.4 MB.
    for directory in env.get("PATH", os.defpath).split(os.pathsep):
        found = os.path.join(directory, program)
        if os.access(found, os.X_OK) and not os.path.isdir(found):
            return found
    raise SpawnError(
        f"cannot start {program!r}: no such program on PATH: install it, or give its path"
    )
