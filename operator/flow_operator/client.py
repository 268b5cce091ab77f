"""The HTTP client of the operator's REST API: one typed method per call.

Everything is synchronous. What an operator sends is given back as plain JSON data, so that a newer
operator's fields reach the caller; the shapes are those of the REST API's documentation.

::

    FlowError
    ├── ApiError          the operator answered, and the answer is no
    └── UnreachableError  nobody answered
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from flow_operator.errors import Fault, FlowError, GoneError, InvalidError
from flow_operator.model.names import NAME_PATTERN, RESERVED_NAMES
from flow_operator.settings import DEFAULT_URL
from flow_operator.watches import Change, Follower, event_key, status_key

if TYPE_CHECKING:
    # Where it is used it is imported: that takes longer than all else that flowctl does.
    import ssl

    import httpx

JsonObject = dict[str, Any]
"""One decoded JSON object."""

NOT_FOUND = 404
PRECONDITION_FAILED = 412
GONE = 410
UNAVAILABLE = 503

_SILENCE = 45.0
"""Seconds after which a watch is taken for lost: it has a bookmark every 15."""

_T = TypeVar("_T")
_OK = 200
_CONNECT_SECONDS = 5.0
_NOT_OURS = "this is not what a flow operator sends; is app_url (or --url) right?"


class ApiError(FlowError):
    """The operator refused, or failed at, a request.

    Attributes:
        status: the HTTP status, 400 to 599; below 400 if the answer was not the operator's at all.
        detail: a sentence for people.
        faults: everything that is wrong with what was sent; pointers start at the body's root.
    """

    def __init__(self, status: int, detail: str, faults: Sequence[Fault] = ()) -> None:
        self.status = status
        self.detail = detail
        self.faults = tuple(faults)
        super().__init__(detail)


class UnreachableError(FlowError):
    """No operator answered at ``url``; the request may or may not have been acted upon.

    Attributes:
        url: the base URL as it was given.
        reason: why, in a few words.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(
            f"Cannot reach the operator at {url}: {reason.rstrip('.')}. "
            "Is flowd running? Is app_url (or --url) right?"
        )


class FlowClient:
    """A connection to one operator; a context manager, and usable by one thread at a time.

    Every method raises :class:`ApiError` where the operator answers no (the status is named below
    where it tells something), and :class:`UnreachableError` where there is no answer. Methods that
    take a ``flow_id`` raise :class:`~flow_operator.errors.InvalidError` before anything is sent if
    it cannot be one.

    Args:
        url: base URL: ``http://HOST:PORT/PREFIX``, ``https://...`` or ``unix:PATH``.
        timeout: seconds that the operator may stay silent.
        token: who we are; sent with each request.
        ca: a file of certificates (PEM) that are trusted instead of the machine's.
        transport: stands in for the network in tests.

    Raises:
        InvalidError: ``url`` is none of the above, or ``token`` or ``ca`` cannot be used.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = 30.0,
        token: str | None = None,
        ca: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        import httpx  # noqa: PLC0415

        self.url = url
        self._seconds = timeout
        base, socket = _base_url(url)
        if transport is None:
            # Only https needs the certificates, which take longer to load than a request takes.
            # Connecting is tried twice; a request that was sent is never repeated.
            verify = _trusted(ca) if base.startswith("https:") else False
            transport = httpx.HTTPTransport(verify=verify, retries=1, uds=socket)
        self._http = httpx.Client(
            base_url=base,
            timeout=_patience(timeout),
            transport=transport,
            headers={"Authorization": f"Bearer {_checked(token)}"} if token else None,
        )

    def __enter__(self) -> Self:
        """Nothing is sent yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; twice is fine."""
        self._http.close()

    # --- configurations ----------------------------------------------------------------------

    def flows(
        self, *, label_selector: str | None = None, field_selector: str | None = None
    ) -> list[JsonObject]:
        """Every configuration: manifest documents with a ``flow_id``, sorted by it.

        Args:
            label_selector: only flows with such labels: ``team=payments``.
            field_selector: only flows with such a status: ``status=failed``.
        """
        params = _given(labelSelector=label_selector, fieldSelector=field_selector)
        return _expect(self._call("GET", "/flows", params=params), list)

    def flow(self, flow_id: str) -> tuple[JsonObject, str]:
        """One configuration, and its ETag for ``if_match``.

        Raises:
            ApiError: 404, there is none of that id.
        """
        response = self._send("GET", _path(flow_id))
        return _expect(_json(response), dict), response.headers.get("etag", "")

    def create(
        self, documents: Sequence[Mapping[str, Any]], *, dry_run: bool = False
    ) -> list[JsonObject]:
        """Add configurations, all or none.

        Returns:
            ``{"flow_id", "status"}`` of each. With ``dry_run`` nothing is written, and it is
            ``{"flow_id", "change"}``: what would happen to processes.

        Raises:
            ApiError: 400, nothing was created; each fault's pointer begins with the document's
                index, as in ``/0/spec/steps``.
        """
        params = _given(dryRun=_dry(dry_run))
        answer = _expect(self._call("POST", "/flows", json=list(documents), params=params), dict)
        return _expect(answer.get("details"), list)

    def replace(
        self,
        flow_id: str,
        document: Mapping[str, Any],
        *,
        if_match: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> JsonObject:
        """Replace a whole configuration.

        Args:
            flow_id: of the configuration, which must exist.
            document: the manifest.
            if_match: an ETag; only replace the configuration which has it.
            force: take the flow over from the manifest file that owns it.
            dry_run: write nothing; the answer is ``{"flow_id", "change"}``.

        Returns:
            ``{"flow_id", "change", "generation"}``; ``change`` is ``none``, ``inPlace``,
            ``restart``, ``start`` or ``stop``: what happens to processes.

        Raises:
            ApiError: 400 invalid or unknown, 409 owned by a file, 412 the ETag has moved on.
        """
        headers = {"If-Match": if_match} if if_match else {}
        params = _given(force=_flag(force), dryRun=_dry(dry_run))
        answer = self._call("PUT", _path(flow_id), json=document, headers=headers, params=params)
        return _only_detail(answer) if dry_run else _expect(answer, dict)

    def delete(
        self, flow_id: str, *, hard: bool = False, force: bool = False, dry_run: bool = False
    ) -> JsonObject:
        """Delete a configuration; its processes are drained behind it.

        Args:
            flow_id: of the configuration.
            hard: kill the processes instead.
            force: even though a manifest file owns it.
            dry_run: delete nothing.

        Returns:
            ``{"flow_id"}``, in a dry run with ``change``: what would happen to processes.

        Raises:
            ApiError: 400 unknown, 409 owned by a file.
        """
        params = _given(type=1 if hard else None, force=_flag(force), dryRun=_dry(dry_run))
        answer = self._call("DELETE", _path(flow_id), params=params)
        return _only_detail(answer) if dry_run else _expect(answer, dict)

    def history(self, flow_id: str) -> list[JsonObject]:
        """The last ten generations of a flow, newest first.

        Each is ``{"generation", "at", "by", "action", "change", "diff"}``; ``diff`` is None if the
        generation before it is not kept.

        Raises:
            ApiError: 404, there is no flow of that id.
        """
        answer = _expect(self._call("GET", f"{_path(flow_id)}/history"), dict)
        return _expect(answer.get("history"), list)

    def generation(self, flow_id: str, generation: int) -> JsonObject:
        """A flow's configuration as it was then.

        Raises:
            ApiError: 404, there is no flow of that id, or that generation is not kept.
        """
        return _expect(self._call("GET", f"{_path(flow_id)}/history/{generation}"), dict)

    def rollback(
        self,
        flow_id: str,
        generation: int | None = None,
        *,
        if_match: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> JsonObject:
        """Make an earlier configuration the present one, as a new generation.

        Args:
            flow_id: of the flow.
            generation: which; None is the last one that differs from the present one.
            if_match: an ETag; only if the present configuration has it.
            force: take the flow over from the manifest file that owns it.
            dry_run: write nothing; the answer is ``{"flow_id", "change"}``.

        Returns:
            ``{"flow_id", "to", "generation", "change"}``.

        Raises:
            ApiError: 400 not kept, 404 unknown, 409 owned by a file, 412 the ETag has moved on.
        """
        headers = {"If-Match": if_match} if if_match else {}
        body = {} if generation is None else {"generation": generation}
        path = f"{_path(flow_id)}/rollback"
        params = _given(force=_flag(force), dryRun=_dry(dry_run))
        answer = self._call("POST", path, json=body, headers=headers, params=params)
        return _only_detail(answer) if dry_run else _expect(answer, dict)

    # --- status and commands -----------------------------------------------------------------

    def statuses(
        self, *, label_selector: str | None = None, field_selector: str | None = None
    ) -> dict[str, JsonObject]:
        """Every flow's status, by flow_id; also of those that were deleted and still stop.

        The selectors are as in :meth:`flows`.
        """
        params = _given(labelSelector=label_selector, fieldSelector=field_selector)
        return _expect(self._call("GET", "/flows/status", params=params), dict)

    def status(self, flow_id: str) -> JsonObject:
        """One flow's status, as it was observed.

        Raises:
            ApiError: 404, there is no flow of that id.
        """
        return _expect(self._call("GET", f"/flows/status/{check_flow_id(flow_id)}"), dict)

    def command(
        self,
        command: str,
        flow_ids: Sequence[str] | None,
        *,
        hard: bool = False,
        timeout: float = 10.0,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> dict[str, str]:
        """Command flows, all or none, and wait for what they do.

        Args:
            command: start, stop, pause, resume or restart.
            flow_ids: which; None means every flow. An empty sequence is an error.
            hard: of a stop: kill instead of drain.
            timeout: seconds to wait for the wanted states, 0 to 600.
            label_selector: in place of ``flow_ids``: flows with such labels, which may be none.
            field_selector: likewise, flows with such a status.

        Returns:
            The status of each flow as observed when the wait ended, by flow_id.

        Raises:
            ApiError: 400, an unknown flow or command; nothing was done.
        """
        body: JsonObject = {"command": command}
        if flow_ids is not None:
            body["flow_ids"] = list(flow_ids)
        if hard:
            body["type"] = 1
        answer = self._call(
            "PATCH",
            "/flows/commands",
            json=body,
            params={
                "timeout": f"{timeout:g}",
                **_given(labelSelector=label_selector, fieldSelector=field_selector),
            },
            timeout=_patience(self._seconds + timeout),
        )
        details = _expect(_expect(answer, dict).get("details"), list)
        return {detail["flow_id"]: detail["status"] for detail in details}

    # --- what flows say ----------------------------------------------------------------------

    def logs(
        self,
        flow_id: str,
        *,
        step: str | None = None,
        replica: int | None = None,
        tail: int | None = None,
        since: str | None = None,
        timestamps: bool = False,
        follow: bool = False,
    ) -> Iterator[bytes]:
        """What a flow prints, oldest first, in pieces of any length as they arrive.

        Nothing is sent, and so nothing raised, before the first piece is asked for.

        Args:
            flow_id: of the flow.
            step: only of this step.
            replica: only of this replica.
            tail: only the last lines of each step, this many.
            since: only what was printed since then: ``10m``, or a time as RFC 3339 writes it.
            timestamps: with the second of each line before it.
            follow: go on with what is printed from now on; ends with the caller or the operator.

        Raises:
            ApiError: 404, there is no flow or step of that name.
        """
        params = _given(
            step=step,
            replica=replica,
            tail=tail,
            since=since,
            timestamps=1 if timestamps else None,
            follow=1 if follow else None,
        )
        timeout = _patience(None if follow else self._seconds)
        path = f"{_path(flow_id)}/logs"
        with (
            self._reaching(),
            self._http.stream("GET", path, params=params, timeout=timeout) as response,
        ):
            if not response.is_success:
                response.read()
                raise _problem(response)
            yield from response.iter_bytes()

    def events(self, flow_id: str | None = None) -> list[JsonObject]:
        """What happened to a flow, or to all, oldest first.

        ``{"flow_id", "at", "firstAt", "type", "reason", "message", "count"}`` each.

        Raises:
            ApiError: 404, there is no flow of that id.
        """
        answer = _expect(self._call("GET", _events_path(flow_id)), dict)
        return _expect(answer.get("events"), list)

    # --- watches -----------------------------------------------------------------------------

    def watch_statuses(
        self,
        flow_id: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Iterator[Change]:
        """The changes of one flow's status, or of all, without an end.

        First everything that is there is ``ADDED``. A connection that is lost is made again, and
        nothing is told twice or left out; where the operator does not know any more what has
        changed meanwhile, its present list is compared with what was told. Nothing is sent, and so
        nothing raised, before the first change is asked for. The iterator holds a connection until
        it is closed.

        Args:
            flow_id: of the only flow; None is all.
            labels: only flows with such labels: ``team=payments``. What begins to match is
                ``ADDED``, what ceases to is ``DELETED``.
            fields: only flows with such a status: ``status=running``.
            sleep: waits so many seconds before the operator is tried again.

        Raises:
            ApiError: the operator refuses it; 404, there is no flow of that id.
            UnreachableError: the first connection cannot be made; later ones are tried for ever.
        """
        path = "/flows/status" + (f"/{check_flow_id(flow_id)}" if flow_id else "")
        params = _given(labelSelector=labels, fieldSelector=fields)
        return self._follow(path, params, status_key, sleep)

    def watch_events(
        self, flow_id: str | None = None, *, sleep: Callable[[float], object] = time.sleep
    ) -> Iterator[Change]:
        """The events of one flow, or of all, as they happen; first those that are kept.

        ``MODIFIED`` is one that has happened once more. ``DELETED`` has the ``flow_id`` alone where
        that flow is gone with all of its events, else one that is not kept any more. All else is
        as with :meth:`watch_statuses`.
        """
        return self._follow(_events_path(flow_id), {}, event_key, sleep)

    def _follow(
        self,
        path: str,
        params: dict[str, str],
        key: Callable[[JsonObject], tuple[Hashable, ...]],
        sleep: Callable[[float], object],
    ) -> Iterator[Change]:
        @contextmanager
        def connect(since: str | None) -> Iterator[Iterable[str]]:
            asked = {"watch": "1", **params, **_given(resourceVersion=since)}
            timeout = _patience(_SILENCE)
            with (
                self._reaching(),
                self._http.stream("GET", path, params=asked, timeout=timeout) as response,
            ):
                if response.status_code == GONE:
                    raise GoneError(path)
                if response.status_code == UNAVAILABLE and since is not None:
                    raise UnreachableError(self.url, "it serves no more streams now")
                if not response.is_success:
                    response.read()
                    raise _problem(response)
                if response.headers.get("content-type") != "application/x-ndjson":
                    raise ApiError(response.status_code, _NOT_OURS)
                yield response.iter_lines()

        return Follower(connect, key, (UnreachableError,), sleep).changes()

    # --- the operator ------------------------------------------------------------------------

    def manifests(self) -> JsonObject:
        """The watched folder: ``{"folder", "held", "files"}``."""
        return _expect(self._call("GET", "/manifests"), dict)

    def prune(self) -> list[str]:
        """Confirm a prune that is held; returns the ids of the flows that go."""
        return _expect(_expect(self._call("POST", "/manifests/prune"), dict).get("flows"), list)

    def version(self) -> str:
        """The version of the operator."""
        return str(_expect(self._call("GET", "/"), dict).get("version", "unknown"))

    def ready(self) -> bool:
        """Whether the operator has recovered its state and does its work."""
        with self._reaching():
            return self._http.get("/readyz").is_success

    # --- how -----------------------------------------------------------------------------------

    def _call(self, method: str, path: str, **options: Any) -> Any:
        return _json(self._send(method, path, **options))

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._reaching():
            response = self._http.request(method, path, **options)
        if not response.is_success:
            raise _problem(response)
        return response

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        import httpx  # noqa: PLC0415

        try:
            yield
        except httpx.TimeoutException:
            raise UnreachableError(self.url, "it does not answer") from None
        except httpx.TransportError as error:
            raise UnreachableError(self.url, _why(error)) from None


def _base_url(url: str) -> tuple[str, str | None]:
    """The base URL, and the path of the unix socket to speak over, if any."""
    if url.startswith("unix:") and (path := url.removeprefix("unix:").removeprefix("//")):
        return "http://localhost", path
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


def _checked(token: str) -> str:
    """The token itself; an error must not repeat it."""
    if not re.fullmatch(r"[-A-Za-z0-9._~+/]+=*", token):
        raise InvalidError("the token holds what no token does: is it the right file or variable?")
    return token


def _trusted(ca: str | None) -> ssl.SSLContext | bool:
    if ca is None:
        return True
    import ssl  # noqa: PLC0415

    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        why = error.strerror or "it holds no certificates (PEM)"
        raise InvalidError(f"cannot use the certificates in {ca}: {why}") from None


def _patience(
    seconds: float | None,
) -> tuple[float, float | None, float | None, float | None]:
    """Seconds to connect, and how long reading, writing and the pool may be silent."""
    return (_CONNECT_SECONDS, seconds, seconds, seconds)


def check_flow_id(flow_id: str) -> str:
    """The name itself, if it can be a flow's.

    Raises:
        InvalidError: it cannot; as part of a path it would reach something else.
    """
    if not re.match(NAME_PATTERN, flow_id) or flow_id in RESERVED_NAMES:
        raise InvalidError(
            f"{flow_id!r} cannot be a flow: names are lower-case letters, digits and '-', "
            f"52 at most, and not {' or '.join(sorted(RESERVED_NAMES))}"
        )
    return flow_id


def _path(flow_id: str) -> str:
    return f"/flows/{check_flow_id(flow_id)}"


def _events_path(flow_id: str | None) -> str:
    return "/events" if flow_id is None else f"{_path(flow_id)}/events"


def _given(**params: str | int | None) -> dict[str, str]:
    """Query parameters; None leaves one out."""
    return {key: str(value) for key, value in params.items() if value is not None}


def _flag(value: bool) -> str | None:  # noqa: FBT001 - a converter
    return "true" if value else None


def _dry(value: bool) -> str | None:  # noqa: FBT001 - a converter
    return "All" if value else None


def _only_detail(answer: Any) -> JsonObject:
    """What a dry run says of the one flow that it was asked about."""
    details = _expect(_expect(answer, dict).get("details"), list)
    return _expect(details[0] if len(details) == 1 else None, dict)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise ApiError(response.status_code, _NOT_OURS) from None


def _expect(value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise ApiError(_OK, _NOT_OURS)
    return value


def _problem(response: httpx.Response) -> ApiError:
    """The error that an ``application/problem+json`` body (RFC 9457) describes."""
    status = f"HTTP {response.status_code} {response.reason_phrase}".strip()
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return ApiError(response.status_code, f"{status}: {_NOT_OURS}")
    listed = [fault for fault in body.get("errors") or () if isinstance(fault, dict)]
    return ApiError(
        response.status_code,
        body.get("detail") or body.get("title") or status,
        [
            Fault(
                str(fault.get("detail", "")),
                str(fault.get("pointer", "")),
                fault.get("line"),
                fault.get("column"),
            )
            for fault in listed
        ],
    )


def _why(error: httpx.TransportError) -> str:
    """The reason without the errno that it begins with."""
    if found := re.search(r"certificate verify failed: (.*?)( \(_ssl|$)", str(error)):
        return f"its certificate is not trusted ({found[1]}); --ca names one that is"
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)).lower() or type(error).__name__
