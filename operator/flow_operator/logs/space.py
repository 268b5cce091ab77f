"""Taking bytes away from the head of a file that somebody else appends to, and having space.

fallocate(2): FALLOC_FL_COLLAPSE_RANGE (ext4, XFS) removes a range as if it had never been there;
where there is none, FALLOC_FL_PUNCH_HOLE (tmpfs, btrfs) leaves a hole that takes no space. A writer
with O_APPEND notices neither.
"""

from __future__ import annotations

import ctypes
import errno
import os

_KEEP_SIZE, _PUNCH_HOLE, _COLLAPSE_RANGE = 1, 2, 8
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate64.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

LEAST_BLOCK = 4096


def block_size(descriptor: int) -> int:
    """What both operations count in, in bytes."""
    return max(LEAST_BLOCK, os.fstatvfs(descriptor).f_bsize)


def data_start(descriptor: int) -> int:
    """Where the data of a file begins, behind the hole that was left by taking some away."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # Nothing but a hole, or nothing at all.
            return os.fstat(descriptor).st_size
        if error.errno in _UNSUPPORTED:
            return 0
        raise


def take_away(descriptor: int, start: int, length: int) -> int:
    """Take whole blocks away from where the data of a file starts; returns where it starts then.

    Raises:
        OSError: this file system can do neither.
    """
    try:
        if start == 0:
            _fallocate(descriptor, _COLLAPSE_RANGE, 0, length)
            return 0
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    _fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, start, length)
    return start + length


def require(scratch: str | os.PathLike[str]) -> None:
    """Try it on a file of our own, before anything else is done.

    Raises:
        OSError: this file system lets nobody take bytes away.
    """
    descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        _fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, 0, LEAST_BLOCK)
    finally:
        os.close(descriptor)
        os.unlink(scratch)


def copy(source: int, start: int, length: int, target: int) -> None:
    """Copy bytes between files within the kernel.

    Raises:
        OSError: no space, for one.
    """
    done = 0
    while done < length:
        try:
            count = os.copy_file_range(source, target, length - done, start + done, done)
        except OSError as error:
            if error.errno not in _UNSUPPORTED | {errno.EXDEV}:
                raise
            os.lseek(target, done, os.SEEK_SET)
            count = os.sendfile(target, source, start + done, length - done)
        if count == 0:
            raise OSError(errno.EIO, "the file has become shorter while it was copied")
        done += count


def allocate(descriptor: int, start: int, length: int) -> None:
    """Have space for bytes that are to be written, without a change of the size.

    Where the file system cannot, nothing is had.

    Raises:
        OSError: no space, for one.
    """
    try:
        _fallocate(descriptor, _KEEP_SIZE, start, length)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    if _libc.fallocate64(descriptor, mode, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
