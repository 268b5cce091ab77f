"""Logs that are followed as objects, and gone on with exactly where one was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flow_operator.api.log_lines import MOST
from support import make_document

ACCEPTS = ("text/event-stream", "application/x-ndjson")


@pytest.fixture
def logged(api: Any) -> Any:
    """Two steps that have printed two lines each."""
    api.client.send("POST", "/flows", [make_document("demo", "a", "b", state="stopped")]).read()
    for step in ("s0", "s1"):
        api.log("demo", step, f"{step} 1\n{step} 2\n")
    return api


def follow(api: Any, accept: str, query: str = "", **more: str) -> Any:
    answer = api.client.get(f"/flows/demo/logs?follow=1{query}", HTTP_ACCEPT=accept, **more)
    assert answer.status == 200, answer.read()
    assert answer.headers["Content-Type"] == accept
    return answer


def parsed(piece: bytes) -> list[dict[str, Any]]:
    """The lines of a piece, whichever its format; ids agree with what they stand before."""
    if not piece.startswith((b"id:", b"retry:")):
        return [json.loads(line) for line in piece.splitlines()]
    found = []
    for block in piece.decode().removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        assert fields["id"]
        if "data" in fields:
            found.append(json.loads(fields["data"]))
            assert found[-1]["id"] == fields["id"]
    return found


def lines(answer: Any, count: int) -> list[dict[str, Any]]:
    """As many lines; no more may have come with them."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        found += parsed(next(answer.body))
    assert len(found) == count
    return found


def followed(
    api: Any, accept: str, count: int, query: str = "", **more: str
) -> list[dict[str, Any]]:
    """As many lines of a stream that is left then."""
    answer = follow(api, accept, query, **more)
    try:
        return lines(answer, count)
    finally:
        answer.close()


@pytest.mark.parametrize("accept", ACCEPTS)
def test_lines_are_told_with_whose_they_are(logged: Any, accept: str) -> None:
    """What is there, then what is printed; whatever is in it."""
    logged.services.logs.stream("demo", 0, "s1").look(1_700_000_000)
    answer = follow(logged, accept, "&tail=1")
    assert answer.headers["Cache-Control"] == "no-cache"
    first = lines(answer, 2)
    assert [(told["flow_id"], told["step"], told["replica"]) for told in first] == [
        ("demo", "s0", 0),
        ("demo", "s1", 0),
    ]
    assert [told["line"] for told in first] == ["s0 2", "s1 2"]
    assert first[1]["time"] == "2023-11-14T22:13:20Z"
    path = Path(logged.layout.log_file("demo", 0, "s0"))
    with path.open("ab") as file:
        file.write(b'a\r\0"\xff\xc3\xa9\xe2\x80\xa8\n\nhalf')
    assert [told["line"] for told in lines(answer, 2)] == ['a\r\0"\ufffdé\u2028', ""]
    logged.log("demo", "s0", " a line\n")
    assert [told["line"] for told in lines(answer, 1)] == ["half a line"]
    answer.close()


@pytest.mark.parametrize("accept", ACCEPTS)
def test_a_stream_goes_on_behind_every_line(logged: Any, accept: str) -> None:
    """Each line once, whichever was the last; over a rotation and a new keeper of logs, too."""
    logged.log("demo", "s0", "".join(f"line {number}\n" for number in range(1000)))
    whole = followed(logged, accept, 1004)
    logged.services.logs.stream("demo", 0, "s0").rotate(4096, 100)
    for number in (0, 1, 500, 1002, 1003):
        logged.log("demo", "s1", f"more {number}\n")
        last = {"HTTP_LAST_EVENT_ID": whole[number]["id"]}
        told = followed(logged, accept, len(whole) - number, "&tail=0", **last)
        assert told[-1]["line"] == f"more {number}"
        whole.append(told[-1])
        assert _by_step(told) == _by_step(whole[number + 1 :])


def _by_step(told: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Lines of several steps have no order among each other."""
    found: dict[str, list[str]] = {}
    for line in told:
        found.setdefault(line["step"], []).append(line["line"])
    return found


def test_who_is_cut_off_before_the_first_line_goes_on_as_well(logged: Any) -> None:
    """A browser remembers the id that comes first; nothing is told of it."""
    answer = follow(logged, "text/event-stream", "&tail=0")
    head, number = next(answer.body).decode().removesuffix("\n\n").split("\nid: ")
    assert head == "retry: 2000"
    answer.close()
    logged.log("demo", "s0", "meanwhile\n")
    answer = follow(logged, "text/event-stream", "&tail=0", HTTP_LAST_EVENT_ID=number)
    assert [told["line"] for told in lines(answer, 1)] == ["meanwhile"]
    answer.close()


def test_what_is_no_longer_kept_is_told(logged: Any) -> None:
    """In a line of its own, from which one goes on all the same."""
    accept, step = "application/x-ndjson", "&step=s0"
    [first, _] = followed(logged, accept, 2, step)
    logged.log("demo", "s0", "x" * 10_000 + "\n")
    stream = logged.services.logs.stream("demo", 0, "s0")
    stream.rotate(4096, 100)
    logged.log("demo", "s0", "new\n")
    assert stream.shed_kept()
    gone, *rest = followed(logged, accept, 3, step, HTTP_LAST_EVENT_ID=first["id"])
    assert gone["line"].endswith("bytes are no longer kept]")
    assert (gone["time"], rest[-1]["line"]) == (None, "new")
    assert followed(logged, accept, 2, step, HTTP_LAST_EVENT_ID=gone["id"]) == rest


@pytest.mark.parametrize("query", ["&step=s1", "&tail=1"])
def test_an_id_of_other_logs_is_gone(logged: Any, query: str) -> None:
    """Of another step, of an earlier flow of the name, or from beyond the end: 410."""
    [*_, last] = followed(logged, ACCEPTS[0], 2, "&step=s0")
    url = f"/flows/demo/logs?follow=1{query}"
    answer = logged.client.get(url, HTTP_ACCEPT=ACCEPTS[0], HTTP_LAST_EVENT_ID=last["id"])
    assert answer.status == answer.json()["status"] == 410
    number = last["id"].replace("-10", "-11")
    assert number != last["id"]
    url = "/flows/demo/logs?follow=1&step=s0"
    answer = logged.client.get(url, HTTP_ACCEPT=ACCEPTS[0], HTTP_LAST_EVENT_ID=number)
    assert answer.json()["status"] == 410


def test_an_id_of_an_earlier_flow_of_the_name_is_gone(logged: Any) -> None:
    """Its logs are others, though their names are the same."""
    [*_, last] = followed(logged, ACCEPTS[0], 2, "&step=s0")
    assert logged.client.open("DELETE", "/flows/demo").read()
    logged.client.send("POST", "/flows", [make_document("demo", "a", "b", state="stopped")]).read()
    answer = logged.client.get(
        "/flows/demo/logs?follow=1&step=s0",
        HTTP_ACCEPT=ACCEPTS[0],
        HTTP_LAST_EVENT_ID=last["id"],
    )
    assert answer.json()["status"] == 410


@pytest.mark.parametrize("number", ["x", "01234567-", "01234567-x", "01234567--1", "\xe9"])
def test_what_is_no_id_is_refused(logged: Any, number: str) -> None:
    """400."""
    answer = logged.client.get(
        "/flows/demo/logs?follow=1", HTTP_ACCEPT=ACCEPTS[0], HTTP_LAST_EVENT_ID=number
    )
    assert answer.json()["status"] == 400


def test_more_logs_than_an_id_can_tell_are_refused(api: Any) -> None:
    """It says what can be followed; as text they all can."""
    document = make_document("demo", "a", state="stopped", replicas=MOST + 1)
    assert api.client.send("POST", "/flows", [document]).read()
    answer = api.client.get("/flows/demo/logs?follow=1", HTTP_ACCEPT=ACCEPTS[1])
    assert answer.status == 400
    assert "name a step or a replica" in answer.json()["detail"]
    follow(api, ACCEPTS[1], "&replica=3").close()
    answer = api.client.get("/flows/demo/logs?follow=1", HTTP_ACCEPT="*/*")
    assert answer.status == 200
    answer.close()


@pytest.mark.parametrize("accept", [*ACCEPTS, "text/plain", "*/*"])
def test_only_what_is_followed_comes_as_objects(logged: Any, accept: str) -> None:
    """All else is text, and so is what is followed by whoever names neither."""
    answer = logged.client.get("/flows/demo/logs?step=s0", HTTP_ACCEPT=accept)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.read() == b"s0 1\ns0 2\n"


def test_pieces_are_of_a_moderate_size(logged: Any) -> None:
    """Short lines become much longer, and a stream may not be given megabytes at once."""
    logged.log("demo", "s0", "x\n" * 20_000)
    answer = follow(logged, ACCEPTS[1], "&step=s0")
    count = 0
    while count < 20_002:
        piece = next(answer.body)
        assert len(piece) < 70_000
        count += len(parsed(piece))
    answer.close()
