"""What s6 and runit have in common: service directories, and their control pipes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path


def write_service(directory: Path, command: Sequence[str]) -> None:
    """Make a service that runs a command. It appears whole: a scan may happen at any moment."""
    made = directory.parent.parent / directory.name
    made.mkdir()
    (made / "run").write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    (made / "run").chmod(0o755)
    made.rename(directory)


def write_control(directory: Path, order: bytes) -> None:
    """Give a service's supervisor an order, as the programs for it do."""
    descriptor = os.open(directory / "supervise/control", os.O_WRONLY | os.O_NONBLOCK)
    os.write(descriptor, order)
    os.close(descriptor)
