"""A Docker engine of a test's own, which it may stop and start, and a registry to fetch from."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import docker.errors

from runners.boxes import engine_url
from support import eventually, require

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CONFIG = "application/vnd.docker.container.image.v1+json"


class Dockerd:
    """An engine whose containers outlive it, as ``live-restore`` has it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"unix://{root}/d.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self._process is None
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("dockerd", "--host", self.url, "--live-restore"),
                    *("--data-root", f"{self.root}/data", "--exec-root", f"{self.root}/exec"),
                    *("--pidfile", f"{self.root}/pid"),
                    *("--bridge", "none", "--iptables=false"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._ping, within=60, every=0.1)

    @property
    def running(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._process is not None and self._process.poll() is None

    def _ping(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, (self.root / "log").read_text()[-2000:]
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(10)
                line.connect(f"{self.root}/d.sock")
                line.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                assert b" 200 " in line.recv(100)
        except OSError as error:
            raise AssertionError(str(error)) from None

    def end(self) -> None:
        """End it; its containers go on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """It takes every call, and answers none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def destroy(self) -> None:
        """End it with all that it has run: without it nobody would end that."""
        if self._process is None:
            self.start()
        with contextlib.closing(docker.APIClient(base_url=self.url, timeout=60)) as api:
            for one in api.containers(all=True):
                with contextlib.suppress(docker.errors.APIError):
                    api.remove_container(one["Id"], force=True, v=True)
        self.end()
        subprocess.run(["umount", f"{self.root}/data"], check=False, capture_output=True)


@contextlib.contextmanager
def dockerd() -> Iterator[Dockerd]:
    """A running engine of its own, with nothing in it."""
    engine_url()  # Where there is none, there need not be another.
    require(None if shutil.which("dockerd") else "there is no dockerd (on Debian: docker.io)")
    with tempfile.TemporaryDirectory(prefix="flow-dockerd-", ignore_cleanup_errors=True) as name:
        made = Dockerd(Path(name))
        made.start()
        try:
            yield made
        finally:
            made.destroy()


class Registry:
    """One that serves a single image, whose layer waits until it is released.

    Attributes:
        release: lets the layer go.
        denied: whether everybody is refused.
        asked: how often the manifest was fetched.
    """

    def __init__(self, layer: bytes) -> None:
        packed = gzip.compress(layer, 1)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        described = json.dumps(config).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _named(CONFIG, described),
            "layers": [_named(LAYER, packed)],
        }
        self.blobs = {_digest(blob): blob for blob in (described, packed)}
        self.slow = _digest(packed)
        self.manifest = json.dumps(manifest).encode()
        self.release = threading.Event()
        self.denied = False
        self.asked = 0


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _named(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def do_GET(self) -> None:
        last = self.path.rpartition("/")[2]
        known = self.registry
        if known.denied:
            self._answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}')
        elif self.path == "/v2/":
            self._answer(200, b"{}")
        elif "/manifests/" in self.path and last in ("1", _digest(known.manifest)):
            known.asked += self.command == "GET"
            self._answer(200, known.manifest, MANIFEST, _digest(known.manifest))
        elif "/blobs/" in self.path and last in known.blobs:
            if last == known.slow and self.command == "GET":
                known.release.wait(60)
            self._answer(200, known.blobs[last], "application/octet-stream")
        else:
            self._answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not here"}]}')

    do_HEAD = do_GET  # noqa: N815 - as http.server names it

    def _answer(
        self, status: int, body: bytes, kind: str = "application/json", digest: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def registry(layer: bytes) -> Iterator[tuple[Registry, str]]:
    """A registry, and where it is; its image is ``ADDRESS/box:1``."""
    made = Registry(layer)
    handler = type("Handler", (_Handler,), {"registry": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made, f"127.0.0.1:{server.server_port}"
    finally:
        made.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
