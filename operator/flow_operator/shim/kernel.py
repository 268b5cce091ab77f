"""Reading what the kernel shows as files."""

from __future__ import annotations

import os


def read_all(path: str) -> bytes:
    """The content of a file of procfs or cgroupfs.

    A file object asks the kernel six things more, which every start of a step would wait for.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while piece := os.read(descriptor, 4096):
            content += piece
        return content
    finally:
        os.close(descriptor)
