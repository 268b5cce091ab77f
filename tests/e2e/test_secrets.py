"""A secret that is given by reference reaches the step, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import Flowd, eventually, make_document, processes_of

CANARY = "c4nary-" + "0123456789abcdef" * 2


def test_a_secret_is_in_the_steps_environment_and_nowhere_else(flowd: Flowd, root: Path) -> None:
    """Not in argv, answers, events, the operator's or the shim's log, nor anywhere in its data."""
    (root / "token").write_text(f"{CANARY}\n")
    (root / "env").write_text(f"OTHER={CANARY}\n")
    step = {
        "name": "s0",
        "script": 'test "$TOKEN" = "$OTHER" && test -n "$TOKEN" && echo got it; exec sleep 1000',
        "env": [{"name": "TOKEN", "valueFrom": {"file": str(root / "token")}}],
        "envFrom": [{"file": str(root / "env")}],
        "readinessProbe": {"exec": {"command": ["sh", "-c", 'test -n "$TOKEN"']}},
    }
    flowd.create(
        make_document("holder", step),
        make_document("fails", {**step, "script": "exit 3"}),
        # The text is no assignment, so that an error has to be told about it.
        make_document("broken", {**step, "envFrom": [{"file": str(root / "token")}]}),
    )
    eventually(lambda: _assert(flowd.status("holder")["readyReplicas"] == 1))
    eventually(lambda: _assert(flowd.status("fails")["restarts"] > 0))
    flowd.await_status("broken", "backoff")
    assert flowd.logs("holder", "s0") == "got it\n"

    pages = ("/flows", "/flows/holder", "/flows/status", "/events", "/manifests", "/")
    told = [flowd.client.get(page).text for page in pages]
    told += [flowd.client.get(f"/flows/{name}/events").text for name in ("fails", "broken")]
    assert not any(CANARY in text for text in told)
    for path in (path for path in flowd.data.rglob("*") if path.is_file()):
        assert CANARY not in path.read_text(errors="replace"), path
    assert CANARY not in flowd.log.read_text()
    # Of other users' environments the kernel tells nobody; of a command line it tells everybody.
    for pid in (flowd.pid, flowd.shim_pid(), *processes_of(flowd.data)):
        assert CANARY not in Path(f"/proc/{pid}/cmdline").read_text()
    for pid in (flowd.pid, flowd.shim_pid()):
        assert CANARY not in Path(f"/proc/{pid}/environ").read_text()
    assert os.stat(flowd.data).st_mode & 0o077 == 0


def test_a_data_directory_that_everybody_may_write_is_refused(root: Path) -> None:
    """What stands in it is run."""
    (root / "data").mkdir()
    (root / "data").chmod(0o777)
    command = [sys.executable, "-m", "flow_operator.flowd", "--data", str(root / "data")]
    done = subprocess.run(
        [*command, "--listen", "127.0.0.1:0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "chmod o-w" in done.stderr
    assert list((root / "data").iterdir()) == []


def _assert(condition: bool) -> None:
    assert condition
