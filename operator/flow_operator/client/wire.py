"""What goes over the wire, and what comes back: all that has nothing to wait for."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from flow_operator.client.errors import NOT_OURS, ApiError
from flow_operator.defaults import DEFAULT_URL
from flow_operator.errors import InvalidError
from flow_operator.model.names import NAME_PATTERN, RESERVED_NAMES

if TYPE_CHECKING:
    # Where it is used it is imported: that takes longer than all else that flowctl does.
    import ssl

    import httpx

JsonObject = dict[str, Any]
"""One decoded JSON object."""

AsyncSleep = Callable[[float], Awaitable[None]]
Sleep = Callable[[float], None]

_OK = 200
_CONNECT_SECONDS = 5.0

T = TypeVar("T")


@dataclass
class Seen:
    """What was seen of a list or status at last; whoever asks with it writes into it.

    Attributes:
        etag: asked with again, only what differs is answered.
        resource_version: where a watch goes on from to miss nothing that was not seen.
    """

    etag: str = ""
    resource_version: str = ""


Patience = tuple[float, float | None, float | None, float | None]
"""Seconds to connect, and how long reading, writing and the pool may be silent."""


def patience(seconds: float | None) -> Patience:
    """How long to wait for an operator that is silent; None is for ever."""
    connect = _CONNECT_SECONDS if seconds is None else min(_CONNECT_SECONDS, seconds)
    return (connect, seconds, seconds, seconds)


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


async def async_sleep(seconds: float) -> None:
    """Wait, and let others go on."""
    import asyncio  # noqa: PLC0415 - takes longer than a call

    await asyncio.sleep(seconds)


def countdown(seconds: float) -> Callable[[], float]:
    """Tells how many seconds are left of these."""
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


# --- where ------------------------------------------------------------------------------------


def base_url(url: str) -> tuple[str, str | None]:
    """The base URL, and the path of the unix socket to speak over, if any.

    Raises:
        InvalidError: it cannot be an operator's.
    """
    if url.startswith("unix:") and (path := url.removeprefix("unix:").removeprefix("//")):
        return "http://localhost", path
    from urllib.parse import urlsplit  # noqa: PLC0415 - help needs none

    try:
        split = urlsplit(url)
        good = split.scheme in ("http", "https") and split.hostname and split.port != 0
    except ValueError:
        good = False
    if not good:
        raise InvalidError(
            f"the operator's URL must look like {DEFAULT_URL} or unix:/run/flowd.sock, not {url!r}"
        )
    return url, None


def authorization(token: str | None) -> dict[str, str]:
    """The header that says who we are.

    Raises:
        InvalidError: that is no token; the error does not repeat it.
    """
    if not token:
        return {}
    if not re.fullmatch(r"[-A-Za-z0-9._~+/]+=*", token):
        raise InvalidError("the token holds what no token does: is it the right file or variable?")
    return {"Authorization": f"Bearer {token}"}


def trusted(base: str, ca: str | None) -> ssl.SSLContext | bool:
    """Whose certificates are good.

    Only https needs any; to load them takes longer than a request does.

    Raises:
        InvalidError: the file cannot be used.
    """
    if ca is None or not base.startswith("https:"):
        return base.startswith("https:")
    import ssl  # noqa: PLC0415

    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        why = error.strerror or "it holds no certificates (PEM)"
        raise InvalidError(
            f"cannot use the certificates in {ca}: {why}; name a file of PEM certificates"
        ) from None


def check_flow_id(flow_id: str) -> str:
    """The name itself, if it can be a flow's.

    Raises:
        InvalidError: it cannot; as part of a path it would reach something else.
    """
    if not re.match(NAME_PATTERN, flow_id) or flow_id in RESERVED_NAMES:
        raise InvalidError(
            f"{flow_id!r} cannot be a flow: names must be lower-case letters, digits and '-', "
            f"52 at most, and not {' or '.join(sorted(RESERVED_NAMES))}"
        )
    return flow_id


def flow_path(flow_id: str) -> str:
    """Where a flow's configuration is."""
    return f"/flows/{check_flow_id(flow_id)}"


def status_path(flow_id: str | None) -> str:
    """Where the status of a flow is, or of all."""
    return "/flows/status" if flow_id is None else f"/flows/status/{check_flow_id(flow_id)}"


def events_path(flow_id: str | None) -> str:
    """Where the events of a flow are, or of all."""
    return "/events" if flow_id is None else f"{flow_path(flow_id)}/events"


# --- what is asked ----------------------------------------------------------------------------


def given(**params: str | int | None) -> dict[str, str]:
    """Parameters and headers as text; None and False leave one out, True is 1."""
    told = {key: value for key, value in params.items() if value is not None and value is not False}
    return {key: "1" if value is True else str(value) for key, value in told.items()}


def flag(value: bool, text: str = "true") -> str | None:  # noqa: FBT001 - a converter
    """How a parameter says that something is wanted."""
    return text if value else None


def selectors(labels: str | None, fields: str | None) -> dict[str, str]:
    """Which flows are meant."""
    return given(labelSelector=labels, fieldSelector=fields)


def matching(etag: str | None) -> dict[str, str]:
    """Only if it is still so."""
    return {"If-Match": etag} if etag else {}


def known_as(known: str | Seen | None) -> dict[str, str]:
    """Only if it is not so any more."""
    etag = known.etag if isinstance(known, Seen) else known
    return {"If-None-Match": etag} if etag else {}


# --- what is answered -------------------------------------------------------------------------


def decoded(response: httpx.Response) -> Any:
    """The JSON of an answer.

    Raises:
        ApiError: there is none.
    """
    try:
        return response.json()
    except ValueError:
        raise ApiError(response.status_code, NOT_OURS) from None


def expect(value: Any, kind: type[T]) -> T:
    """The value, if it is of that kind.

    Raises:
        ApiError: it is not.
    """
    if not isinstance(value, kind):
        raise ApiError(_OK, NOT_OURS)
    return value


def objects(answer: Any, key: str) -> list[JsonObject]:
    """The list of objects under a key of an answer."""
    listed: list[JsonObject] = expect(expect(answer, dict).get(key), list)
    return listed


def only_detail(answer: Any) -> JsonObject:
    """What a dry run says of the one flow that it was asked about."""
    details = objects(answer, "details")
    return expect(details[0] if len(details) == 1 else None, dict)


def see(seen: Seen | None, response: httpx.Response) -> None:
    """Keep what the headers tell."""
    if seen is not None:
        seen.etag = response.headers.get("etag", "")
        seen.resource_version = response.headers.get("resource-version", "")


def next_part(response: httpx.Response) -> str | None:
    """The flow_id after which the next part of a list begins; None after the last one."""
    from urllib.parse import parse_qs, urlsplit  # noqa: PLC0415

    url = response.links.get("next", {}).get("url")
    found = parse_qs(urlsplit(url).query).get("continue") if url else None
    return found[0] if found else None


def by_flow(details: Iterable[Mapping[str, str]], key: str) -> dict[str, str]:
    """One thing of each detail, by flow_id."""
    return {detail["flow_id"]: detail[key] for detail in details}
