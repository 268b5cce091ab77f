"""Source: numbered lines, from where it was; writes each whole, and counts what it wrote.

Keeps the next number in $FLOW_DATA/next, and ends between two lines on SIGTERM.
"""

import os
import signal
from pathlib import Path

running = True


def stop(_number: int, _frame: object) -> None:
    global running
    running = False


signal.signal(signal.SIGTERM, stop)
place = Path(os.environ["FLOW_DATA"], "next")
number = int(place.read_text()) if place.exists() else 0
while running:
    line = b"%d\n" % number
    while line:
        line = line[os.write(1, line) :]
    number += 1
place.write_text(str(number))
