"""Time, injectable.

Durations come from the monotonic clock; wall time is for display only. Linux' CLOCK_MONOTONIC is
one clock for the whole machine and boot, so its readings may be kept in a file and compared by a
later process, as long as the boot id beside them is still the same.
"""

from __future__ import annotations

import functools
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol


class Clock(Protocol):
    """What the operator asks of time."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point of this boot; never goes back."""

    def wall(self) -> float:
        """Seconds since the epoch; may jump."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def rfc3339(wall: float, precision: Literal["seconds", "milliseconds"] = "milliseconds") -> str:
    """Format seconds since the epoch as RFC 3339 in UTC."""
    # Each start tells half a dozen moments, and mostly of the same second.
    second, milliseconds = divmod(math.floor(wall * 1000), 1000)
    fraction = f".{milliseconds:03}" if precision == "milliseconds" else ""
    return f"{_second(second)}{fraction}Z"


@functools.lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, tz=UTC).isoformat().removesuffix("+00:00")


def boot_id() -> str:
    """The kernel's id of this boot (random(4)): pids and monotonic times only hold within it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
