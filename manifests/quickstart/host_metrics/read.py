"""Source: read the kernel's counters on a steady schedule, one JSON line a reading.

Nothing is computed here: what the kernel says goes on as it stands. SIGTERM ends the program
between two lines, never within one; the number that it then reports is exact.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

PROC = Path("/proc")


def main() -> None:
    """Emit readings until told to stop, then say how many there were."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between readings")
    interval = parser.parse_args().interval
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly once nobody reads any more
    emitted = 0
    for _ in ticks(interval):
        print(json.dumps({"seq": emitted + 1, "at": time.time(), **reading()}), flush=True)
        emitted += 1
    print(f"emitted {emitted} readings", file=sys.stderr)


def ticks(interval: float) -> Iterator[None]:
    """Tick at multiples of the interval, so that delays do not add up, until a signal to stop.

    Signals are heeded only while it waits. Ticks that a pause swallowed stay lost.
    """
    stop: SimpleQueue[int] = SimpleQueue()  # unlike an Event, safe to use in a signal handler
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: stop.put(number))
    due = time.monotonic()
    while True:
        yield
        due = max(due + interval, now := time.monotonic())
        with suppress(Empty):
            stop.get(timeout=due - now)
            return


def reading() -> dict[str, object]:
    """What the kernel counts: CPU ticks since boot by kind, memory in KiB, load averages."""
    cpu = (PROC / "stat").read_text().partition("\n")[0].split()[1:]
    memory = (line.split()[:2] for line in (PROC / "meminfo").read_text().splitlines())
    return {
        "cpu": [int(count) for count in cpu],
        "memory": {key.rstrip(":"): int(kib) for key, kib in memory},
        "load": [float(load) for load in (PROC / "loadavg").read_text().split()[:3]],
    }


if __name__ == "__main__":
    main()
