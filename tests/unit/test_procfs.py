"""What /proc tells of processes that run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from flow_operator.runners import procfs
from flow_operator.runners.procfs import descendants, open_files, read_proc, scan
from support import eventually, spawned

PARENT = """
import subprocess, sys, threading, time
begin = lambda: [subprocess.Popen(["sleep", "1000"]) for _ in range(5)]
thread = threading.Thread(target=lambda: (begin(), print("begun", flush=True), time.sleep(1000)))
if sys.argv[1] == "thread":
    thread.start()
    thread.join()
thread.run()
"""


@pytest.mark.parametrize("who", ["main", "thread"])
@pytest.mark.parametrize("page", [4096, 16])
def test_children_of_every_thread_are_found(
    who: str, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: their list may be longer than what the kernel gives at once."""
    monkeypatch.setattr(procfs, "_PAGE", page)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, who], stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"begun\n"
            found = descendants(parent.pid)
            assert found[0].pid == parent.pid
            assert found[0].threads == (2 if who == "thread" else 1)
            assert len(found) == 6
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


@pytest.mark.parametrize("size", [True, False])
def test_open_descriptors_are_counted(size: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the size of their directory, or one by one where the kernel does not tell that."""
    stat = os.stat

    def untold(path: Any, **named: Any) -> os.stat_result:
        return os.stat_result((0,) * 10) if str(path).endswith("/fd") else stat(path, **named)

    if not size:
        monkeypatch.setattr(procfs.os, "stat", untold)
    with subprocess.Popen(
        [sys.executable, "-c", "import os; [os.dup(1) for _ in range(7)]; print(); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert open_files(process.pid) == 3 + 7
        process.kill()
    assert open_files(process.pid) == 0


OUTLIVED = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_who_has_lost_only_its_main_thread_is_not_dead() -> None:
    """It looks like a zombie; its other threads go on."""
    with spawned([sys.executable, "-c", OUTLIVED]) as process:

        def outlived() -> None:
            proc = read_proc(process.pid)
            assert proc is not None
            assert (proc.state, proc.threads) == ("Z", 2)

        eventually(outlived)
        assert process.pid in scan()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process.pid not in scan()
