"""Steps that will not end, pipes that are full, and what a stop says afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from flow_operator.plan.decide import VERIFY_FROZEN
from flow_operator.runners.procfs import environment, identity, read_proc
from support import (
    Flowd,
    alive,
    always_for,
    eventually,
    injected,
    make_document,
    processes_of,
    program,
)

DEAF = "trap '' TERM; while :; do sleep 0.05; done"


def ready_reason(flowd: Flowd, flow_id: str) -> str:
    [reason] = [c["reason"] for c in flowd.status(flow_id)["conditions"] if c["type"] == "Ready"]
    return reason


def event_reasons(flowd: Flowd, flow_id: str) -> list[str]:
    events = flowd.client.get(f"/flows/{flow_id}/events").json()["events"]
    return [event["reason"] for event in events]


def test_a_step_that_ignores_term_is_killed_at_the_deadline(flowd: Flowd) -> None:
    """The drain times out, then TERM to all, then KILL; told as Forced."""
    flowd.create(make_document("deaf", DEAF, stop={"timeout": "300ms"}))
    eventually(lambda: _assert(len(processes_of(flowd.data)) >= 2))  # its loop: the trap is set
    begun = time.monotonic()
    assert flowd.command("stop", "deaf") == {"deaf": "stopped"}
    assert 5 <= time.monotonic() - begun < 9, "300 ms to drain, 5 s to terminate"
    assert ready_reason(flowd, "deaf") == "Forced"
    assert {"DrainTimedOut", "Forced"} <= set(event_reasons(flowd, "deaf"))
    assert processes_of(flowd.data) == []


def test_a_drain_that_never_ends_is_terminated(flowd: Flowd) -> None:
    """A step that ignores the end of its input is told to end at the deadline."""
    flowd.create(
        make_document("endless", "exec sleep 1000", "exec sleep 1000", stop={"timeout": "300ms"})
    )
    flowd.await_status("endless", "running")
    assert flowd.command("stop", "endless") == {"endless": "stopped"}
    assert ready_reason(flowd, "endless") == "DrainTimedOut"
    # Once when it was so, and once as the outcome.
    assert event_reasons(flowd, "endless").count("DrainTimedOut") == 2
    assert "Forced" not in event_reasons(flowd, "endless")
    assert processes_of(flowd.data) == []


DEAF_CHILD = f'sh -c "{DEAF}"'
LEFT_BEHIND = {
    "same-group": f"{DEAF_CHILD} & exec sleep 1000",
    "own-session": f"setsid {DEAF_CHILD} & exec sleep 1000",
    "double-fork": f"(setsid {DEAF_CHILD} &) & exec sleep 1000",
}


def test_stopped_is_not_said_while_a_grandchild_lives(flowd: Flowd) -> None:
    """The leader has ended; what it left is named by its pid until it is gone."""
    flowd.create(
        *(make_document(name, text, stop={"timeout": "1s"}) for name, text in LEFT_BEHIND.items())
    )
    leaders = {name: flowd.await_status(name, "running")["steps"][0]["pid"] for name in LEFT_BEHIND}

    def deaf_ones() -> dict[str, int]:
        """The deaf shell of each flow; the first child of its loop is there: its trap is set."""
        procs = [read_proc(pid) for pid in processes_of(flowd.data)]
        parents = {proc.ppid for proc in procs if proc is not None}
        shells = parents - set(leaders.values())
        homes = {pid: identity(environment(pid), str(flowd.data)) for pid in shells}
        found = {who.flow_id: pid for pid, who in homes.items() if who is not None}
        assert found.keys() == LEFT_BEHIND.keys()
        return found

    deaf = eventually(deaf_ones)
    assert set(flowd.command("stop", timeout=0).values()) <= {"stopping", "running"}
    for pid in leaders.values():
        eventually(lambda pid=pid: _assert(not alive(pid)))

    def named(name: str) -> None:
        status = flowd.status(name)
        assert status["status"] == "stopping"
        told = status["message"].split("still there: ")[1].split(" (")[0]
        assert str(deaf[name]) in told.split(", ")
        assert alive(deaf[name])

    for name in LEFT_BEHIND:
        eventually(lambda name=name: named(name))
    for name in LEFT_BEHIND:
        flowd.await_status(name, "stopped")
        assert not alive(deaf[name])
        assert ready_reason(flowd, name) == "Forced"
    assert processes_of(flowd.data) == []


def test_a_paused_flow_with_full_pipes_drains(flowd: Flowd) -> None:
    """Thawed first; not one record of the full pipes is lost."""
    idle = 'until [ -e "$FLOW_DATA/go" ]; do sleep 0.02; done; exec cat'
    flowd.create(make_document("full", program("count"), idle, program("store")))
    flowd.await_status("full", "running")

    def full() -> None:
        assert flowd.status("full")["steps"][1]["inFlightBytes"] > 0

    eventually(full)
    flowd.command("pause", "full")
    always_for(0.2, lambda: _assert(flowd.status("full")["status"] == "paused"))
    (flowd.work("full") / "go").touch()
    assert flowd.command("stop", "full") == {"full": "stopped"}
    emitted = int((flowd.work("full") / "emitted").read_text().split()[0])
    stored = (flowd.work("full") / "stored").read_text().splitlines()
    assert stored == [str(n) for n in range(emitted)]
    assert ready_reason(flowd, "full") == "Drained"
    assert event_reasons(flowd, "full")[-1] == "Drained"


def test_a_paused_flow_is_not_stopped_while_a_child_of_a_dead_step_is_held(flowd: Flowd) -> None:
    """The child is named, also by the next operator and shim, and goes with the stop."""
    flowd.create(make_document("orphaned", "sleep 1000; exit 1"))
    flowd.await_status("orphaned", "running")
    eventually(lambda: _assert(len(processes_of(flowd.data)) == 2))
    [leader] = flowd.pids("orphaned")
    assert flowd.command("pause", "orphaned") == {"orphaned": "paused"}
    os.kill(leader, signal.SIGKILL)

    def told() -> None:
        status = flowd.status("orphaned")
        [child] = processes_of(flowd.data)
        assert child != leader
        assert status["status"] == "paused"
        assert f"stopped where they are: {child}" in status["message"]

    # Sooner than a paused flow is looked at anyway.
    eventually(told, within=VERIFY_FROZEN / 3)
    for shim in (False, True):
        flowd.strike(operator=True, shim=shim)
        flowd.start()
        eventually(told, within=VERIFY_FROZEN / 3)
    assert flowd.command("stop", "orphaned", type=1) == {"orphaned": "stopped"}
    assert processes_of(flowd.data) == []


@pytest.mark.parametrize("cgroups", ["off", "auto"])
def test_what_outlives_a_paused_step_is_asked_to_end_once(
    make_flowd: Callable[..., Flowd], cgroups: str
) -> None:
    """Many programs take a second SIGTERM for an order to end at once."""
    asked = "trap 'echo t >> $FLOW_DATA/terms; sleep 1; exit 0' TERM"
    helper = f'setsid sh -c "{asked}; while :; do sleep 0.05; done"'  # Of no signalled group.
    flowd = make_flowd("--cgroups", cgroups).start()
    flowd.create(make_document("one", f"{helper} & exec sleep 1000"))
    eventually(lambda: _assert(len(processes_of(flowd.data)) >= 3))
    assert flowd.command("pause", "one") == {"one": "paused"}
    assert flowd.command("stop", "one") == {"one": "stopped"}
    assert (flowd.data / "work/one/terms").read_text() == "t\n"
    assert processes_of(flowd.data) == []


def test_a_resume_that_is_cut_off_is_completed(make_flowd: Callable[..., Flowd]) -> None:
    """The operator is killed between two of its SIGCONTs; the next one sends the others."""
    flowd = make_flowd("--cgroups", "off").start()
    flowd.create(make_document("held", "exec sleep 1000", "exec sleep 1000", "exec sleep 1000"))
    flowd.await_status("held", "running")
    assert flowd.command("pause", "held") == {"held": "paused"}
    pids = [step["pid"] for step in flowd.status("held")["steps"]]

    def states() -> set[str]:
        return {proc.state for proc in map(read_proc, pids) if proc is not None}

    assert states() == {"T"}
    with injected(flowd.pid, "pidfd_send_signal", "delay_enter=500000"):
        flowd.command("resume", "held", timeout=0)
        eventually(lambda: _assert(states() == {"T", "S"}))
        flowd.kill()
    assert states() == {"T", "S"}
    flowd.start()
    eventually(lambda: _assert(states() == {"S"}))
    flowd.await_status("held", "running")
    assert [step["pid"] for step in flowd.status("held")["steps"]] == pids


def test_a_crash_of_a_step_during_the_drain_loses_only_its_buffer(flowd: Flowd) -> None:
    """A middle step that dies while draining is started again as long as it has input."""
    once = "[ -e $FLOW_DATA/once ] && exec cat; touch $FLOW_DATA/once; sleep 3; exit 9"
    flowd.create(make_document("twice", "seq 1 5000; exec sleep 1000", once, program("store")))
    flowd.await_status("twice", "running")

    def waits() -> None:
        assert flowd.status("twice")["steps"][1]["inFlightBytes"] > 20_000

    eventually(waits)
    assert flowd.command("stop", "twice") == {"twice": "stopped"}
    stored = (flowd.work("twice") / "stored").read_text().splitlines()
    assert stored == [str(n) for n in range(1, 5001)]


def test_backoff_goes_on_over_a_kill_of_the_operator(flowd: Flowd) -> None:
    """A crash loop waits as long as it would have without the kill."""
    backoff = {"initial": "1h", "max": "2h", "jitter": 0}
    flowd.create(make_document("loop", "exit 1", restart={"backoff": backoff}))
    status = flowd.await_status("loop", "backoff")
    assert status["restarts"] == 1
    flowd.kill()
    flowd.start()
    status = flowd.await_status("loop", "backoff")
    always_for(0.3, lambda: _assert(flowd.status("loop")["restarts"] == 1))
    assert status["steps"][0]["lastExit"]["code"] == 1


@pytest.mark.parametrize("policy", ["OnFailure", "Never"])
def test_a_flow_that_ends_by_itself_tells_how(flowd: Flowd, policy: str) -> None:
    """A job completes or fails; nothing of it is left."""
    flowd.create(
        make_document("good", "seq 3", "cat >/dev/null", restart={"policy": policy}),
        make_document("bad", "exit 4", restart={"policy": policy, "maxRestarts": 1}),
    )
    flowd.await_status("good", "completed")
    status = flowd.await_status("bad", "failed")
    assert "code 4" in status["message"]
    assert {c["type"]: c["status"] for c in status["conditions"]}["Stalled"] == "True"
    assert processes_of(flowd.data) == []


def _assert(condition: bool) -> None:
    assert condition


def test_a_drain_tries_a_waiting_step_once_more(flowd: Flowd) -> None:
    """A sink in its backoff, mended meanwhile: what waits for it in the pipe is not given up."""
    sink = "[ -e $FLOW_DATA/mended ] || exit 1; exec cat >> $FLOW_DATA/stored"
    backoff = {"initial": "1h", "max": "1h"}
    source = "seq 1 1000; exec sleep 1000"
    flowd.create(make_document("mend", source, sink, restart={"backoff": backoff}))
    flowd.await_status("mend", "backoff")
    (flowd.work("mend") / "mended").touch()
    assert flowd.command("stop", "mend") == {"mend": "stopped"}
    stored = (flowd.work("mend") / "stored").read_text().split()
    assert stored == [str(n) for n in range(1, 1001)]


def test_a_flow_that_cannot_be_read_does_not_hold_up_the_end(flowd: Flowd) -> None:
    """Its processes run on while the operator does, and are drained when it ends."""
    flowd.create(make_document("bad"))
    flowd.await_status("bad", "running")
    file = flowd.data / "flows" / "bad.yaml"
    eventually(lambda: _assert(file.exists() and not list(file.parent.glob("txn-*"))))
    flowd.kill()
    file.write_text("{")
    flowd.start()
    assert flowd.await_status("bad", "unknown")["message"].startswith("StoreError")
    assert len(processes_of(flowd.data)) == 1
    assert flowd.end(within=20) == 0
    assert processes_of(flowd.data) == []


def test_the_operators_end_stops_dependents_before_what_they_depend_on(
    make_flowd: Callable[..., Flowd],
) -> None:
    """Each is told to end only when the ones that need it are gone."""
    slow = "read up _ </proc/uptime; echo {} $up >>$FLOW_DATA/times"
    script = (
        f"end() {{ {slow.format('told')}; sleep 0.3; {slow.format('ended')}; exit 0; }}; "
        "trap end TERM; touch $FLOW_DATA/ready; while :; do sleep 0.02; done"
    )
    flowd = make_flowd().start()
    needs = {"store": [], "middle": ["store"], "web": ["middle"], "side": ["store"]}
    flowd.create(
        *(
            make_document(name, script, dependsOn=[{"name": other} for other in others])
            for name, others in needs.items()
        )
    )
    for name in needs:
        flowd.await_status(name, "running")
        eventually(lambda name=name: _assert((flowd.work(name) / "ready").exists()))
    assert flowd.end() == 0

    def moments(name: str) -> dict[str, float]:
        lines = (flowd.work(name) / "times").read_text().splitlines()
        return {word: float(moment) for word, moment in map(str.split, lines)}

    for name, others in needs.items():
        for other in others:
            assert moments(name)["ended"] <= moments(other)["told"], (name, other)
    assert processes_of(flowd.data) == []
