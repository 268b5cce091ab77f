"""Both clients' streams with a real operator: watches, waiting, logs; and what ends them."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from flow_operator.client import (
    ApiError,
    AsyncFlowClient,
    Gone,
    InvalidError,
    LateError,
    NotFound,
    Seen,
    Unavailable,
    UnreachableError,
    UntrustedError,
)
from flow_operator.client.changes import Printed
from support import Flowd, eventually, make_document

COUNT = 'i=0; while :; do i=$((i+1)); echo "$i"; sleep 0.01; done'


# --- waiting ----------------------------------------------------------------------------------


def test_waiting_is_for_all_at_once(client: Any) -> None:
    """By a status, several, or a predicate; what is there already is not waited for."""
    client.create([make_document("a"), make_document("b"), make_document("c", state="stopped")])
    assert set(client.wait_for(["a", "b"])) == {"a", "b"}
    assert client.wait_for("c", "stopped")["c"]["desired"] == "stopped"
    found = client.wait_for(["a", "c"], ("running", "stopped"))
    assert {name: told["status"] for name, told in found.items()} == {
        "a": "running",
        "c": "stopped",
    }
    pids = lambda told: all(step["pid"] for step in told["steps"])  # noqa: E731
    assert client.wait_for("b", pids)["b"]["steps"][0]["pid"] > 0


def test_who_waits_is_told_of_what_comes_later(flavour: Any, operator: Flowd, client: Any) -> None:
    """Of a flow that is started, and of one that is deleted."""
    client.create([make_document("a", state="stopped")])
    for act, until in (("start", "running"), ("delete", "deleted")):
        waiting = threading.Timer(0.2, _act, (operator, act))
        waiting.start()
        assert set(client.wait_for("a", until)) == ({"a"} if act == "start" else set())
        waiting.join()


def _act(operator: Flowd, act: str) -> None:
    if act == "start":
        operator.command("start", "a")
    else:
        operator.client.delete("/flows/a?type=1")


@pytest.mark.parametrize("names", ["a", ["a", "b"]])
def test_who_waits_too_long_is_told_what_is_there(client: Any, names: Any) -> None:
    """The statuses of those that are late, and of no others."""
    client.create([make_document("a", state="stopped"), make_document("b")])
    client.wait_for("b")
    with pytest.raises(LateError, match=r"not running after 0\.3s: a is stopped") as caught:
        client.wait_for(names, timeout=0.3)
    assert [told["status"] for told in caught.value.statuses.values()] == ["stopped"]


def test_a_flow_that_goes_while_it_is_waited_for(operator: Flowd, client: Any) -> None:
    """Is not there, unless that is what is waited for."""
    client.create([make_document("a", state="stopped")])
    going = threading.Timer(0.2, _act, (operator, "delete"))
    going.start()
    with pytest.raises(NotFound, match="'a'"):
        client.wait_for("a")
    going.join()


# --- watches ----------------------------------------------------------------------------------


def test_watches_tell_what_changes(client: Any, operator: Flowd) -> None:
    """By selector, and of events."""
    document = make_document("a", state="stopped")
    client.create([{**document, "metadata": {"name": "a", "labels": {"team": "x"}}}])
    client.create([make_document("b", state="stopped")])
    with closing(client.watch_statuses(label_selector="team=x")) as changes:
        first = next(changes)
        assert (first.type, first.object["flow_id"]) == ("ADDED", "a")
        operator.command("start", "a")
        assert any(told.object["status"] == "running" for told in itertools.islice(changes, 50))
    with closing(client.watch_statuses(field_selector="status=running")) as changes:
        assert next(changes).object["flow_id"] == "a"
        operator.command("stop", "a", type=1)
        assert next(told for told in changes if told.type == "DELETED").object["flow_id"] == "a"
    with closing(client.watch_events("a")) as events:
        assert next(events).object["flow_id"] == "a"


# --- logs -------------------------------------------------------------------------------------


def test_logs_are_bytes(client: Any, operator: Flowd) -> None:
    """All of it, or as it is chosen."""
    client.create([make_document("a", "printf 'x\\377y\\nlast\\n'; exec sleep 1000", "cat")])
    # The first step's stdout is the second one's input, which prints it.
    eventually(lambda: _prints(client, b"x\xffy\nlast\n"))
    assert b"".join(client.logs("a", step="s1", tail=1)) == b"last\n"
    assert b"".join(client.logs("a", step="s1", since="1h")) == b"x\xffy\nlast\n"
    with closing(client.logs("a", step="s1", follow=True, timestamps=True)) as pieces:
        assert b"T" in next(piece for piece in pieces if piece)


def _prints(client: Any, wanted: bytes) -> None:
    assert b"".join(client.logs("a", step="s1", replica=0)) == wanted


def test_lines_are_followed_over_kills(flavour: Any, flowd: Flowd) -> None:
    """None is told twice or left out."""
    port = flowd.client.base_url.port
    flowd._arguments = ("--listen", f"127.0.0.1:{port}")
    flowd.create(make_document("a", f"{COUNT} >&2"))
    with flavour.client(str(flowd.client.base_url)) as client:
        client.wait_for("a")
        lines = client.log_lines("a")
        seen = [next(lines) for _ in range(20)]
        for _ in range(2):
            flowd.kill()
            flowd.start()
            seen += [next(lines) for _ in range(100)]
        lines.close()
        assert [int(told["line"]) for told in seen] == list(range(1, 221))
        whose = {(told["flow_id"], told["step"], told["replica"]) for told in seen}
        assert whose == {("a", "s0", 0)}
        with closing(client.log_lines("a", last_id=seen[99]["id"])) as later:
            assert next(later)["line"] == "101"
        with pytest.raises(Gone):
            next(client.log_lines("a", last_id="00000000-1"))


def test_half_an_event_of_a_log_is_void() -> None:
    """An id is kept only with its line, and both only once the event is whole."""
    printed = Printed()
    assert list(printed.take("id: 1")) == list(printed.take("")) == []
    assert printed.version == "1"
    assert list(printed.take("id: 2")) == list(printed.take('data: {"line": "x"}')) == []
    printed.lost()
    assert (printed.version, list(printed.take(""))) == ("1", [])
    for line in ("id: 2", 'data: {"line": "x"}'):
        assert list(printed.take(line)) == []
    assert list(printed.take("")) == [{"line": "x"}]
    assert printed.version == "2"
    assert list(printed.take(":")) == []


def test_other_logs_are_not_begun_anew(flavour: Any) -> None:
    """Lines would be told twice: 410 is the caller's."""
    answers = iter([_event_stream("id: 1\ndata: 1\n\n"), httpx.Response(410, json={})])
    transport = httpx.MockTransport(lambda _: next(answers))
    with flavour.client("http://x", transport=transport, sleep=lambda _: None) as client:
        lines = client.log_lines("a")
        assert next(lines) == 1
        with pytest.raises(Gone):
            next(lines)


def _event_stream(text: str) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, text=text)


# --- streams of an operator that is not well --------------------------------------------------


def ndjson(text: str = "") -> httpx.Response:
    return httpx.Response(200, content=text, headers={"Content-Type": "application/x-ndjson"})


ADDED = '{"type":"ADDED","resourceVersion":"","object":{"flow_id":"a"}}\n'
MARK = '{"type":"BOOKMARK","resourceVersion":"v1","object":{}}\n'


def test_an_operator_without_room_for_streams_is_asked_again(flavour: Any) -> None:
    """Once a stream was there; the first one is told."""
    full = httpx.Response(503, headers={"Retry-After": "1"}, json={"detail": "too many streams"})
    later = '{"type":"MODIFIED","resourceVersion":"v2","object":{"flow_id":"a","x":1}}\n'
    answers = iter([ndjson(ADDED + MARK), full, httpx.ReadError(""), ndjson(later)])
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("resourceVersion", ""))
        told = next(answers)
        if isinstance(told, Exception):
            raise told
        return told

    slept: list[float] = []
    transport = httpx.MockTransport(answer)
    with flavour.client("http://x", transport=transport, sleep=slept.append) as client:
        changes = client.watch_statuses()
        assert [next(changes).type, next(changes).type] == ["ADDED", "MODIFIED"]
        changes.close()
    assert asked == ["", "v1", "v1", "v1"]
    assert len(slept) == 3
    refusing = httpx.MockTransport(lambda _: httpx.Response(503, json={"detail": "full"}))
    with flavour.client("http://x", transport=refusing) as client, pytest.raises(Unavailable):
        next(client.watch_events())


def test_who_waits_does_not_wait_beyond_the_end(flavour: Any) -> None:
    """Neither for a silent operator nor between two tries, however late it is found."""
    times: list[Any] = []
    slept: list[float] = []
    told = {"a": {"flow_id": "a", "status": "stopped"}}
    listed = httpx.Response(200, json=told, headers={"Resource-Version": "v0"})

    def answer(request: httpx.Request) -> httpx.Response:
        if "watch" not in request.url.params:
            return listed
        times.append(request.extensions["timeout"])
        return ndjson()

    transport = httpx.MockTransport(answer)
    made = flavour.client("http://x", transport=transport, sleep=slept.append)
    with pytest.raises(LateError), made as client:
        client.wait_for("a", timeout=0.2)
    assert all(0 < told["read"] <= 0.2 and 0 < told["connect"] <= 0.2 for told in times)
    assert all(0 <= pause <= 0.2 for pause in slept)


class Chatter(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Says all the time that nothing has changed."""

    def __init__(self) -> None:
        self.over = False

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(3000):
            time.sleep(0.001)
            yield MARK.encode()
        self.over = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for line in self:
            yield line


def test_who_waits_looks_at_the_time_though_much_is_told(flavour: Any) -> None:
    """Of others, or that nothing has changed."""
    chatter = Chatter()
    told = {"a": {"flow_id": "a", "status": "stopped"}}

    def answer(request: httpx.Request) -> httpx.Response:
        if "watch" not in request.url.params:
            return httpx.Response(200, json=told, headers={"Resource-Version": "v0"})
        kind = {"Content-Type": "application/x-ndjson"}
        return httpx.Response(200, stream=chatter, headers=kind)

    made = flavour.client("http://x", transport=httpx.MockTransport(answer))
    with pytest.raises(LateError), made as client:
        client.wait_for("a", timeout=0.1)
    assert not chatter.over


def test_a_flow_that_goes_between_two_looks_is_missed(flavour: Any) -> None:
    """The watch goes on from the list; where it cannot, what was listed is compared."""
    gone = httpx.Response(410, json={"detail": "list again"})
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if "watch" not in request.url.params:
            told = {"a": {"flow_id": "a", "status": "stopped"}}
            return httpx.Response(200, json=told, headers={"Resource-Version": "v0"})
        asked.append(request.url.params.get("resourceVersion"))
        return gone if asked[-1] else ndjson(MARK)

    transport = httpx.MockTransport(answer)
    made = flavour.client("http://x", transport=transport, sleep=lambda _: None)
    with pytest.raises(NotFound), made as client:
        client.wait_for("a", timeout=20)
    assert asked == ["v0", None]


def test_a_list_in_parts_is_watched_from_its_first(flavour: Any) -> None:
    """What has changed between two parts is told again, not left out."""

    def answer(request: httpx.Request) -> httpx.Response:
        if "continue" in request.url.params:
            return httpx.Response(200, json={"b": {}}, headers={"Resource-Version": "v2"})
        link = "</x/flows/status?limit=1&continue=a>; rel=next"
        return httpx.Response(200, json={"a": {}}, headers={"Resource-Version": "v1", "Link": link})

    seen = Seen()
    with flavour.client("http://x", transport=httpx.MockTransport(answer)) as client:
        assert client.statuses(limit=1, if_none_match=seen) == {"a": {}, "b": {}}
    assert seen == Seen("", "v1")


@pytest.mark.parametrize("call", ["watch_statuses", "watch_events", "log_lines"])
def test_another_server_is_told_from_an_operator(flavour: Any, call: str) -> None:
    """By what it calls its stream."""
    page = httpx.MockTransport(lambda _: httpx.Response(200, html="<p>"))
    with flavour.client("http://x", transport=page) as client:
        with pytest.raises(ApiError, match="not what a flow operator sends"):
            next(getattr(client, call)(*(["a"] if call == "log_lines" else [])))
        with pytest.raises(ApiError, match="not what a flow operator sends"):
            client.flows()


# --- closing ----------------------------------------------------------------------------------


def open_streams(operator: Flowd) -> int:
    text = operator.client.get("/metrics").text
    [line] = [line for line in text.splitlines() if line.startswith("flow_operator_http_streams ")]
    return int(float(line.split()[1]))


def test_an_iterator_holds_its_connection_until_it_is_closed(client: Any, operator: Flowd) -> None:
    """Not until somebody collects it."""
    client.create([make_document("a", f"{COUNT} >&2")])
    client.wait_for("a")
    iterators = [
        client.watch_statuses(),
        client.watch_events(),
        client.logs("a", follow=True),
        client.log_lines("a"),
    ]
    for iterator in iterators:
        next(iterator)
    eventually(lambda: _streams(operator, 4))
    for iterator in iterators:
        iterator.close()
    eventually(lambda: _streams(operator, 0))


def _streams(operator: Flowd, count: int) -> None:
    assert open_streams(operator) == count


def test_a_task_that_is_cancelled_closes_its_streams(operator: Flowd) -> None:
    """Many tasks share one client; who is not cancelled goes on."""
    operator.create(make_document("a", f"{COUNT} >&2"))
    operator.await_status("a", "running")

    async def follow(client: AsyncFlowClient, seen: list[str]) -> None:
        async with aclosing(client.log_lines("a")) as lines:
            async for line in lines:
                seen.append(line["line"])  # noqa: PERF401 - others look at it meanwhile

    async def until(check: Callable[[], bool]) -> None:
        while not await asyncio.to_thread(check):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)

    async def run() -> None:
        async with AsyncFlowClient(str(operator.client.base_url)) as client:
            seen: list[list[str]] = [[] for _ in range(4)]
            tasks = [asyncio.create_task(follow(client, told)) for told in seen]
            await until(lambda: all(seen))
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks[1:], return_exceptions=True)
            before = len(seen[0])
            await until(lambda: open_streams(operator) == 1 and len(seen[0]) > before)
            waiting = asyncio.create_task(client.wait_for("a", "failed", timeout=1000))
            await until(lambda: open_streams(operator) == 2)
            waiting.cancel()
            tasks[0].cancel()
            await asyncio.gather(waiting, tasks[0], return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 60))
    eventually(lambda: _streams(operator, 0))


# --- TLS --------------------------------------------------------------------------------------


def test_https(flavour: Any, make_flowd: Callable[..., Flowd], root: Path) -> None:
    """Who has issued the certificate is named; nobody else is trusted, nor asked twice."""
    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1")
    cert, key, trusted = root / "cert.pem", root / "key.pem", root / "ca.pem"
    issued.cert_chain_pems[0].write_to_path(cert)
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(key)
    ca.cert_pem.write_to_path(trusted)
    flowd = make_flowd("--tls-cert", str(cert), "--tls-key", str(key)).start()
    url = str(flowd.client.base_url)
    flowd.client.close()
    flowd.client = httpx.Client(verify=ssl.create_default_context(cafile=trusted), base_url=url)
    with flavour.client(url, ca=str(trusted)) as client:
        client.create([make_document("a", state="stopped")])
        assert client.wait_for("a", "stopped")
    slept: list[float] = []
    made = flavour.client(url, sleep=slept.append)
    with pytest.raises(UntrustedError, match="--ca names one") as caught, made as client:
        client.flows()
    assert not caught.value.sent
    assert slept == []


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8710", "http://", "unix:", "http://x:y"])
def test_a_url_that_cannot_be_one(flavour: Any, url: str) -> None:
    """Is told before anything is sent, as is a token or a file of certificates."""
    with pytest.raises(InvalidError, match=r"must look like http://127\.0\.0\.1:8710"):
        flavour.client(url)
    with pytest.raises(InvalidError, match="holds what no token does"):
        flavour.client("http://x", token="a\nb")  # noqa: S106
    with pytest.raises(InvalidError, match="/nowhere"):
        flavour.client("https://x", ca="/nowhere")


def test_nobody_there(flavour: Any) -> None:
    """It names the URL, and that nothing was sent."""
    made = flavour.client("http://127.0.0.1:1", retry_for=0)
    told = r"127\.0\.0\.1:1.*Is flowd running"
    with pytest.raises(UnreachableError, match=told) as caught, made as client:
        client.flows()
    assert not caught.value.sent
