"""The floors: what any supervisor needs on this machine, in C and in Python."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from speed.contender import Launched, Work

_LOOP = Path(__file__).parent / "programs/floor.py"


class Floor(Launched):
    """A loop of posix_spawn that starts anew what ends; no configuration, no status, no log."""

    def __init__(self, root: Path, work: Work, name: str, command: tuple[str, ...]) -> None:
        super().__init__(root, work)
        self.name = name
        self._command = command
        self._count = 0

    def prepare(self, count: int) -> None:
        """The number of flows is all that it needs."""
        self._count = count

    def start(self) -> None:
        """Launch the loop."""
        worker, register = self.work
        self.launch((*self._command, str(worker), str(register), str(self._count)))

    def adds(self) -> Mapping[str, Callable[[int], None]]:
        """A signal adds the next one."""
        return {"add": lambda _number: os.kill(self.pid, signal.SIGUSR1)}

    def stop_all(self) -> None:
        """It ends all, and then itself."""
        os.kill(self.pid, signal.SIGTERM)


def c_floor(program: Path) -> Callable[[Path, Work], Floor]:
    """Makes the floor in C."""
    return lambda root, work: Floor(root, work, "floor-c", (str(program),))


def python_floor(root: Path, work: Work) -> Floor:
    """The floor in Python; its time includes the start of the interpreter."""
    return Floor(root, work, "floor-python", (sys.executable, "-S", "-E", str(_LOOP)))
