"""Hosts, pages of other origins, and what every answer says in its head."""

from __future__ import annotations

from typing import Any

import pytest

from flow_operator.api import LOOPBACK, Hosts
from flow_operator.api.hosts import host_name
from flow_operator.flowd import _hosts
from flow_operator.options import read_settings
from support import make_document

# --- hosts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "name"),
    [
        *(("localhost", "localhost"), ("LocalHost:8710", "localhost"), ("localhost.", "localhost")),
        *(("a.example.:80", "a.example"), ("[::1]:8710", "::1"), ("[::1]", "::1"), ("h:", "h")),
        *(("1.2.3.4:1", "1.2.3.4"), ("xn--bcher-kva.example", "xn--bcher-kva.example")),
        *((bad, "") for bad in ("", ":80", "::1", "[", "[::1", "::1]", "[::1]x", "a b", "a,b")),
        *((bad, "") for bad in ("a@b", "http://a", "a/b", "a?b", "a#b", "a\\b", "a:b", "a:1:2")),
        *((bad, "") for bad in ("a, b", "a\tb", "[g]", "a:123456", "127.0.0.1@evil.example")),
    ],
)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    """In small letters, without port, brackets and final dot; what is no host has none."""
    assert host_name(header) == name


def served(*flags: str) -> Hosts:
    return _hosts(read_settings(flags, {}))


EVERYWHERE = ("--listen", "0.0.0.0:80")


@pytest.mark.parametrize(
    ("flags", "yes", "no"),
    [
        ((), "localhost 127.0.0.1 ::1", "evil.example 127.0.0.2 10.0.0.1 flowd"),
        (("--listen", "127.0.0.9:80"), "localhost 127.0.0.9", "127.0.0.2 evil.example"),
        (("--listen", "unix:/x", "--tokens", "t"), "localhost", "evil.example"),
        (("--allow-hosts", "A.example.,b"), "a.example b localhost", "evil.example a.example.evil"),
        ((*EVERYWHERE, "--tokens", "t"), "evil.example 10.0.0.1", ""),
        (
            (*EVERYWHERE, "--tokens", "t", "--allow-hosts", "a.example"),
            "a.example 10.0.0.1 ::1 flowd localhost",
            "evil.example",
        ),
        ((*EVERYWHERE, "--insecure"), "10.0.0.1 fe80::1 flowd localhost", "evil.example"),
    ],
)
def test_under_which_names_it_is_served(flags: tuple[str, ...], yes: str, no: str) -> None:
    """A name that a stranger could have bound to our address is refused wherever it matters."""
    hosts = served(*flags)
    assert [name for name in yes.split() if not hosts.serve(name)] == []
    assert [name for name in no.split() if hosts.serve(name)] == []
    assert all(hosts.names)  # They are told to whom is refused.


def test_the_operators_own_name_is_served() -> None:
    """Where it can be reached under it."""
    import socket  # noqa: PLC0415

    assert socket.gethostname().lower() in served(*EVERYWHERE, "--insecure").names
    assert served().names >= LOOPBACK


def status(api: Any, method: str = "GET", path: str = "/flows", **environ: Any) -> int:
    answer = api.client.open(method, path, **environ)
    answer.read()
    code: int = answer.status
    return code


@pytest.mark.parametrize(
    ("host", "code"),
    [("127.0.0.1", 200), ("127.0.0.1:1", 200), ("evil.example", 403), ("a b", 400), ("", 400)],
)
@pytest.mark.parametrize("path", ["/flows", "/livez", "/nothing"])
def test_a_foreign_host_is_refused(api: Any, path: str, host: str, code: int) -> None:
    """On every route, and also if it is not there."""
    expected = 404 if (path, code) == ("/nothing", 200) else code
    assert status(api, path=path, HTTP_HOST=host) == expected


def test_a_request_without_a_host(api: Any) -> None:
    """HTTP/1.1 asks for it, HTTP/1.0 does not know it; no browser leaves it out."""
    for protocol, code in (("HTTP/1.1", 400), ("HTTP/1.0", 200)):
        assert status(api, HTTP_HOST=None, SERVER_PROTOCOL=protocol) == code


def test_a_refusal_names_the_flag(api: Any) -> None:
    """The reader may have a name that is good."""
    answer = api.client.get("/flows", HTTP_HOST="flows.example")
    assert "--allow-hosts" in answer.json()["detail"]


# --- pages of other origins ------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "http://evil.example", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"),
        *("https://evil.example", "file://", "127.0.0.1", "http://[", "http://a@127.0.0.1"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/flows"), ("POST", "/manifests/prune"), ("DELETE", "/flows/demo"), ("GET", "/")],
)
def test_pages_of_other_origins_are_refused(
    make_api: Any, origin: str, method: str, path: str
) -> None:
    """Also without a body, as a form may send; nothing is done."""

    def prune(_meant: Any) -> list[str]:
        pytest.fail("it was done")

    api = make_api(prune=prune)
    form = "application/x-www-form-urlencoded"
    assert status(api, method, path, HTTP_ORIGIN=origin, CONTENT_TYPE=form) == 403


def test_an_origin_without_a_host_is_refused(api: Any) -> None:
    """There is nothing that it could be the same as."""
    for origin in ("null", "http://", "http://127.0.0.1"):
        asked = {"HTTP_HOST": None, "SERVER_PROTOCOL": "HTTP/1.0", "HTTP_ORIGIN": origin}
        assert status(api, **asked) == 403


@pytest.mark.parametrize("origin", ["http://127.0.0.1", "https://127.0.0.1", "HTTP://127.0.0.1"])
def test_our_own_pages_are_served(api: Any, origin: str) -> None:
    """Also behind a proxy that speaks TLS."""
    assert status(api, HTTP_ORIGIN=origin) == 200


@pytest.mark.parametrize(
    ("site", "dest", "method", "code"),
    [
        ("cross-site", "image", "GET", 403),
        ("same-site", "empty", "GET", 403),
        ("cross-site", "iframe", "GET", 403),
        ("cross-site", "document", "POST", 403),
        ("something-new", "empty", "GET", 403),
        ("cross-site", "document", "GET", 200),
        ("same-origin", "empty", "GET", 200),
        ("none", "document", "GET", 200),
        ("same-origin", "empty", "POST", 200),
    ],
)
def test_what_a_browser_tells_of_the_page(
    api: Any, site: str, dest: str, method: str, code: int
) -> None:
    """A link may be followed; an image or frame could hold a stream open, and is refused."""
    path = "/manifests/prune" if method == "POST" else "/flows"
    told = {"HTTP_SEC_FETCH_SITE": site, "HTTP_SEC_FETCH_DEST": dest}
    assert status(api, method, path, **told) == code


# --- the head of every answer ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "environ", "code", "cache"),
    [
        ("/flows/status", {}, 200, "private, no-cache"),
        ("/events", {}, 200, "no-store"),
        ("/flows/demo", {}, 200, "private, no-cache"),
        ("/flows/demo/logs", {}, 200, "no-store"),
        ("/nothing", {}, 404, "no-store"),
        ("/flows", {"HTTP_HOST": "evil.example"}, 403, "no-store"),
    ],
)
def test_what_every_answer_says(
    api: Any, path: str, environ: dict[str, str], code: int, cache: str
) -> None:
    """Nothing is guessed to be a script, taken into other pages, or kept on the way."""
    document = make_document("demo", state="stopped")
    assert api.client.send("POST", "/flows", [document]).read()
    answer = api.client.get(path, **environ)
    assert answer.status == code
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == cache
    answer.read()
