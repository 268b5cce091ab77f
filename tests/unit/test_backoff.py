"""Delays between restarts, between looks, and the short retries of one call."""

from __future__ import annotations

import threading
import time

import pytest

from flow_operator.backoff import requeue_delay, restart_delay, retry_transient
from flow_operator.errors import RetryableError, TerminalError
from flow_operator.model.flow import Backoff
from flow_operator.model.units import Duration


def _policy(initial="1s", factor=2.0, longest="5m", jitter=0.0) -> Backoff:
    return Backoff(Duration.parse(initial), factor, Duration.parse(longest), jitter)


def _delays(policy: Backoff, count: int, seed: str = "x") -> list[float]:
    return [restart_delay(policy, failures, seed) for failures in range(1, count + 1)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (_policy(), [0, 1, 2, 4, 8, 16]),
        (_policy(initial="100ms", factor=3), [0, 0.1, 0.3, 0.9, 2.7]),
        (_policy(factor=1), [0, 1, 1, 1]),
        (_policy(longest="3s"), [0, 1, 2, 3, 3]),
        (_policy(initial="0s"), [0, 0, 0]),
        (_policy(initial="5s", longest="5s"), [0, 5, 5]),
    ],
)
def test_restarts_are_immediate_once_and_then_grow_to_the_cap(policy, expected):
    """0, initial, initial * factor, ... and never more than max."""
    assert _delays(policy, len(expected)) == pytest.approx(expected)


def test_a_flow_that_has_failed_a_million_times_waits_for_the_cap():
    """No overflow, however long a loop goes on."""
    assert restart_delay(_policy(factor=10.0), 1_000_000, "x") == 300


def test_jitter_spreads_within_its_bounds():
    """Many flows that fail together do not restart together; none waits longer than the cap."""
    policy = _policy(jitter=0.5)
    delays = {restart_delay(policy, 4, f"flow-{n}") for n in range(200)}
    assert len(delays) > 190
    assert 2 <= min(delays) < 2.5
    assert 5.5 < max(delays) <= 6
    capped = _policy(longest="4s", jitter=0.5)
    assert max(restart_delay(capped, 9, f"flow-{n}") for n in range(200)) <= 4


def test_the_same_question_has_the_same_answer():
    """The plan is a pure function, so its jitter must be one too."""
    policy = _policy(jitter=0.5)
    assert _delays(policy, 6) == _delays(policy, 6)
    assert _delays(policy, 6, "x") != _delays(policy, 6, "y")


def test_looks_that_fail_are_repeated_more_and_more_rarely():
    """From 50 ms to half a minute."""
    delays = [requeue_delay(failures) for failures in range(1, 20)]
    assert delays[:3] == pytest.approx([0.05, 0.1, 0.2])
    assert delays == sorted(delays)
    assert delays[-1] == 30


def test_a_transient_is_tried_again_until_it_succeeds():
    """The caller sees the result and none of the failures."""
    outcomes = [RetryableError("away"), RetryableError("away"), None]

    def call() -> str:
        error = outcomes.pop(0)
        if error is not None:
            raise error
        return "done"

    assert retry_transient(call, threading.Event()) == "done"
    assert outcomes == []


@pytest.mark.parametrize("error", [TerminalError("no"), ValueError("a bug")])
def test_nothing_else_is_tried_again(error):
    """Only what may succeed if tried again soon."""
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        retry_transient(call, threading.Event())
    assert len(calls) == 1


def test_a_transient_that_stays_is_raised_soon():
    """A worker is held up for a few seconds at most."""
    start = time.monotonic()
    with pytest.raises(RetryableError, match="away"):
        retry_transient(_away, threading.Event())
    assert 2 < time.monotonic() - start < 6


def test_a_shutdown_interrupts_the_retries():
    """Whoever waits between two tries wakes at once."""
    shutdown = threading.Event()
    shutdown.set()
    start = time.monotonic()
    with pytest.raises(RetryableError):
        retry_transient(_away, shutdown)
    assert time.monotonic() - start < 1


def _away() -> None:
    raise RetryableError("away")
