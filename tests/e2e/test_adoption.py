"""The operator may be killed at any moment: flows go on and are taken back."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flow_operator.memory import Stopping, decode_memory
from support import Flowd, alive, always_for, eventually, make_document, processes_of, program

FLOWS = 20
ROUNDS = 20


def test_twenty_kills_with_twenty_flows_keep_every_process(flowd: Flowd) -> None:
    """kill -9 twenty times at random moments: same pids, no second copy, commands work."""
    flowd.create(*(make_document(f"flow-{n}") for n in range(FLOWS)))
    for n in range(FLOWS):
        flowd.await_status(f"flow-{n}", "running")
    pids = {f"flow-{n}": flowd.pids(f"flow-{n}") for n in range(FLOWS)}
    for number in range(ROUNDS):
        time.sleep(random.uniform(0, 0.05))  # the random moment itself
        flowd.kill()
        assert len(processes_of(flowd.data)) == FLOWS
        flowd.start()
        flowd.await_ready()  # Of what runs it tells what it has seen, from here on.
        name = f"flow-{number % FLOWS}"
        assert flowd.command("pause", name) == {name: "paused"}
        assert flowd.command("resume", name) == {name: "running"}
        assert {f"flow-{n}": flowd.pids(f"flow-{n}") for n in range(FLOWS)} == pids
        assert len(processes_of(flowd.data)) == FLOWS, "a second copy was started"
    assert f"{FLOWS} running instances taken back" in flowd.welcome[1]
    assert set(flowd.command("stop").values()) == {"stopped"}
    assert processes_of(flowd.data) == []


def test_a_stream_has_no_gap_while_the_operator_is_killed_again_and_again(flowd: Flowd) -> None:
    """Ten kills under a stream of numbered lines: same pids, and the sink holds each number."""
    steps = (program("count"), program("copy"), program("store"))
    flowd.create(make_document("stream", *steps))
    flowd.await_status("stream", "running")
    pids = flowd.pids("stream")
    path = flowd.work("stream") / "stored"
    eventually(lambda: _assert(path.exists()))
    for _ in range(10):
        size = path.stat().st_size
        flowd.kill()
        eventually(lambda size=size: _assert(path.stat().st_size > size))  # with no operator there
        flowd.start()
        flowd.await_status("stream", "running")
        assert flowd.pids("stream") == pids
    assert flowd.command("stop", "stream") == {"stream": "stopped"}
    count, outcome = (flowd.work("stream") / "emitted").read_text().split(maxsplit=1)
    assert outcome.strip() == "well"
    with path.open() as file:
        assert all(int(line) == number for number, line in enumerate(file))
    with path.open("rb") as file:
        assert sum(1 for _ in file) == int(count)


def test_kills_while_flows_are_being_started_make_no_duplicate(flowd: Flowd) -> None:
    """The intent is written before the start: a kill in between leaves one copy or none."""
    for number in range(10):
        names = [f"start-{number}-{n}" for n in range(10)]
        flowd.create(*(make_document(name) for name in names))
        time.sleep(random.uniform(0, 0.03))  # the random moment itself
        flowd.kill()
        flowd.start()
        for name in names:
            flowd.await_status(name, "running")
        assert len(processes_of(flowd.data)) == 10 * (number + 1)


def test_kill_during_a_drain_is_carried_on(flowd: Flowd) -> None:
    """A drain that was begun by one operator is finished by the next, with its deadline."""
    stubborn = "trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.05; done"
    flowd.create(make_document("slow", stubborn, "cat >/dev/null"))
    flowd.await_status("slow", "running")
    assert flowd.command("stop", "slow", timeout=0) in ({"slow": "stopping"}, {"slow": "running"})
    flowd.await_status("slow", "stopping")
    flowd.kill()
    flowd.start()
    flowd.await_status("slow", "stopped")
    assert processes_of(flowd.data) == []


def test_a_stop_keeps_its_deadline_over_kills(flowd: Flowd) -> None:
    """What will not end is killed when it would have been, and told as Forced."""
    flowd.create(make_document("deaf", "trap '' TERM; while :; do sleep 0.05; done"))
    eventually(lambda: _assert(len(processes_of(flowd.data)) >= 2))  # its loop: the trap is set

    def stopping() -> Stopping:
        memory = decode_memory((flowd.data / "runs" / "deaf.json").read_bytes())
        stop = memory.runs[0].stop
        assert stop is not None
        assert stop.signalled
        return stop

    document = make_document("deaf", flowd.client.get("/flows/deaf").json()["spec"]["steps"][0])
    document["spec"]["stop"] = {"timeout": "1s"}
    assert flowd.client.put("/flows/deaf", json=document).status_code == 200
    flowd.command("stop", "deaf", timeout=0)
    drain = eventually(stopping)
    flowd.kill()
    flowd.start()
    flowd.await_status("deaf", "stopping")
    assert stopping() == drain or stopping().stage == "term"

    def terminating() -> Stopping:
        assert stopping().stage == "term"
        return stopping()

    term = eventually(terminating)
    assert term.begun == drain.begun
    flowd.kill()
    flowd.start()
    flowd.await_status("deaf", "stopping")
    assert stopping() == term or stopping().stage == "kill"
    conditions = flowd.await_status("deaf", "stopped")["conditions"]
    assert [c["reason"] for c in conditions if c["type"] == "Ready"] == ["Forced"]
    assert processes_of(flowd.data) == []


def test_a_paused_flow_stays_paused_over_a_crash(flowd: Flowd) -> None:
    """What was frozen is found frozen; it is not continued by accident."""
    flowd.create(make_document("ticks", "while :; do echo x; sleep 0.01; done"))
    flowd.await_status("ticks", "running")
    flowd.command("pause", "ticks")
    pids = flowd.pids("ticks")
    size = len(flowd.logs("ticks", "s0"))
    flowd.kill()
    flowd.start()
    flowd.await_status("ticks", "paused")

    def still() -> None:
        assert len(flowd.logs("ticks", "s0")) == size

    always_for(0.3, still)
    assert flowd.pids("ticks") == pids
    assert flowd.command("resume", "ticks") == {"ticks": "running"}


def test_an_exit_while_no_operator_was_there_is_known(flowd: Flowd) -> None:
    """The shim keeps exit codes: the next operator restarts the step and tells how it ended."""
    flowd.create(
        make_document("leaver", "while [ ! -e $FLOW_DATA/go ]; do sleep 0.01; done; exit 7")
    )
    flowd.await_status("leaver", "running")
    [pid] = flowd.pids("leaver")
    flowd.kill()
    (flowd.work("leaver") / "go").touch()
    eventually(lambda: _assert(not alive(pid)))
    flowd.start()

    def judged() -> None:
        [step] = flowd.status("leaver")["steps"]
        assert step["restarts"] >= 1
        assert step["lastExit"]["code"] == 7

    eventually(judged)


def test_killed_shim_is_replaced_and_takes_over(flowd: Flowd) -> None:
    """kill -9 of the shim: same pids, pipes held again, and no exit is made up."""
    flowd.create(make_document("piped", "while :; do echo x; sleep 0.01; done", "cat", "cat"))
    flowd.await_status("piped", "running")
    pids = flowd.pids("piped")
    shim = flowd.shim_pid()
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: _assert(flowd.shim_pid() not in (0, shim)))
    eventually(lambda: _assert(flowd.client.get("/readyz").status_code == 200))
    assert flowd.pids("piped") == pids
    os.kill(pids[1], signal.SIGKILL)

    def restarted() -> None:
        step = flowd.status("piped")["steps"][1]
        assert step["restarts"] == 1
        # The kernel knows, from 6.15 on, if the machine's init reaps what falls to it.
        last = step["lastExit"]
        told = (last["reason"], last["code"], last["signal"])
        assert told in (("ExitUnknown", None, None), ("Signaled", None, signal.SIGKILL))

    eventually(restarted)
    assert flowd.pids("piped")[0] == pids[0], "the source saw no broken pipe"
    assert flowd.command("stop", "piped") == {"piped": "stopped"}
    assert processes_of(flowd.data) == []


def test_operator_and_shim_killed_together(flowd: Flowd) -> None:
    """Both gone at once: the next operator finds the processes by run id, pid and start time."""
    flowd.create(*(make_document(f"both-{n}") for n in range(5)))
    for n in range(5):
        flowd.await_status(f"both-{n}", "running")
    pids = {n: flowd.pids(f"both-{n}") for n in range(5)}
    shim = flowd.shim_pid()
    flowd.kill()
    os.kill(shim, signal.SIGKILL)
    flowd.start()
    for n in range(5):
        flowd.await_status(f"both-{n}", "running")
    assert {n: flowd.pids(f"both-{n}") for n in range(5)} == pids
    assert len(processes_of(flowd.data)) == 5
    assert set(flowd.command("stop").values()) == {"stopped"}
    assert processes_of(flowd.data) == []


def test_first_signal_drains_and_the_next_start_brings_everything_back(
    make_flowd: Callable[..., Flowd],
) -> None:
    """SIGTERM ends all flows and exits 0; desired state is kept."""
    flowd = make_flowd().start()
    flowd.create(make_document("one"), make_document("two", state="stopped"))
    flowd.await_status("one", "running")
    assert flowd.end() == 0
    assert processes_of(flowd.data) == []
    assert flowd.shim_pid() == 0
    flowd.start()
    flowd.await_status("one", "running")
    flowd.await_status("two", "stopped")
    assert flowd.client.get("/flows/one").json()["spec"].get("state", "running") == "running"


def test_second_signal_stops_hard(make_flowd: Callable[..., Flowd]) -> None:
    """A flow that will not drain does not hold up the second Ctrl-C."""
    flowd = make_flowd().start()
    flowd.create(make_document("deaf", "trap '' TERM; while :; do sleep 0.1; done"))
    flowd.await_status("deaf", "running")
    assert flowd.process is not None
    flowd.process.send_signal(signal.SIGINT)
    flowd.await_status("deaf", "stopping")
    assert flowd.end(signal.SIGINT, within=10) == 0
    assert processes_of(flowd.data) == []


def test_a_second_operator_is_refused(flowd: Flowd) -> None:
    """Two operators on one data directory: the second exits and says who holds it."""
    second = subprocess.run(
        [
            sys.executable,
            "-m",
            "flow_operator.flowd",
            "--data",
            str(flowd.data),
            "--listen",
            "127.0.0.1:0",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert f"pid {flowd.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def _assert(condition: bool) -> None:
    assert condition


def test_a_completed_job_is_not_run_again_by_a_restart(make_flowd: Callable[..., Flowd]) -> None:
    """What has completed stays completed over a crash and over a drained end."""
    flowd = make_flowd().start()
    flowd.create(make_document("job", "echo ran >> $FLOW_DATA/runs", restart={"policy": "Never"}))
    flowd.await_status("job", "completed")
    flowd.kill()
    flowd.start()
    flowd.await_status("job", "completed")
    assert flowd.end() == 0
    flowd.start()
    flowd.await_status("job", "completed")
    assert (flowd.work("job") / "runs").read_text() == "ran\n"
    flowd.command("start", "job")
    flowd.await_status("job", "completed")
    assert (flowd.work("job") / "runs").read_text() == "ran\nran\n"


def test_a_copied_data_directory_is_another_operators(
    make_flowd: Callable[..., Flowd], root: Path
) -> None:
    """A backup that is started beside the original takes nothing over and ends nothing."""
    first = make_flowd().start()
    first.create(make_document("one", "exec sleep 1000", "cat"))
    first.await_status("one", "running")
    pids = first.pids("one")
    (root / "copy").mkdir()
    shutil.copytree(first.data, root / "copy" / "data", ignore=shutil.ignore_patterns("*.sock"))
    second = Flowd(root / "copy")
    try:
        second.start()
        second.await_status("one", "running")
        assert not set(second.pids("one")) & set(pids)
        assert second.command("stop") == {"one": "stopped"}
    finally:
        second.destroy()
    assert first.pids("one") == pids
    assert first.status("one")["status"] == "running"
