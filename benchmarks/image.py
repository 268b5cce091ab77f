"""How large the operator's image is, and how soon a container of it serves and runs a flow.

    docker build -t flow-operator . && python benchmarks/image.py [ROUNDS] [IMAGE] [ENGINE]

No network is needed: the API is a socket in a mounted directory, where a file of the flow's tells
that it runs.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
IMAGE = sys.argv[2] if len(sys.argv) > 2 else "flow-operator"  # noqa: PLR2004
ENGINE = sys.argv[3] if len(sys.argv) > 3 else "unix:///run/docker.sock"  # noqa: PLR2004
FLOW = """\
flow_id: first
spec:
  steps:
  - {name: runs, script: "touch /told/runs; exec sleep 1000"}
"""


def docker(*arguments: str) -> str:
    """What the command tells."""
    command = ["docker", "--host", ENGINE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def once(directory: Path) -> tuple[float, float]:
    """Seconds from `docker run` to the first answer of /livez, and to the first step."""
    manifests, told = directory / "manifests", directory / "told"
    for made in (manifests, told):
        made.mkdir()
    told.chmod(0o777)
    directory.chmod(0o755)
    (manifests / "first.yaml").write_text(FLOW)
    name = f"flow-bench-{directory.name}"
    begun = time.monotonic()
    docker(
        *("run", "--detach", "--name", name, "--network", "none", "--read-only"),
        *("--volume", f"{manifests}:/manifests:ro", "--volume", f"{told}:/told"),
        *("--env", "FLOWD_LISTEN=unix:/told/api.sock", IMAGE),
    )
    try:
        answers = runs = 0.0
        while not (answers and runs):
            now = time.monotonic() - begun
            runs = runs or (now if (told / "runs").exists() else 0.0)
            answers = answers or (now if _answers(told / "api.sock") else 0.0)
            time.sleep(0.002)
    finally:
        docker("rm", "--force", "--volumes", name)
    return answers, runs


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")
        return b" 200 " in sock.recv(100)
    return False


def main() -> None:
    """Print the figures."""
    size = int(docker("image", "inspect", IMAGE, "--format", "{{.Size}}"))
    print(f"image: {size / 1e6:.0f} MB")
    figures = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="image-") as name:
            figures.append(once(Path(name)))
    for index, what in enumerate(("/livez answers", "first flow runs")):
        seconds = [figure[index] for figure in figures]
        middle, best = statistics.median(seconds), min(seconds)
        print(f"{what} after {middle:.2f} s (median of {ROUNDS}), {best:.2f} s at best")


main()
