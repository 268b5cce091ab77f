"""Steps that write nothing, and steps that do not read: real processes, real pipes."""

from __future__ import annotations

from typing import Any

from support import Flowd, always_for, eventually, make_document

HANGS = "echo working; exec sleep 1000"
WRITES = "while :; do echo x; sleep 0.02; done"
READS = "while read -r line; do :; done"
"""Uses its input up and writes nothing at all."""


def _condition(flowd: Flowd, name: str, kind: str) -> dict[str, Any]:
    conditions = flowd.status(name)["conditions"]
    return {c["type"]: c for c in conditions}[kind]


def _reaches(flowd: Flowd, name: str, kind: str, status: str, within: float = 40) -> dict[str, Any]:
    def check() -> dict[str, Any]:
        condition = _condition(flowd, name, kind)
        assert condition["status"] == status, condition
        return condition

    return eventually(check, within)


def _events(flowd: Flowd, name: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = flowd.client.get(f"/flows/{name}/events").json()["events"]
    return events


def _reasons(flowd: Flowd, name: str) -> list[str]:
    return [event["reason"] for event in _events(flowd, name)]


def test_a_step_that_prints_and_then_hangs_is_reported(flowd: Flowd) -> None:
    """With a condition and one event; it is left alone, and the flow stays ready."""
    flowd.create(make_document("hangs", HANGS, progress={"silenceTimeout": "1s"}))
    flowd.await_status("hangs", "running")
    assert _condition(flowd, "hangs", "Silent")["status"] == "False"
    pids = flowd.pids("hangs")
    told = _reaches(flowd, "hangs", "Silent", "True")
    assert (told["reason"], told["message"]) == (
        "SilenceTimeout",
        "step 's0' has written nothing for 1s",
    )
    always_for(0.5, lambda: _assert(_condition(flowd, "hangs", "Silent") == told))
    assert flowd.pids("hangs") == pids
    assert _condition(flowd, "hangs", "Ready")["status"] == "True"
    assert _reasons(flowd, "hangs").count("Silent") == 1


def test_a_step_that_writes_only_to_its_pipe_is_not_silent(flowd: Flowd) -> None:
    """Each step is watched on its own: the one that only reads is."""
    progress = {"silenceTimeout": "1s"}
    flowd.create(make_document("pair", WRITES, READS, progress=progress))
    flowd.await_status("pair", "running")
    told = _reaches(flowd, "pair", "Silent", "True")
    assert told["message"] == "step 's1' has written nothing for 1s"
    always_for(1, lambda: _assert(_condition(flowd, "pair", "Silent") == told))
    assert flowd.logs("pair", "s0") == ""


def test_a_silent_step_is_restarted_and_says_why(flowd: Flowd) -> None:
    """Alone, under backoff; the one that still writes keeps its process."""
    progress = {"silenceTimeout": "1s", "action": "Restart"}
    sink = "while read -r line; do echo got; done"
    late = "n=0; while [ $n -lt 20 ]; do n=$((n+1)); echo $n; sleep 0.02; done; exec sleep 1000"
    backoff = {"backoff": {"initial": "1s", "jitter": 0}}
    flowd.create(
        make_document("hangs", late, progress=progress, restart=backoff),
        make_document("fine", WRITES, sink, progress=progress),
    )
    flowd.await_status("fine", "running")
    pids = flowd.pids("fine")

    def restarted() -> None:
        [step] = flowd.status("hangs")["steps"]
        assert step["restarts"] >= 2
        assert step["lastExit"]["signal"] == 15

    eventually(restarted)
    said = [e["message"] for e in _events(flowd, "hangs") if e["reason"] == "Unhealthy"]
    assert set(said) == {"step 's0' has written nothing for 1s; restarting it"}
    assert flowd.pids("fine") == pids
    assert flowd.status("fine")["restarts"] == 0


def test_a_paused_flow_is_not_silent(flowd: Flowd) -> None:
    """And is not restarted for it when it goes on."""
    progress = {"silenceTimeout": "500ms", "action": "Restart"}
    flowd.create(make_document("ticks", WRITES, progress=progress))
    flowd.await_status("ticks", "running")
    pids = flowd.pids("ticks")
    assert flowd.command("pause", "ticks") == {"ticks": "paused"}
    always_for(2, lambda: _assert(_condition(flowd, "ticks", "Silent")["status"] == "False"))
    assert flowd.command("resume", "ticks") == {"ticks": "running"}
    always_for(1, lambda: _assert(flowd.pids("ticks") == pids))
    assert "Silent" not in _reasons(flowd, "ticks")


def test_a_sink_that_stops_reading_is_told_until_it_reads_again(flowd: Flowd) -> None:
    """Its name, and how much waits for it; the step it holds up is not called silent."""
    sink = (
        'while [ ! -e "$FLOW_DATA/go" ]; do sleep 0.05; done; '
        "exec sh -c 'while :; do head -c 1000000; done'  > /dev/null"
    )
    source = "while :; do echo x; done"
    flowd.create(
        make_document(
            "stuck",
            {"name": "source", "script": source},
            {"name": "sink", "script": sink},
            progress={"silenceTimeout": "2s"},
        )
    )
    flowd.await_status("stuck", "running")
    assert _condition(flowd, "stuck", "Backpressured")["status"] == "False"
    told = _reaches(flowd, "stuck", "Backpressured", "True")
    assert told["reason"] == "PipeFull"
    assert "step 'sink' does not keep up" in told["message"]
    unread = flowd.status("stuck")["steps"][1]["inFlightBytes"]
    assert f"{unread} unread bytes" in told["message"]
    silent = _condition(flowd, "stuck", "Silent")["message"]
    assert silent == "step 'sink' has written nothing for 2s"
    (flowd.work("stuck") / "go").touch()
    _reaches(flowd, "stuck", "Backpressured", "False")
    reasons = _reasons(flowd, "stuck")
    assert (reasons.count("Backpressured"), reasons.count("NotBackpressured")) == (1, 1)


def _assert(holds: object) -> None:
    assert holds
