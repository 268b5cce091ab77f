"""A pause of the intake: what the source wrote is used up, the rest waits, a resume goes on."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from support import Flowd, alive, always_for, eventually, make_document, processes_of, program

INTAKE = {"mode": "intake"}
ROUNDS = 6
SLOW_COPY = {"name": "slow", "script": "while read -r n; do sleep 0.02; echo $n; done"}
"""Takes at least two seconds for a hundred lines."""


def pipeline(name: str, *middle: dict[str, Any], **spec: object) -> dict[str, Any]:
    copies = middle or (program("copy"),)
    return make_document(name, program("resume"), *copies, program("store"), pause=INTAKE, **spec)


def written(flowd: Flowd, name: str) -> int:
    """How many numbers the source has written; it has ended."""
    return int((flowd.work(name) / "next").read_text())


def stored(flowd: Flowd, name: str) -> list[int]:
    return [int(line) for line in (flowd.work(name) / "stored").read_bytes().splitlines()]


def await_more(flowd: Flowd, name: str, size: int = 1) -> None:
    """Until the sink has got so many more bytes."""
    path = flowd.work(name) / "stored"

    def length() -> int:
        return path.stat().st_size if path.exists() else 0

    before = length()
    eventually(lambda: _assert(length() >= before + size))


def paused_only_once_all_is_stored(flowd: Flowd, count: int) -> None:
    """Wait until the flow is paused; it must not have said so before."""
    too_early: list[int] = []

    def paused() -> None:
        told = flowd.status("flow")["status"]
        left = count - len(stored(flowd, "flow"))
        if told == "paused" and left:
            too_early.append(left)
        assert told == "paused"

    eventually(paused)
    assert not too_early, "paused before all was used up"


def event_reasons(flowd: Flowd, name: str) -> list[str]:
    events = flowd.client.get(f"/flows/{name}/events").json()["events"]
    return [event["reason"] for event in events]


def reconciling(flowd: Flowd, name: str) -> dict[str, Any]:
    [found] = [c for c in flowd.status(name)["conditions"] if c["type"] == "Reconciling"]
    return found


def test_a_pause_at_any_moment_leaves_nothing_in_flight_and_a_resume_nothing_out(
    flowd: Flowd,
) -> None:
    """Random moments of a stream through three steps: the sink has exactly what was written."""
    flowd.create(pipeline("flow"))
    flowd.await_status("flow", "running")
    later = flowd.pids("flow")[1:]
    for _ in range(ROUNDS):
        await_more(flowd, "flow", random.randrange(1, 100_000))
        assert flowd.command("pause", "flow") == {"flow": "paused"}
        status = flowd.status("flow")
        assert [step["pid"] for step in status["steps"]] == [None, *later]
        assert [step["state"] for step in status["steps"]] == ["waiting", "running", "running"]
        assert stored(flowd, "flow") == list(range(written(flowd, "flow")))
        count = len(stored(flowd, "flow"))
        always_for(0.2, lambda count=count: _assert(len(stored(flowd, "flow")) == count))
        assert flowd.command("resume", "flow") == {"flow": "running"}
        await_more(flowd, "flow")
    assert flowd.pids("flow")[1:] == later
    assert flowd.status("flow")["restarts"] == 0
    assert flowd.command("stop", "flow") == {"flow": "stopped"}
    assert stored(flowd, "flow") == list(range(written(flowd, "flow")))


def test_paused_is_not_told_before_the_pipes_are_empty(flowd: Flowd) -> None:
    """A slow step in the middle: what is told until then says so, and whom it waits for."""
    source = "seq 1 80; exec sleep 1000"
    flowd.create(make_document("flow", source, SLOW_COPY, program("store"), pause=INTAKE))
    await_more(flowd, "flow")
    assert flowd.command("pause", "flow", timeout=0) == {"flow": "running"}
    eventually(lambda: _assert(reconciling(flowd, "flow")["reason"] == "Draining"))
    assert "'slow'" in reconciling(flowd, "flow")["message"]
    assert flowd.status("flow")["steps"][1]["inFlightBytes"] > 0

    paused_only_once_all_is_stored(flowd, 80)
    assert stored(flowd, "flow") == list(range(1, 81))


def test_a_step_that_computes_for_long_is_waited_for(flowd: Flowd) -> None:
    """Its pipe is empty and it writes nothing, but it is at work."""
    sorts = (
        "while read -r n; do i=0; while [ $i -lt 2000000 ]; do i=$((i+1)); done; echo $n; done"
        " > $FLOW_DATA/stored"
    )
    flowd.create(make_document("flow", "echo 1; exec sleep 1000", sorts, pause=INTAKE))
    flowd.await_status("flow", "running")
    begun = time.monotonic()
    assert flowd.command("pause", "flow", timeout=60) == {"flow": "paused"}
    assert stored(flowd, "flow") == [1]
    assert time.monotonic() - begun > 1.5, "it was no long computation"


def test_a_source_that_ignores_its_signal_is_killed(flowd: Flowd) -> None:
    """After ``stop.timeout``; the others are left alone, and the resume starts it again."""
    deaf = "trap '' TERM; while :; do echo x; sleep 0.02; done"
    flowd.create(
        make_document("flow", deaf, program("store"), pause=INTAKE, stop={"timeout": "300ms"})
    )
    await_more(flowd, "flow")
    later = flowd.pids("flow")[1]
    assert flowd.command("pause", "flow") == {"flow": "paused"}
    assert "Forced" in event_reasons(flowd, "flow")
    assert flowd.status("flow")["steps"][0]["lastExit"]["signal"] == signal.SIGKILL
    assert flowd.command("resume", "flow") == {"flow": "running"}
    assert flowd.pids("flow")[1] == later
    await_more(flowd, "flow")


@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_a_flow_of_one_step_is_paused_without_a_process(flowd: Flowd, policy: str) -> None:
    """And started by the resume, whatever the policy."""
    flowd.create(make_document("flow", pause=INTAKE, restart={"policy": policy}))
    flowd.await_status("flow", "running")
    assert flowd.command("pause", "flow") == {"flow": "paused"}
    assert processes_of(flowd.data) == []
    always_for(0.3, lambda: _assert(flowd.status("flow")["status"] == "paused"))
    assert flowd.command("resume", "flow") == {"flow": "running"}
    assert len(processes_of(flowd.data)) == 1


def test_a_later_step_that_crashes_while_it_drains_is_restarted(flowd: Flowd) -> None:
    """What waits for it in its pipe is used up by the next attempt."""
    once = "[ -e $FLOW_DATA/once ] && exec cat; touch $FLOW_DATA/once; sleep 1; exit 9"
    source = "seq 1 5000; exec sleep 1000"
    flowd.create(make_document("flow", source, once, program("store"), pause=INTAKE))
    eventually(lambda: _assert(flowd.status("flow")["steps"][1]["inFlightBytes"] > 20_000))
    assert flowd.command("pause", "flow") == {"flow": "paused"}
    assert stored(flowd, "flow") == list(range(1, 5001))
    assert flowd.status("flow")["steps"][1]["restarts"] == 1


@pytest.mark.parametrize("number", range(4))
def test_an_operator_that_is_killed_while_it_pauses_is_followed_by_one_that_goes_on(
    flowd: Flowd, number: int
) -> None:
    """At random moments; the source, which ends well, is neither restarted nor done with."""
    steps = (program("count", "100"), SLOW_COPY, program("store"))
    flowd.create(make_document("flow", *steps, pause=INTAKE, restart={"policy": "OnFailure"}))
    await_more(flowd, "flow")
    later = flowd.pids("flow")[1:]
    flowd.command("pause", "flow", timeout=0)
    time.sleep(random.uniform(0, 0.1 * (number + 1)))  # the random moment itself
    flowd.kill()
    flowd.start()
    paused_only_once_all_is_stored(flowd, 100)
    assert stored(flowd, "flow") == list(range(100))
    assert flowd.pids("flow") == [None, *later]
    assert flowd.command("resume", "flow") == {"flow": "running"}
    eventually(lambda: _assert(len(stored(flowd, "flow")) > 100))
    assert flowd.command("stop", "flow") == {"flow": "stopped"}
    assert stored(flowd, "flow") == [*range(100), *range(100)]


def test_an_idle_flow_stays_idle_over_a_kill_of_the_operator(flowd: Flowd) -> None:
    """Same processes; nothing starts the source but a resume; a soft stop drains the rest."""
    flowd.create(pipeline("flow", restart={"policy": "OnFailure"}))
    await_more(flowd, "flow")
    assert flowd.command("pause", "flow") == {"flow": "paused"}
    pids = flowd.pids("flow")
    flowd.kill()
    flowd.start()
    flowd.await_status("flow", "paused")
    always_for(0.3, lambda: _assert(flowd.pids("flow") == pids))
    assert flowd.command("resume", "flow") == {"flow": "running"}
    await_more(flowd, "flow")
    assert flowd.command("pause", "flow") == {"flow": "paused"}
    assert flowd.command("stop", "flow") == {"flow": "stopped"}
    [ready] = [c for c in flowd.status("flow")["conditions"] if c["type"] == "Ready"]
    assert ready["reason"] == "Drained"
    assert stored(flowd, "flow") == list(range(written(flowd, "flow")))
    assert processes_of(flowd.data) == []


def test_an_idle_flow_outlives_its_shim(flowd: Flowd) -> None:
    """The second step sees an end of input, as nobody holds it back; it is there again soon."""
    lingers = {"name": "lingers", "script": "cat; sleep 1"}
    flowd.create(pipeline("flow", lingers, restart={"policy": "OnFailure"}))
    await_more(flowd, "flow")
    assert flowd.command("pause", "flow") == {"flow": "paused"}
    [_, second, third], shim = flowd.pids("flow"), flowd.shim_pid()
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: _assert(flowd.shim_pid() not in (0, shim)))

    def held() -> None:
        conditions = {c["type"]: c["status"] for c in flowd.status("flow")["conditions"]}
        assert conditions["PipeUnheld"] == "False"

    always_for(0.5, held)  # The step lingers for longer; its pipe is held again meanwhile.
    eventually(lambda: _assert(not alive(second)))

    def back() -> None:
        status = flowd.status("flow")
        assert status["status"] == "paused"
        states = [step["state"] for step in status["steps"]]
        assert states == ["waiting", "running", "running"]

    eventually(back)
    assert flowd.pids("flow")[2] == third
    assert flowd.command("resume", "flow") == {"flow": "running"}
    await_more(flowd, "flow", 1000)
    assert flowd.command("stop", "flow") == {"flow": "stopped"}
    assert stored(flowd, "flow") == list(range(written(flowd, "flow")))


def test_the_mode_can_be_changed_while_a_flow_is_paused(flowd: Flowd) -> None:
    """From a freeze to an idle flow, and back; the processes of the later steps are kept."""
    flowd.create(pipeline("flow"))
    await_more(flowd, "flow")
    later = flowd.pids("flow")[1:]

    def change(mode: str) -> None:
        document = pipeline("flow", state="paused")
        document["spec"]["pause"] = {"mode": mode}
        assert flowd.client.put("/flows/flow", json=document).json()["change"] == "inPlace"

    change("freeze")
    eventually(lambda: _assert(frozen(flowd, "flow") == ["frozen"] * 3))
    change("intake")
    eventually(lambda: _assert(frozen(flowd, "flow") == ["waiting", "running", "running"]))
    flowd.await_status("flow", "paused")
    assert stored(flowd, "flow") == list(range(written(flowd, "flow")))
    change("freeze")
    eventually(lambda: _assert(frozen(flowd, "flow") == ["waiting", "frozen", "frozen"]))
    assert flowd.command("resume", "flow") == {"flow": "running"}
    await_more(flowd, "flow", 1000)
    assert flowd.pids("flow")[1:] == later
    assert flowd.command("stop", "flow") == {"flow": "stopped"}
    assert stored(flowd, "flow") == list(range(written(flowd, "flow")))


def test_an_example_to_copy_pauses_and_goes_on(flowd: Flowd) -> None:
    """Without a gap, and without a number twice."""
    example = Path(__file__).parents[2] / "manifests" / "examples" / "intake.yaml"
    (flowd.manifests / "intake.yaml").write_text(example.read_text())
    eventually(lambda: flowd.await_status("intake", "running"))
    squares = flowd.work("intake") / "squares"
    for _ in range(2):
        before = squares.stat().st_size if squares.exists() else 0
        eventually(lambda before=before: _assert(squares.stat().st_size > before))
        assert flowd.command("pause", "intake") == {"intake": "paused"}
        assert flowd.command("resume", "intake") == {"intake": "running"}
    assert flowd.command("pause", "intake") == {"intake": "paused"}
    numbers = [tuple(map(int, line.split())) for line in squares.read_text().splitlines()]
    assert numbers == [(n, n * n) for n in range(1, len(numbers) + 1)]


def frozen(flowd: Flowd, name: str) -> list[str]:
    return [step["state"] for step in flowd.status(name)["steps"]]


def _assert(condition: object) -> None:
    assert condition
