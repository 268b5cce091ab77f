"""What calls raise, by what a caller can do about it; the package's docstring has the tree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flow_operator.errors import Fault, FlowError

if TYPE_CHECKING:
    import httpx

NOT_FOUND = 404
PRECONDITION_FAILED = 412
NOT_OURS = "this is not what a flow operator sends; is app_url (or --url) right?"


class ApiError(FlowError):
    """The operator refused, or failed at, a request.

    Attributes:
        status: the HTTP status, 400 to 599; below 400 if the answer was not the operator's at all.
        detail: a sentence for people.
        faults: everything that is wrong with what was sent: pointer (from the body's root), and
            line and column where they are known.
    """

    def __init__(self, status: int, detail: str, faults: Sequence[Fault] = ()) -> None:
        self.status = status
        self.detail = detail
        self.faults = tuple(faults)
        super().__init__(detail)


class Unauthorized(ApiError):
    """401: no token, or one that is not known. Get another one."""


class Forbidden(ApiError):
    """403: the token's role is too low."""


class NotFound(ApiError):
    """404: there is no such flow, generation or route."""


class Conflict(ApiError):
    """409: a manifest file owns the flow. Edit the file, or take the flow over with ``force``."""


class Gone(ApiError):
    """410: what a stream was to go on from is not kept any more. Begin anew."""


class PreconditionFailed(ApiError):
    """412: the flow has changed since its ETag was told. Read it again, and decide again."""


class Unavailable(ApiError):
    """503 or 507: the operator cannot do it now; nothing was changed.

    Attributes:
        retry_after: seconds after which it asks to be tried again; None if it does not say.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        faults: Sequence[Fault] = (),
        retry_after: float | None = None,
    ) -> None:
        self.retry_after = retry_after
        super().__init__(status, detail, faults)


class NotModified(FlowError):
    """304: what ``if_none_match`` names is still so."""


class LateError(FlowError):
    """Flows did not get where they were waited for in time.

    Attributes:
        statuses: the last ones that were seen of those that did not, by flow_id.
    """

    def __init__(self, message: str, statuses: Mapping[str, dict[str, Any]]) -> None:
        self.statuses = dict(statuses)
        super().__init__(message)


class UnreachableError(FlowError):
    """No operator answered at ``url``.

    Attributes:
        url: the base URL as it was given.
        reason: why, in a few words.
        sent: whether the operator may have got the request, and acted upon it.
    """

    def __init__(self, url: str, reason: str, *, sent: bool = True) -> None:
        self.url = url
        self.reason = reason
        self.sent = sent
        super().__init__(
            f"Cannot reach the operator at {url}: {reason.rstrip('.')}. "
            "Is flowd running? Is app_url (or --url) right?"
        )


class UntrustedError(UnreachableError):
    """Who answers there has no certificate that is trusted; nothing was sent."""


_KINDS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    412: PreconditionFailed,
}
_UNAVAILABLE = (503, 507)


def api_error(
    status: int, detail: str, faults: Sequence[Fault] = (), retry_after: str | None = None
) -> ApiError:
    """The error that goes with a status.

    Args:
        status: of the answer.
        detail: for people.
        faults: what is wrong with what was sent.
        retry_after: the header.
    """
    if status in _UNAVAILABLE:
        seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
        return Unavailable(status, detail, faults, seconds)
    return _KINDS.get(status, ApiError)(status, detail, faults)


def refusal(response: httpx.Response) -> ApiError:
    """The error that an ``application/problem+json`` body (RFC 9457) describes."""
    status = f"HTTP {response.status_code} {response.reason_phrase}".strip()
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return api_error(response.status_code, f"{status}: {NOT_OURS}")
    listed = [fault for fault in body.get("errors") or () if isinstance(fault, dict)]
    return api_error(
        response.status_code,
        body.get("detail") or body.get("title") or status,
        list(map(_fault, listed)),
        response.headers.get("retry-after"),
    )


def _fault(told: dict[str, Any]) -> Fault:
    return Fault(
        str(told.get("detail", "")),
        str(told.get("pointer", "")),
        told.get("line"),
        told.get("column"),
    )


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Tells failures of the network within the block as :class:`UnreachableError`."""
    import httpx  # noqa: PLC0415

    try:
        yield
    except httpx.TransportError as error:
        raise _unreachable(url, error) from None


def _unreachable(url: str, error: httpx.TransportError) -> UnreachableError:
    import httpx  # noqa: PLC0415

    if found := re.search(r"certificate verify failed: (.*?)( \(_ssl|$)", str(error)):
        reason = f"its certificate is not trusted ({found[1]}); --ca names one that is"
        return UntrustedError(url, reason, sent=False)
    unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
    reason = "it does not answer" if isinstance(error, httpx.TimeoutException) else _why(error)
    return UnreachableError(url, reason, sent=not isinstance(error, unsent))


def _why(error: Exception) -> str:
    """The reason without the errno that it begins with."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)).lower() or type(error).__name__
