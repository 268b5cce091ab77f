"""Source: GET a URL on a steady schedule, one JSON line an answer, or a failure.

    poll.py http://127.0.0.1:8711/healthz

SIGTERM ends the program between two lines, never within one.
"""

import argparse
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

TIMEOUT = 1.0  # seconds


def main() -> None:
    """Poll until told to stop."""
    parser = argparse.ArgumentParser(description="GET a URL again and again.")
    parser.add_argument("url", help="what to GET, by plain HTTP")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two GETs")
    options = parser.parse_args()
    for _ in ticks(options.interval):
        line = json.dumps({"at": time.time(), **get(options.url)})
        os.write(sys.stdout.fileno(), f"{line}\n".encode())  # at once, and whole


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


def get(url: str) -> dict[str, object]:
    """The status and the milliseconds to the last byte, or the error: whatever it is, a result."""
    parts = urlsplit(url)
    start = time.perf_counter()
    try:
        with closing(http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)) as server:
            server.request("GET", parts.path or "/")
            response = server.getresponse()
            response.read()
    except (OSError, http.client.HTTPException) as error:
        return {"status": None, "ms": None, "error": str(error) or type(error).__name__}
    ms = 1000 * (time.perf_counter() - start)
    return {"status": response.status, "ms": round(ms, 3), "error": None}


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # end quietly once nobody reads any more
        main()
