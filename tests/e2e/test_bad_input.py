"""Bad input on every route: refused as a problem with its reason, and nothing is half done."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import Flowd, eventually, make_document, memory_directory, processes_of

PROBLEM = "application/problem+json"
JSON = {"Content-Type": "application/json"}
BODY_ROUTES = [("POST", "/flows"), ("PUT", "/flows/kept"), ("PATCH", "/flows/commands")]
GET_ROUTES = [
    *("/", "/flows", "/flows/kept", "/flows/status", "/flows/status/kept", "/flows/kept/logs"),
    *("/flows/kept/events", "/events", "/manifests", "/livez", "/readyz"),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Flowd]:
    """One operator for the file, with one flow that nothing here may change."""
    with memory_directory() as root:
        operator = Flowd(root)
        try:
            operator.start().create(make_document("kept"))
            operator.await_status("kept", "running")
            yield operator
        finally:
            operator.destroy()


@pytest.fixture
def flowd(shared: Flowd) -> Iterator[Flowd]:
    """The shared operator: still there, unchanged, and without a mistake in its log afterwards."""
    written = len(shared.log.read_text())
    before = (shared.client.get("/flows").content, shared.pids("kept"))
    yield shared
    after = (shared.client.get("/flows").content, shared.client.get("/flows/status/kept").json())
    if after[0] != before[0]:
        _put_right(shared)  # For the next test; this one fails.
    assert after[0] == before[0]
    assert [step["pid"] for step in after[1]["steps"]] == before[1]
    said = shared.log.read_text()[written:]
    assert "Traceback" not in said
    assert "handler failed" not in said
    assert "uncaptured" not in said


def _put_right(flowd: Flowd) -> None:
    for flow in flowd.client.get("/flows").json():
        flowd.client.delete(f"/flows/{flow['flow_id']}?type=1")
    eventually(lambda: _assert(flowd.statuses() == {}))
    flowd.create(make_document("kept"))
    flowd.await_status("kept", "running")


def _assert(condition: bool) -> None:
    assert condition


def check(answer: httpx.Response, *allowed: int) -> dict[str, Any]:
    """It is a refusal of the documented shape."""
    assert answer.status_code in (allowed or range(400, 500)), answer.text[:300]
    assert answer.headers["Content-Type"] == PROBLEM
    details: dict[str, Any] = answer.json()
    assert details["status"] == answer.status_code
    assert details["type"]
    assert details["title"]
    assert details["detail"]
    assert isinstance(details["errors"], list)
    assert "Traceback" not in answer.text
    return details


def raw(flowd: Flowd, data: bytes) -> httpx.Response:
    """Send bytes as they are; the answer, which must be whole."""
    address = (flowd.client.base_url.host, flowd.client.base_url.port)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(data)
        head, body = _read_answer(connection)
    assert head, "hung up without an answer"
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = [line.split(": ", 1) for line in lines]
    return httpx.Response(int(status.split()[1]), headers=dict(headers), content=body)


def _read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while True:
        head, separator, body = received.partition(b"\r\n\r\n")
        if separator:
            lengths = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
            if lengths and len(body) >= int(lengths[0].split(b":")[1]):
                return head, body
        block = connection.recv(65536)
        if not block:
            return head if separator else b"", body
        received += block


def request(line: bytes, *headers: bytes, body: bytes = b"", host: bytes = b"127.0.0.1") -> bytes:
    return b"\r\n".join([line, b"Host: " + host, *headers, b"", body])


# --- bodies ----------------------------------------------------------------------------------

HARMLESS = make_document("bad", state="stopped")


def with_annotation(text: str) -> str:
    """A POST of one flow with raw JSON where an annotation's value stands."""
    document = {**HARMLESS, "metadata": {"annotations": {"a": 0}}}
    return json.dumps([document]).replace('{"a": 0}', f'{{"a": {text}}}')


TEXTS: dict[str, str | bytes] = {
    "empty": b"",
    "blank": b" \n\t ",
    "bad UTF-8": b'["\xff"]',
    "overlong UTF-8": b'["\xc0\x80"]',
    "UTF-16": '[{"flow_id": "bad"}]'.encode("utf-16"),
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf[]",
    "encoded surrogate": b'["\xed\xa0\x80"]',
    "truncated": json.dumps([HARMLESS])[:-3],
    "only the beginning": "[",
    "two texts": "[] []",
    "trailing comma": "[1,]",
    "single quotes": "['a']",
    "comment": "[] // no",
    "YAML": "- flow_id: bad",
    "NaN": with_annotation("NaN"),
    "Infinity": with_annotation("Infinity"),
    "-Infinity": with_annotation("-Infinity"),
    "1e999": with_annotation("1e999"),
    "-1e999": with_annotation("-1e999"),
    "10**30": with_annotation("1" + "0" * 30),
    "5,000 digits": with_annotation("9" * 5000),
    "-5,000 digits": with_annotation("-" + "9" * 5000),
    "5,000 digits and a fraction": with_annotation("9" * 5000 + ".5"),
    "leading zero": with_annotation("01"),
    "hexadecimal": with_annotation("0x10"),
    "lone surrogate": with_annotation('"\\ud800"'),
    "lone low surrogate": with_annotation('"a\\udfffb"'),
    "lone surrogate in a key": with_annotation('{"\\ud800": 1}'),
    "raw NUL": with_annotation('"a\0b"'),
    "raw newline in a string": with_annotation('"a\nb"'),
    "bad escape": with_annotation('"\\x41"'),
    "unterminated string": '["abc',
    "unterminated string of escapes": '["' + '\\"' * 20_000,
    "duplicate key": '[{"flow_id": "bad", "flow_id": "bad", "spec": {"steps": []}}]',
    "duplicate key inside": with_annotation('{"k": 1, "k": 1}'),
    "10,000 lists": "[" * 10_000 + "]" * 10_000,
    "10,000 lists, open": "[" * 10_000,
    "10,000 objects": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "10,000 levels in a flow": with_annotation("[" * 10_000 + "]" * 10_000),
    "34 levels": "[" * 34 + "]" * 34,
    "a million closing brackets": "]" * 1_000_000,
}


@pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts_that_are_no_good_json(
    flowd: Flowd, method: str, path: str, text: str | bytes
) -> None:
    """400 with a reason, at once, on every route that takes a body."""
    begun = time.monotonic()
    answer = flowd.client.request(method, path, content=text, headers=JSON)
    check(answer, 400)
    assert time.monotonic() - begun < 15, "one text holds up everybody"
    assert len(answer.content) < 20_000


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/yaml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        ";application/json",
    ],
)
@pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
def test_content_types(flowd: Flowd, method: str, path: str, kind: str | None) -> None:
    """415 for what is not declared to be JSON: a form of a web page can send anything else."""
    headers = {} if kind is None else {"Content-Type": kind}
    bodies = {"POST": [HARMLESS], "PUT": make_document("kept", "exec sleep 1")}
    body = json.dumps(bodies.get(method, {"command": "stop"}))
    check(flowd.client.request(method, path, content=body, headers=headers), 415)


@pytest.mark.parametrize("kind", [b"\xff", b"application/json\xff", b"application/json; x=\xff"])
def test_content_types_beyond_ascii(flowd: Flowd, kind: bytes) -> None:
    """A header of any bytes is answered: 415, or 400 for the body."""
    data = request(POST, b"Content-Type: " + kind, b"Content-Length: 1", body=b"[")
    check(raw(flowd, data), 400, 415)


@pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_larger_than_eight_mebibytes(
    flowd: Flowd, method: str, path: str, chunked: bool
) -> None:
    """413, whether the length is declared or found out."""
    size = 9 * 1024 * 1024
    content: Any = (b" " * 65536 for _ in range(size // 65536)) if chunked else b" " * size
    check(flowd.client.request(method, path, content=content, headers=JSON), 413)


FLOODS: dict[str, tuple[str, str, bytes]] = {
    "a million numbers": ("POST", "/flows", b"[" + b",".join([b"1"] * 1_000_000) + b"]"),
    "20,000 empty objects": ("POST", "/flows", b"[" + b",".join([b"{}"] * 20_000) + b"]"),
    "100,000 unknown keys": (
        *("POST", "/flows"),
        json.dumps([{f"k{n}": 1 for n in range(100_000)}]).encode(),
    ),
    "200,000 unknown ids": (
        *("PATCH", "/flows/commands"),
        json.dumps({"command": "stop", "flow_ids": [f"f{n}" for n in range(200_000)]}).encode(),
    ),
    "a name of a million letters": (
        *("POST", "/flows"),
        json.dumps([make_document("a" * 1_000_000)]).encode(),
    ),
    "a command of a million letters": (
        *("PATCH", "/flows/commands"),
        json.dumps({"command": "a" * 1_000_000}).encode(),
    ),
}


@pytest.mark.parametrize(("method", "path", "body"), FLOODS.values(), ids=FLOODS)
def test_errors_are_bounded(flowd: Flowd, method: str, path: str, body: bytes) -> None:
    """However much is wrong, the answer is of a size that can be read, and comes soon."""
    begun = time.monotonic()
    answer = flowd.client.request(method, path, content=body, headers=JSON)
    check(answer, 400)
    assert len(answer.content) < 200_000, "the answer is a flood itself"
    assert time.monotonic() - begun < 5


def test_a_large_string_is_taken_or_refused_soon(flowd: Flowd) -> None:
    """A body just under the limit costs no gigabyte, and others are served meanwhile."""
    body = b'["' + b"x" * (8 * 1024 * 1024 - 100) + b'"]'
    slowest = 0.0

    def send() -> httpx.Response:
        with httpx.Client(base_url=flowd.client.base_url, timeout=60) as client:
            return client.post("/flows", content=body, headers=JSON)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send)
        while not sent.done():
            begun = time.monotonic()
            flowd.client.get("/livez").raise_for_status()
            slowest = max(slowest, time.monotonic() - begun)
        check(sent.result(), 400)
    assert slowest < 1, "one body holds up everybody"


# --- configurations --------------------------------------------------------------------------

WRONG: list[Any] = [None, True, 1, -1, 1.5, "", "text", "a\0b", [], [None], {}, {"x": {"y": 1}}]

FIELDS = [
    *("apiVersion", "kind", "metadata", "flow_id", "spec", "spec/state", "spec/steps"),
    *("spec/runner", "spec/replicas", "spec/dependsOn", "spec/restart", "spec/stop"),
    *("spec/pause", "spec/update", "spec/restart/policy", "spec/restart/scope"),
    *("spec/restart/backoff", "spec/restart/backoff/initial", "spec/restart/backoff/factor"),
    *("spec/restart/maxRestarts", "spec/restart/resetAfter", "spec/stop/signal"),
    *("spec/stop/mode", "spec/stop/timeout", "spec/description", "metadata/labels"),
    *("metadata/annotations", "metadata/name", "spec/steps/0", "spec/steps/0/name"),
    *("spec/steps/0/command", "spec/steps/0/script", "spec/steps/0/env"),
    *("spec/steps/0/workingDir", "spec/steps/0/resources", "spec/steps/0/readinessProbe"),
    *("spec/steps/0/successExitCodes",),
]


def with_value(pointer: str, value: Any) -> dict[str, Any]:
    """A good flow with one value put where ``pointer`` says."""
    document = json.loads(json.dumps({**make_document("typed", state="stopped"), "metadata": {}}))
    *around, last = [int(t) if t.isdigit() else t for t in pointer.split("/")]
    place = document
    for token in around:
        place = place[token] if isinstance(token, int) else place.setdefault(token, {})
    place[last] = value
    return document


@pytest.mark.parametrize("pointer", FIELDS)
def test_wrong_types_in_every_field(flowd: Flowd, pointer: str) -> None:
    """Each is 201 (and is taken away again) or 400 that points into the document; never else."""
    for value in WRONG:
        answer = flowd.client.post("/flows", json=[with_value(pointer, value)])
        if answer.status_code == 201:
            [row] = answer.json()["details"]
            assert flowd.client.delete(f"/flows/{row['flow_id']}?type=1").status_code == 200
            flowd.await_gone(row["flow_id"])
            continue
        details = check(answer, 400)
        assert details["errors"]
        assert all(error["pointer"].startswith("/0") for error in details["errors"]), details


NAMES = [
    *("", " ", "A", "a_b", "-a", "a-", "a.b", "a/b", "a\n", "\na", "a\0", "a b", "é", "日本"),
    *("\U0001f600", "a%2Fb", "..", ".", "../../etc", "a" * 53, "a" * 100_000, "a\r\nX: y"),
    *("status", "commands", "\u0430bc", "a\u200b", "\uff41", "a:b", "~", "$(reboot)"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_of_flows_and_steps(flowd: Flowd, name: str) -> None:
    """What is no name is 400 in every place where a name may stand."""
    good = make_document("named", state="stopped")
    bodies = [make_document(name), {"metadata": {"name": name}, "spec": good["spec"]}]
    if name not in ("status", "commands"):  # Routes are names enough for a step.
        bodies.append(make_document("named", {"name": name, "script": "true"}, state="stopped"))
    for body in bodies:
        details = check(flowd.client.post("/flows", json=[body]), 400)
        assert details["errors"][0]["pointer"].endswith("/name")


PATHS = [
    *("a%0A", "a%00", "%00", "%0d%0aX:y", "a%20b", "%e9", "%ff", "kept%ff", "kept%c0%80"),
    *("ke%ffpt", "kept%20", "kept%0a", "kept%00", "%C3%A9", "%F0%9F%98%80", "%ED%A0%80"),
    *("a" * 5000, "%", "%zz", "KEPT", "kept;x", "kept,other", "..%2f..%2fetc", "a%2500", "~"),
]


@pytest.mark.parametrize("name", PATHS, ids=lambda name: name[:20])
def test_ids_in_paths(flowd: Flowd, name: str) -> None:
    """An id that no flow has is 404, or 400 where something is to be changed; never another's."""
    for suffix in ("", "/logs", "/events"):
        line = f"GET /flows/{name}{suffix} HTTP/1.1".encode()
        check(raw(flowd, request(line)), 400, 404)
    check(raw(flowd, request(f"GET /flows/status/{name} HTTP/1.1".encode())), 400, 404)
    body = json.dumps({"spec": make_document("kept", "exec sleep 1")["spec"]}).encode()
    length = b"Content-Length: %d" % len(body)
    kind = b"Content-Type: application/json"
    line = f"PUT /flows/{name} HTTP/1.1".encode()
    check(raw(flowd, request(line, kind, length, body=body)), 400, 404)
    check(raw(flowd, request(f"DELETE /flows/{name} HTTP/1.1".encode())), 400, 404)


@pytest.mark.parametrize(
    ("pointer", "near"),
    [
        ("specs", "spec"),
        ("spec/replica", "replicas"),
        ("spec/restart/polcy", "policy"),
        ("spec/steps/0/scirpt", "script"),
        ("metadata/label", "labels"),
    ],
)
def test_unknown_keys(flowd: Flowd, pointer: str, near: str) -> None:
    """A key that is no key is 400, with its place and the key that was probably meant."""
    details = check(flowd.client.post("/flows", json=[with_value(pointer, {})]), 400)
    said = {error["pointer"]: error["detail"] for error in details["errors"]}
    assert f"did you mean '{near}'?" in said[f"/0/{pointer}"]


def test_an_unknown_key_of_a_command(flowd: Flowd) -> None:
    """``flow_id`` for ``flow_ids`` must not stop every flow; the reason names the right key."""
    body = {"command": "stop", "flow_id": ["kept"]}
    details = check(flowd.client.patch("/flows/commands", json=body), 400)
    assert details["errors"][0]["pointer"] == "/flow_id"
    assert "did you mean 'flow_ids'?" in details["errors"][0]["detail"]


def test_pointers_of_commands(flowd: Flowd) -> None:
    """A pointer is a JSON pointer here as everywhere."""
    body = {"command": "stop", "flow_ids": ["kept", 1]}
    details = check(flowd.client.patch("/flows/commands", json=body), 400)
    assert details["errors"][0]["pointer"] == "/flow_ids/1"


def test_the_operators_own_key_is_not_the_users(flowd: Flowd) -> None:
    """``x-operator`` is where the store keeps its book; taken, it would be lost at a restart."""
    body = {**make_document("booked", state="stopped"), "x-operator": {"version": 10**18}}
    check(flowd.client.post("/flows", json=[body]), 400)


def test_flows_that_wait_for_each_other(flowd: Flowd) -> None:
    """A circle of dependencies is 400, and none of it is created."""
    names = ["ring-a", "ring-b", "ring-c"]
    body = [
        make_document(name, state="stopped", dependsOn=[{"name": names[index - 1]}])
        for index, name in enumerate(names)
    ]
    details = check(flowd.client.post("/flows", json=body), 400)
    assert "ring-a" in details["detail"]


def test_environment_files_that_never_end_hold_up_nobody(
    make_flowd: Callable[..., Flowd], root: Path
) -> None:
    """A FIFO or a device is no file to read variables from: that flow waits, others start."""
    os.mkfifo(root / "fifo")
    step = {"name": "reads", "script": "exec sleep 1000", "envFrom": [{"file": f"{root}/fifo"}]}
    flowd = make_flowd().start()
    flowd.create(*(make_document(f"blocked-{n}", step) for n in range(8)))
    flowd.create(make_document("free"))
    flowd.await_status("free", "running", within=5)
    flowd.await_status("blocked-0", "backoff", within=5)
    told = flowd.command("stop", timeout=5)
    assert set(told.values()) == {"stopped"}


# --- routes, methods, queries ----------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/flows/", "/flows/kept/", "/flows/kept/nothing", "/flows/status/kept/x"),
        *("/flows//", "/FLOWS", "/%00", "/%ff", "/.", "/../flows"),
        *("/flows/status/", "/flows/a/b/c", "/" + "x" * 8000, "/favicon.ico", "/é".encode()),
    ],
    ids=lambda path: str(path)[:25],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_unknown_routes(flowd: Flowd, method: str, path: str | bytes) -> None:
    """404 as JSON, whatever the method."""
    encoded = path if isinstance(path, bytes) else path.encode()
    line = method.encode() + b" " + encoded + b" HTTP/1.1"
    check(raw(flowd, request(line)), 404, 400)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/flows", {"GET", "POST"}),
        ("/flows/kept", {"GET", "PUT", "DELETE"}),
        ("/flows/status/kept", {"GET"}),
        ("/flows/kept/logs", {"GET"}),
        ("/flows/kept/events", {"GET"}),
        ("/events", {"GET"}),
        ("/manifests", {"GET"}),
        ("/livez", {"GET"}),
        ("/", {"GET"}),
        ("/flows/status", {"GET"}),
        ("/flows/commands", {"PATCH"}),
    ],
)
def test_wrong_methods(flowd: Flowd, path: str, allowed: set[str]) -> None:
    """405 as JSON, with the methods that are right in Allow."""
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} - allowed:
        answer = flowd.client.request(method, path, headers=JSON, content="{}")
        check(answer, 405)
        named = set(answer.headers["Allow"].replace(" ", "").split(","))
        assert named - {"HEAD"} == allowed


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("DELETE", f"/flows/kept?type={v}") for v in ("2", "-1", "x", "01", "%ff", "0&type=2")),
        *(("DELETE", f"/flows/kept?force={v}") for v in ("yes", "2", "%00", "%ff")),
        *(("DELETE", f"/flows/kept?{v}") for v in ("dryRun=Some", "tpye=1", "%ff=1")),
        *(
            ("PATCH", f"/flows/commands?timeout={v}")
            for v in ("-1", "x", "nan", "inf", "1e999", "601", "%ff", "1,5", "0x1", "9" * 5000)
        ),
        *(("GET", f"/flows/kept/logs?tail={v}") for v in ("-1", "x", "nan", "1e99", "%ff")),
        *(("GET", f"/flows/kept/logs?replica={v}") for v in ("1", "-1", "x", "00", "%00", "%ff")),
        *(("GET", f"/flows/kept/logs?step={v}") for v in ("x", "..%2f", "%00", "s0%0a", "%ff")),
        *(("GET", f"/flows/kept/logs?follow={v}") for v in ("maybe", "2", "%ff")),
    ],
)
def test_bad_query_values(flowd: Flowd, method: str, path: str) -> None:
    """400 naming what is right: a query that is not understood must not be acted on."""
    body = {"command": "stop", "flow_ids": ["kept"]} if method == "PATCH" else None
    check(flowd.client.request(method, path, json=body), 400)


def test_dry_run_changes_nothing(flowd: Flowd) -> None:
    """?dryRun=All tells what would happen; nothing happens."""
    before = flowd.client.get("/flows").content
    for method, path, body in (
        ("POST", "/flows?dryRun=All", [make_document("dry", state="stopped")]),
        ("PUT", "/flows/kept?dryRun=All", make_document("kept", "exec sleep 5")),
        ("DELETE", "/flows/kept?dryRun=All", None),
    ):
        answer = flowd.client.request(method, path, json=body)
        assert answer.status_code in (200, 201, 400, 501)
        assert flowd.client.get("/flows").content == before


@pytest.mark.parametrize(
    "value",
    [b'""', b"x", b'"x"', b'"-1"', b'"' + b"9" * 5000 + b'"', b'"\xb2"', "²".encode(), b'"\xff"'],
    ids=lambda value: ascii(value)[:20],
)
def test_if_match_that_is_no_etag(flowd: Flowd, value: bytes) -> None:
    """400, or 412 since it matches nothing; and nothing is changed."""
    answer = raw(flowd, request(b"DELETE /flows/kept HTTP/1.1", b"If-Match: " + value))
    check(answer, 400, 412)


# --- Host and Origin -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *(b"evil.example", b"127.0.0.1.evil.example", b"[", b"[::1", b"127.0.0.2", b"a b", b"\xff"),
        *(b"evil.example:8710", b"127.0.0.1, evil.example", b"127.0.0.1@evil.example", b"*"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("line", [b"GET /flows", b"DELETE /flows/kept"])
def test_foreign_hosts(flowd: Flowd, host: bytes, line: bytes) -> None:
    """403, or 400 if it is no name: one that was rebound to this machine is no way in."""
    check(raw(flowd, request(line + b" HTTP/1.1", host=host)), 400, 403)


@pytest.mark.parametrize("host", [b"localhost", b"127.0.0.1:80", b"[::1]:9", b"LOCALHOST:1"])
def test_our_own_hosts(flowd: Flowd, host: bytes) -> None:
    """The names of this machine's loopback are served, whatever the port."""
    assert raw(flowd, request(b"GET /flows HTTP/1.1", host=host)).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        *(b"http://evil.example", b"null", b"http://127.0.0.1:1", b"http://[", b"garbage"),
        *(b"http://127.0.0.1.evil.example", b"file://", b"http://[::1", b"\xff", b"http://a]b"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("line", [b"GET /flows", b"DELETE /flows/kept"])
def test_foreign_origins(flowd: Flowd, origin: bytes, line: bytes) -> None:
    """403: a web page of somebody else must not command flows."""
    answer = raw(flowd, request(line + b" HTTP/1.1", b"Origin: " + origin))
    check(answer, 403)


# --- the socket ------------------------------------------------------------------------------

POST = b"POST /flows HTTP/1.1"
CHUNKED = (b"Content-Type: application/json", b"Transfer-Encoding: chunked")

GARBAGE: dict[str, bytes] = {
    "no request line": b"garbage\r\n\r\n",
    "binary": b"\x00\x01\xff\xfe\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "method only": b"GET\r\n\r\n",
    "no version": b"GET /flows\r\nHost: evil.example\r\n\r\n",
    "lower-case method": b"get /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "bare LF in the request line": b"GET /flows\nX HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "bad URI": request(b"GET http://[ HTTP/1.1"),
    "large headers": request(b"GET /flows HTTP/1.1", b"X: " + b"a" * 40_000),
    "many headers": request(b"GET /flows HTTP/1.1", *[b"X-%d: y" % n for n in range(5000)]),
    "long request line": request(b"GET /" + b"a" * 40_000 + b" HTTP/1.1"),
    "header without colon": request(b"GET /flows HTTP/1.1", b"NoColonHere"),
    "header with a space": request(b"GET /flows HTTP/1.1", b"Bad Name: x"),
    "header with a NUL": request(b"GET /flows HTTP/1.1", b"X: a\0b"),
    "folded header": request(b"GET /flows HTTP/1.1", b"X: a\r\n\x01: c"),
    "negative length": request(POST, b"Content-Length: -1"),
    "length that is no number": request(POST, b"Content-Length: two", body=b"[]"),
    "length with a sign": request(POST, b"Content-Length: +2", body=b"[]"),
    "two lengths": request(POST, b"Content-Length: 2", b"Content-Length: 3", body=b"[] "),
    "list of lengths": request(POST, b"Content-Length: 2, 3", body=b"[] "),
    "length of 20 digits": request(POST, b"Content-Length: " + b"9" * 20),
    "length of 5,000 digits": request(POST, b"Content-Length: " + b"9" * 5000),
    "superscript length": request(POST, b"Content-Length: \xb2", body=b"[]"),
    "bad chunk size": request(POST, *CHUNKED, body=b"zz\r\n[]\r\n0\r\n\r\n"),
    "negative chunk size": request(POST, *CHUNKED, body=b"-2\r\n[]\r\n0\r\n\r\n"),
    "chunk without its end": request(POST, *CHUNKED, body=b"2\r\n[]xx0\r\n\r\n"),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_on_the_socket(flowd: Flowd, data: bytes) -> None:
    """What is no HTTP gets its 4xx as a problem, and only its own connection suffers."""
    check(raw(flowd, data))


@pytest.mark.parametrize("coding", [b"gzip", b"identity", b"chunked, gzip", b"xchunked"])
def test_transfer_codings_that_are_not_known(flowd: Flowd, coding: bytes) -> None:
    """501, which HTTP asks for (RFC 9112, section 6.1), or 400; as a problem."""
    data = request(POST, b"Transfer-Encoding: " + coding, body=b"0\r\n\r\n")
    check(raw(flowd, data), 400, 501)


def test_connections_that_end_in_the_middle(flowd: Flowd) -> None:
    """Half a request and a closed connection: nothing is done, and the server goes on."""
    address = (flowd.client.base_url.host, flowd.client.base_url.port)
    body = json.dumps([make_document("half")]).encode()
    kind, length = b"Content-Type: application/json", b"Content-Length: %d" % len(body)
    whole = request(POST, kind, length, body=body)
    for end in (0, 1, 10, len(whole) - len(body), len(whole) - 1):
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(whole[:end])
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                assert connection.recv(100)[9:12] in (b"", b"400")


# --- slow clients ----------------------------------------------------------------------------


def test_slow_clients_hold_up_nobody(flowd: Flowd) -> None:
    """200 idle connections and 20 that send a byte now and then: others are answered."""
    address = (flowd.client.base_url.host, flowd.client.base_url.port)
    dribble = request(POST, b"Content-Type: application/json", b"Content-Length: 1000")
    times = []
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(address, timeout=5))
        slow = [stack.enter_context(socket.create_connection(address, 5)) for _ in range(20)]
        for number in range(50):
            for connection in slow:
                connection.send(dribble[number : number + 1])
            begun = time.monotonic()
            answer = flowd.client.get("/flows/status")
            times.append(time.monotonic() - begun)
            assert answer.status_code == 200
    assert sorted(times)[49] < 1


def test_clients_that_read_slowly_hold_up_nobody(flowd: Flowd) -> None:
    """120 clients ask and never read the answers; another one is served."""
    address = (flowd.client.base_url.host, flowd.client.base_url.port)
    with contextlib.ExitStack() as stack:
        for _ in range(120):
            connection = stack.enter_context(socket.create_connection(address, timeout=5))
            connection.sendall(request(b"GET /flows/status HTTP/1.1") * 5)
        begun = time.monotonic()
        assert flowd.client.get("/flows/status").status_code == 200
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("path", GET_ROUTES)
def test_a_body_where_none_belongs_is_passed_over(flowd: Flowd, path: str) -> None:
    """A GET with a body is answered as one without; the connection stays in step."""
    for body in (b"[1]", b"x" * 70_000):
        assert flowd.client.request("GET", path, content=body).status_code == 200
        assert flowd.client.get("/livez").json() == {"status": "ok"}


def test_nothing_is_left_of_all_this(flowd: Flowd) -> None:
    """One flow, one process: what was refused has left no trace."""
    eventually(lambda: _assert(list(flowd.statuses()) == ["kept"]))
    assert processes_of(flowd.data) == flowd.pids("kept")
