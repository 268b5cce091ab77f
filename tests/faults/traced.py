"""Runs a command and kills it at its n-th call on files below a directory, from SIGUSR1 on.

Usage: traced.py DIRECTORY N REPORT COMMAND...

REPORT is made when counting begins, and tells in the end how many calls there were. SIGTERM kills
the command at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

from faults.tracer import Tracer


def start(command: list[str]) -> tuple[int, int]:
    """Fork; the command begins once something is written to the descriptor."""
    go, gone = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(go, 1)
        os.execvp(command[0], command)  # noqa: S606 - that is what it is for
    os.close(go)
    return pid, gone


def main() -> None:
    """Run it to its end."""
    below, kill_at, report = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    pid, gone = start(sys.argv[4:])
    process = os.pidfd_open(pid)
    tracer = Tracer(pid, below, kill_at, armed=False)

    def listen() -> None:
        while signal.sigwait(told) == signal.SIGUSR1:
            tracer.armed = True
            report.write_text("{}")
        with contextlib.suppress(ProcessLookupError):  # It has just ended by itself.
            signal.pidfd_send_signal(process, signal.SIGKILL)

    # A handler would have to wait for whoever waits for the command, and may be late for that.
    told = {signal.SIGUSR1, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, told)
    threading.Thread(target=listen, daemon=True).start()
    tracer.seize()
    os.write(gone, b"x")
    tracer.follow()
    report.write_text(json.dumps({"calls": tracer.count, "last": tracer.last}))


if __name__ == "__main__":
    main()
