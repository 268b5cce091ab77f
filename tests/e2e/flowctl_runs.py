"""Runs the real ``flowctl`` against a real operator: on pipes, or on a terminal of a given size."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from typing import Self

from support import Flowd

PROGRAM = (sys.executable, "-m", "flow_operator.flowctl.main")


def environment(flowd: Flowd, **extra: str) -> dict[str, str]:
    """That of the test, without what would change what is printed."""
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    return {**kept, "app_url": str(flowd.client.base_url), "TERM": "xterm", **extra}


def flowctl(flowd: Flowd, *args: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    return subprocess.run(
        [*PROGRAM, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(flowd, **extra),
    )


class Terminal:
    """One command on a terminal of its own; a context manager that leaves nothing behind.

    Attributes:
        seen: everything that was written.
    """

    def __init__(self, flowd: Flowd, *args: str, columns: int = 80, **extra: str) -> None:
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._process = subprocess.Popen(
            [*PROGRAM, *args],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=environment(flowd, **extra),
        )
        os.close(follower)
        self.seen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._leader)

    def until(self, there: Callable[[str], bool]) -> str:
        """Read until what was written so far is as wanted."""
        while not there(self.seen):
            assert self._read(), self.seen
        return self.seen

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        while self._read():
            pass
        return self._process.wait(30)

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.end()

    def _read(self) -> bool:
        ready, _, _ = select.select([self._leader], [], [], 30)
        assert ready, self.seen
        try:
            piece = os.read(self._leader, 65536)
        except OSError:  # EIO: nobody has the terminal open any more.
            return False
        self.seen += piece.decode()
        return bool(piece)
