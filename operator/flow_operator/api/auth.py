"""Who may do what: the Authorization header against the tokens (RFC 6750)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog

from flow_operator.api.dashboard import from_browser
from flow_operator.api.roles import Role, role_needed
from flow_operator.api.stream import WRAP, Source
from flow_operator.api.tokens import Tokens
from flow_operator.clock import Clock

_CHALLENGE = 'Bearer realm="flow-operator"'
_BEARER = re.compile(r"(?i:bearer) +([-A-Za-z0-9._~+/]{1,512}=*)")
_LOOK = 5.0
"""Seconds between two looks whether the token of a quiet stream still stands."""

_QUIET = 10.0
"""Seconds between two lines of the log about requests that were refused."""

log = structlog.get_logger("auth")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered."""

    status: HTTPStatus
    detail: str
    headers: tuple[tuple[str, str], ...] = ()


class Gate:
    """Lets those in who have a token of the role that is needed; everybody if there are no tokens.

    A refusal is not delayed: a delay would hold a thread that others need, and nobody finds 20 and
    more random characters by trying.
    """

    def __init__(self, tokens: Tokens | None, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._refused = _Refused(clock)

    def admit(self, environ: dict[str, Any], path: str) -> Refusal | None:
        """Why a request is refused; if it is not, ``REMOTE_USER`` is whose token it has.

        Its stream, if it gets one, ends when that token is taken out.

        Args:
            environ: the request.
            path: without the base URL's own.
        """
        if self._tokens is None:
            return None
        refusal = self._judge(self._tokens, environ, path)
        if refusal is not None:
            self._refused.tell(environ, refusal)
        return refusal

    def _judge(self, tokens: Tokens, environ: dict[str, Any], path: str) -> Refusal | None:
        needed = role_needed(environ["REQUEST_METHOD"], path)
        if needed is None or (path == "/" and needed is Role.VIEWER and from_browser(environ)):
            return None
        given = environ.get("HTTP_AUTHORIZATION", "").strip()
        if given.partition(" ")[0].lower() != "bearer":
            return _unauthorized(
                "a token is needed: send it as 'Authorization: Bearer TOKEN' "
                "(flowctl: --token-file FILE)"
            )
        found = _BEARER.fullmatch(given)
        if not found:
            detail = "the Authorization header must be 'Bearer TOKEN', with one token, and once"
            return _refusal(HTTPStatus.BAD_REQUEST, detail, "invalid_request")
        grant = tokens.find(found[1])
        if grant is None:
            return _unauthorized(
                "the token is not known here, or no longer; ask for another one", "invalid_token"
            )
        if not grant.role.covers(needed):
            return _refusal(
                HTTPStatus.FORBIDDEN,
                f"this needs a token with the role {needed.value}, and that of '{grant.name}' has "
                f"the role {grant.role.value}",
                "insufficient_scope",
            )
        environ["REMOTE_USER"] = grant.name
        environ[WRAP] = partial(_Granted, stands=partial(tokens.stands, grant), clock=self._clock)
        return None


def _unauthorized(detail: str, error: str = "") -> Refusal:
    return _refusal(HTTPStatus.UNAUTHORIZED, detail, error)


def _refusal(status: HTTPStatus, detail: str, error: str) -> Refusal:
    challenge = f'{_CHALLENGE}, error="{error}"' if error else _CHALLENGE
    return Refusal(status, detail, (("WWW-Authenticate", challenge),))


class _Granted:
    """A stream that ends when the token that it was opened with no longer stands."""

    def __init__(self, source: Source, stands: Callable[[], bool], clock: Clock) -> None:
        self._source = source
        self._stands = stands
        self._clock = clock
        self.period = source.period
        self.heartbeat = source.heartbeat

    @property
    def ends_at(self) -> float:
        """All such streams are looked at together, whenever they were begun."""
        looked = (self._clock.monotonic() // _LOOK + 1) * _LOOK
        return min(self._source.ends_at, looked)

    def take(self) -> bytes | None:
        """What the source has, as long as the caller may see it."""
        return self._source.take() if self._stands() else None

    def close(self) -> None:
        """Nobody reads any more."""
        self._source.close()


class _Refused:
    """Tells of refused requests in the log, seldom, however many there are."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock.monotonic()
        self._count = 0

    def tell(self, environ: dict[str, Any], refusal: Refusal) -> None:
        """One more; what it sent is never told."""
        with self._lock:
            self._count += 1
            now = self._clock.monotonic()
            if now < self._next:
                return
            count, self._count, self._next = self._count, 0, now + _QUIET
        log.warning(
            "requests refused",
            count=count,
            last=environ.get("REMOTE_ADDR") or "unknown",
            status=refusal.status.value,
            why=refusal.detail,
        )
