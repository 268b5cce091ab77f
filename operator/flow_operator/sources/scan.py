"""Reading a manifest folder, one consistent look at a time.

What has not changed is not opened: a look at 10,000 such files costs their stat(2).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from flow_operator.clock import Clock
from flow_operator.errors import Fault, InvalidError
from flow_operator.manifest import Manifest, SourceText, load_manifests
from flow_operator.trust import distrust, distrust_entry

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE = 8 * 1024 * 1024

SETTLE = 0.1
"""Seconds for which a file that was just written must look the same before it is read."""

PATIENCE = 2.0
"""Seconds for which a file that is being written keeps the others waiting for it."""

_OLD = 1.0
"""Seconds after which a file's own time says that nobody is writing it."""

_ATTEMPTS = 3

_PIECE = 32 * 1024
"""Bytes that are read at once, at least."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a link to a folder",
}

Recall = Callable[[str, str], tuple[Manifest, ...] | None]
"""File name and SHA-256 -> what that content held, if somebody remembers."""


class Stamp(NamedTuple):
    """What changes when a file does; ``changed`` also when its mode or owner does."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, info: os.stat_result) -> Stamp:
        """The stamp of what was seen."""
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    @property
    def telling(self) -> bool:
        """Whether it would be another after every change, also after two at once.

        Some file systems (FAT, old ones over the network) count whole seconds, or two.
        """
        return self.changed % 10**9 != 0


Unchanged = Callable[[str, Stamp], str]
"""File name and stamp -> SHA-256 of its content, if it had that stamp when it was last read."""


class ManifestFile(Struct, frozen=True):
    """One file as last read.

    Attributes:
        name: relative to the folder.
        base: the directory that its relative paths start from.
        sha256: of its content; empty if that could not be read.
        faults: why it cannot be used; its flows stay as they are then.
        stamp: that it had with this content; None if it cannot be used, or the stamp cannot.
    """

    name: str
    base: str
    sha256: str = ""
    manifests: tuple[Manifest, ...] = ()
    faults: tuple[Fault, ...] = ()
    stamp: Stamp | None = None


class Look(Struct, frozen=True):
    """One look at the folder.

    Attributes:
        files: by name; a file that is being written stands here as it was before.
        trouble: why the folder as a whole cannot be used now.
        missing: whether that is since there is none.
        unsettled: whether something is being written, and worth waiting for.
        busy: whether something has been open for writing for so long that nobody waits.
        hidden: sub-folders that cannot be looked into.
        device: the file system that the folder is on; 0 if there is none.
    """

    files: dict[str, ManifestFile]
    trouble: str | None = None
    missing: bool = False
    unsettled: bool = False
    busy: bool = False
    hidden: tuple[str, ...] = ()
    device: int = 0

    def hides(self, name: str) -> bool:
        """Whether a file of that name may be there all the same."""
        return any(name.startswith(f"{folder}/") for folder in self.hidden)


class _BeingWritten(Exception):  # noqa: N818 - never leaves this module
    """Somebody has the file open for writing, or it has just changed."""


class _Unusable(Exception):  # noqa: N818 - never leaves this module
    """It cannot be used; the text says why."""


class _Place(NamedTuple):
    """Where one look takes place.

    Attributes:
        folder: without links, so that all of a look is of one folder.
        root: that, or what its ``..data`` link points to now: Kubernetes swaps that link to
            change all files of a ConfigMap at once.
        device: the file system of the folder.
    """

    folder: Path
    root: Path
    device: int


def _never(_name: str, _sha256: str) -> None:
    return None


def _unknown(_name: str, _stamp: Stamp) -> str:
    return ""


class Scanner:
    """Looks at a folder; remembers files that did not change.

    Args:
        folder: where.
        clock: for settling.
        recall: asked before a content is parsed.
        unchanged: asked before a file is opened.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        recall: Recall = _never,
        unchanged: Unchanged = _unknown,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._recall = recall
        self._unchanged = unchanged
        self._known: dict[str, tuple[Stamp, ManifestFile]] = {}
        self._first_seen: dict[str, tuple[Stamp, float]] = {}
        self._writing_since: dict[str, float] = {}
        self._last = Look({})

    def look(self) -> Look:
        """Read what has changed; the same object as before if nothing has."""
        for _ in range(_ATTEMPTS):
            look = self._look()
            if look is not None:
                break
        else:  # Swapped again and again: what stood before stands.
            look = replace(self._last, unsettled=True)
        if not _same(look, self._last):
            self._last = look
        return self._last

    def _look(self) -> Look | None:
        """One look, or None if the folder was swapped meanwhile."""
        try:
            trouble = distrust(self._folder)
            if trouble:
                return Look({}, trouble)
            place = self._place()
            seen = _Seen()
            entries = dict(self._entries(place.folder, seen))
            for name in sorted(entries):
                self._add(name, entries[name], place, seen)
            if self._place() != place:
                return None
        except OSError as error:
            said = f"cannot read {self._folder}: {error.strerror or error}"
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            return Look({}, said, missing=missing)
        self._forget_all_but(seen)
        return Look(
            seen.files,
            unsettled=bool(seen.waited_for),
            busy=bool(seen.busy),
            hidden=tuple(sorted(seen.hidden)),
            device=place.device,
        )

    def _forget_all_but(self, seen: _Seen) -> None:
        self._known = {name: known for name, known in self._known.items() if name in seen.files}
        writing = seen.waited_for | seen.busy
        there = writing | seen.files.keys()
        self._first_seen = {n: first for n, first in self._first_seen.items() if n in there}
        self._writing_since = {n: at for n, at in self._writing_since.items() if n in writing}

    def _place(self) -> _Place:
        folder = Path(os.path.realpath(self._folder, strict=True))
        data = folder / "..data"
        root = Path(os.path.realpath(data)) if data.is_symlink() else folder
        return _Place(folder, root, folder.stat().st_dev)

    # --- what is there -------------------------------------------------------------------

    def _entries(self, folder: Path, seen: _Seen) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Name and entry of all that may be a manifest, below the folder too."""
        prefixes = [""]
        while prefixes:
            prefix = prefixes.pop()
            for entry in self._listed(folder, prefix, seen):
                name = prefix + entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    prefixes.append(f"{name}/")
                elif name.endswith(SUFFIXES):
                    yield name, entry

    def _listed(self, folder: Path, prefix: str, seen: _Seen) -> list[os.DirEntry[str]]:
        """What a folder holds; of a sub-folder that cannot be read only that is told."""
        try:
            path = folder / prefix
            reason = distrust_entry(path.stat()) if prefix else None
            if reason is None:
                with os.scandir(path) as entries:
                    return list(entries)
            said = f"it {reason}"
        except FileNotFoundError:
            if not prefix:
                raise
            seen.waited_for.add(prefix)  # Removed under our eyes: look again.
            return []
        except OSError as error:
            if not prefix:
                raise
            said = f"cannot read it: {error.strerror or error}; have the operator's user read it"
        seen.hidden.add(prefix.rstrip("/"))
        seen.add(self._broken(prefix, said))
        return []

    def _add(self, name: str, entry: os.DirEntry[str], place: _Place, seen: _Seen) -> None:
        """Read one file, or say what keeps us from it; it never keeps us from the others."""
        try:
            name.encode()
            seen.add(self._file(name, entry, place))
        except UnicodeEncodeError:
            seen.add(self._broken(ascii(name)[1:-1], "its name is not valid UTF-8: rename it"))
        except (_BeingWritten, FileNotFoundError):  # Not found: renamed under our eyes.
            self._wait_for(name, seen)
        except _Unusable as error:
            seen.add(self._broken(name, str(error)))
        except OSError as error:
            seen.add(
                self._broken(
                    name,
                    f"cannot read it: {error.strerror or error}; have the operator's user read it",
                )
            )

    def _wait_for(self, name: str, seen: _Seen) -> None:
        """A file that is being written stands as it was; after a while that is told."""
        known = self._known.get(name)
        since = self._writing_since.setdefault(name, self._clock.monotonic())
        if self._clock.monotonic() - since < PATIENCE:
            seen.waited_for.add(name)
            if known is not None:
                seen.add(known[1])
            return
        seen.busy.add(name)
        said = (
            "it is being written all the time; what it held before stands: have its writer close it"
        )
        before = known[1] if known is not None else self._broken(name, said)
        seen.add(replace(before, faults=(Fault(said, file=name),)))

    def _broken(self, name: str, why: str) -> ManifestFile:
        return ManifestFile(name, self._base(name), faults=(Fault(why, file=name),))

    def _base(self, name: str) -> str:
        # Not by pathlib, which takes longer than all else about a file that has not changed.
        below = name.rpartition("/")[0]
        return os.path.join(self._folder, below) if below else str(self._folder)

    # --- one file ------------------------------------------------------------------------

    def _file(self, name: str, entry: os.DirEntry[str], place: _Place) -> ManifestFile:
        info, path = entry.stat(follow_symlinks=False), entry.path
        if stat.S_ISLNK(info.st_mode):
            path = self._target(name, Stamp.of(info), place)
            info = os.stat(path)
        stamp = Stamp.of(info)
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            file = self._remembered(name, info, stamp) or self._read(name, path, info, stamp)
            known = stamp, file
            self._known[name] = known
            self._first_seen.pop(name, None)
        return known[1]

    def _target(self, name: str, link: Stamp, place: _Place) -> str:
        """Where a link leads to."""
        for start in (place.root, place.folder):
            try:
                path = os.path.realpath(start / name, strict=True)
            except FileNotFoundError:
                continue
            if not Path(path).is_relative_to(place.folder):
                raise _Unusable("it is a link to outside of the folder")
            return path
        self._check_still(name, link)  # Just being swapped?
        raise _Unusable("it is a link to nothing")

    def _remembered(self, name: str, info: os.stat_result, stamp: Stamp) -> ManifestFile | None:
        """What a file holds that an earlier operator has read as it is now."""
        sha256 = self._unchanged(name, stamp)
        # That one may have been another user.
        manifests = self._recall(name, sha256) if sha256 and not distrust_entry(info) else None
        if manifests is None:
            return None
        return ManifestFile(name, self._base(name), sha256, manifests, stamp=stamp)

    def _read(self, name: str, path: str, info: os.stat_result, stamp: Stamp) -> ManifestFile:
        """Read and parse a file that nobody is writing."""
        kind = stat.S_IFMT(info.st_mode)
        if kind != stat.S_IFREG:  # Opening one could block, or do anything.
            raise _Unusable(f"it is {_KINDS.get(kind, 'no file')}, not a file")
        self._check_still(name, stamp)
        reason = distrust_entry(info)
        if reason:
            raise _Unusable(f"it {reason}")
        if info.st_size > MAX_FILE:
            raise _Unusable(f"it is larger than {MAX_FILE} bytes")
        return self._parse(name, _content(path, stamp), stamp if stamp.telling else None)

    def _check_still(self, name: str, stamp: Stamp) -> None:
        now = self._clock.monotonic()
        seen = self._first_seen.get(name)
        if seen is None or seen[0] != stamp:
            self._first_seen[name] = (stamp, now)
            if self._clock.wall() - stamp.modified / 1e9 < _OLD:
                raise _BeingWritten
        elif now - seen[1] < SETTLE:
            raise _BeingWritten

    def _parse(self, name: str, data: bytes, stamp: Stamp | None) -> ManifestFile:
        file = ManifestFile(name, self._base(name), hashlib.sha256(data).hexdigest())
        try:
            manifests = self._recall(name, file.sha256)
            if manifests is None:
                manifests = tuple(load_manifests(SourceText(data.decode(), name)))
        except UnicodeDecodeError as error:
            return replace(file, faults=(_bad_utf8(name, data, error.start),))
        except InvalidError as error:
            return replace(file, faults=error.faults)
        return replace(file, manifests=manifests, stamp=stamp)


class _Seen:
    """What a look has come to so far."""

    def __init__(self) -> None:
        self.files: dict[str, ManifestFile] = {}
        self.waited_for: set[str] = set()
        self.busy: set[str] = set()
        self.hidden: set[str] = set()

    def add(self, file: ManifestFile) -> None:
        self.files[file.name] = file


def _same(one: Look, other: Look) -> bool:
    """Whether two looks saw the same. What was not read again is the same object."""
    if len(one.files) != len(other.files) or replace(one, files={}) != replace(other, files={}):
        return False
    before = other.files
    return all(
        file is before.get(name) or (bool(file.faults) and file == before.get(name))
        for name, file in one.files.items()
    )


def _bad_utf8(name: str, data: bytes, start: int) -> Fault:
    line = data.count(b"\n", 0, start) + 1
    begin = data.rfind(b"\n", 0, start) + 1
    column = len(data[begin:start].decode("utf-8", "replace")) + 1
    return Fault("not valid UTF-8: save it as UTF-8", "", line, column, name)


def _content(path: str, stamp: Stamp) -> bytes:
    """The content of a regular file that nobody has open for writing, now or while we read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        with _lease(descriptor):
            data = b""
            if Stamp.of(os.fstat(descriptor)) == stamp:
                data = _all_of(descriptor, stamp.size)
            if Stamp.of(os.fstat(descriptor)) != stamp:
                raise _BeingWritten
            return data
    finally:
        os.close(descriptor)


def _all_of(descriptor: int, size: int) -> bytes:
    """All that a file holds; ``size`` is a guess, by which no more space is taken than needed.

    To offer the largest size to each of ten thousand small files took a sixth of their time.
    """
    data = b""
    while len(data) <= MAX_FILE and (more := os.read(descriptor, max(size + 1, _PIECE))):
        data += more
    return data


@contextmanager
def _lease(descriptor: int) -> Iterator[None]:
    """Keep writers away for a moment.

    The kernel refuses a read lease (fcntl(2), F_SETLEASE) on a file that any process has open for
    writing, and who opens it while the lease is held waits. Where it knows no leases (some network
    and overlay file systems), or the file is another user's, its looks must do.
    """
    held = False
    try:
        # A writer that comes just now breaks the lease, with a signal that does nothing.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        held = True
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise _BeingWritten from None
    try:
        yield
    finally:
        if held:
            with suppress(OSError):  # Taken away, since a writer had to wait for very long.
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
