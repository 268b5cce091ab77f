"""A disk of our own in memory, whose power can be cut."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

from support import eventually

_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32): EXT4_IOC_SHUTDOWN, which is XFS_IOC_GOINGDOWN too."""

_NO_LOG_FLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: nothing more is written, also not the journal."""

MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}

_SIZE = {"ext4": 64, "xfs": 320}
"""Megabytes; less is refused by mkfs.xfs. Only what is written takes memory."""


def unavailable(kind: str) -> str | None:
    """Why there can be no such disk here; None if there can."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        return "needs root and loop devices"
    if shutil.which(MAKE[kind][0]) is None:
        return f"needs {MAKE[kind][0]}"
    known = Path("/proc/filesystems").read_text().split()
    return None if kind in known or _load(kind) else f"the kernel knows no {kind}"


def _load(module: str) -> bool:
    done = subprocess.run(["modprobe", "-q", module], check=False, capture_output=True)
    return done.returncode == 0


class Disk:
    """A file system in an image, mounted or not.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, root: Path, kind: str) -> None:
        self._kind = kind
        self.path = root / "disk"
        self.path.mkdir()
        self._mounted = False
        image = root / "image"
        with image.open("wb") as file:
            file.truncate(_SIZE[kind] << 20)
        _run(*MAKE[kind], str(image))
        self._device = _run("losetup", "-f", "--show", str(image)).strip()

    def mount(self, options: str = "defaults") -> None:
        """Have it mounted; a journal that a cut has left is replayed."""
        _run("mount", "-t", self._kind, "-o", options, self._device, str(self.path))
        self._mounted = True

    def cut(self) -> None:
        """From now on nothing is written any more, whatever anybody does; unmount follows."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Once nobody uses it any more: what was just killed may need a moment.

        Nor may it be mounted in a namespace that somebody has made meanwhile: whoever mounts it
        again would get what was shut down.
        """
        eventually(self._unmount)
        eventually(self._is_free)

    def _unmount(self) -> None:
        if self._mounted:
            _run("umount", str(self.path))
            self._mounted = False

    def _is_free(self) -> None:
        try:
            os.close(os.open(self._device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            raise AssertionError(f"{self._device}: {error.strerror}") from None

    def destroy(self) -> None:
        """Leave no mount and no device behind."""
        self.unmount()
        _run("losetup", "-d", self._device)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout
