"""Sink: store each answer in ``$FLOW_DATA/latency.db``, and tell p50 and p99 now and then.

A row is committed before the next line is read, so at the end of the input everything is stored.
"""

import json
import math
import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

DATABASE = Path(os.environ.get("FLOW_DATA", ".")) / "latency.db"
RUN = os.environ.get("FLOW_RUN", f"by-hand-{os.getpid()}")
REPORT_EVERY = 10
MINUTE = 60.0  # seconds

TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    id     INTEGER PRIMARY KEY,
    run    TEXT NOT NULL,   -- FLOW_RUN: a new one each time the flow starts
    at     REAL NOT NULL,   -- seconds since 1970
    status INTEGER,         -- null when there was no answer
    ms     REAL,
    error  TEXT
)
"""
INDEX = "CREATE INDEX IF NOT EXISTS answers_at ON answers (at)"
INSERT = """
INSERT INTO answers (run, at, status, ms, error) VALUES (:run, :at, :status, :ms, :error)
"""
SINCE = "SELECT ms FROM answers WHERE at > ? ORDER BY ms"


def main() -> None:
    """Store until the end of the input."""
    stored = 0
    with closing(open_database()) as db:
        for line in sys.stdin:
            try:
                row = json.loads(line)
            except ValueError:  # the rest of a line whose beginning a killed predecessor took along
                print(f"skipped a torn line: {line!r:.60}", file=sys.stderr)
                continue
            db.execute(INSERT, {"run": RUN, **row})
            stored += 1
            if stored % REPORT_EVERY == 0:
                print(last_minute(db), flush=True)
    print(f"stored {stored} answers")


def open_database() -> sqlite3.Connection:
    """Open the database; each statement commits by itself, and readers do not block it."""
    db = sqlite3.connect(DATABASE, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")  # survives a crash of the program, and stays whole
    db.execute(TABLE)
    db.execute(INDEX)
    return db


def last_minute(db: sqlite3.Connection) -> str:
    """One line about the answers of the last minute."""
    rows = [ms for (ms,) in db.execute(SINCE, [time.time() - MINUTE])]
    times = [ms for ms in rows if ms is not None]
    failed = f"{len(rows) - len(times)} of {len(rows)} failed"
    if not times:
        return failed
    return f"p50 {percentile(times, 50):.2f} ms, p99 {percentile(times, 99):.2f} ms, {failed}"


def percentile(ordered: list[float], percent: int) -> float:
    """The smallest value that at least so many percent of the values do not exceed."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


if __name__ == "__main__":
    main()
