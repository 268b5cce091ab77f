"""What a scrape costs, by the number of flows, on a real operator.

    PYTHONPATH=operator:tests .venv/bin/python benchmarks/scrape.py [FLOWS...]

One-step flows that sleep; data in memory; over REST on loopback. Figures that are older than two
seconds are sampled anew, so each scrape here comes after a pause, as Prometheus' do. The processor
time is that of ``flowd`` for one scrape.
"""

import os
import statistics
import sys
import time
from pathlib import Path

from support import Flowd, eventually, make_document, memory_directory

COMMAND = {"name": "s0", "command": ["/bin/sleep", "10000"]}
OPEN_METRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}
TIMES = 7
PAUSE = 2.1
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def measured(flowd: Flowd, headers: dict[str, str]) -> tuple[float, float, int]:
    """Milliseconds, those of the processor, and bytes of a scrape."""
    took, used, size = [], [], 0
    for _ in range(TIMES):
        time.sleep(PAUSE)
        before, begun = cpu_seconds(flowd.pid), time.perf_counter()
        answer = flowd.client.get("/metrics", headers=headers)
        took.append(time.perf_counter() - begun)
        used.append(cpu_seconds(flowd.pid) - before)
        size = len(answer.content)
    return statistics.median(took) * 1000, statistics.mean(used) * 1000, size


def run(count: int) -> None:
    """Measure with that many flows."""
    with memory_directory() as root:
        flowd = Flowd(root).start()
        try:
            flowd.create(*(make_document(f"flow-{n:04}", COMMAND) for n in range(count)))

            def all_run() -> None:
                statuses = flowd.statuses().values()
                assert sum(status["status"] == "running" for status in statuses) == count

            eventually(all_run, within=120, every=0.2)
            for name, headers in (("text", {}), ("OpenMetrics", OPEN_METRICS)):
                took, used, size = measured(flowd, headers)
                print(f"{count:6} {name:12} {took:8.1f} ms {used:8.1f} ms CPU {size:9} bytes")
        finally:
            flowd.destroy()


if __name__ == "__main__":
    for wanted in map(int, sys.argv[1:] or ("10", "100", "1000")):
        run(wanted)
