"""How fast the operator is, as ratios to what the machine itself needs, measured in one run.

    PYTHONPATH=operator:tests .venv/bin/python benchmarks/scale.py [FLOWS]

One-step flows that sleep; data in memory; everything over REST on loopback. The floor is the time
that one ``posix_spawn`` per process takes from a small process.
"""

import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from support import Flowd, eventually, make_document, memory_directory

COMMAND = {"name": "s0", "command": ["/bin/sleep", "10000"]}


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def spawn_floor(count: int) -> float:
    """Seconds for that many posix_spawn calls, and nothing else."""
    pids: list[int] = []

    def spawn() -> None:
        arguments = ("/bin/sleep", ["sleep", "10000"], {})
        pids.extend(os.posix_spawn(*arguments, setsid=True) for _ in range(count))

    seconds = timed(spawn)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return seconds


def count_with(flowd: Flowd, status: str) -> int:
    """How many flows have a status."""
    return sum(row["status"] == status for row in flowd.statuses().values())


def reach(flowd: Flowd, status: str, count: int) -> None:
    """Wait until so many flows have a status."""

    def check() -> None:
        assert count_with(flowd, status) >= count

    eventually(check, within=300, every=0.02)


def restart_latency(flowd: Flowd) -> float:
    """Seconds from kill -9 of a step's process to its successor."""
    flow_id = "f00000"
    [pid] = flowd.pids(flow_id)
    os.kill(pid, signal.SIGKILL)
    begun = time.perf_counter()

    def replaced() -> None:
        [now] = flowd.pids(flow_id)
        assert now not in (pid, None)

    eventually(replaced, every=0.0005)
    return time.perf_counter() - begun


def add_latency(flowd: Flowd, number: int) -> float:
    """Seconds from POST of one more flow until it runs."""
    name = f"extra-{number}"

    def add() -> None:
        flowd.create(make_document(name, COMMAND))
        eventually(lambda: _assert(flowd.status(name)["status"] == "running"), every=0.0005)

    return timed(add)


def _assert(condition: bool) -> None:  # noqa: FBT001
    assert condition


def calls_per_second(flowd: Flowd, clients: int = 8, seconds: float = 3.0) -> float:
    """GET /flows/status of everything, from several clients."""
    end = time.monotonic() + seconds

    def client() -> int:
        done = 0
        with httpx.Client(base_url=flowd.client.base_url) as http:
            while time.monotonic() < end:
                http.get("/flows/status").raise_for_status()
                done += 1
        return done

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(lambda _: client(), range(clients))) / seconds


def memory_mb(flowd: Flowd) -> float:
    """Proportional memory of the operator and the shim."""
    total = 0
    for pid in (flowd.pid, flowd.shim_pid()):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    floor = spawn_floor(count)
    print(f"posix_spawn floor, {count} processes  {floor:8.3f} s")
    with memory_directory() as root:
        flowd = Flowd(root, "--log-level", "error").start()
        try:
            flowd.client.timeout = httpx.Timeout(300)
            now = {"backoff": {"initial": "0s"}}
            documents = [make_document(f"f{n:05}", COMMAND, restart=now) for n in range(count)]
            accepted = timed(lambda: flowd.create(*documents))
            print(f"POST of all, durable             {accepted:8.3f} s")
            begun = time.perf_counter()
            reach(flowd, "running", count)
            started = accepted + time.perf_counter() - begun
            print(
                f"start all                        {started:8.3f} s  {started / floor:6.1f} x floor"
            )
            restarts = sorted(restart_latency(flowd) for _ in range(30))
            print(f"restart after kill -9, p50       {statistics.median(restarts) * 1e3:8.1f} ms")
            adds = sorted(add_latency(flowd, n) for n in range(30))
            print(f"add one, until it runs, p50      {statistics.median(adds) * 1e3:8.1f} ms")
            status = sorted(timed(flowd.statuses) for _ in range(50))
            print(f"status of all, p50               {statistics.median(status) * 1e3:8.1f} ms")
            print(f"status of all, 8 clients         {calls_per_second(flowd):8.0f} /s")
            print(f"memory of operator and shim      {memory_mb(flowd):8.1f} MB")
            before = cpu_seconds(flowd.pid) + cpu_seconds(flowd.shim_pid())
            time.sleep(10)
            idle = cpu_seconds(flowd.pid) + cpu_seconds(flowd.shim_pid()) - before
            print(f"idle CPU in 30 s                 {idle * 3:8.2f} s")
            stopped = timed(lambda: flowd.command("stop", timeout=300, type=1))
            print(
                f"stop all, hard                   {stopped:8.3f} s  {stopped / floor:6.1f} x floor"
            )
        finally:
            flowd.destroy()


if __name__ == "__main__":
    main()
