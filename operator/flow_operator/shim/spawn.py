"""Starting one process.

``posix_spawn`` costs the same however large the parent is, but cannot change the directory or the
limits of the child. The shim has one thread, so it changes its own for the moment of the spawn.
What needs more, another user or more limits, goes the slower way of a fork.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterator, Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NULL = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
"""What a process reads that is to read nothing."""

_HOME = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
DEFAULT_SIGNALS = sorted(
    signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} - set(range(32, 35))
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


def spawn(spec: Mapping[str, Any], env: Mapping[str, str], stdio: Sequence[int]) -> int:
    """Start ``spec["argv"]`` as the leader of a session of its own; returns its pid.

    Args:
        spec: ``argv``; ``cwd``; ``nofile``, the soft limit of descriptors; and optionally
            ``rlimits``, soft and hard at once, by their names in setrlimit(2); ``umask``;
            ``user``, with ``uid``, ``gid`` and ``groups``.
        env: the whole environment.
        stdio: what becomes descriptors 0, 1 and 2.

    Raises:
        SpawnError: no such program or directory, no permission, or no process to be had.
    """
    name = program = spec["argv"][0]
    try:
        with inside(spec["cwd"]):
            program = _find(name, env)
            if spec.get("user") or spec.get("rlimits"):
                return _fork(program, spec, env, stdio)
            with soft_limit(spec["nofile"]), _umask(spec.get("umask")):
                return _spawn(program, spec["argv"], env, stdio)
    except OSError as error:
        where = f": {error.filename}" if error.filename not in (None, name, program) else ""
        hint = _HINTS.get(error.errno or 0, "")
        raise SpawnError(
            f"cannot start {name!r}: {error.strerror}{where}{hint}", error.errno or 0
        ) from None
    except ValueError as error:
        raise SpawnError(f"cannot start {name!r}: {error}") from None


def _spawn(program: str, argv: list[str], env: Mapping[str, str], stdio: Sequence[int]) -> int:
    return os.posix_spawn(
        program,
        argv,
        env,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(stdio)],
        setsid=True,
        setsigmask=(),
        setsigdef=DEFAULT_SIGNALS,
    )


def _fork(
    program: str, spec: Mapping[str, Any], env: Mapping[str, str], stdio: Sequence[int]
) -> int:
    import subprocess  # noqa: PLC0415 - 2 MB that most shims never need

    limits = {"NOFILE": spec["nofile"], **spec.get("rlimits", {})}
    user = spec.get("user") or {}

    def prepare() -> None:
        for name, value in limits.items():
            number = getattr(resource, f"RLIMIT_{name}")
            hard = value if name in spec.get("rlimits", {}) else resource.getrlimit(number)[1]
            resource.setrlimit(number, (value, hard))
        for number in DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    umask = spec.get("umask")
    try:
        child = subprocess.Popen(
            spec["argv"],
            executable=program,
            env=env,
            stdin=stdio[0],
            stdout=stdio[1],
            stderr=stdio[2],
            start_new_session=True,
            user=user.get("uid"),
            group=user.get("gid"),
            extra_groups=user.get("groups"),
            umask=-1 if umask is None else umask,
            # All of ours are closed by the exec. Until then it is one of us, by its environment:
            # no other shim is to come before that, and the lock says so.
            close_fds=False,
            preexec_fn=prepare,  # noqa: PLW1509 - the shim has one thread
        )
    except subprocess.SubprocessError:
        raise SpawnError(
            f"cannot start {spec['argv'][0]!r}: its limits {limits} cannot be set; none may be "
            "above the hard limits of flowd"
        ) from None
    child.returncode = 0  # It is reaped by the loop; Popen is not to wait for it.
    return child.pid


@contextlib.contextmanager
def inside(directory: str) -> Iterator[None]:
    """Be in a directory, so that what is spawned begins there."""
    os.chdir(directory)
    try:
        yield
    finally:
        os.fchdir(_HOME)


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
