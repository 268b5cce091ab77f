"""Starting a process by a fork: for all that ``posix_spawn`` cannot do to a child.

It takes some milliseconds more, and the more the larger this process is. It can change the limits
and the user of the child, and have it born in a cgroup where the C library cannot.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Callable, Iterator

_CLONE3 = 435
"""The number of clone3(2), which all processors share."""

_CLONE_INTO_CGROUP = 0x200000000

_PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOENT})

_libc = ctypes.PyDLL(None, use_errno=True)
"""Keeps the interpreter's lock: the child goes on as the thread that it is."""

_libc.syscall.restype = ctypes.c_long


class _CloneArgs(ctypes.Structure):
    """``struct clone_args`` in its form of Linux 5.7."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size"),
            *("tls", "set_tid", "set_tid_size", "cgroup"),
        )
    )


class ForkError(Exception):
    """Nobody could be forked into a group.

    Attributes:
        lasting: it is no want of processes, memory or descriptors, which may be over soon.
    """

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.lasting = number not in _PASSING


@contextlib.contextmanager
def open_group(group: str) -> Iterator[int]:
    """A descriptor of a cgroup's directory, by which the kernel is told of it.

    Raises:
        ForkError: it is gone, or no descriptor is left.
    """
    try:
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ForkError(error.errno or 0) from None
    try:
        yield directory
    finally:
        os.close(directory)


def fork_into(group: str) -> int:
    """Fork, so that the child is born in a cgroup; returns as fork(2).

    Nobody is moved for that, and so nothing waits until all processors have seen that somebody is.
    Python is told of neither end: it must have one thread, and the child is soon to execute a
    program or to end.

    Raises:
        ForkError: there can be no more processes, or the kernel, or a filter, does not let us.
    """
    with open_group(group) as directory:
        arguments = _CloneArgs(
            flags=_CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=directory
        )
        size = ctypes.sizeof(arguments)
        pid = int(_libc.syscall(_CLONE3, ctypes.byref(arguments), size))
        if pid < 0:
            raise ForkError(ctypes.get_errno())
        return pid


def run_forked(become: Callable[[], None], fork: Callable[[], int]) -> int:
    """Start a process; returns its pid once it has executed its program.

    Args:
        become: what the child does, in the end to execute a program; with all signals blocked.
        fork: as fork(2).

    Raises:
        OSError: what the child has met, or no descriptor is left.
        ForkError, OSError: as ``fork`` does.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        # As none of our handlers is to run in the child.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = fork()
            if pid == 0:
                _in_child(become, write)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(write)
        write = -1
        told = os.read(read, 4096)  # Nothing, once an exec has closed the other end.
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)
    if told:
        os.waitpid(pid, 0)
        number, _, why = told.decode(errors="replace").partition(" ")
        raise OSError(int(number), why)
    return pid


def _in_child(become: Callable[[], None], told: int) -> None:
    """Never returns: what is ours above must not go on twice."""
    try:
        become()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        number, why = getattr(error, "errno", None), getattr(error, "strerror", None)
        os.write(told, f"{number or 0} {why or error}".encode())
    finally:
        os._exit(127)
