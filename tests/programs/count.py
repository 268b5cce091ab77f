"""Source: numbered lines, as fast as they are taken, until SIGTERM or the number is reached.

When it ends it writes to $FLOW_DATA/emitted how many lines it has written, and whether it ever saw
a broken pipe.
"""

import os
import signal
import sys
from pathlib import Path

limit = int(sys.argv[1]) if len(sys.argv) > 1 else sys.maxsize
running = True


def stop(_number: int, _frame: object) -> None:
    global running
    running = False


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGPIPE, signal.SIG_IGN)

out = os.fdopen(1, "wb", buffering=0)
emitted = 0
outcome = "well"
try:
    while running and emitted < limit:
        line = b"%d\n" % emitted
        while line:
            line = line[out.write(line) or 0 :]
        emitted += 1
        if emitted == limit:
            while running:
                signal.pause()
except BrokenPipeError:
    outcome = "broken pipe"
Path(os.environ["FLOW_DATA"], "emitted").write_text(f"{emitted} {outcome}\n")
