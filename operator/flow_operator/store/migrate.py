"""The format of a data directory, and how one of an older format becomes one of today's.

``DATA/format`` is the truth. ``DATA/flows`` is never changed in place: it is copied, the copy is
made over and made durable, then the marker is replaced, which commits, and then the copy takes the
place of the old directory, which is kept. Killed before the commit, the copy is thrown away and
made anew; killed after it, the next start completes it. An older operator refuses from the commit
on, and never meets what it does not know.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from flow_operator.errors import FlowError
from flow_operator.settings import Layout
from flow_operator.store.files import sync_directory, write_durably

FORMAT = 1
"""What this operator reads and writes."""

Migration = Callable[[Path], None]
"""Makes a copy of ``DATA/flows`` over, from one format to the next; files and journals alike."""

MIGRATIONS: Mapping[int, Migration] = {}
"""By the format that each starts from."""

_COPY = "flows.migrating-from-"

log = structlog.get_logger("store")


class Migrator:
    """Brings a data directory to a format.

    Args:
        layout: the directory, whose lock the caller holds.
        current: the format.
        migrations: by the format that each starts from.
    """

    def __init__(
        self,
        layout: Layout,
        current: int = FORMAT,
        migrations: Mapping[int, Migration] = MIGRATIONS,
    ) -> None:
        self._root = layout.root
        self._flows = layout.flows
        self._marker = layout.root / "format"
        self._current = current
        self._migrations = migrations

    def run(self) -> None:
        """Begin a new directory, complete or begin a migration, or find everything as it should be.

        Raises:
            FlowError: the directory cannot be used; nothing was changed.
            StorageError: nothing was changed.
            OSError: nothing was changed.
        """
        found = self._found()
        if found is None:
            self._flows.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self._root.parent)  # It may have been made just now.
            self._mark()
            return
        for copy in sorted(self._root.glob(f"{_COPY}*")):
            if copy.name == f"{_COPY}{found}":
                shutil.rmtree(copy)  # It was never committed, whoever began it.
            else:
                self._swap(copy)
        if not self._flows.is_dir():
            raise FlowError(
                f"{self._flows} is missing, though {self._root} was in use: bring it back, or "
                f"remove {self._marker} to begin anew"
            )
        if found < self._current:
            self._migrate(found)

    def _found(self) -> int | None:
        """The format of the directory; None if it is new.

        Raises:
            FlowError: this operator does not know it.
        """
        try:
            text = self._marker.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None
        known = range(self._current + 1)
        if not text.isdecimal() or int(text) not in known:
            raise FlowError(
                f"{self._root} was written by another version (format {text}, this one knows "
                f"{self._current}); start that version, or choose another --data directory"
            )
        return int(text)

    def _mark(self) -> None:
        write_durably(self._marker, f"{self._current}\n".encode())

    def _migrate(self, found: int) -> None:
        missing = [n for n in range(found, self._current) if n not in self._migrations]
        if missing:
            raise FlowError(
                f"{self._root} has format {found}, and this version cannot make format "
                f"{missing[0] + 1} of {missing[0]}: start a version in between first"
            )
        copy = self._root / f"{_COPY}{found}"
        try:
            shutil.copytree(self._flows, copy, symlinks=True)
            for number in range(found, self._current):
                self._migrations[number](copy)
            _sync_tree(copy)
            sync_directory(self._root)
        except BaseException:
            shutil.rmtree(copy, ignore_errors=True)
            raise
        self._mark()
        self._swap(copy)

    def _swap(self, copy: Path) -> None:
        """After the commit: the copy takes the place of the directory, which is kept."""
        old = copy.name.removeprefix(_COPY)
        if self._flows.is_dir():
            backup = self._root / f"flows.format-{old}"
            number = 1
            while backup.exists():
                number += 1
                backup = backup.with_name(f"flows.format-{old}.{number}")
            self._flows.rename(backup)
            log.warning("flows were migrated", kept=str(backup), format=self._current)
        copy.rename(self._flows)
        sync_directory(self._root)


def _sync_tree(root: Path) -> None:
    for path, _, files in os.walk(root):
        for name in files:
            descriptor = os.open(Path(path) / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(path))
