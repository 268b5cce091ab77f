"""What the server adds to waitress, and what other clients notice of those who misbehave.

    PYTHONPATH=operator:tests .venv/bin/python benchmarks/api.py [SECONDS]

First requests a second from 16 connections that are kept, as ratios to waitress as it comes, round
by round in one run. Then the times of another client's calls on a real operator, one each 10 ms,
while others do what ``tests/faults/test_saturation.py`` has them do.
"""

import contextlib
import json
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import trustme
from waitress import create_server

from flow_operator.api import Certificates, Server
from flow_operator.settings import Address
from support import Flowd, eventually, make_document, memory_directory

BODIES = {
    "/small": json.dumps({"status": "running", "flow": "x" * 150}).encode(),
    "/large": b"x" * 400_000,
    "/huge": b"x" * 2**23,
}
CONNECTIONS = 16


def answer(environ: dict, start_response: Callable) -> list[bytes]:
    """The body that a path stands for."""
    body = BODIES[environ["PATH_INFO"]]
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def serve(kind: str, files: str) -> None:
    """Serve until killed; tells the port."""
    if kind == "waitress":
        server = create_server(answer, host="127.0.0.1", port=0, threads=96)
        print(server.effective_port, flush=True)
        server.run()
    tls = kind == "tls"
    found = [Path(name) for name in files.split(",")]
    certificates = Certificates(*found) if tls else None
    ours = Server(answer, Address("127.0.0.1", 0, tls=tls), tls=certificates)
    ours.start()
    print(ours.address.port, flush=True)
    threading.Event().wait()


@contextlib.contextmanager
def served(kind: str, files: str) -> Iterator[int]:
    """The port of a server in a process of its own."""
    command = [sys.executable, __file__, "serve", kind, files]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


def rate(port: int, path: str, seconds: float, context: ssl.SSLContext | None) -> float:
    """Requests a second."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    selector = selectors.DefaultSelector()
    for _ in range(CONNECTIONS):
        sock = socket.create_connection(("127.0.0.1", port))
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname="localhost")
        sock.sendall(request)
        sock.settimeout(0)
        selector.register(sock, selectors.EVENT_READ, [0, 0])
    done = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select():
            done += _read(key.fileobj, key.data, len(BODIES[path]), request)
    for key in tuple(selector.get_map().values()):
        key.fileobj.close()
    selector.close()
    return done / seconds


def _read(sock: socket.socket, state: list[int], length: int, request: bytes) -> int:
    """Read what has come; ask again after a whole answer, and return 1."""
    while True:
        try:
            data = sock.recv(2**20)
        except (BlockingIOError, ssl.SSLWantReadError):
            return 0
        assert data, "hung up"
        if not state[1]:
            state[1] = data.index(b"\r\n\r\n") + 4 + length
        state[0] += len(data)
        if state[0] == state[1]:
            state[:] = [0, 0]
            sock.sendall(request)
            return 1


def compare(seconds: float, root: Path) -> None:
    """Print requests a second of each server, and ours by waitress's."""
    ca = trustme.CA()
    issued = ca.issue_cert("localhost")
    cert, key = root / "cert.pem", root / "key.pem"
    issued.cert_chain_pems[0].write_to_path(cert)
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with contextlib.ExitStack() as stack:
        kinds = ("waitress", "ours", "tls")
        ports = {kind: stack.enter_context(served(kind, f"{cert},{key}")) for kind in kinds}
        for path in BODIES:
            rounds = [
                {k: rate(ports[k], path, seconds, context if k == "tls" else None) for k in kinds}
                for _ in range(5)
            ]
            for kind in kinds:
                figure = statistics.median(row[kind] for row in rounds)
                ratio = statistics.median(row[kind] / row["waitress"] for row in rounds)
                print(f"{path:8} {kind:9} {figure:8.0f} requests/s  {ratio:5.2f} of waitress")


# --- while others misbehave ------------------------------------------------------------------


def latency(url: str, seconds: float) -> tuple[float, float, int]:
    """Median and 99th percentile of a call in milliseconds, and how many there were."""
    took = []
    end = time.monotonic() + seconds
    with httpx.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < end:
            begun = time.monotonic()
            client.get("/flows/status/f000").raise_for_status()
            took.append((time.monotonic() - begun) * 1000)
            time.sleep(0.01)
    took.sort()
    return statistics.median(took), took[len(took) * 99 // 100], len(took)


def connect(url: str, stack: contextlib.ExitStack, count: int, sent: bytes) -> list[socket.socket]:
    """Connections that have sent something."""
    at = urlsplit(url)
    made = []
    for _ in range(count):
        sock = stack.enter_context(socket.create_connection((at.hostname, at.port)))
        sock.sendall(sent)
        made.append(sock)
    return made


def repeat(
    stack: contextlib.ExitStack, threads: int, pause: float, action: Callable[[], object]
) -> None:
    """Do something again and again, in some threads, until the stack is left."""
    over = threading.Event()

    def act() -> None:
        while not over.wait(pause):
            action()

    pool = stack.enter_context(ThreadPoolExecutor(threads))
    stack.callback(over.set)
    for _ in range(threads):
        pool.submit(act)


def attack(name: str, url: str, stack: contextlib.ExitStack) -> None:
    """Begin to misbehave, until the stack is left."""
    head = b"GET /flows HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if name == "60 heads that never end":
        sockets = connect(url, stack, 60, head)

        def trickle() -> None:
            for sock in sockets:
                with contextlib.suppress(OSError):
                    sock.send(b"X")

        repeat(stack, 1, 0.1, trickle)
    elif name == "151 silent connections":
        connect(url, stack, 151, b"")
    elif name == "200 followers":
        follow = b"GET /flows/f000/logs?follow=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        connect(url, stack, 200, follow)
    elif name == "bodies of 2 MB":
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        body = b"[" + b"{}," * 650_000 + b"{}]"
        json_type = {"Content-Type": "application/json"}
        repeat(stack, 4, 0, lambda: client.post("/flows", content=body, headers=json_type))
    elif name == "16 clients that ask for all":
        at = urlsplit(url)

        def ask() -> None:
            with socket.create_connection((at.hostname, at.port)) as sock:
                sock.sendall(b"GET /flows/status HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
                while sock.recv(2**20):
                    pass

        repeat(stack, 16, 0, ask)


ATTACKS = (
    "nobody else",
    "60 heads that never end",
    "151 silent connections",
    "200 followers",
    "16 clients that ask for all",
    "bodies of 2 MB",
)


def disturb(seconds: float, root: Path) -> None:
    """Print what another client notices."""
    flowd = Flowd(root).start()
    url = str(flowd.client.base_url)
    try:
        script = "while :; do echo tick; sleep 0.2; done"
        flowd.create(*(make_document(f"f{n:03}", script) for n in range(20)))
        eventually(lambda: flowd.await_status("f019", "running"))
        for name in ATTACKS:
            with contextlib.ExitStack() as stack:
                attack(name, url, stack)
                median, late, calls = latency(url, seconds)
            print(f"{median:7.1f} / {late:7.1f} ms p50 / p99 of {calls} calls: {name}")
    finally:
        flowd.destroy()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    duration = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with memory_directory() as directory:
        compare(duration, directory)
        disturb(2 * duration, directory)
