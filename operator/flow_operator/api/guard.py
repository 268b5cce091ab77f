"""What is refused before any route is looked at, and what stands in the head of every answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from flow_operator.api.auth import Gate, Refusal
from flow_operator.api.errors import PROBLEM, problem_body
from flow_operator.api.hosts import Hosts, host_name

Wsgi = Callable[..., Iterable[bytes]]

_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Guard:
    """Checks Host, Origin and token, and takes the base URL's path away.

    An API that starts commands must not be reachable from a web page: a foreign Origin is a page
    of somebody else's, and a foreign Host is a name that was rebound to this machine.

    Args:
        app: the application behind it.
        hosts: names that may stand in the Host header.
        gate: knows the tokens.
        prefix: the path of the base URL, under which everything is served.
    """

    def __init__(self, app: Wsgi, hosts: Hosts, gate: Gate, prefix: str) -> None:
        self._app = app
        self._hosts = hosts
        self._gate = gate
        self._prefix = prefix

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, *_added(headers)], *rest)

        refusal = self._refuse(environ)
        if refusal is not None:
            return _tell(refusal, environ, start)
        if self._prefix:
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + self._prefix
            environ["PATH_INFO"] = environ["PATH_INFO"][len(self._prefix) :]
        return self._app(environ, start)

    def _refuse(self, environ: dict[str, Any]) -> Refusal | None:
        path = environ.get("PATH_INFO", "")
        ours = not self._prefix or f"{path}/".startswith(f"{self._prefix}/")
        refusal = (
            self._foreign_host(environ)
            or _malformed(environ)
            or _foreign_page(environ)
            # First who asks, then what for: a stranger learns nothing of what there is.
            or self._gate.admit(environ, path[len(self._prefix) :] if ours else "")
        )
        if refusal is None and not ours:
            detail = f"everything is served under {self._prefix}/"
            return Refusal(HTTPStatus.NOT_FOUND, detail)
        return refusal

    def _foreign_host(self, environ: dict[str, Any]) -> Refusal | None:
        header = environ.get("HTTP_HOST")
        if header is None:
            # Browsers always send one; what speaks HTTP/1.0 may not know it.
            if environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
                return None
            return Refusal(HTTPStatus.BAD_REQUEST, "HTTP/1.1 asks for a Host header")
        name = host_name(header)
        if not name:
            return Refusal(HTTPStatus.BAD_REQUEST, "the Host header must name one host, once")
        if self._hosts.serve(name):
            return None
        allowed = ", ".join(sorted(self._hosts.names))
        detail = f"the Host header must name one of {allowed}; flowd --allow-hosts adds others"
        return Refusal(HTTPStatus.FORBIDDEN, detail)


def _malformed(environ: dict[str, Any]) -> Refusal | None:
    # What Bottle would leave out silently could turn one id into another.
    path = environ.get("PATH_INFO", "").encode("latin-1")
    query = unquote_to_bytes(environ.get("QUERY_STRING", ""))
    if _is_utf8(path) and _is_utf8(query):
        return None
    return Refusal(HTTPStatus.BAD_REQUEST, "the URL is not valid UTF-8")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _foreign_page(environ: dict[str, Any]) -> Refusal | None:
    """Browsers tell where a page is from: by Origin with every write, by Sec-Fetch-* always.

    A link from elsewhere may be followed; an image or frame may not hold a stream open.
    """
    origin = environ.get("HTTP_ORIGIN")
    foreign = origin is not None and _netloc(origin) != environ.get("HTTP_HOST", "").lower()
    site = environ.get("HTTP_SEC_FETCH_SITE", "none").lower()
    followed = environ.get("HTTP_SEC_FETCH_DEST") == "document" and environ["REQUEST_METHOD"] in (
        "GET",
        "HEAD",
    )
    if foreign or (site not in ("none", "same-origin") and not followed):
        detail = "requests from pages of other origins are refused"
        return Refusal(HTTPStatus.FORBIDDEN, detail)
    return None


def _netloc(url: str) -> str | None:
    """Host and port of an origin; None if it has none, as ``null``."""
    try:
        return urlsplit(url).netloc.lower() or None
    except ValueError:
        return None


def _tell(refusal: Refusal, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
    body = problem_body(refusal.status, refusal.detail)
    headers = [("Content-Type", PROBLEM), ("Content-Length", str(len(body))), *refusal.headers]
    start(f"{refusal.status.value} {refusal.status.phrase}", headers)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def _added(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is not there yet of what every answer says.

    Nothing is stored on the way; what has an ETag may be, by who asks, and is asked for each time.
    """
    present = {name.lower() for name, _ in headers}
    cache = "private, no-cache" if "etag" in present else "no-store"
    wanted = (*_HEADERS, ("Cache-Control", cache))
    return [(name, value) for name, value in wanted if name.lower() not in present]
