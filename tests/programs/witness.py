"""Writes down how it was started, and what ended it: ``witness.py FILE [EXIT-CODE [TIMES]]``.

With an exit code it ends by itself, at once; with TIMES only that often, and then it stays. What
begins with no number is only written down.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from itertools import takewhile
from pathlib import Path
from types import FrameType

FILE = Path(sys.argv[1])


def note(what: str) -> None:
    """Add a line: what happened, and as whom."""
    mask = os.umask(0)
    os.umask(mask)
    told = {
        "what": what,
        "argv": sys.argv[1:],
        "cwd": str(Path.cwd()),
        "env": dict(os.environ),
        "umask": mask,
    }
    with FILE.open("a") as file:
        file.write(json.dumps(told) + "\n")


def ended(number: int, _: FrameType | None) -> None:
    """A signal is a good end."""
    note(signal.Signals(number).name)
    sys.exit(0)


for one in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    signal.signal(one, ended)
note("start")
sys.stderr.write("witness is ready\n")
numbers = [int(word) for word in takewhile(str.isdigit, sys.argv[2:4])]
if numbers:
    starts = sum('"what": "start"' in line for line in FILE.read_text().splitlines())
    if len(numbers) == 1 or starts <= numbers[1]:
        sys.exit(numbers[0])
while True:
    time.sleep(0.02)
