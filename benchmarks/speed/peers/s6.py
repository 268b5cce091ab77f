"""s6, from Debian: s6-svscan, and an s6-supervise for each service."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from speed.contender import ENDING, Launched, Work, flow_name
from speed.peers.install import MissingError
from speed.peers.services import write_control, write_service
from speed.processes import children_of


class S6(Launched):
    """s6-svscan on a directory of services. It has no call for the status of all."""

    name = "s6"

    def __init__(self, root: Path, work: Work) -> None:
        super().__init__(root, work)
        if not shutil.which("s6-svscan"):
            raise MissingError("its paths are compiled in, so it must be installed: apt install s6")
        self._scan = root / "scan"

    def prepare(self, count: int) -> None:
        """A directory with a run script for each service."""
        self._scan.mkdir()
        for number in range(count):
            self._write(number)

    def _write(self, number: int) -> None:
        write_service(self._scan / flow_name(number), self.work.command(number))

    def start(self) -> None:
        """Launch the scanner; its own limit is 500 services unless told.

        From 2.13 on it has as many on its stack, and ends by SIGSEGV where that is too small.
        """
        scan = shlex.join(["exec", "s6-svscan", "-c", "20000", str(self._scan)])
        self.launch(["sh", "-c", f"ulimit -s unlimited; {scan}"])

    def adds(self) -> Mapping[str, Callable[[int], None]]:
        """A new directory, and a scan."""

        def add(number: int) -> None:
            self._write(number)
            self._tell("s6-svscanctl", "-a", str(self._scan))

        return {"add": add}

    def stop_all(self) -> None:
        """What ``s6-svc -d`` does, without a process for each service."""
        for service in self._scan.iterdir():
            if not service.name.startswith("."):
                write_control(service, b"d")

    def own_pids(self) -> list[int]:
        """The scanner and the supervisors."""
        return [self.pid, *children_of(self.pid)]

    def close(self) -> None:
        """The scanner ends the supervisors, which end the services."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self._tell("s6-svscanctl", "-t", str(self._scan))
        end = time.monotonic() + ENDING
        while self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        super().close()

    def _tell(self, *command: str) -> None:
        subprocess.run(command, timeout=ENDING, check=True)
