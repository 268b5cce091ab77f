"""Delays and retries. The only module that knows tenacity.

Two layers: :func:`retry_transient` repeats one idempotent call for a few seconds at most, and
:func:`retry_call` a client's, which has failed once;
:func:`restart_delay` and :func:`requeue_delay` only compute delays, which others schedule on the
workqueue and nobody sleeps.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import tenacity

from flow_operator.errors import RetryableError
from flow_operator.model.flow import Backoff

T = TypeVar("T")

_TRANSIENT_FIRST = 0.01
_TRANSIENT_LONGEST = 0.5
_TRANSIENT_TOTAL = 3.0
"""Seconds; long enough for a shim to be replaced (about 0.1 s), too short to hold up a worker."""

_CALL_FIRST = 0.1
_CALL_LONGEST = 1.0
"""Seconds; an operator that is started anew answers after half a second."""

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


DelayOf = Callable[[BaseException], float | None]
"""The least seconds until a call may be tried again after an error; None if it must not."""


def retry_call(
    call: Callable[[], T],
    failed: BaseException,
    delay_of: DelayOf,
    seconds: float,
    sleep: Callable[[float], None],
) -> T:
    """Call again after a first failure, until it succeeds, fails otherwise, or time is up.

    Args:
        call: what is tried.
        failed: what the first try, already made, has raised.
        delay_of: tells which errors may pass.
        seconds: no try begins later than this.
        sleep: waits between two tries.

    Raises:
        BaseException: the last one.
    """
    retrying = tenacity.Retrying(sleep=sleep, **_calling(delay_of, seconds))
    for attempt in retrying:
        with attempt:
            if attempt.retry_state.attempt_number == 1:
                raise failed
            return call()
    raise AssertionError  # with reraise, it ends by one of the two above


async def async_retry_call(
    call: Callable[[], Awaitable[T]],
    failed: BaseException,
    delay_of: DelayOf,
    seconds: float,
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """The same for a call that is awaited."""
    retrying = tenacity.AsyncRetrying(sleep=sleep, **_calling(delay_of, seconds))
    async for attempt in retrying:
        with attempt:
            if attempt.retry_state.attempt_number == 1:
                raise failed
            return await call()
    raise AssertionError


def _calling(delay_of: DelayOf, seconds: float) -> dict[str, Any]:
    spread = tenacity.wait_random_exponential(_CALL_FIRST, _CALL_LONGEST)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = delay_of(error) if error else None
        return max(spread(state), asked or 0.0)

    return {
        "retry": tenacity.retry_if_exception(lambda error: delay_of(error) is not None),
        "wait": wait,
        "stop": tenacity.stop_before_delay(seconds),
        "reraise": True,
    }


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
