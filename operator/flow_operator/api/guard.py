"""What is refused before any route is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from flow_operator.api.errors import PROBLEM, problem_body

Wsgi = Callable[..., Iterable[bytes]]


class Guard:
    """Checks Host and Origin, and takes the base URL's path away.

    An API that starts commands must not be reachable from a web page: a foreign Origin is a page
    of somebody else's, and a foreign Host is a name that was rebound to this machine.

    Args:
        app: the application behind it.
        hosts: names that may stand in the Host header, without port; None allows all.
        prefix: the path of the base URL, under which everything is served.
    """

    def __init__(self, app: Wsgi, hosts: frozenset[str] | None, prefix: str) -> None:
        self._app = app
        self._hosts = hosts
        self._prefix = prefix

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        refusal = self._refuse(environ)
        if refusal is not None:
            status, detail = refusal
            body = problem_body(status, detail)
            headers = [("Content-Type", PROBLEM), ("Content-Length", str(len(body)))]
            start_response(f"{status.value} {status.phrase}", headers)
            return [body]
        if self._prefix:
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + self._prefix
            environ["PATH_INFO"] = environ["PATH_INFO"][len(self._prefix) :]
        return self._app(environ, start_response)

    def _refuse(self, environ: dict[str, Any]) -> tuple[HTTPStatus, str] | None:
        host = environ.get("HTTP_HOST", "")
        if self._hosts is not None and host and _name(f"//{host}") not in self._hosts:
            allowed = ", ".join(sorted(self._hosts))
            return HTTPStatus.FORBIDDEN, f"the Host header must name one of {allowed}"
        if not _is_utf8(environ.get("PATH_INFO", "").encode("latin-1")) or not _is_utf8(
            unquote_to_bytes(environ.get("QUERY_STRING", ""))
        ):
            return HTTPStatus.BAD_REQUEST, "the URL is not valid UTF-8"
        origin = environ.get("HTTP_ORIGIN")
        if origin and _netloc(origin) != host:
            return HTTPStatus.FORBIDDEN, "requests from pages of other origins are refused"
        path = environ.get("PATH_INFO", "")
        if self._prefix and not f"{path}/".startswith(f"{self._prefix}/"):
            return HTTPStatus.NOT_FOUND, f"everything is served under {self._prefix}/"
        return None


def _is_utf8(data: bytes) -> bool:
    # What Bottle would leave out silently could turn one id into another.
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
