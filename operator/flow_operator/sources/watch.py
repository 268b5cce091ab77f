"""Hints that a folder may have changed, as far as the kernel gives them.

inotify loses events when its queue overflows, goes deaf when the folder is replaced, knows nothing
of what other machines do on a network file system, and has limits; little of that is told. So
whoever watches also looks from time to time, and if a look finds what no hint has told, the
watching is begun anew, and given up for frequent looks if that happens again.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Literal

import structlog
from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from flow_operator.clock import Clock
from flow_operator.model.folder import WatchView

RESCAN = 15.0
RESCAN_DEAF = 1.0
"""Seconds between looks without a hint: as a rule, and while nothing gives hints."""

RETRY = 60.0
"""Seconds after which watching is tried again when the kernel has refused it."""

_MISSES = 2
"""How often a look may find what no hint has told before hints are given up."""

_EVENTS = [
    getattr(events, name)
    for name in (
        *("DirAttribEvent", "DirCreatedEvent", "DirDeletedEvent", "DirMovedEvent"),
        *("FileAttribEvent", "FileClosedEvent", "FileCreatedEvent", "FileDeletedEvent"),
        *("FileModifiedEvent", "FileMovedEvent"),
    )
    if hasattr(events, name)  # Attributes have events of their own only in later versions.
]
"""Not: opened, and closed after reading, which our own looks cause."""

_REMOTE = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "gfs2", "glusterfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs"}
)
"""File systems that others write too, of which the kernel here hears nothing."""

WatchMode = Literal["auto", "poll"]

log = structlog.get_logger("folder")


class _Handler(events.FileSystemEventHandler):
    def __init__(self, hint: threading.Event) -> None:
        self._hint = hint

    def on_any_event(self, _event: events.FileSystemEvent) -> None:
        self._hint.set()


class Watcher:
    """Sets an event when something may have changed.

    Args:
        folder: what to watch; it may come, go and be replaced.
        hint: the event.
        mode: ``poll`` never asks the kernel.
        clock: for trying again.
    """

    def __init__(self, folder: Path, hint: threading.Event, mode: WatchMode, clock: Clock) -> None:
        self._folder = folder
        self._hint = hint
        self._clock = clock
        self._never = "as told by --watch" if mode == "poll" else ""
        self._why = self._never
        self._retry = 0.0
        self._misses = 0
        self._observer: BaseObserver | None = None
        self._identity: tuple[int, int] | None = None

    @property
    def watching(self) -> bool:
        """Whether hints can be expected."""
        return self._observer is not None

    @property
    def pause(self) -> float:
        """Seconds after which to look without a hint."""
        return RESCAN if self.watching else RESCAN_DEAF

    def describe(self) -> WatchView:
        """How changes are found, and why not better."""
        if self.watching:
            return {"mode": "inotify", "every": RESCAN, "why": None}
        return {"mode": "poll", "every": RESCAN_DEAF, "why": self._why or None}

    def ensure(self) -> bool:
        """Watch the folder that is there now; whether that was so since the last call."""
        before = self._observer
        self._ensure()
        return before is not None and self._observer is before

    def _ensure(self) -> None:
        identity = _identity(self._folder)
        if identity != self._identity:
            self._begin(identity)
        elif self._observer is not None and not _alive(self._observer):
            log.warning("the watcher has died; watching anew")
            self._stop()
        if identity is None or self._observer is not None or self._never:
            return
        if self._clock.monotonic() >= self._retry:
            self._start()

    def missed(self) -> None:
        """A look has found what no hint has told."""
        self._misses += 1
        if self._misses >= _MISSES:
            self._give_up("changes came without an event")
            self._stop()
            return
        log.warning("a change came without an event; watching anew")
        self._stop()
        self.ensure()
        self._hint.set()  # For what has changed since that look.

    def close(self) -> None:
        """Watch no more."""
        self._stop()

    def _begin(self, identity: tuple[int, int] | None) -> None:
        """Another folder is there, or none any more: nothing is held against it."""
        self._stop()
        self._identity, self._retry, self._misses = identity, 0.0, 0
        remote = "" if self._never or identity is None else _remote(identity[0])
        if remote:
            self._give_up(f"others may write on its file system ({remote})", for_good=True)
        elif not self._never:
            self._why = "" if identity is not None else "the folder is missing"

    def _start(self) -> None:
        observer: BaseObserver | None = None
        try:
            observer = Observer()
            observer.schedule(
                _Handler(self._hint), str(self._folder), recursive=True, event_filter=_EVENTS
            )
            observer.start()
        except OSError as error:
            _end(observer)
            self._give_up(f"{error.strerror or error}")
            return
        self._observer, self._why = observer, ""

    def _give_up(self, why: str, *, for_good: bool = False) -> None:
        if why != self._why:
            log.warning("cannot watch; looking every second instead", why=why)
        self._why, self._misses = why, 0
        self._retry = float("inf") if for_good else self._clock.monotonic() + RETRY

    def _stop(self) -> None:
        observer, self._observer = self._observer, None
        _end(observer)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tells one folder from another that stands in its place."""
    try:
        info = folder.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _end(observer: BaseObserver | None) -> None:
    """End all threads of an observer, started or not."""
    if observer is None:
        return
    try:
        observer.stop()
    except OSError as error:
        # Its descriptor is broken, and to wait for its other threads would be for ever.
        log.warning("cannot end the old watcher", error=str(error))
        reader = getattr(observer, "_inotify_fd", None)
        if reader is not None:
            reader.stop()  # It would try to read without a pause.
        return
    if observer.is_alive():
        observer.join()


def _alive(observer: BaseObserver) -> bool:
    return observer.is_alive() and all(emitter.is_alive() for emitter in observer.emitters)


def _remote(device: int, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind of file system if other machines may write to it, else an empty text."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in lines.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.partition(" ")[0]
        if before.split()[2] == number and kind.partition(".")[0] in _REMOTE:
            return kind
    return ""
