"""What the kernel tells about a process by its pidfd, where Python has no word for it."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct

_GET_INFO = 0xC040FF0B
"""``PIDFD_GET_INFO``, ``_IOWR(0xFF, 11, struct pidfd_info)`` with the first, 64 byte long form of
the struct (linux/pidfd.h)."""

_INFO_EXIT = 1 << 3
"""``PIDFD_INFO_EXIT``, since Linux 6.15: the exit code, once the process was reaped."""

_INFO = struct.Struct("QQ11Ii")
_WHOLE_GROUP = 1 << 2
"""``PIDFD_SIGNAL_PROCESS_GROUP`` of pidfd_send_signal(2), since Linux 6.9."""


def exit_status(descriptor: int) -> int | None:
    """The wait status of a process that somebody else has reaped; None while nobody has.

    Raises:
        OSError: this kernel does not tell.
    """
    info = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(descriptor, _GET_INFO, info)
    except ProcessLookupError:
        return None  # Being reaped just now.
    mask, *_, code = _INFO.unpack(info)
    return code if mask & _INFO_EXIT else None


def has_ended(descriptor: int, within: float) -> bool:
    """Wait for a process to end, so many seconds at most; returns whether it has.

    By poll, since select takes no descriptor above 1023.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(within * 1000))


def signal_group(descriptor: int, pid: int, number: int) -> None:
    """Signal the process group that a process leads; that of no other, if the kernel can tell.

    Raises:
        ProcessLookupError: there is no such group any more.
        PermissionError: none of it may be signalled.
    """
    try:
        signal.pidfd_send_signal(descriptor, number, None, _WHOLE_GROUP)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        os.killpg(pid, number)
