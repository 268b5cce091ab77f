"""Becoming another program without losing anything: how a shim is upgraded in place.

exec(2) keeps the process: its pid, its children, its place as their subreaper, its descriptors,
and the locks on them. All else that a shim knows goes through a memfd to what it becomes.
"""

from __future__ import annotations

import json
import os
import signal

from flow_operator.shim.pidfd import has_ended
from flow_operator.shim.pipes import Pipe
from flow_operator.shim.runs import Run, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 2
"""Raised when the document changes its meaning; what reads it must still read older ones.

1 knows no named pipes: a shim that reads only that would inherit them, and never let go.
"""

_TRIAL = 10.0
"""Seconds that the new program has to show that it can read what it is to take over."""


def pack_run(run: Run) -> dict[str, Any]:
    """A run as plain data; descriptors by their numbers."""
    return {
        "run": run.run,
        "labels": run.labels,
        "seq": run.seq,
        "group": run.group,
        "unheld": run.lost,
        "pipes": [[pipe.read, pipe.write] for pipe in run.pipes],
        "steps": [vars(step) for step in run.steps],
    }


def unpack_run(packed: dict[str, Any]) -> Run:
    """The run that :func:`pack_run` was given, in the process that has inherited it."""
    run = Run(packed["run"], packed["labels"], 0)
    run.seq, run.group, run.lost = packed["seq"], packed["group"], packed["unheld"]
    run.pipes = [Pipe(*ends) for ends in packed["pipes"]]
    for known in packed["steps"]:
        step = Step()
        vars(step).update(known)
        run.steps.append(step)
    return run


def descriptors(document: dict[str, Any]) -> list[int]:
    """What a successor must inherit of the runs and of the named pipes."""
    runs, held = document["runs"], document["held"].values()
    ends = (end for packed in (*runs, *held) for pipe in packed["pipes"] for end in pipe)
    pidfds = (step["pidfd"] for run in runs for step in run["steps"])
    return [descriptor for descriptor in (*ends, *pidfds) if descriptor >= 0]


def read(descriptor: int) -> dict[str, Any]:
    """The document that was handed over.

    Raises:
        ValueError: it is of another format.
    """
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        document: dict[str, Any] = json.load(file)
    if not 1 <= document["format"] <= FORMAT:
        raise ValueError(f"cannot read format {document['format']}")
    return {"held": {}, **document}


def become(command: list[str], document: dict[str, Any], inherited: list[int]) -> None:
    """Run ``command``, with the number of the document's descriptor as one more argument, instead.

    It is first tried: with ``--trial`` as a last argument it must be able to read the document.

    Raises:
        RuntimeError: the trial has failed; nothing has changed.
        OSError: it cannot be run; nothing has changed.
    """
    memory = os.memfd_create("shim-handover", 0)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(json.dumps({"format": FORMAT, **document}).encode())
        command = [*command, str(memory)]
        _try(command)
        # Signals that come before the new program can handle them wait.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - os names it so
        os.execv(command[0], command)  # noqa: S606 - no shell is what is wanted
    finally:
        # Only when it did not work.
        os.close(memory)
        for descriptor in inherited:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - os names it so
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


def _try(command: list[str]) -> None:
    pid = os.posix_spawn(command[0], [*command, "--trial"], os.environ)
    process = os.pidfd_open(pid)
    try:
        if not has_ended(process, _TRIAL):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(process)
    if status != 0:
        raise RuntimeError("the new shim cannot read what it is to take over; see shim.log")
