"""circus, from PyPI; asked over its ZeroMQ socket by its own client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from speed.contender import Launched, Load, Work, flow_name
from speed.peers.helper import Helper
from speed.peers.install import from_pypi

VERSION = "0.19.0"

_HEAD = """\
[circus]
endpoint = ipc://{root}/endpoint
pubsub_endpoint = ipc://{root}/pubsub
loglevel = error
warmup_delay = 0
"""
_WATCHER = """\
[watcher:{name}]
cmd = {command}
numprocesses = 1
warmup_delay = 0
"""


class Circus(Launched):
    """circusd with a watcher for each flow. It keeps no logs of what they print."""

    name = "circus"

    def __init__(self, root: Path, work: Work) -> None:
        super().__init__(root, work)
        self._bin = from_pypi("circus", f"circus=={VERSION}")
        self._helper: Helper | None = None

    def prepare(self, count: int) -> None:
        """One file with all watchers."""
        parts = [_HEAD.format(root=self.root)]
        for number in range(count):
            command = " ".join(self.work.command(number))
            parts.append(_WATCHER.format(name=flow_name(number), command=command))
        (self.root / "circus.ini").write_text("".join(parts))

    def start(self) -> None:
        """Launch it."""
        self.launch([str(self._bin / "circusd"), str(self.root / "circus.ini")])

    def _ask(self) -> Helper:
        if self._helper is None:
            program = Path(__file__).parent / "circus_helper.py"
            # -P: a module beside it has the name of the package that it imports.
            python = (str(self._bin / "python"), "-P")
            command = (*python, str(program), f"ipc://{self.root}/endpoint")
            self._helper = Helper(command, self.root)
            self._helper.ask("numwatchers")
        return self._helper

    def adds(self) -> Mapping[str, Callable[[int], None]]:
        """What ``circusctl add --start`` does."""

        def add(number: int) -> None:
            command = " ".join(self.work.command(number))
            given = {"name": flow_name(number), "cmd": command, "start": True}
            self._ask().ask("add", given)

        self._ask()
        return {"add": add}

    def load(self, clients: int, seconds: float) -> Load:
        """What ``circusctl status`` asks: a word for each watcher."""
        return self._ask().load(clients, seconds)

    def stop_all(self) -> None:
        """What ``circusctl stop`` does."""
        self._ask().ask("stop", {"waiting": False})

    def close(self) -> None:
        """End the helper, then circusd."""
        if self._helper is not None:
            self._helper.close()
            self._helper = None
        super().close()
