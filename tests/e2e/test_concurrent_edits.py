"""Many who edit the same flows at once: nobody's edit is lost unseen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from support import Flowd, make_document

WRITERS = 8


def _document(name: str, **annotations: Any) -> dict[str, Any]:
    document = make_document(name, state="stopped")
    document["metadata"] = {"annotations": annotations}
    return document


def _at_once(flowd: Flowd, call: Callable[[httpx.Client, int], Any]) -> list[Any]:
    """What each of the writers got, who begin together, each over a connection of its own."""
    ready = threading.Barrier(WRITERS)

    def write(number: int) -> Any:
        with httpx.Client(base_url=flowd.client.base_url, timeout=60) as client:
            client.get("/livez")
            ready.wait(timeout=20)
            return call(client, number)

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(write, range(WRITERS)))


def test_of_puts_with_the_same_version_one_wins(flowd: Flowd) -> None:
    """One is 200, all others are 412 and change nothing; twenty times over."""
    flowd.create(_document("shared"))
    for _ in range(20):
        etag = flowd.client.get("/flows/shared").headers["ETag"]

        def replace(client: httpx.Client, number: int, etag: str = etag) -> tuple[int, int]:
            document = _document("shared", writer=number, after=etag)
            answer = client.put("/flows/shared", json=document, headers={"If-Match": etag})
            return answer.status_code, number

        answers = _at_once(flowd, replace)
        assert sorted(status for status, _ in answers) == [200, *[412] * (WRITERS - 1)]
        [winner] = [number for status, number in answers if status == 200]
        told = flowd.client.get("/flows/shared").json()["metadata"]["annotations"]
        assert told == {"writer": winner, "after": etag}


def test_read_edit_write_loses_no_edit(flowd: Flowd) -> None:
    """Each adds one to the same number ten times, and tries again after 412: none is missing."""
    flowd.create(_document("counter", count=0))

    def add_one(client: httpx.Client) -> bool:
        read = client.get("/flows/counter")
        count = read.json()["metadata"]["annotations"]["count"]
        answer = client.put(
            "/flows/counter",
            json=_document("counter", count=count + 1),
            headers={"If-Match": read.headers["ETag"]},
        )
        assert answer.status_code in (200, 412), answer.text
        return answer.status_code == 200

    def add_ten(client: httpx.Client, _number: int) -> None:
        done = 0
        while done < 10:
            done += add_one(client)

    _at_once(flowd, add_ten)
    flow = flowd.client.get("/flows/counter").json()
    assert flow["metadata"]["annotations"]["count"] == 10 * WRITERS


def test_writes_of_a_flow_have_one_order(flowd: Flowd) -> None:
    """Of PUTs without a condition each generation is told once, and the last one stands."""
    flowd.create(_document("busy"))

    def write(client: httpx.Client, number: int) -> list[tuple[int, int, int]]:
        told = []
        for turn in range(15):
            answer = client.put("/flows/busy", json=_document("busy", writer=number, turn=turn))
            assert answer.status_code == 200, answer.text
            told.append((answer.json()["generation"], number, turn))
        return told

    told = [entry for answers in _at_once(flowd, write) for entry in answers]
    generations = [generation for generation, _, _ in told]
    assert sorted(generations) == list(range(2, 2 + 15 * WRITERS))
    _, writer, turn = max(told)
    flow = flowd.client.get("/flows/busy").json()
    assert flow["metadata"]["annotations"] == {"writer": writer, "turn": turn}
    history = flowd.client.get("/flows/busy/history").json()["history"]
    assert [entry["generation"] for entry in history] == sorted(generations, reverse=True)[:10]
