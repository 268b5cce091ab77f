"""An attack on an operator with tokens: nobody comes in without one, and nothing breaks."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from support import Flowd, eventually, make_document, memory_directory

TOKENS = {role: f"{role}-0123456789abcdef" for role in ("viewer", "operator", "admin")}
GOOD = TOKENS["admin"].encode()
OPEN = (
    *("/livez", "/readyz", "/openapi.json", "/docs", "/docs/start.js"),
    *("/ui/", "/ui/main.js"),
)
METHODS = (
    *(b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"PATCH", b"DELETE", b"TRACE", b"CONNECT"),
    *(b"ANY", b"PROXY", b"BREW", b"get", b"G\x00T", b"X" * 300),
)
BODY = json.dumps([make_document("evil")]).encode()
STOP = json.dumps({"command": "stop", "type": 1}).encode()


@pytest.fixture(scope="module")
def shared() -> Iterator[Flowd]:
    """One operator for the file, with one flow that nothing here may change."""
    with memory_directory() as root:
        path = root / "tokens.yaml"
        entries = [{"name": role, "role": role, "token": TOKENS[role]} for role in TOKENS]
        path.write_text(json.dumps({"tokens": entries}))
        path.chmod(0o600)
        operator = Flowd(root, "--tokens", str(path))
        operator.client.headers["Authorization"] = f"Bearer {TOKENS['admin']}"
        try:
            operator.start().create(make_document("kept"))
            operator.await_status("kept", "running")
            yield operator
        finally:
            operator.destroy()


@pytest.fixture
def flowd(shared: Flowd) -> Iterator[Flowd]:
    """The shared operator: unchanged, and without a mistake in its log afterwards."""
    written = len(shared.log.read_text())
    before = (shared.client.get("/flows").content, shared.pids("kept"))
    yield shared
    assert (shared.client.get("/flows").content, shared.pids("kept")) == before
    said = shared.log.read_text()[written:]
    assert not any(word in said for word in ("Traceback", "handler failed", "uncaptured")), said
    assert not any(token in said for token in TOKENS.values())


@pytest.fixture
def harmless(flowd: Flowd) -> set[bytes]:
    """The bodies that everybody may see."""
    return {flowd.client.get(path).content for path in OPEN}


ANSWER = re.compile(rb"(?:^|(?<=[\n}\]]))HTTP/1\.[01] ([0-9]{3}) ")
LAST = b"\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""Ends what was not ended, and the connection; its answer is harmless."""


def exchange(flowd: Flowd, sent: bytes) -> list[tuple[int, bytes]]:
    """What one connection is answered: status and body, for each answer."""
    address = (flowd.client.base_url.host, flowd.client.base_url.port)
    came = b""
    with socket.create_connection(address, timeout=1) as connection:
        connection.sendall(sent)
        with contextlib.suppress(ConnectionError):
            while part := _received(connection):
                came += part
    _, *found = ANSWER.split(came)
    bodies = (told.partition(b"\r\n\r\n")[2] for told in found[1::2])
    return list(zip(map(int, found[::2]), bodies, strict=True))


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except TimeoutError:
        # It waits for more, which does not come.
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(20)
        return connection.recv(1 << 16)


def request(
    method: bytes, target: bytes, *headers: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1"
) -> bytes:
    length = [b"Content-Length: %d" % len(body)] if body else []
    json_type = [b"Content-Type: application/json"] if body else []
    lines = [b" ".join((method, target, version)), b"Host: localhost", b"Connection: close"]
    return b"\r\n".join([*lines, *headers, *length, *json_type, b"", body])


def kept_out(flowd: Flowd, sent: bytes, harmless: set[bytes]) -> None:
    """Nothing of what is sent is done or told, and nothing breaks."""
    answers = exchange(flowd, sent)
    assert answers, sent[:200]
    for status, body in answers:
        assert status < 500 or status == 501, sent[:200]
        if 200 <= status < 300:
            assert body in harmless | {b""}, sent[:200]
            if not body:
                line = sent.split(b"\r\n")[0].upper()
                assert line.startswith(b"HEAD"), sent[:200]
                assert any(path.upper().encode() in line for path in OPEN), sent[:200]


def tricks(path: bytes) -> Iterator[bytes]:
    """The path as somebody writes it who hopes that two readers of it disagree."""
    first, _, rest = path[1:].partition(b"/")
    yield path
    for before in (
        b"/",
        b"//",
        b"/.",
        b"/livez/..",
        b"/livez/",
        b"/docs/..",
        b"/docs/x/../..",
        b"/ui/..",
    ):
        yield before + path
    for before in (b"/%2e", b"/docs/%2e%2e", b"/docs%2f..", b"/docs/..%2f..", b"\\", b"/livez;/.."):
        yield before + path
    for after in (b"/", b"//", b"/.", b"/..", b"/../livez", b"/%2e%2e/livez", b";", b";/livez"):
        yield path + after
    for after in (
        b"?",
        b"?/livez",
        b"#/livez",
        b"%00",
        b"%00/livez",
        b"%20",
        b"%0d%0a",
        b"%2f",
        b"\\",
    ):
        yield path + after
    yield b"/%%%02x" % path[1:2][0] + path[2:] if path[1:] else b"/%"
    yield b"/" + b"".join(b"%%%02x" % letter for letter in path[1:])
    yield path.upper()
    yield path.replace(b"/", b"%2f")
    yield path.replace(b"/", b"//")
    yield path.replace(b"/", b"/\xe2\x80\x8b")
    yield b"http://localhost" + path
    yield b"http://localhost/livez" + path
    yield b"http://localhost@evil.example" + path
    yield b"/" + first + b"%c0%af" + rest
    yield b"*"
    yield b"localhost:8710"
    yield path + b"a" * 20_000


def routes(flowd: Flowd) -> list[bytes]:
    """Every route that needs a token, by the operator's own description."""
    paths = flowd.client.get("/openapi.json").json()["paths"]
    named = [path.replace("{flow_id}", "kept").replace("{generation}", "1") for path in paths]
    found = [*named, "/metrics", "/flows/nobody", "/nothing"]
    return [path.encode() for path in found if path not in OPEN]


def test_no_path_leads_in(flowd: Flowd, harmless: set[bytes]) -> None:
    """Every route, written in every way, read without a token."""
    for path in routes(flowd):
        for target in tricks(path):
            kept_out(flowd, request(b"GET", target), harmless)


def test_no_method_leads_in(flowd: Flowd, harmless: set[bytes]) -> None:
    """Every route by every method, with what would be a good body."""
    for path, method in itertools.product(routes(flowd), METHODS):
        body = STOP if path.endswith(b"commands") else BODY
        kept_out(flowd, request(method, path, body=body), harmless)


OVERRIDES = (
    *(b"X-HTTP-Method-Override: DELETE", b"X-HTTP-Method: DELETE", b"X-Method-Override: DELETE"),
    *(b"X-Original-URL: /livez", b"X-Rewrite-URL: /livez", b"X-Forwarded-Prefix: /livez"),
    *(b"X-Forwarded-For: 127.0.0.1", b"Forwarded: for=127.0.0.1", b"X-Real-IP: 127.0.0.1"),
    *(b"Remote-User: admin", b"Remote_User: admin", b"X-Remote-User: admin", b"REMOTE-USER: admin"),
    *(b"X-Forwarded-User: admin", b"Script-Name: /livez", b"Path-Info: /livez", b"Via: 1.1 x"),
    *(b"Upgrade: websocket", b"Upgrade: h2c", b"Expect: 100-continue", b"Range: bytes=0-"),
)


def test_no_header_leads_in(flowd: Flowd, harmless: set[bytes]) -> None:
    """What proxies and frameworks listen to elsewhere means nothing here."""
    for header in OVERRIDES:
        kept_out(flowd, request(b"GET", b"/flows", header), harmless)
        kept_out(flowd, request(b"DELETE", b"/flows/kept", header), harmless)
        kept_out(flowd, request(b"POST", b"/livez", header, body=BODY), harmless)


def credentials() -> Iterable[bytes]:
    """Authorization headers that are nearly right."""
    yield from (b"", b"Bearer", b"Bearer ", b"Bearer  ", b"Bearer \t", b"Basic " + GOOD, GOOD)
    yield from (b"Bearer " + GOOD[:-1], b"Bearer " + GOOD + b"a", b"Bearer " + GOOD.upper())
    yield from (b"Bearer " + GOOD + b"\x00", b"Bearer \x00" + GOOD, b"Bearer\x00" + GOOD)
    yield from (b"Bearer " + GOOD + b" x", b"Bearer x " + GOOD, b"Bearer,Bearer " + GOOD)
    yield from (b"Bearer " + GOOD + b",", b'Bearer "' + GOOD + b'"', b"Bearer=" + GOOD)
    yield from (b"Bearer %61" + GOOD[1:], b"Bearer " + b"a" * 10_000, b"a" * 31_000)
    yield from (b"Bearer *", b"Bearer .*", b"Bearer null", b"Bearer undefined", b"Bearer 0")
    yield from (b"Bearer {}", b"Bearer ' OR 1=1", b"Bearer \xff\xfe", b"Bearer \xc3\xa4" * 5)
    yield from (b"B\xc4\x99arer " + GOOD, b"Bearer\xa0" + GOOD, b"Bearer\x85" + GOOD)


def test_no_credentials_but_the_right_ones_lead_in(flowd: Flowd, harmless: set[bytes]) -> None:
    """Once, twice, folded, and beside the right ones: what is ambiguous is refused."""
    for given in credentials():
        header = b"Authorization: " + given
        good = b"Authorization: Bearer " + GOOD
        kept_out(flowd, request(b"GET", b"/flows", header), harmless)
        kept_out(flowd, request(b"DELETE", b"/flows/kept", header), harmless)
        if given.strip():
            kept_out(flowd, request(b"GET", b"/flows", header, good), harmless)
            kept_out(flowd, request(b"GET", b"/flows", good, header), harmless)
    for folded in (b"Authorization:\r\n Bearer " + GOOD[:-1], b"Authorization : Bearer " + GOOD):
        kept_out(flowd, request(b"GET", b"/flows", folded), harmless)
    for name in (b"Authorization_", b"Proxy-Authorization", b"X-Authorization", b"Cookie"):
        kept_out(flowd, request(b"GET", b"/flows", name + b": Bearer " + GOOD), harmless)


def smuggled() -> Iterable[bytes]:
    """Requests that hide another one, for whoever reads their length in another way."""
    inner = request(b"DELETE", b"/flows/kept")
    head = b"POST /livez HTTP/1.1\r\nHost: localhost\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
    for lengths in (
        b"Content-Length: 0\r\nContent-Length: %d" % len(inner),
        b"Content-Length: %d, 0" % len(inner),
        b"Content-Length: +0",
        b"Content-Length: 0x0",
        b"Content-Length: -1",
        b"Content-Length : 0",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: %d" % len(inner),
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer_Encoding: chunked",
        b"Content_Length: %d" % len(inner),
    ):
        yield head + lengths + b"\r\n\r\n" + inner
        yield head + lengths + b"\r\n\r\n" + chunk
    yield b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" + inner
    yield b"GET /livez HTTP/1.1\nHost: localhost\n\n" + inner
    yield b"GET /livez\r\n" + inner
    yield (
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\rAuthorization: Bearer "
        + GOOD
        + b"\r\n\r\n"
    )
    yield (
        b"GET /flows HTTP/1.1\r\nHost: localhost\r\nX: a\nAuthorization: Bearer "
        + GOOD
        + b"\r\n\r\n"
    )


def test_no_request_hides_another_one(flowd: Flowd, harmless: set[bytes]) -> None:
    """Whatever is taken for a second request needs a token of its own."""
    for sent in smuggled():
        kept_out(flowd, sent, harmless)


def test_a_good_request_lends_its_token_to_none(flowd: Flowd) -> None:
    """The next one on the same connection is asked again."""
    first = b"GET /flows HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + GOOD + b"\r\n\r\n"
    answers = exchange(flowd, first + request(b"GET", b"/flows"))
    assert [status for status, _ in answers] == [200, 401]


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_no_trick_makes_more_of_a_role(flowd: Flowd, role: str) -> None:
    """Of what is sent with a lesser token, only what it may do is done."""
    header = b"Authorization: Bearer " + TOKENS[role].encode()
    dry = b"?dryRun=All"
    for path, method in itertools.product(routes(flowd), METHODS[3:]):
        if role == "operator" and path.endswith(b"commands"):
            continue
        for target in (path, path + b"/", b"//" + path[1:], path + b"/../commands", path + dry):
            for extra in ((), (OVERRIDES[0],)):
                sent = request(method, target, header, *extra, body=BODY)
                for status, _ in exchange(flowd, sent):
                    assert 400 <= status < 500, sent[:200]


def test_random_bytes_are_refused(flowd: Flowd, harmless: set[bytes]) -> None:
    """A thousand requests with a few bytes of each wrong; always the same ones."""
    chance = random.Random(4711)
    samples = [
        request(b"GET", b"/flows", b"Authorization: Bearer " + GOOD[:-1]),
        request(b"DELETE", b"/flows/kept", b"Authorization: Basic " + GOOD),
        request(b"PATCH", b"/flows/commands", b"Origin: http://localhost", body=STOP),
        request(b"GET", b"/docs/../flows", b"Cookie: a=b", version=b"HTTP/1.0"),
    ]
    for _ in range(1000):
        sent = bytearray(chance.choice(samples))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(sent))
            wild = bytes(
                chance.choice((*b"\r\n\0 :/.%\t,;\xff", chance.randrange(256))) for _ in "ab"
            )
            sent[place : place + chance.randint(0, 2)] = wild[: chance.randint(0, 2)]
        kept_out(flowd, bytes(sent) + LAST, harmless)


STEER = "\x1b[2J\x1b]0;owned\x07"
"""What clears a terminal and renames its window."""


def test_nothing_that_is_sent_steers_a_terminal(flowd: Flowd) -> None:
    """Names, messages and headers with control characters, refused or not, are logged escaped."""
    client = flowd.client
    for header in (b"Authorization: Bearer " + STEER.encode(), b"Origin: " + STEER.encode()):
        exchange(flowd, request(b"GET", b"/flows/" + STEER.encode(), header))
    client.get("/flows/" + quote(STEER))
    client.post("/flows", json=[{"flow_id": STEER}, {STEER: STEER}])
    step = {"name": "s0", "command": [STEER, f"{STEER}.sh"], "workingDir": f"/tmp/{STEER}"}
    flowd.create(make_document("steers", step))
    (flowd.manifests / f"{STEER[:4]}.yaml").write_text(f"{STEER}: 1")
    try:
        flowd.await_status("steers", "backoff")
        eventually(lambda: _assert(client.get("/manifests").json()["files"]))
        assert "steers" in flowd.log.read_text()
        assert not set("\x1b\x07") & set(flowd.log.read_text())
        assert not set(b"\x1b\x07") & set(client.get("/flows/status/steers").content)
    finally:
        (flowd.manifests / f"{STEER[:4]}.yaml").unlink()
        client.delete("/flows/steers?type=1")
        flowd.await_gone("steers")


def _assert(condition: object) -> None:
    assert condition


@pytest.mark.parametrize("reset", [False, True])
def test_clients_that_send_nonsense_and_go_fill_no_log(flowd: Flowd, reset: bool) -> None:
    """Nobody is there to be answered, and there is nothing to tell: the fixture reads the log."""
    address = (flowd.client.base_url.host, flowd.client.base_url.port)
    for sent in [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"] * 200:
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(sent)
            if not reset:
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert flowd.client.get("/livez").status_code == 200


def test_refusals_fill_no_log(flowd: Flowd) -> None:
    """However many there are."""
    before = len(Path(flowd.log).read_text())
    for _ in range(300):
        assert flowd.client.get("/flows", headers={"Authorization": "Bearer x"}).status_code == 401
    assert len(Path(flowd.log).read_text()) - before < 1000
