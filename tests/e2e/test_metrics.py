"""What a real operator tells of real flows."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time

from scrapes import Scrape
from support import Flowd, eventually, make_document

SLEEPS = {"name": "s0", "command": ["/bin/sleep", "1000"]}


def scrape(flowd: Flowd) -> Scrape:
    answer = flowd.client.get("/metrics")
    assert answer.status_code == 200
    return Scrape(answer.text)


def test_what_happens_to_flows_is_counted_exactly(flowd: Flowd) -> None:
    """Starts, a crash, a stop, a kill and an end of its own accord."""
    flowd.create(
        make_document("piped", "while :; do echo x; sleep 0.1; done", "cat > /dev/null"),
        make_document("plain", SLEEPS),
        make_document("short", "exit 3", restart={"policy": "Never"}),
    )
    for flow_id in ("piped", "plain"):
        flowd.await_status(flow_id, "running")
    flowd.await_status("short", "failed")
    os.kill(flowd.pids("piped")[1], signal.SIGKILL)

    def restarted() -> None:
        status = flowd.status("piped")
        assert (status["restarts"], status["status"]) == (1, "running")

    eventually(restarted)
    assert flowd.command("stop", "piped") == {"piped": "stopped"}
    assert flowd.command("stop", "plain", type=1) == {"plain": "stopped"}
    told = scrape(flowd)
    assert told.value("flow_operator_runs_launched_total") == 3
    ends = {k: v for k, v in told.by("flow_operator_runs_ended_total", "outcome").items() if v}
    assert ends == {"Drained": 1, "Forced": 1, "Failed": 1}
    exits = told.by("flow_operator_step_exits_total", "reason")
    # cat, the loop and sleep; the one that fails; cat again, at the end of its input.
    assert {k: v for k, v in exits.items() if v} == {"Signaled": 3, "Error": 1, "Completed": 1}
    assert told.value("flow_operator_flow_restarts_total", flow="piped") == 1
    flows = {k: v for k, v in told.by("flow_operator_flows", "status").items() if v}
    assert flows == {"stopped": 2, "failed": 1}
    labels = {"flow": "short", "status": "failed", "desired": "running"}
    assert told.value("flow_operator_flow_status", **labels) == 1
    stalled = {"flow": "short", "condition": "Stalled"}
    assert told.value("flow_operator_flow_condition", **stalled) == 1
    assert told.value("flow_operator_store_records_total") == 5
    commits = told.value("flow_operator_store_commit_duration_seconds_count")
    assert commits == told.value("flow_operator_store_group_transactions_count") == 3
    count = "flow_operator_http_request_duration_seconds_count"
    labels = {"route": "/flows/commands", "method": "PATCH", "code": "2xx"}
    assert told.value(count, **labels) == 2
    assert told.value("flow_operator_events_total", type="Warning", reason="StepFailed") == 1


def test_what_flows_use_is_told_and_goes_with_them(flowd: Flowd) -> None:
    """CPU, memory and what is in the pipe; and nothing once they are deleted."""
    busy = "i=0; while :; do i=$((i+1)); done"
    full = "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"
    flowd.create(make_document("busy", busy), make_document("full", full, "sleep 1000"))
    scrape(flowd)

    def used() -> None:
        told = scrape(flowd)
        least = {"cpu_seconds_total": 0.3, "memory_bytes": 100_000, "open_files": 2}
        for name, value in least.items():
            assert (told.value(f"flow_operator_flow_{name}", flow="busy") or 0) > value
        assert (told.value("flow_operator_flow_in_flight_bytes", flow="full") or 0) > 60_000
        assert told.value("flow_operator_flow_in_flight_bytes", flow="busy") is None
        started = told.value("flow_operator_flow_start_time_seconds", flow="busy") or 0
        assert abs(started - time.time()) < 60

    eventually(used)
    for flow_id in ("busy", "full"):
        flowd.client.delete(f"/flows/{flow_id}?type=1")
        flowd.await_gone(flow_id)
    assert not [labels for _, labels in scrape(flowd).series() if "flow" in dict(labels)]


def test_an_operator_that_takes_flows_back_tells_so(flowd: Flowd) -> None:
    """Restarts go on from where they were; CPU begins at nothing, not with a leap."""
    flowd.create(make_document("a", "i=0; while :; do i=$((i+1)); done"))
    flowd.await_status("a", "running")
    os.kill(flowd.pids("a")[0], signal.SIGKILL)
    eventually(lambda: _assert(flowd.status("a")["restarts"] == 1))

    def used() -> float:
        seconds = flowd.status("a")["steps"][0]["cpuSeconds"]
        assert seconds > 0.5
        return seconds

    before = eventually(used)
    flowd.kill()
    flowd.start()
    eventually(lambda: _assert(scrape(flowd).value("flow_operator_ready") == 1))
    told = scrape(flowd)
    assert told.value("flow_operator_adopted_runs") == 1
    assert told.value("flow_operator_runs_launched_total") == 0
    assert told.value("flow_operator_flow_restarts_total", flow="a") == 1
    counted = told.value("flow_operator_flow_cpu_seconds_total", flow="a") or 0
    assert used() - counted >= before


def test_streams_that_are_open_are_told(flowd: Flowd) -> None:
    """As long as somebody reads them."""
    flowd.create(make_document("a", SLEEPS))
    with flowd.client.stream("GET", "/flows/a/logs?follow=1"):
        assert scrape(flowd).value("flow_operator_http_streams") == 1

    def ended() -> None:
        assert scrape(flowd).value("flow_operator_http_streams") == 0

    eventually(ended)


def test_it_answers_while_the_shim_is_away_and_counts_the_next_one(flowd: Flowd) -> None:
    """And the flows live on."""
    flowd.create(make_document("a", SLEEPS))
    flowd.await_status("a", "running")
    assert scrape(flowd).value("flow_operator_shim_connected") == 1
    os.kill(flowd.shim_pid(), signal.SIGKILL)

    def replaced() -> None:
        told = scrape(flowd)
        assert told.value("flow_operator_flow_ready", flow="a") == 1
        assert told.value("flow_operator_shim_restarts_total") == 1
        assert told.value("flow_operator_shim_connected") == 1

    eventually(replaced)


def test_it_answers_while_the_shim_hangs(flowd: Flowd) -> None:
    """Without what flows use, and before the half minute after which others give up."""
    flowd.create(make_document("a", SLEEPS))
    flowd.await_status("a", "running")
    shim = flowd.shim_pid()
    os.kill(shim, signal.SIGSTOP)
    try:

        def stale() -> None:
            told = scrape(flowd)
            assert told.value("flow_operator_flow_ready", flow="a") == 1
            assert told.value("flow_operator_flow_memory_bytes", flow="a") is None

        eventually(stale)
    finally:
        os.kill(shim, signal.SIGCONT)

    def fresh() -> None:
        assert scrape(flowd).value("flow_operator_flow_memory_bytes", flow="a")

    eventually(fresh)


def test_the_folder_is_told(flowd: Flowd) -> None:
    """Its files, those that are faulty, and when it was last looked at."""
    (flowd.manifests / "good.yaml").write_text("flow_id: a\nspec: {steps: [{name: s, script: x}]}")
    (flowd.manifests / "bad.yaml").write_text("flow_id: [")

    def told() -> None:
        found = scrape(flowd)
        assert found.value("flow_operator_manifest_files") == 2
        assert found.value("flow_operator_manifest_files_with_errors") == 1
        assert found.value("flow_operator_manifest_flows") == 1
        assert found.value("flow_operator_manifest_applies_total") == 1
        looked = found.value("flow_operator_manifest_last_look_timestamp_seconds") or 0
        assert abs(looked - time.time()) < 60

    eventually(told)


def test_a_folder_that_is_not_there_is_told_from_an_empty_one(flowd: Flowd) -> None:
    """Its flows go on either way."""
    assert scrape(flowd).value("flow_operator_manifest_folder_unreadable") == 0
    flowd.manifests.rmdir()

    def told() -> None:
        assert scrape(flowd).value("flow_operator_manifest_folder_unreadable") == 1

    eventually(told)


def test_scrapes_are_whole_while_flows_come_and_go(flowd: Flowd) -> None:
    """No series twice, and of each flow all or nothing."""
    enough = threading.Event()

    def churn() -> None:
        for number in itertools.count():
            flowd.create(make_document(f"f-{number}", SLEEPS))
            if number >= 5:
                flowd.client.delete(f"/flows/f-{number - 5}?type=1")
            if number >= 10 and enough.is_set():
                return

    thread = threading.Thread(target=churn)
    thread.start()
    for _ in range(10):
        told = scrape(flowd)
        flows = told.by("flow_operator_flow_ready", "flow").keys()
        assert told.by("flow_operator_flow_status", "flow").keys() == flows
        used = told.by("flow_operator_flow_cpu_seconds_total", "flow").keys()
        assert used in (flows, set()), "all, or none where figures take too long"
    enough.set()
    thread.join()


def _assert(holds: bool) -> None:
    assert holds
