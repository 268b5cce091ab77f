"""Delays and retries. The only module that knows tenacity.

Two layers: :func:`retry_transient` repeats one idempotent call for a few seconds at most;
:func:`restart_delay` and :func:`requeue_delay` only compute delays, which others schedule on the
workqueue and nobody sleeps.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from typing import TypeVar, cast

import tenacity

from flow_operator.errors import RetryableError
from flow_operator.model.flow import Backoff

T = TypeVar("T")

_TRANSIENT_FIRST = 0.01
_TRANSIENT_LONGEST = 0.5
_TRANSIENT_TOTAL = 3.0
"""Seconds; long enough for a shim to be replaced (about 0.1 s), too short to hold up a worker."""

_REQUEUE_FIRST = 0.05
_REQUEUE_LONGEST = 30.0


def retry_transient(call: Callable[[], T], shutdown: threading.Event) -> T:
    """Call until it raises no RetryableError, at most for three seconds.

    Raises:
        RetryableError: the last one, when time is up or ``shutdown`` is set.
    """
    try:
        return call()  # Nearly always; tenacity costs more than most calls do.
    except RetryableError:
        if shutdown.wait(_TRANSIENT_FIRST):
            raise
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(RetryableError),
        wait=tenacity.wait_random_exponential(_TRANSIENT_FIRST, _TRANSIENT_LONGEST),
        stop=tenacity.stop_after_delay(_TRANSIENT_TOTAL) | tenacity.stop_when_event_set(shutdown),
        sleep=tenacity.sleep_using_event(shutdown),
        reraise=True,
    )
    return retrying(call)


def restart_delay(policy: Backoff, failures: int, seed: str) -> float:
    """Seconds to wait before restarting what has failed ``failures`` times in a row.

    The first restart is immediate, the second waits ``initial``, then the wait grows by
    ``factor`` up to ``max``, each spread by ±``jitter``. The jitter follows from ``seed`` and
    ``failures``, so that the same question always has the same answer.
    """
    if failures <= 1:
        return 0.0
    wait = tenacity.wait_exponential(
        multiplier=policy.initial.seconds, exp_base=policy.factor, max=policy.max.seconds
    )
    spread = zlib.crc32(f"{seed}:{failures}".encode()) / 0xFFFFFFFF * 2 - 1
    delay = _after(wait, failures - 1) * (1 + policy.jitter * spread)
    return min(delay, policy.max.seconds)


def requeue_delay(failures: int) -> float:
    """Seconds until a reconcile that failed ``failures`` times in a row is tried again."""
    wait = tenacity.wait_exponential(multiplier=_REQUEUE_FIRST, max=_REQUEUE_LONGEST)
    return _after(wait, failures)


def _after(wait: tenacity.wait.wait_base, attempt: int) -> float:
    """What a wait strategy says after an attempt; they ask nothing else of the call's state."""
    state = tenacity.RetryCallState(
        retry_object=cast("tenacity.BaseRetrying", None), fn=None, args=(), kwargs={}
    )
    state.attempt_number = attempt
    return wait(state)
