"""runit, from Debian: runsvdir, and a runsv for each service."""

from __future__ import annotations

from pathlib import Path

from speed.contender import Launched, Work, flow_name
from speed.peers.install import from_debian
from speed.peers.services import write_control, write_service
from speed.processes import children_of


class Runit(Launched):
    """runsvdir on a directory of services.

    It takes no more than 1,000, sees new ones every 5 s, and has no call for the status of all.
    """

    name = "runit"

    def __init__(self, root: Path, work: Work) -> None:
        super().__init__(root, work)
        self._home = from_debian("runit", "runit")
        self._services = root / "services"

    def prepare(self, count: int) -> None:
        """A directory with a run script for each service."""
        self._services.mkdir()
        for number in range(count):
            write_service(self._services / flow_name(number), self.work.command(number))

    def start(self) -> None:
        """Launch runsvdir."""
        path = f"{self._home}/usr/bin:/usr/bin:/bin"
        self.launch([str(self._home / "usr/bin/runsvdir"), "-P", str(self._services)], PATH=path)

    def stop_all(self) -> None:
        """What ``sv down`` does, without its waiting."""
        for service in self._services.iterdir():
            write_control(service, b"d")

    def own_pids(self) -> list[int]:
        """runsvdir, and the supervisors."""
        return [self.pid, *children_of(self.pid)]

    def close(self) -> None:
        """Each supervisor ends with its service; runsvdir alone would leave them."""
        if self.process is not None and self.process.poll() is None:
            for service in self._services.iterdir():
                if (service / "supervise/control").exists():
                    write_control(service, b"x")
        super().close()
