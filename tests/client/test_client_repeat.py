"""Which calls are repeated, after which failures, and for how long."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from flow_operator.client import ApiError, Unavailable, UnreachableError
from support import Flowd, eventually, make_document

ALWAYS = {
    "flows": lambda c: c.flows(),
    "status": lambda c: c.status("a"),
    "logs": lambda c: list(c.logs("a")),
    "replace if_match": lambda c: c.replace("a", {}, if_match='"1"'),
    "replace dry": lambda c: c.replace("a", {}, dry_run=True),
    "delete dry": lambda c: c.delete("a", dry_run=True),
    "stop": lambda c: c.command("stop", ["a"]),
    "pause": lambda c: c.command("pause", ["a"]),
    "restart dry": lambda c: c.command("restart", ["a"], dry_run=True),
}
UNSENT = {
    "replace": lambda c: c.replace("a", {}),
    "delete": lambda c: c.delete("a"),
    "start": lambda c: c.command("start", ["a"]),
    "resume": lambda c: c.command("resume", ["a"]),
    "restart": lambda c: c.command("restart", ["a"]),
}
NEVER = {
    "create": lambda c: c.create([{}]),
    "create dry": lambda c: c.create([{}], dry_run=True),
    "rollback": lambda c: c.rollback("a"),
    "prune": lambda c: c.prune(),
    "ready": lambda c: c.ready(),
    "live": lambda c: c.live(),
    "watch": lambda c: next(c.watch_statuses()),
    "log_lines": lambda c: next(c.log_lines("a")),
}
CALLS = ALWAYS | UNSENT | NEVER

LOST = {
    "no answer": httpx.RemoteProtocolError("Server disconnected"),
    "read": httpx.ReadError(""),
    "silent": httpx.ReadTimeout(""),
}
UNDONE = {
    "refused": httpx.ConnectError("[Errno 111] Connection refused"),
    "connecting": httpx.ConnectTimeout(""),
    "busy": httpx.Response(503, headers={"Retry-After": "2"}, json={"detail": "busy"}),
}


class Failing:
    """An operator that fails so many times, and then is well."""

    def __init__(self, flavour: Any, failure: Any, times: int = 1, **options: Any) -> None:
        self.failure = failure
        self.times = times
        self.asked = 0
        self.slept: list[float] = []
        transport = httpx.MockTransport(self._answer)
        self.client = flavour.client(
            "http://x", transport=transport, sleep=self.slept.append, **options
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.asked > self.times:
            return httpx.Response(200, json={"details": [], "status": "ok"})
        if isinstance(self.failure, Exception):
            raise self.failure
        kept = self.failure
        return httpx.Response(kept.status_code, headers=kept.headers, content=kept.content)

    def call(self, name: str) -> None:
        with self.client, contextlib.suppress(ApiError):
            CALLS[name](self.client)


@pytest.fixture
def failing(flavour: Any) -> Callable[..., Failing]:
    return lambda *args, **options: Failing(flavour, *args, **options)


@pytest.mark.parametrize("name", ALWAYS)
@pytest.mark.parametrize("failure", LOST | UNDONE)
def test_what_is_the_same_twice_is_repeated(
    failing: Callable[..., Failing], name: str, failure: str
) -> None:
    """Whatever became of the first try."""
    operator = failing((LOST | UNDONE)[failure])
    operator.call(name)
    assert operator.asked == 2


@pytest.mark.parametrize("name", UNSENT)
@pytest.mark.parametrize("failure", LOST | UNDONE)
def test_what_is_not_the_same_twice_is_repeated_if_nothing_was_done(
    failing: Callable[..., Failing], name: str, failure: str
) -> None:
    """A connection that was never made, or a request that was refused unread."""
    operator = failing((LOST | UNDONE)[failure])
    if failure in UNDONE:
        operator.call(name)
        assert operator.asked == 2
        return
    with pytest.raises(UnreachableError) as caught:
        operator.call(name)
    assert operator.asked == 1
    assert caught.value.sent


@pytest.mark.parametrize("name", NEVER)
@pytest.mark.parametrize("failure", LOST | UNDONE)
def test_posts_probes_and_the_first_connection_of_streams_are_tried_once(
    failing: Callable[..., Failing], name: str, failure: str
) -> None:
    """Whatever happens."""
    operator = failing((LOST | UNDONE)[failure])
    with contextlib.suppress(UnreachableError):
        operator.call(name)
    assert operator.asked == 1
    assert operator.slept == []


def test_an_operator_is_left_alone_for_as_long_as_it_asks(failing: Callable[..., Failing]) -> None:
    """``Retry-After`` is the least; else tries are a second apart at most."""
    busy = failing(UNDONE["busy"], 2, retry_for=10)
    busy.call("flows")
    assert busy.slept == [2, 2]
    away = failing(UNDONE["refused"], 6, retry_for=60)
    away.call("flows")
    assert len(away.slept) == 6
    assert max(away.slept) <= 1


def test_time_is_bounded(failing: Callable[..., Failing]) -> None:
    """No try begins after it; what was asked for beyond it is not waited for."""
    busy = failing(UNDONE["busy"], 9, retry_for=1.5)
    with pytest.raises(Unavailable) as caught, busy.client:
        busy.client.flows()
    assert (busy.asked, busy.slept, caught.value.retry_after) == (1, [], 2)
    away = failing(UNDONE["refused"], 10**6, retry_for=0.05)
    with pytest.raises(UnreachableError) as unreachable, away.client:
        away.client.flows()
    assert not unreachable.value.sent


@pytest.mark.parametrize("failure", UNDONE)
def test_nothing_is_repeated_if_it_is_said_so(
    failing: Callable[..., Failing], failure: str
) -> None:
    """``retry_for=0``."""
    operator = failing(UNDONE[failure], retry_for=0)
    with pytest.raises((Unavailable, UnreachableError)), operator.client:
        operator.client.flows()
    assert operator.asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503, json={"detail": "the disk is broken"}),
        httpx.Response(507, json={"detail": "the disk is full"}),
        httpx.Response(503, headers={"Retry-After": "soon"}, json={}),
        httpx.Response(404, headers={"Retry-After": "1"}, json={}),
        httpx.Response(500, headers={"Retry-After": "1"}, json={}),
    ],
)
def test_other_refusals_are_told_at_once(failing: Callable[..., Failing], answer: Any) -> None:
    """Without ``Retry-After`` somebody has to do something first."""
    operator = failing(answer)
    with pytest.raises(ApiError) as caught, operator.client:
        operator.client.flows()
    assert operator.asked == 1
    assert caught.value.status == answer.status_code
    assert isinstance(caught.value, Unavailable) == (answer.status_code in (503, 507))


# --- real kills -------------------------------------------------------------------------------


@pytest.fixture
def mortal(root: Any) -> Iterator[Flowd]:
    """An operator that is killed, and started anew at the same address."""
    operator = Flowd(root)
    try:
        operator.start()
        operator._arguments = ("--listen", f"127.0.0.1:{operator.client.base_url.port}")
        yield operator
    finally:
        operator.destroy()


def test_calls_outlive_a_killed_operator(flavour: Any, mortal: Flowd) -> None:
    """Reads and stops go on while it is killed and started anew; none fails."""
    mortal.create(make_document("a", state="stopped"))
    done: list[int] = []
    over = threading.Event()
    failed: list[BaseException] = []

    def call() -> None:
        try:
            with flavour.client(str(mortal.client.base_url), retry_for=60) as client:
                while not over.is_set():
                    assert client.flow("a")[0]["flow_id"] == "a"
                    # Just started, the operator may not have looked at it yet: pending.
                    assert list(client.command("stop", ["a"], timeout=0)) == ["a"]
                    done.append(1)
        except BaseException as error:  # noqa: BLE001 - the test raises it
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    for _ in range(3):
        before = len(done)
        eventually(lambda before=before: _more(done, before, failed))
        mortal.kill()
        mortal.start()
    before = len(done)
    eventually(lambda: _more(done, before, failed))
    over.set()
    thread.join()
    assert failed == []


def _more(done: list[int], before: int, failed: list[BaseException]) -> None:
    if failed:
        raise failed[0]
    assert len(done) > before + 5


def test_a_kill_in_the_middle_of_calls(flavour: Any, mortal: Flowd) -> None:
    """A stop is repeated and answered; a restart, which may have been done, raises."""
    mortal.create(make_document("a", "trap '' TERM; while :; do sleep 1; done"))
    mortal.await_status("a", "running")

    def kill() -> None:
        eventually(lambda: _asked(mortal))
        mortal.kill()
        mortal.start()

    with flavour.client(str(mortal.client.base_url), retry_for=60) as client:
        killing = threading.Thread(target=kill)
        killing.start()
        assert client.command("stop", ["a"], hard=False, timeout=3)["a"] in ("stopping", "stopped")
        killing.join()
        client.command("stop", ["a"], hard=True, timeout=20)
        killing = threading.Thread(target=kill)
        client.command("start", ["a"], timeout=20)
        killing.start()
        with pytest.raises(UnreachableError) as caught:
            client.command("restart", ["a"], timeout=60)
        killing.join()
    assert caught.value.sent


def _asked(mortal: Flowd) -> None:
    """A command has begun."""
    assert mortal.status("a")["status"] == "stopping"


def test_a_create_is_not_repeated_though_nobody_is_there(flavour: Any, mortal: Flowd) -> None:
    """It raises, and says that nothing was sent; what came later is not created."""
    mortal.kill()
    with flavour.client(str(mortal.client.base_url), retry_for=60) as client:
        begun = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            client.create([make_document("a")])
        assert not caught.value.sent
        assert time.monotonic() - begun < 30
        mortal.start()
        assert client.flows() == []
