"""What is told of a running step: lines in its log, results of its probes, its figures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import Flowd, always_for, eventually, make_document

LINE = {"readinessProbe": {"logLine": {"pattern": "^ready [0-9]+$"}, "period": "20ms"}}
ASKED = 'n=0; while :; do n=$((n+1)); while [ ! -e "$FLOW_DATA/say$n" ]; do sleep 0.01; done; '
SAYS_WHEN_TOLD = ASKED + 'echo "ready $n"; done'
"""Prints ``ready N`` once the file ``sayN`` is there."""


def _step(script: str, **more: Any) -> dict[str, Any]:
    return {"name": "s0", "script": script, **more}


def _ready(flowd: Flowd, name: str) -> str:
    conditions = flowd.status(name)["conditions"]
    return {c["type"]: str(c["status"]) for c in conditions}["Ready"]


def _becomes_ready(flowd: Flowd, name: str) -> None:
    eventually(lambda: _assert(_ready(flowd, name) == "True"))


def _stays_unready(flowd: Flowd, name: str) -> None:
    always_for(0.3, lambda: _assert(_ready(flowd, name) == "False"))


def _kill_step(flowd: Flowd, name: str, attempts: int) -> None:
    """Have the step start again, and wait until it has."""
    os.kill(flowd.pids(name)[0], signal.SIGKILL)

    def again() -> None:
        [step] = flowd.status(name)["steps"]
        assert step["restarts"] == attempts
        assert step["pid"]

    eventually(again)


# --- lines in the log ------------------------------------------------------------------------


def test_a_flow_is_ready_only_after_its_line(flowd: Flowd) -> None:
    """And after each start of the step only when it is printed again."""
    flowd.create(make_document("talker", _step(SAYS_WHEN_TOLD, **LINE)))
    flowd.await_status("talker", "running")
    _stays_unready(flowd, "talker")
    [probe] = flowd.status("talker")["steps"][0]["probes"]
    assert (probe["ok"], probe["message"]) == (False, "no line that matches as yet")
    (flowd.work("talker") / "say1").touch()
    _becomes_ready(flowd, "talker")
    (flowd.work("talker") / "say1").unlink()
    _kill_step(flowd, "talker", 1)
    eventually(lambda: _assert(_ready(flowd, "talker") == "False"))
    _stays_unready(flowd, "talker")
    assert "ready 1" in flowd.logs("talker", "s0"), "the line of the attempt before still stands"
    (flowd.work("talker") / "say1").touch()
    _becomes_ready(flowd, "talker")


def test_a_line_that_was_printed_while_no_operator_was_there_counts(flowd: Flowd) -> None:
    """Killed between the line and the look at it: the next one finds it, with nothing new said."""
    flowd.create(make_document("talker", _step(SAYS_WHEN_TOLD, **LINE)))
    flowd.await_status("talker", "running")
    (flowd.work("talker") / "say1").touch()
    _becomes_ready(flowd, "talker")
    (flowd.work("talker") / "say1").unlink()
    _kill_step(flowd, "talker", 1)
    _stays_unready(flowd, "talker")
    pids = flowd.pids("talker")
    flowd.kill()
    flowd.start()
    flowd.await_status("talker", "running")
    _stays_unready(flowd, "talker")
    flowd.kill()
    (flowd.work("talker") / "say1").touch()
    eventually(lambda: _assert(flowd.logs("talker", "s0").count("ready 1") == 2))
    flowd.start()
    _becomes_ready(flowd, "talker")
    assert flowd.pids("talker") == pids
    assert flowd.logs("talker", "s0").count("ready") == 2


def test_where_an_attempt_began_is_known_when_operator_and_shim_were_killed(flowd: Flowd) -> None:
    """The line of the attempt before still does not count."""
    flowd.create(make_document("talker", _step(SAYS_WHEN_TOLD, **LINE)))
    flowd.await_status("talker", "running")
    (flowd.work("talker") / "say1").touch()
    _becomes_ready(flowd, "talker")
    (flowd.work("talker") / "say1").unlink()
    _kill_step(flowd, "talker", 1)
    pids = flowd.pids("talker")
    shim = flowd.shim_pid()
    flowd.kill()
    os.kill(shim, signal.SIGKILL)
    flowd.start()
    flowd.await_status("talker", "running")
    assert flowd.pids("talker") == pids
    _stays_unready(flowd, "talker")
    (flowd.work("talker") / "say1").touch()
    _becomes_ready(flowd, "talker")


def test_a_flow_stays_ready_when_its_log_is_emptied(flowd: Flowd) -> None:
    """The line was printed; also an operator that comes later knows it."""
    flowd.create(make_document("talker", _step(SAYS_WHEN_TOLD, **LINE)))
    flowd.await_status("talker", "running")
    (flowd.work("talker") / "say1").touch()
    _becomes_ready(flowd, "talker")
    log = flowd.data / "logs" / "talker" / "0" / "s0.log"
    os.truncate(log, 0)
    always_for(0.2, lambda: _assert(_ready(flowd, "talker") == "True"))
    flowd.kill()
    flowd.start()
    _becomes_ready(flowd, "talker")
    assert log.read_text() == ""


def test_dependents_wait_for_a_line_and_errors_of_a_step_count(flowd: Flowd) -> None:
    """What a step that is not the last prints to its standard error is its log."""
    first = {"name": "s0", "script": 'echo "ready 7" >&2; exec sleep 1000', **LINE}
    flowd.create(
        make_document("back", first, "exec cat"),
        make_document("front", dependsOn=[{"name": "back", "condition": "Ready"}]),
    )
    flowd.await_status("front", "running")
    assert _ready(flowd, "back") == "True"


def test_a_pattern_that_is_no_expression_is_refused(flowd: Flowd) -> None:
    """By the API with its pointer, and in the folder with line and column."""
    bad = _step("x", readinessProbe={"logLine": {"pattern": "(ready"}})
    answer = flowd.client.post("/flows", json=[make_document("bad", bad)])
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["pointer"].endswith("/spec/steps/0/readinessProbe/logLine/pattern")
    assert "is no regular expression" in error["detail"]


# --- results of probes, and figures ----------------------------------------------------------


def _describe(flowd: Flowd, name: str) -> list[list[str]]:
    """The lines that ``flowctl describe`` prints, as columns."""
    program = [sys.executable, "-m", "flow_operator.flowctl.main"]
    done = subprocess.run(
        [*program, "--url", str(flowd.client.base_url), "describe", name],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split(maxsplit=6) for line in done.stdout.splitlines()]


def test_results_of_probes_are_told_in_status_and_describe(flowd: Flowd, root: Path) -> None:
    """A check that turns: its outcome, count, message and time are told."""
    switch = root / "ok"
    switch.touch()
    check = {"exec": {"command": ["test", "-e", str(switch)]}, "period": "20ms"}
    probes = {"readinessProbe": check, "startupProbe": check, "livenessProbe": check}
    probes["livenessProbe"] = {**check, "failureThreshold": 10_000}
    flowd.create(make_document("probed", _step("exec sleep 1000", **probes)))

    def results() -> dict[str, dict[str, Any]]:
        return {p["kind"]: p for p in flowd.status("probed")["steps"][0]["probes"]}

    def all_good() -> None:
        told = results()
        assert {kind: probe["ok"] for kind, probe in told.items()} == dict.fromkeys(
            ("startup", "readiness", "liveness"), True
        )
        assert told["startup"]["successes"] == 1, "asked no more"
        assert told["liveness"]["successes"] > 3

    eventually(all_good)
    switch.unlink()

    def bad() -> None:
        liveness = results()["liveness"]
        assert (liveness["ok"], liveness["successes"]) == (False, 0)
        assert liveness["failures"] > 3
        assert liveness["message"] == "exit code 1"
        assert liveness["checkedAt"] > results()["startup"]["checkedAt"]

    eventually(bad)
    assert results()["startup"]["ok"], "what has started up has started up"

    def listed() -> None:
        [step] = flowd.statuses()["probed"]["steps"]
        assert [p["ok"] for p in step["probes"]] == [True, False, False]

    eventually(listed)
    rows = {tuple(row[:4]): row for row in _describe(flowd, "probed") if row}
    assert rows["s0", "0", "startup", "yes"][4] == "1"
    liveness = rows["s0", "0", "liveness", "no"]
    assert int(liveness[4]) > 3
    assert liveness[5:] == ["0s", "exit code 1"]


def test_open_files_are_told(flowd: Flowd) -> None:
    """All descriptors of the step's processes."""
    opens = "import os, time; [os.dup(0) for _ in range(30)]; time.sleep(1000)"
    step = {"name": "s0", "command": [sys.executable, "-I", "-S", "-c", opens]}
    flowd.create(make_document("holder", step))

    def counted() -> None:
        [told] = flowd.status("holder")["steps"]
        assert told["openFiles"] == 33

    eventually(counted)
    rows = [row for row in _describe(flowd, "holder") if row[:1] == ["NAME"]]
    assert "FILES" in rows[0][6]


def _assert(holds: object) -> None:
    assert holds
