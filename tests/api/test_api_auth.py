"""Tokens at the door: who is let in, who is told what, and what nobody is told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flow_operator.api import Tokens
from flow_operator.clock import SystemClock
from support import make_document

ROLES = ("viewer", "operator", "admin")
TOKENS = {role: f"{role}-token-0123456789abcdef" for role in ROLES}
OPEN = ("/livez", "/readyz")
READS = ("/", "/flows", "/flows/demo", "/flows/status", "/flows/demo/logs", "/events", "/manifests")
COMMAND = {"command": "stop", "flow_ids": ["demo"]}
WRITES = (
    ("POST", "/flows", [make_document("other", state="stopped")], 201),
    ("PUT", "/flows/demo", make_document("demo", "true", state="stopped"), 200),
    ("POST", "/flows/demo/rollback", {}, 200),
    ("POST", "/manifests/prune", None, 200),
    ("DELETE", "/flows/demo", None, 200),
)
REALM = 'Bearer realm="flow-operator"'


@pytest.fixture
def api(make_api: Any, root: Path) -> Any:
    """The API with a token for each role, and a flow."""
    path = root / "tokens.yaml"
    entries = (f"- {{name: the-{role}, role: {role}, token: {TOKENS[role]}}}" for role in ROLES)
    path.write_text("\n".join(["tokens:", *entries]))
    path.chmod(0o600)
    made = make_api(tokens=Tokens(path, SystemClock()))
    document = make_document("demo", state="stopped")
    assert ask(made, "POST", "/flows", [document], **bearer("admin")).status == 201
    return made


def bearer(role: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {TOKENS[role]}"}


@dataclass
class Told:
    """An answer that was read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(api: Any, method: str, path: str, body: Any = None, **environ: Any) -> Told:
    client = api.client
    if body is None:
        answer = client.open(method, path, **environ)
    else:
        answer = client.send(method, path, body, **environ)
    return Told(answer.status, answer.headers, answer.read())


def get(api: Any, path: str, **environ: Any) -> Told:
    return ask(api, "GET", path, **environ)


@pytest.mark.parametrize("path", OPEN)
def test_health_is_open(api: Any, path: str) -> None:
    """Without a token, and with one that nobody knows."""
    assert get(api, path).status == 200
    assert get(api, path, HTTP_AUTHORIZATION="Bearer nobody").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in (*READS, "/nothing", "/metrics", "/flows/nobody")),
        *((method, path) for method, path, _, _ in WRITES),
        *(("PATCH", "/flows/commands"), ("POST", "/livez"), ("TRACE", "/"), ("OPTIONS", "/flows")),
    ],
)
def test_everything_else_needs_a_token(api: Any, method: str, path: str) -> None:
    """401 with the challenge, whether it exists or not: a stranger learns nothing."""
    before = api.store.version
    answer = ask(api, method, path)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == REALM
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "--token-file" in answer.json()["detail"]
    assert api.store.version == before


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("path", READS)
def test_every_role_may_read(api: Any, role: str, path: str) -> None:
    """200 for GET and HEAD."""
    assert get(api, path, **bearer(role)).status == 200
    assert ask(api, "HEAD", path, **bearer(role)).status == 200


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path", "body", "status"), WRITES)
def test_only_an_admin_may_write(
    api: Any, role: str, method: str, path: str, body: Any, status: int
) -> None:
    """Of the others each is told which role it takes, which it has, and nothing is done."""
    if path.endswith("rollback"):
        edited = make_document("demo", "true", state="stopped")
        assert ask(api, "PUT", "/flows/demo", edited, **bearer("admin")).status == 200
    before = api.store.version
    answer = ask(api, method, path, body, **bearer(role))
    if role == "admin":
        assert answer.status == status
        return
    assert answer.status == 403
    detail = answer.json()["detail"]
    assert all(word in detail for word in ("admin", f"the-{role}", role))
    assert answer.headers["WWW-Authenticate"] == f'{REALM}, error="insufficient_scope"'
    assert api.store.version == before


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 200), ("admin", 200)])
def test_an_operator_may_command(api: Any, role: str, status: int) -> None:
    """And no more than that."""
    answer = ask(api, "PATCH", "/flows/commands?timeout=0", COMMAND, **bearer(role))
    assert answer.status == status


@pytest.mark.parametrize(
    ("header", "status", "error"),
    [
        ("Bearer nobody-knows-0123456789", 401, "invalid_token"),
        (f"Bearer {TOKENS['admin']}x", 401, "invalid_token"),
        (f"Bearer {TOKENS['admin'].upper()}", 401, "invalid_token"),
        (f"Bearer {TOKENS['admin'][:-1]}", 401, "invalid_token"),
        (f"Bearer {TOKENS['admin']}=", 401, "invalid_token"),
        ("", 401, ""),
        ("Basic YWRtaW46YWRtaW4=", 401, ""),
        (TOKENS["admin"], 401, ""),
        (f"Token {TOKENS['admin']}", 401, ""),
        (f"Bearer\t{TOKENS['admin']}", 401, ""),
        (f"Bearer{TOKENS['admin']}", 401, ""),
        ("Bearer", 400, "invalid_request"),
        ("Bearer ", 400, "invalid_request"),
        (f"Bearer {TOKENS['admin']} x", 400, "invalid_request"),
        (f"Bearer {TOKENS['admin']}, Bearer {TOKENS['admin']}", 400, "invalid_request"),
        (f'Bearer token="{TOKENS["admin"]}"', 400, "invalid_request"),
        ("Bearer \xff\xfe" + "a" * 30, 400, "invalid_request"),
        ("Bearer " + "a" * 30_000, 400, "invalid_request"),
        ("Bearer a=b", 400, "invalid_request"),
        ("Bearer %61dmin-token-0123456789abcdef", 400, "invalid_request"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_is_no_token_of_ours(api: Any, header: str, status: int, error: str) -> None:
    """Refused as RFC 6750 says, and not repeated."""
    answer = get(api, "/flows", HTTP_AUTHORIZATION=header)
    assert answer.status == status
    told = f'{REALM}, error="{error}"' if error else REALM
    assert answer.headers["WWW-Authenticate"] == told
    assert TOKENS["admin"] not in answer.body.decode()


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
def test_the_scheme_is_read_in_any_case(api: Any, scheme: str) -> None:
    """RFC 9110 says so of all schemes."""
    assert get(api, "/flows", HTTP_AUTHORIZATION=f"{scheme}{TOKENS['viewer']}").status == 200


def test_a_token_anywhere_else_does_not_count(api: Any) -> None:
    """Not in the query, where proxies log it, nor in a cookie, which browsers send."""
    token = TOKENS["admin"]
    assert get(api, f"/flows?access_token={token}").status == 401
    for name in ("HTTP_COOKIE", "HTTP_X_API_KEY", "HTTP_PROXY_AUTHORIZATION"):
        assert get(api, "/flows", **{name: f"Bearer {token}"}).status == 401


def test_a_name_in_the_request_is_not_believed(api: Any) -> None:
    """Who asks is who has the token."""
    assert get(api, "/flows", HTTP_REMOTE_USER="the-admin").status == 401


def test_who_has_written_is_told_by_the_name_of_the_token(api: Any) -> None:
    """In the history, and so in the audit log, with the address."""
    body = make_document("demo", "true", state="stopped")
    sent = ask(api, "PUT", "/flows/demo", body, REMOTE_ADDR="192.0.2.7", **bearer("admin"))
    assert sent.status == 200
    rows = get(api, "/flows/demo/history", **bearer("viewer")).json()["history"]
    assert rows[0]["by"] == "api:the-admin@192.0.2.7"


def test_refusals_are_logged_seldom_and_without_what_was_sent(
    api: Any, logged_events: list[Any]
) -> None:
    """One line at first, one each ten seconds, with how many there were."""
    logged_events.clear()
    for number in range(50):
        get(api, "/flows", HTTP_AUTHORIZATION=f"Bearer secret-{number:020}")
    api.services.clock.advance(11)
    ask(api, "DELETE", "/flows/demo", REMOTE_ADDR="192.0.2.9", **bearer("viewer"))
    told = [event for event in logged_events if event["event"] == "requests refused"]
    assert [(event["count"], event["status"]) for event in told] == [(1, 401), (50, 403)]
    assert told[1]["last"] == "192.0.2.9"
    assert "secret-" not in str(logged_events)
    assert not any(token in str(logged_events) for token in TOKENS.values())


def test_the_index_tells_what_is_wrong_with_the_file(api: Any, root: Path) -> None:
    """The operator's log does as well; the old tokens still count."""
    path = root / "tokens.yaml"
    viewer = bearer("viewer")
    assert get(api, "/", **viewer).json()["tokens"] == {"count": 3, "error": None}
    path.write_text("tokens: [")
    told = get(api, "/", **viewer).json()["tokens"]
    assert told["count"] == 3
    assert f"{path}:2:1: " in told["error"]


def test_without_a_file_nobody_is_asked(make_api: Any) -> None:
    """As on loopback by default."""
    api = make_api()
    assert get(api, "/").json()["tokens"] is None
    assert get(api, "/flows", HTTP_AUTHORIZATION="Bearer x").status == 200


def test_under_a_prefix_the_role_is_that_of_the_route(make_api: Any, root: Path) -> None:
    """What is outside of the prefix needs a token as well, before it is not found."""
    path = root / "tokens.yaml"
    path.write_text(f"tokens: [{{name: a, role: operator, token: {TOKENS['operator']}}}]")
    path.chmod(0o600)
    api = make_api(tokens=Tokens(path, SystemClock()), prefix="/base")
    assert get(api, "/base/livez").status == 200
    assert get(api, "/base/flows").status == 401
    assert get(api, "/base/flows", **bearer("operator")).status == 200
    assert get(api, "/livez").status == 401
    assert get(api, "/livez", **bearer("operator")).status == 404
    stop = {"command": "stop"}
    commands = "/flows/commands"
    assert ask(api, "PATCH", f"/base{commands}", stop, **bearer("operator")).status == 200
    assert ask(api, "PATCH", commands, stop, **bearer("operator")).status == 403
