"""Reading a manifest folder, one consistent look at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from flow_operator.clock import Clock
from flow_operator.errors import Fault, InvalidError
from flow_operator.manifest import Manifest, SourceText, load_manifests
from flow_operator.sources.trust import distrust, distrust_entry

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
MAX_FILE = 8 * 1024 * 1024

SETTLE = 0.1
"""Seconds for which a file that was just written must look the same before it is read."""

_OLD = 1.0
"""Seconds after which a file's own time says that nobody is writing it."""

_MAX_LINKS = 8


class Stamp(NamedTuple):
    """What changes when a file does."""

    inode: int
    size: int
    modified: int


class ManifestFile(Struct, frozen=True):
    """One file as last read.

    Attributes:
        name: relative to the folder.
        base: the directory that its relative paths start from.
        error: why it cannot be used; its flows stay as they are then.
    """

    name: str
    base: str
    sha256: str
    manifests: tuple[Manifest, ...] = ()
    error: str | None = None


class Look(Struct, frozen=True):
    """One look at the folder.

    Attributes:
        files: by name; a file that is being written stands here as it was before.
        trouble: why the folder as a whole cannot be used now.
        unsettled: whether a file was not read since it is being written.
    """

    files: dict[str, ManifestFile]
    trouble: str | None = None
    unsettled: bool = False


class _BeingWritten(Exception):  # noqa: N818 - never leaves this module
    """Somebody has the file open for writing, or it has just changed."""


class Scanner:
    """Looks at a folder; remembers files that did not change."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._known: dict[str, tuple[Stamp, ManifestFile]] = {}
        self._first_seen: dict[str, tuple[Stamp, float]] = {}

    def look(self) -> Look:
        """Read what has changed."""
        try:
            trouble = distrust(self._folder)
            names = [] if trouble else sorted(self._names())
            root = self._resolved_root()
        except (OSError, RuntimeError) as error:
            trouble = f"cannot read {self._folder}: {getattr(error, 'strerror', None) or error}"
        if trouble:
            return Look({}, trouble)
        files: dict[str, ManifestFile] = {}
        unsettled = False
        for name in names:
            try:
                files[name] = self._file(name, root)
            except _BeingWritten:
                unsettled = True
                if name in self._known:
                    files[name] = self._known[name][1]
            except FileNotFoundError:
                unsettled = True  # Renamed under our eyes: look again.
            except (OSError, RuntimeError, ValueError) as error:
                # RuntimeError: a link that leads to itself; ValueError: a name that is no text.
                why = getattr(error, "strerror", None) or str(error)
                broken = self._broken(ascii(name)[1:-1], f"cannot read it: {why}")
                files[broken.name] = broken
        self._known = {name: self._known[name] for name in files if name in self._known}
        self._first_seen = {n: seen for n, seen in self._first_seen.items() if n in names}
        return Look(files, None, unsettled)

    def _names(self) -> Iterator[str]:
        def fail(error: OSError) -> None:
            raise error

        for directory, folders, files in os.walk(self._folder, onerror=fail):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if not name.startswith(".") and Path(name).suffix in SUFFIXES:
                    yield os.path.relpath(os.path.join(directory, name), self._folder)

    def _resolved_root(self) -> Path:
        """The folder, or what its ``..data`` link points to now.

        Kubernetes swaps that link to change all files of a ConfigMap at once. It is resolved once
        for a look, so that a look never mixes two generations.
        """
        data = self._folder / "..data"
        return data.resolve() if data.is_symlink() else self._folder

    def _file(self, name: str, root: Path) -> ManifestFile:
        path = root / name
        if not path.exists():
            path = self._folder / name
        path = path.resolve(strict=True)
        if not path.is_relative_to(self._folder.resolve()):
            return self._broken(name, "it is a link to outside of the folder")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            info = os.fstat(descriptor)
            stamp = Stamp(info.st_ino, info.st_size, info.st_mtime_ns)
            known = self._known.get(name)
            if known is not None and known[0] == stamp:
                return known[1]
            self._check_settled(name, stamp, descriptor)
            reason = distrust_entry(info)
            if reason:
                return self._broken(name, f"it {reason}")
            if info.st_size > MAX_FILE:
                return self._broken(name, f"it is larger than {MAX_FILE} bytes")
            data = _read(descriptor)
            after = os.fstat(descriptor)
            if Stamp(after.st_ino, after.st_size, after.st_mtime_ns) != stamp:
                raise _BeingWritten
        finally:
            os.close(descriptor)
        file = self._parse(name, data)
        self._known[name] = (stamp, file)
        return file

    def _check_settled(self, name: str, stamp: Stamp, descriptor: int) -> None:
        now = self._clock.monotonic()
        seen = self._first_seen.get(name)
        if seen is None or seen[0] != stamp:
            self._first_seen[name] = (stamp, now)
            if self._clock.wall() - stamp.modified / 1e9 < _OLD:
                raise _BeingWritten
        elif now - seen[1] < SETTLE:
            raise _BeingWritten
        if _open_for_writing(descriptor):
            raise _BeingWritten

    def _parse(self, name: str, data: bytes) -> ManifestFile:
        digest = hashlib.sha256(data).hexdigest()
        base = str((self._folder / name).parent)
        try:
            manifests = load_manifests(SourceText(data.decode("utf-8"), name))
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            told = str(Fault("not valid UTF-8", "", line, None, name))
            return ManifestFile(name, base, digest, (), told)
        except InvalidError as error:
            return ManifestFile(name, base, digest, (), "\n".join(map(str, error.faults)))
        return ManifestFile(name, base, digest, tuple(manifests))

    def _broken(self, name: str, why: str) -> ManifestFile:
        return ManifestFile(name, str((self._folder / name).parent), "", (), f"{name}: {why}")


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(MAX_FILE + 1)


def _open_for_writing(descriptor: int) -> bool:
    """Whether any process has the file open for writing.

    The kernel refuses a read lease (fcntl(2), F_SETLEASE) on such a file. Where it knows no
    leases (some network and overlay file systems), the file's looks must do.
    """
    try:
        # A writer that comes just now breaks the lease, with a signal that does nothing.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False
