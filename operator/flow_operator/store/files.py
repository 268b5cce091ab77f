"""Writing files so that they are old or new, and never torn."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from flow_operator.errors import StorageError, StorageFullError

TEMPORARY = ".tmp-"
"""How unfinished files begin; recovery removes them."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_ADVICE = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space, or raise the quota of the operator's user",
    errno.EROFS: "make that file system writable again; the kernel's log tells why it is not",
    errno.EACCES: "let the operator's user write there",
    errno.EPERM: "let the operator's user write there",
    errno.EMFILE: "raise the operator's limit of open files (ulimit -n, LimitNOFILE=)",
    errno.ENFILE: "close files: this machine has no more to give (fs.file-max)",
    errno.EIO: "look after that disk; the kernel's log tells more",
}
"""What to do about it; then the same request succeeds, without a restart."""


class storage_errors:  # noqa: N801 - a context manager; the generator's takes four times as long
    """Turn the kernel's refusals into ours.

    Args:
        doing: what is being done, as it is told.

    Raises:
        StorageFullError: no space or quota is left.
        StorageError: any other OSError.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            ours = StorageFullError if error.errno in _FULL else StorageError
            advice = _ADVICE.get(error.errno or 0, "set that right")
            said = f"{self._doing}: {error.strerror}; nothing was changed. To go on, {advice}"
            raise ours(said) from error


def write_synced(path: Path, data: bytes) -> None:
    """Replace a file: its content is durable, its name once :func:`sync_directory` was called.

    Raises:
        StorageError: the old content stands.
    """
    with storage_errors(f"cannot write {path}"):
        _replace(path, data, durable=True)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file; when this returns, the new content survives a power cut.

    Raises:
        StorageError: the old content stands, unless it ``renamed``: then the new one does, but a
            power cut may bring the old one back.
    """
    write_synced(path, data)
    try:
        with storage_errors(f"cannot write {path}"):
            sync_directory(path.parent)
    except StorageError as error:
        error.renamed = True
        raise


def write_quietly(path: str | Path, data: bytes) -> None:
    """Replace a file; a killed process leaves the old or the new content, a power cut any.

    Raises:
        StorageError: the old content stands.
    """
    with storage_errors(f"cannot write {path}"):
        _replace(path, data, durable=False)


def _replace(path: str | Path, data: bytes, *, durable: bool) -> None:
    # One writer per path at a time (the store's lock, the workqueue's key), so the name is ours.
    directory, separator, name = str(path).rpartition("/")
    temporary = f"{directory}{separator}{TEMPORARY}{name}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write until nothing is left to be written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(directory: Path) -> None:
    """Remove what a killed writer left."""
    for name in os.listdir(directory):
        if name.startswith(TEMPORARY):
            (directory / name).unlink(missing_ok=True)


def contents(directory: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """The names in a directory that end so, without that, in order, and what stands in each file.

    Of ten thousand flows each has several, and all are read at each start: by pathlib that would
    take twice as long.

    Raises:
        OSError: one cannot be read.
    """
    for name in sorted(os.listdir(directory)):
        if name.endswith(suffix):
            descriptor = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(descriptor, os.fstat(descriptor).st_size)
            finally:
                os.close(descriptor)
            yield name.removesuffix(suffix), data
