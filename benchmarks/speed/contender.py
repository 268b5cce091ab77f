"""What is measured: one protocol for this operator, the floors and the peers."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from speed.processes import Watched

ENDING = 60.0
"""Seconds after which a supervisor that was told something counts as stuck."""

_CLOSING = 5.0
"""Seconds that a supervisor has to end once everything is measured; then it is killed."""


class Work(NamedTuple):
    """What every flow does: a worker that registers itself."""

    worker: Path
    register: Path

    def command(self, number: int) -> list[str]:
        """The arguments of one flow's process."""
        return [str(self.worker), str(self.register), str(number)]


class Load(NamedTuple):
    """Answers to many calls: seconds of one, calls a second of all clients, bytes of an answer."""

    p50: float
    p99: float
    rate: float
    size: int


class Contender(Protocol):
    """A supervisor, for one run with one number of flows."""

    name: str

    def prepare(self, count: int) -> None:
        """Configure flows 0 to ``count`` - 1. When it returns none of them runs."""

    def start(self) -> None:
        """Launch it; it starts every flow. Returns without waiting for them."""

    def adds(self) -> Mapping[str, Callable[[int], None]]:
        """Ways to add one more flow by its number, by measure; none if it cannot."""

    def load(self, clients: int, seconds: float) -> Load | None:
        """Ask for the status of all flows, from clients at once; None if there is no such call."""

    def stop_all(self) -> None:
        """Ask that every flow be stopped softly. May return before or after they are."""

    def own_pids(self) -> list[int]:
        """All processes that are its own, and not the flows'."""

    def close(self) -> None:
        """End all of its processes."""


def flow_name(number: int) -> str:
    """The name of a flow."""
    return f"f{number:05}"


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment of what is measured: nothing that changes how Python runs.

    PYTHONDONTWRITEBYTECODE would have every start compile what it imports.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, **extra}


class Launched:
    """A supervisor's main process: launched, found, ended.

    Args:
        root: a directory of its own, in memory.
        work: what the flows do.
    """

    def __init__(self, root: Path, work: Work) -> None:
        self.root = root
        self.work = work
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, command: Sequence[str], **environment: str) -> None:
        """Start the main process; what it prints goes to a file."""
        with (self.root / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=clean_environment(**environment),
            )

    @property
    def pid(self) -> int:
        """The main process."""
        assert self.process is not None, "not launched"
        return self.process.pid

    def own_pids(self) -> list[int]:
        """The main process alone; supervisors of several processes say which."""
        return [self.pid]

    def adds(self) -> Mapping[str, Callable[[int], None]]:
        """No way to add a flow, unless a contender has one."""
        return {}

    def load(self, clients: int, seconds: float) -> Load | None:  # noqa: ARG002 - the protocol
        """No status of all, unless a contender has one."""
        return None

    def close(self) -> None:
        """Ask the main process to end, then kill it and the others of its own."""
        if self.process is None:
            return
        others = self.own_pids() if self.process.poll() is None else []
        with Watched(pid for pid in others if pid != self.pid) as watched:
            self.process.terminate()
            try:
                self.process.wait(_CLOSING)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            with contextlib.suppress(TimeoutError):
                watched.wait(2)
            watched.kill()
        self.process = None
