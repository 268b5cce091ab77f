"""Transform: turn raw counters into figures, one line out for each line in.

CPU use is what happened between two readings, so the first line has none (null); all else stands
for itself. No state needs saving: after a restart, one line again has no CPU figure.
"""

import json
import signal
import sys
from typing import Any

IDLE = slice(3, 5)  # idle and iowait: proc(5), /proc/stat
BUSY_AND_IDLE = slice(0, 8)  # what follows, guest time, is part of user time


def main() -> None:
    """Convert until the end of the input."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly once nobody reads any more
    previous: list[int] = []
    for line in sys.stdin:
        try:
            raw = json.loads(line)
        except ValueError:  # the rest of a line whose beginning a killed predecessor took along
            print(f"skipped a torn line: {line!r:.60}", file=sys.stderr)
            continue
        print(json.dumps(figures(raw, previous)), flush=True)
        previous = raw["cpu"]


def figures(raw: dict[str, Any], previous: list[int]) -> dict[str, Any]:
    """The figures of one reading; ``previous`` are the CPU counters of the one before, if any."""
    memory = raw["memory"]
    used = memory["MemTotal"] - memory["MemAvailable"]
    return {
        "seq": raw["seq"],
        "at": raw["at"],
        "cpu_percent": cpu_percent(previous, raw["cpu"]) if previous else None,
        "memory_percent": round(100 * used / memory["MemTotal"], 1),
        "memory_used_mib": used // 1024,
        "load_1m": raw["load"][0],
    }


def cpu_percent(before: list[int], after: list[int]) -> float | None:
    """The share of CPU time that was not idle between two readings of the counters.

    None when no tick passed between them, or when they went back.
    """
    spent = [new - old for old, new in zip(before, after, strict=True)]
    total, idle = sum(spent[BUSY_AND_IDLE]), sum(spent[IDLE])
    return round(min(100.0, max(0.0, 100 * (1 - idle / total))), 1) if total > 0 else None


if __name__ == "__main__":
    main()
