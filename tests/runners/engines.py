"""A real container engine for tests, as ``FLOW_TEST_ENGINE`` names it, and an image for it.

The image is nothing but links into ``/usr``, which is mounted from this machine: what runs here
runs in its containers, and no registry is needed.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import docker.errors

import flow_operator
from runners.boxes import engine_url
from runners.dockerd import Dockerd, dockerd

LABEL = "flow-operator.dev/test"
LINKS = ("bin", "lib", "lib64")
DIRECTORIES = ("usr", "sbin", "etc", "proc", "sys", "dev", "tmp", "run")


class Engine:
    """A connection, and the containers that a test makes with it; all of them are removed.

    Attributes:
        api: the SDK's client.
        socket: the path of the engine's socket.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.socket = Path(url.removeprefix("unix://"))
        self.api = docker.APIClient(base_url=url, timeout=30)
        self.tag = uuid.uuid4().hex[:12]
        self.image = f"flow-test-{self.tag}"
        self._volumes: list[str] = []
        self.api.import_image_from_data(_links(), repository=self.image)

    def run(self, *command: str, binds: tuple[str, ...] = (), **config: Any) -> str:
        """Start a container with the programs of this machine; returns its id."""
        host = self.api.create_host_config(
            network_mode="none",
            binds=[*_programs(), *binds],
            init=config.pop("init", True),
            log_config=config.pop("log_config", None),
            pid_mode=config.pop("pid_mode", None),
        )
        made = self.api.create_container(
            self.image, list(command), host_config=host, labels={LABEL: self.tag}, **config
        )
        self.api.start(made["Id"])
        return made["Id"]

    def wait(self, container: str, within: float = 60) -> tuple[int, str]:
        """The exit code of a container, and all that it has printed."""
        code = self.api.wait(container, timeout=within)["StatusCode"]
        return code, self.api.logs(container).decode()

    def inspect(self, name: str) -> Mapping[str, Any] | None:
        """What the engine tells of a container; None if it knows none."""
        try:
            return self.api.inspect_container(name)
        except docker.errors.NotFound:
            return None

    def remove(self, container: str) -> None:
        """At once, whatever it does."""
        with contextlib.suppress(docker.errors.NotFound):
            self.api.remove_container(container, force=True, v=True)

    def volume(self) -> str:
        """A named volume."""
        name = f"flow-test-{self.tag}-{len(self._volumes)}"
        self.api.create_volume(name)
        self._volumes.append(name)
        return name

    def close(self) -> None:
        for found in self.api.containers(all=True, filters={"label": f"{LABEL}={self.tag}"}):
            self.remove(found["Id"])
        for name in self._volumes:
            self.api.remove_volume(name)
        self.api.remove_image(self.image, force=True)
        self.api.close()


def _links() -> bytes:
    """A file system of links into /usr."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        for name in DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name in LINKS:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)
    return memory.getvalue()


def _programs() -> list[str]:
    """Mounts of what this Python needs, and of the sources."""
    source = str(Path(flow_operator.__file__).parent.parent)
    wanted = ("/usr", sys.base_prefix, sys.prefix, source)
    return [
        f"{path}:{path}:ro"
        for path in dict.fromkeys(wanted)
        if path == "/usr" or not path.startswith("/usr/")
    ]


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """The engine of this machine, if there is one."""
    made = Engine(engine_url())
    try:
        yield made
    finally:
        made.close()


class OwnEngine(Engine):
    """A dockerd of the test's own, which it can stop and start while containers run."""

    def __init__(self, daemon: Dockerd) -> None:
        self._daemon = daemon
        super().__init__(daemon.url)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._daemon.start()

    def stop(self) -> None:
        """Stop it; its containers go on."""
        self._daemon.end()

    @classmethod
    @contextlib.contextmanager
    def started(cls) -> Iterator[OwnEngine]:
        """One with nothing in it."""
        with dockerd() as daemon:
            made = cls(daemon)
            try:
                yield made
            finally:
                if not daemon.running:
                    daemon.start()
                made.close()
