"""``/flows/<flow_id>/logs``: which lines, of which files, and when a stream ends."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from support import eventually, make_document


@pytest.fixture
def logged(api: Any) -> Any:
    """Two steps; the first has printed five lines, the second two."""
    api.client.send("POST", "/flows", [make_document("demo", "a", "b", state="stopped")]).read()
    api.log("demo", "s0", "".join(f"line {n}\n" for n in range(5)))
    api.log("demo", "s1", "x\ny\n")
    return api


def text(api: Any, query: str) -> str:
    answer = api.client.get(f"/flows/demo/logs?{query}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    return answer.read().decode()


@pytest.mark.parametrize(
    ("tail", "lines"),
    [("0", []), ("1", [4]), ("2", [3, 4]), ("5", range(5)), ("6", range(5)), ("1000000", range(5))],
)
def test_tail(logged: Any, tail: str, lines: Any) -> None:
    """The last lines, oldest first; all of them where there are fewer."""
    assert text(logged, f"step=s0&tail={tail}") == "".join(f"line {n}\n" for n in lines)


def test_tail_of_a_log_longer_than_one_block(logged: Any) -> None:
    """Lines are counted from the end over any number of blocks."""
    lines = [f"{n} {'x' * 90}" for n in range(5000)]
    logged.log("demo", "s0", "\n".join(lines) + "\n")
    for count in (1, 700, 701, 4999):
        assert text(logged, f"step=s0&tail={count}").splitlines() == lines[-count:]


def test_tail_of_lines_that_end_at_a_block(logged: Any) -> None:
    """A line's end on the very border of a block is counted once."""
    path = Path(logged.layout.log_file("demo", 0, "s0"))
    path.write_text("".join(f"{n:<63}\n" for n in range(4096)))
    for count in (1, 1023, 1024, 1025, 2048, 4096):
        told = text(logged, f"step=s0&tail={count}").splitlines()
        assert len(told) == count
        assert told[-1].strip() == "4095"


def test_a_line_longer_than_a_block(logged: Any) -> None:
    """It comes whole."""
    long = "é" * 200_000
    logged.log("demo", "s0", f"{long}\nlast\n")
    assert text(logged, "step=s0&tail=2") == f"{long}\nlast\n"


def test_all_steps_are_labelled(logged: Any) -> None:
    """Lines of several files tell which they are from; those of one do not."""
    assert text(logged, "tail=1") == "[s0] line 4\n[s1] y\n"
    assert text(logged, "step=s1") == "x\ny\n"


def test_replicas_are_labelled(logged: Any) -> None:
    """With replicas, the label tells which; ``replica`` chooses one."""
    document = make_document("demo", "a", "b", state="stopped", replicas=2)
    assert logged.client.send("PUT", "/flows/demo", document).json()["generation"] == 2
    logged.log("demo", "s1", "of the second\n", replica=1)
    assert text(logged, "step=s1&tail=1") == "[0] y\n[1] of the second\n"
    assert text(logged, "tail=1") == "[s0/0] line 4\n[s1/0] y\n[s1/1] of the second\n"
    assert text(logged, "replica=1") == "[s1] of the second\n"
    assert text(logged, "replica=1&step=s1") == "of the second\n"


def test_no_file_yet(api: Any) -> None:
    """A step that has never run has no lines; that is no error."""
    api.client.send("POST", "/flows", [make_document("demo", state="stopped")]).read()
    assert text(api, "") == ""
    assert text(api, "tail=5") == ""


def test_no_final_newline(logged: Any) -> None:
    """The unfinished last line is told, and ended; it counts as a line."""
    logged.log("demo", "s1", "unfinished")
    assert text(logged, "step=s1") == "x\ny\nunfinished\n"
    assert text(logged, "step=s1&tail=1") == "unfinished\n"
    assert text(logged, "tail=1") == "[s0] line 4\n[s1] unfinished\n"


def test_empty_lines_are_lines(logged: Any) -> None:
    """Also at the end."""
    logged.log("demo", "s1", "\n\n")
    assert text(logged, "step=s1&tail=3") == "y\n\n\n"


def test_what_is_no_text(logged: Any) -> None:
    """Whatever a step prints is passed on byte by byte."""
    Path(logged.layout.log_file("demo", 0, "s1")).write_bytes(b"\xff\x00\r\n")
    assert logged.client.get("/flows/demo/logs?step=s1").read() == b"\xff\x00\r\n"


@pytest.mark.parametrize(
    "query", ["step=none", "replica=1", "replica=-1", "replica=x", "tail=-1", "follow=perhaps"]
)
def test_what_is_not_there_to_be_asked_for(logged: Any, query: str) -> None:
    """400 with the values that are right."""
    assert logged.client.get(f"/flows/demo/logs?{query}").json()["status"] == 400


# --- when ------------------------------------------------------------------------------------


@pytest.fixture
def timed(api: Any) -> Any:
    """Two steps whose lines were printed at known times, before the clock's 1,700,000,000."""
    api.client.send("POST", "/flows", [make_document("demo", "a", "b", state="stopped")]).read()
    for second, step, lines in [
        (1_699_999_000, "s0", "one\n"),
        (1_699_999_100, "s1", "two\n"),
        (1_699_999_100, "s0", "three\n"),
        (1_699_999_900, "s0", "four\nfi"),
        (1_699_999_950, "s1", "six\n"),
    ]:
        api.log("demo", step, lines)
        api.services.logs.stream("demo", 0, step).look(second)
    api.log("demo", "s0", "ve\n")
    return api


def test_lines_of_several_logs_are_told_in_their_order(timed: Any) -> None:
    """By the second; within one second step by step."""
    told = [line.split("] ")[1] for line in text(timed, "").splitlines()]
    assert told == ["one", "three", "two", "four", "five", "six"]


def test_timestamps(timed: Any) -> None:
    """The second by which a line was begun, before it."""
    assert text(timed, "step=s0&timestamps=1").splitlines() == [
        "2023-11-14T21:56:40Z one",
        "2023-11-14T21:58:20Z three",
        "2023-11-14T22:11:40Z four",
        "2023-11-14T22:11:40Z five",
    ]
    assert text(timed, "tail=1&timestamps=1").splitlines() == [
        "[s0] 2023-11-14T22:11:40Z five",
        "[s1] 2023-11-14T22:12:30Z six",
    ]


@pytest.mark.parametrize(
    ("since", "lines"),
    [
        ("1h", "one three two four five six"),
        ("1000s", "one three two four five six"),
        ("999s", "three two four five six"),
        ("900s", "three two four five six"),
        ("899s", "four five six"),
        ("2023-11-14T21:58:20Z", "three two four five six"),
        ("2023-11-14T22:58:21%2B01:00", "four five six"),
        ("50s", "six"),
        ("1s", ""),
    ],
)
def test_since(timed: Any, since: str, lines: str) -> None:
    """What was begun then or later; a line that was begun before is not told in part."""
    told = [line.split("] ")[1] for line in text(timed, f"since={since}").splitlines()]
    assert " ".join(told) == lines


def test_since_and_tail_hold_together(timed: Any) -> None:
    """The fewer lines win."""
    assert text(timed, "step=s0&since=999s&tail=2") == "four\nfive\n"
    assert text(timed, "step=s0&since=899s&tail=9") == "four\nfive\n"


def test_following_with_timestamps(timed: Any) -> None:
    """What is printed now has the time of now."""
    answer = timed.client.get("/flows/demo/logs?follow=1&step=s1&tail=0&timestamps=1")
    timed.log("demo", "s1", "now\n")
    assert next(answer.body) == b"2023-11-14T22:13:20Z now\n"
    answer.close()


@pytest.mark.parametrize(
    "since", ["yesterday", "10", "2023-11-14", "2023-11-14T21:58:20", "-5m", "9999999999999h"]
)
def test_since_must_be_a_time(timed: Any, since: str) -> None:
    """400, with both ways to write it; a time without its zone is none."""
    answer = timed.client.get(f"/flows/demo/logs?since={since}").json()
    assert answer["status"] == 400
    assert "10m" in answer["detail"]


# --- following -------------------------------------------------------------------------------


def test_follow_ends_when_the_server_closes(logged: Any) -> None:
    """What is there, then what is added, then the end."""
    answer = logged.client.get("/flows/demo/logs?follow=1&step=s0&tail=1")
    assert next(answer.body) == b"line 4\n"
    logged.log("demo", "s0", "more\n")
    assert next(answer.body) == b"more\n"
    logged.services.closing.set()
    assert list(answer.body) == []
    answer.close()


def test_follow_waits_for_the_end_of_a_line(logged: Any) -> None:
    """Half a line is not told; once it is whole, all of it is."""
    answer = logged.client.get("/flows/demo/logs?follow=1&step=s0&tail=1")
    assert next(answer.body) == b"line 4\n"
    logged.log("demo", "s0", "ha")
    logged.log("demo", "s0", "lf\n")
    assert next(answer.body) == b"half\n"
    answer.close()


def test_follow_begins_at_once_though_nothing_is_printed(logged: Any) -> None:
    """The head of the answer is sent before the first line: clients know that they are served."""
    started = threading.Event()
    answers: list[Any] = []

    def follow() -> None:
        url = "/flows/demo/logs?follow=1&tail=0"
        answers.append(logged.client.open("GET", url, started=started))

    thread = threading.Thread(target=follow)
    thread.start()
    begun = started.wait(2)
    logged.services.closing.set()
    thread.join(10)
    answers[0].read()
    assert begun, "no head before the first line"


def test_head_of_a_stream_ends(logged: Any) -> None:
    """HEAD with follow answers at once, also where nothing is printed."""
    done = threading.Event()

    def ask() -> None:
        logged.client.open("HEAD", "/flows/demo/logs?follow=1&tail=0").read()
        done.set()

    thread = threading.Thread(target=ask)
    thread.start()
    answered = done.wait(2)
    logged.services.closing.set()
    thread.join(10)
    assert answered


def test_a_follower_is_not_disturbed_by_rotations(logged: Any) -> None:
    """It sees each line once, whatever becomes of the files."""
    answer = logged.client.get("/flows/demo/logs?follow=1&step=s0&tail=0")
    stream = logged.services.logs.stream("demo", 0, "s0")
    sent, got = b"", b""
    for number in range(20):
        more = "".join(f"{number} {line}\n" for line in range(500))
        logged.log("demo", "s0", more)
        sent += more.encode()
        stream.rotate(4096, 100)
        got += next(answer.body)
        stream.rotate(4096, 100)
    while len(got) < len(sent):
        got += next(answer.body)
    assert got == sent
    assert len(list(Path(stream.path).parent.glob("s0.log.0*"))) > 10
    answer.close()


def test_an_emptied_log_is_read_from_its_beginning(logged: Any) -> None:
    """Who empties a followed file loses nobody: what comes afterwards is told whole."""
    answer = logged.client.get("/flows/demo/logs?follow=1&step=s0&tail=1")
    assert next(answer.body) == b"line 4\n"
    path = Path(logged.layout.log_file("demo", 0, "s0"))
    path.write_text("n\n")
    got = eventually(lambda: next(answer.body))
    assert got == b"n\n"
    answer.close()
