"""This operator, as one of the contenders, and as what only it can do is measured on."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from flow_operator.client import FlowClient
from speed.clients import HttpClient
from speed.contender import Launched, Load, Work, flow_name
from speed.register import Register

PATIENCE = 300.0
"""Seconds after which an operator counts as stuck; 5,000 flows take a busy one over a minute."""


class Ours(Launched):
    """flowd with its shim, and its defaults."""

    name = "flow-operator"

    def __init__(self, root: Path, work: Work, client: Path) -> None:
        super().__init__(root, work)
        self.data, self.manifests = root / "data", root / "manifests"
        self.manifests.mkdir()
        self._client = client
        self._port = _free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=PATIENCE)

    # --- as every contender ------------------------------------------------------------------

    def prepare(self, count: int) -> None:
        """Create the flows over REST, then end the operator: they stay desired to be running."""
        self.start()
        self.await_ready()
        self.create(range(count))
        self.await_statuses("running", count)
        self.end()

    def start(self) -> None:
        """Launch it on its data directory."""
        self.launch(
            [
                *(sys.executable, "-m", "flow_operator.flowd"),
                *("--data", str(self.data), "--manifests", str(self.manifests)),
                *("--listen", f"127.0.0.1:{self._port}"),
            ]
        )

    def adds(self) -> Mapping[str, Callable[[int], None]]:
        """By REST, and by a file in the folder."""
        return {"add": lambda number: self.create([number]), "add-file": self.write}

    def load(self, clients: int, seconds: float) -> Load:
        """GET of all statuses."""
        request = f"GET /flows/status HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n"
        client = HttpClient(self._client, str(self._port), request.encode())
        return client.load(clients, seconds)

    def stop_all(self) -> None:
        """The soft stop of all flows."""
        self.command("stop")

    def own_pids(self) -> list[int]:
        """The operator and its shim."""
        return [self.pid, *filter(None, [self.shim_pid()])]

    def close(self) -> None:
        """End the operator at once, the flows and the shim with it."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                self.command("stop", type=1)
        super().close()
        self.http.close()

    # --- what only it can do -----------------------------------------------------------------

    def shim_pid(self) -> int:
        """The shim of this data directory; 0 if there is none: its command line names it."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if str(self.data).encode() in words and b"-S" in words:
                    return int(entry.name)
        return 0

    def document(self, number: int) -> dict[str, Any]:
        """One flow's configuration."""
        step = {"name": "work", "command": self.work.command(number)}
        return {"flow_id": flow_name(number), "spec": {"steps": [step]}}

    def create(self, numbers: Any) -> None:
        """POST flows, all in one transaction."""
        self.post([self.document(number) for number in numbers])

    def post(self, documents: list[dict[str, Any]]) -> None:
        """POST configurations; returns when they are durable."""
        self.http.post("/flows", json=documents).raise_for_status()

    def write(self, number: int) -> None:
        """Put one flow's manifest into the folder, whole at once. JSON is YAML."""
        path = self.manifests / f"{flow_name(number)}.yaml"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self.document(number)))
        new.replace(path)

    def command(self, verb: str, **extra: Any) -> dict[str, str]:
        """Command all flows; what was observed when the answer came, by flow."""
        body = {"command": verb, **extra}
        answer = self.http.patch("/flows/commands", params={"timeout": 60}, json=body)
        answer.raise_for_status()
        return {row["flow_id"]: row["status"] for row in answer.json()["details"]}

    def status(self, flow_id: str) -> dict[str, Any]:
        """The status of one flow."""
        return self.http.get(f"/flows/status/{flow_id}").raise_for_status().json()

    def await_ready(self) -> None:
        """Until it answers that it is ready."""

        def ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return self.http.get("/readyz").status_code == httpx.codes.OK
            return False

        self._await(ready, "ready")

    def await_statuses(self, status: str, count: int) -> None:
        """Until at least so many flows have a status."""

        def reached() -> bool:
            rows = self.http.get("/flows/status").raise_for_status().json().values()
            return sum(row["status"] == status for row in rows) >= count

        self._await(reached, status)

    def watch_statuses(self, status: str, count: int) -> None:
        """The same, told by a watch: to ask for thousands again and again is work for it, too."""
        reached: set[str] = set()
        with (
            FlowClient(f"http://127.0.0.1:{self._port}") as client,
            contextlib.closing(client.watch_statuses()) as changes,
        ):
            for change in changes:
                flow = change.object
                (reached.add if flow["status"] == status else reached.discard)(flow["flow_id"])
                if len(reached) >= count:
                    return

    def _await(self, met: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            asked = time.monotonic()
            if met():
                return
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"flowd ended: {(self.root / 'output.log').read_text()}")
            if time.monotonic() > end:
                raise TimeoutError(f"flowd is not {what} after {PATIENCE:.0f} s")
            # Asking about many flows is work for it, which must not be what is measured.
            time.sleep(max(0.005, 2 * (time.monotonic() - asked)))

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the operator: SIGTERM drains the flows first, SIGKILL leaves them running."""
        assert self.process is not None, "not launched"
        self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"flowd did not end within {PATIENCE:.0f} s") from None


def start_empty(ours: Ours, register: Register) -> None:
    """Launch it without flows, and have everything loaded that the first one needs."""
    ours.start()
    ours.await_ready()
    ours.create([99_999])
    register.wait(1, PATIENCE)
    ours.http.delete(f"/flows/{flow_name(99_999)}").raise_for_status()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
