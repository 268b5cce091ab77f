"""PM2, from npm; asked by its own library."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from speed.contender import Load, Work, flow_name
from speed.peers.helper import Helper
from speed.peers.install import from_npm
from speed.processes import Watched

VERSION = "7.0.4"

CONCURRENT = "20"
"""How many apps PM2 stops at once. Its default is 2, which takes a minute for 1,000."""


class Pm2:
    """The daemon of PM2, in a home of its own, with a process for each app and its log files."""

    name = "pm2"

    def __init__(self, root: Path, work: Work) -> None:
        self._root, self._work = root, work
        modules = from_npm("pm2", f"pm2@{VERSION}")
        program = Path(__file__).parent / "pm2_helper.js"
        self._helper = Helper(
            ("node", str(program)),
            root,
            PM2_HOME=str(root / "pm2"),
            PM2_SILENT="true",
            PM2_CONCURRENT_ACTIONS=CONCURRENT,
            NODE_PATH=str(modules),
        )
        self._apps: list[dict[str, Any]] = []
        self._starting: threading.Thread | None = None

    def _app(self, number: int) -> dict[str, Any]:
        program, *arguments = self._work.command(number)
        name = flow_name(number)
        return {"name": name, "script": program, "args": arguments, "interpreter": "none"}

    def prepare(self, count: int) -> None:
        """The apps, as in an ecosystem file; the daemon does not run yet."""
        self._apps = [self._app(number) for number in range(count)]

    def start(self) -> None:
        """Launch the daemon and have it start all, which its answer waits for."""

        def start() -> None:
            self._helper.ask("connect")
            self._helper.ask("start", self._apps)

        self._starting = threading.Thread(target=start)
        self._starting.start()

    def _ask(self) -> Helper:
        if self._starting is not None:
            self._starting.join()
            self._starting = None
        return self._helper

    def adds(self) -> Mapping[str, Callable[[int], None]]:
        """What ``pm2 start`` does, without the start of node."""
        return {"add": lambda number: self._ask().ask("start", [self._app(number)])}

    def load(self, clients: int, seconds: float) -> Load:
        """What ``pm2 jlist`` asks, without the start of node."""
        return self._ask().load(clients, seconds)

    def stop_all(self) -> None:
        """What ``pm2 stop all`` does."""
        self._ask().ask("stop")

    def own_pids(self) -> list[int]:
        """The daemon; it writes its pid down."""
        path = self._root / "pm2/pm2.pid"
        return [int(path.read_text())] if path.exists() else []

    def close(self) -> None:
        """End the daemon, and the helper."""
        self._helper.close()
        with Watched(self.own_pids()) as watched:
            watched.kill()
            watched.wait(10)
        if self._starting is not None:
            self._starting.join()
