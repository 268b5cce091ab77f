"""A soft stop loses nothing, and a crashed step does not break its pipe."""

from __future__ import annotations

import os
import random
import signal

import pytest

from support import Flowd, eventually, make_document, program

RECORDS = 100_000
ROUNDS = 10


def pipeline(name: str, **spec: object) -> dict[str, object]:
    steps = (program("count", str(RECORDS)), program("copy"), program("store"))
    return make_document(name, *steps, **spec)


def emitted(flowd: Flowd, flow_id: str) -> tuple[int, str]:
    count, outcome = (flowd.work(flow_id) / "emitted").read_text().split(maxsplit=1)
    return int(count), outcome.strip()


def stored(flowd: Flowd, flow_id: str) -> list[int]:
    path = flowd.work(flow_id) / "stored"
    return [int(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def progress(flowd: Flowd, flow_id: str) -> int:
    path = flowd.work(flow_id) / "stored"
    return path.stat().st_size if path.exists() else 0


def test_soft_stop_at_any_moment_stores_exactly_what_was_emitted(flowd: Flowd) -> None:
    """Ten random moments of a stream of 100,000 records: the sink holds what the source wrote."""
    lengths = []
    for number in range(ROUNDS):
        name = f"drain-{number}"
        flowd.create(pipeline(name))
        wanted = random.randrange(1, 580_000)

        def far_enough(name: str = name, wanted: int = wanted) -> None:
            assert progress(flowd, name) >= wanted

        eventually(far_enough)
        assert flowd.command("stop", name) == {name: "stopped"}
        count, outcome = emitted(flowd, name)
        assert outcome == "well"
        assert stored(flowd, name) == list(range(count))
        reasons = [c["reason"] for c in flowd.status(name)["conditions"] if c["type"] == "Ready"]
        assert reasons == ["Drained"]
        lengths.append(count)
    assert len(set(lengths)) > 1, "every round was stopped at the same record"


@pytest.mark.parametrize("number", range(3))
def test_killed_middle_step_loses_at_most_its_own_buffer(flowd: Flowd, number: int) -> None:
    """kill -9 of the middle step: the source sees no broken pipe, and one gap of one read."""
    name = f"crash-{number}"
    flowd.create(pipeline(name))

    def some_stored() -> None:
        assert progress(flowd, name) > random.randrange(50_000)

    eventually(some_stored)
    before = flowd.pids(name)
    os.kill(before[1], signal.SIGKILL)

    def restarted() -> None:
        status = flowd.status(name)
        assert status["status"] == "running"
        assert status["steps"][1]["restarts"] == 1

    eventually(restarted)
    after = flowd.pids(name)
    assert [after[0], after[2]] == [before[0], before[2]], "its neighbours were left alone"
    assert after[1] != before[1]
    assert flowd.command("stop", name) == {name: "stopped"}
    count, outcome = emitted(flowd, name)
    assert outcome == "well"
    text = (flowd.work(name) / "stored").read_bytes()
    missing = sum(len(b"%d\n" % n) for n in range(count)) - len(text)
    assert 0 <= missing <= 8192, "only what the killed step had read and not yet written is gone"
