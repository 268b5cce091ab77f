"""Plays scenes in forked processes and kills each at a system call, one for each line on its stdin.

Each line is a request in JSON, each answer a line on stdout. To import everything once and fork is
what makes a thousand of them a matter of seconds.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import structlog

from faults.crash_scenes import SCENES
from faults.tracer import Tracer


def play(name: str, root: Path, acknowledge: int, go: int) -> None:
    """In the forked process: wait to be traced, then play, and tell what is done."""
    scene = SCENES[name].play(root)
    next(scene)
    os.write(acknowledge, b"ready\n")
    os.read(go, 1)
    for _ in scene:
        os.write(acknowledge, b"done\n")


def killed(name: str, root: Path, kill_at: int) -> dict[str, Any]:
    """Fork, play and kill; returns what came of it."""
    told, acknowledge = os.pipe()
    go, gone = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            play(name, root, acknowledge, go)
        except BaseException:  # noqa: BLE001 - nothing of ours may go on in the child
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(acknowledge)
    os.close(go)
    with os.fdopen(told) as lines:
        tracer = Tracer(pid, root / "data", kill_at)
        if lines.readline() == "ready\n":
            tracer.seize()
            os.write(gone, b"x")
            status = tracer.follow()
        else:
            status = os.waitpid(pid, 0)[1]
        os.close(gone)
        done = len(lines.readlines())
    return {
        "status": os.waitstatus_to_exitcode(status),
        "done": done,
        "calls": tracer.count,
        "last": tracer.last,
    }


def main() -> None:
    """Serve until stdin ends."""
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
    for line in sys.stdin:
        request = json.loads(line)
        answer = killed(request["scene"], Path(request["root"]), request["kill_at"])
        print(json.dumps(answer), flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
