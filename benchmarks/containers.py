"""How soon containers run, by the operator and by the engine's own command, in one run.

Usage: python benchmarks/containers.py ENGINE IMAGE [COUNT]

ENGINE is a socket (unix:///run/docker.sock), IMAGE one that it has, with sh and sleep.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx

ROUNDS = 3
AT_ONCE = 4
"""Commands side by side: as many as the operator has workers."""


@contextmanager
def operator(engine: str) -> Iterator[tuple[httpx.Client, int]]:
    """A new one; drained at the end."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as data:
        command = [sys.executable, "-m", "flow_operator.flowd", "--data", data]
        command += ["--listen", "127.0.0.1:0", "--engine", engine, "--log-level", "error"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        url = process.stdout.readline().split(" serves ")[1].strip()
        with httpx.Client(base_url=url, timeout=120) as client:
            yield client, process.pid
        process.terminate()
        process.wait(120)


def flow(name: str, image: str) -> dict[str, Any]:
    """A worker of one container."""
    return {
        "flow_id": name,
        "spec": {
            "runner": "container",
            "container": {"image": image, "network": "none"},
            "stop": {"signal": "SIGKILL"},
            "steps": [{"name": "main", "command": ["sleep", "1000"]}],
        },
    }


def by_operator(client: httpx.Client, image: str, count: int) -> float:
    """Seconds from the call that creates flows until all of them are told to run."""
    names = [f"b{number}-{uuid.uuid4().hex[:6]}" for number in range(count)]
    begun = time.perf_counter()
    client.post("/flows", json=[flow(name, image) for name in names]).raise_for_status()
    while True:
        told = client.get("/flows/status").json()
        if all(told[name]["status"] == "running" for name in names):
            return time.perf_counter() - begun
        time.sleep(0.005)


def by_command(engine: str, image: str, count: int) -> float:
    """The same with ``docker run -d``, several at once; nothing is left of them."""
    label = f"flow-bench={uuid.uuid4().hex}"
    command = ["docker", "-H", engine, "run", "-d", "--init", "--network", "none"]
    command += ["--label", label, image, "sleep", "1000"]

    def run(_: int) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    begun = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(run, range(count)))
    took = time.perf_counter() - begun
    api = docker.APIClient(base_url=engine, version="auto", timeout=120)
    for one in api.containers(filters={"label": label}):
        api.remove_container(one["Id"], force=True)
    api.close()
    return took


def memory(pid: int) -> int:
    """Bytes that a process has for itself (proc_pid_smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def best(work: Callable[[], float]) -> str:
    """All rounds, the best first."""
    return "  ".join(f"{took:6.3f}" for took in sorted(work() for _ in range(ROUNDS)))


def main() -> None:
    """Print seconds of each round, and bytes for each container."""
    engine, image = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 20  # noqa: PLR2004
    for many in (1, count):
        print(
            f"docker run -d, {many:3}: {best(lambda many=many: by_command(engine, image, many))} s"
        )
        with operator(engine) as (client, _):
            took = best(lambda many=many, client=client: by_operator(client, image, many))
            print(f"operator,      {many:3}: {took} s")
    with operator(engine) as (client, pid):
        by_operator(client, image, 1)
        before = memory(pid)
        by_operator(client, image, count)
        print(f"memory of the operator: {(memory(pid) - before) / count / 1000:.0f} kB a container")


if __name__ == "__main__":
    main()
