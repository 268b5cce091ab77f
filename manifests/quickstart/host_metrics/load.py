"""Sink: store each line as a row of ``$FLOW_DATA/metrics.db``.

A row is committed before the next line is read, so at the end of the input everything is stored,
and a kill at any moment costs at most what had been read but not yet stored.
"""

import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

DATABASE = Path(os.environ.get("FLOW_DATA", ".")) / "metrics.db"
RUN = os.environ.get("FLOW_RUN", f"by-hand-{os.getpid()}")
REPORT_EVERY = 10

TABLE = """
CREATE TABLE IF NOT EXISTS readings (
    id              INTEGER PRIMARY KEY,
    run             TEXT NOT NULL,      -- FLOW_RUN: a new one each time the flow starts
    seq             INTEGER NOT NULL,   -- counts from 1 each time the source starts
    at              REAL NOT NULL,      -- seconds since 1970
    cpu_percent     REAL,               -- null in a run's first reading
    memory_percent  REAL NOT NULL,
    memory_used_mib INTEGER NOT NULL,
    load_1m         REAL NOT NULL
)
"""
INSERT = """
INSERT INTO readings (run, seq, at, cpu_percent, memory_percent, memory_used_mib, load_1m)
VALUES (:run, :seq, :at, :cpu_percent, :memory_percent, :memory_used_mib, :load_1m)
"""
COUNT = "SELECT count(*) FROM readings WHERE run = ?"


def main() -> None:
    """Store until the end of the input, then say how many rows this run has."""
    with closing(open_database()) as db:
        for number, line in enumerate(sys.stdin, 1):
            try:
                row = json.loads(line)
            except ValueError:  # the rest of a line whose beginning a killed predecessor took along
                print(f"skipped a torn line: {line!r:.60}", file=sys.stderr)
                continue
            db.execute(INSERT, {"run": RUN, **row})
            if number % REPORT_EVERY == 0:
                print(
                    f"row {row['seq']}: CPU {row['cpu_percent']} %, "
                    f"memory {row['memory_percent']} %, load {row['load_1m']}",
                    flush=True,
                )
        (stored,) = db.execute(COUNT, [RUN]).fetchone()
        print(f"stored {stored} rows")


def open_database() -> sqlite3.Connection:
    """Open the database; each statement commits by itself, and readers do not block it."""
    db = sqlite3.connect(DATABASE, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")  # survives a crash of the program, and stays whole
    db.execute(TABLE)
    return db


if __name__ == "__main__":
    main()
