# Generated from aio/connection.py by `make client`: edit that one.
"""Requests to one operator: sent, repeated where that is safe, and their failures told."""

from __future__ import annotations

import time
from collections.abc import Generator, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from flow_operator.client.errors import (
    NotModified,
    Unavailable,
    UnreachableError,
    reaching,
    refusal,
)
from flow_operator.client.repeat import Repeat
from flow_operator.client.wire import (
    Sleep,
    sleep,
    authorization,
    base_url,
    decoded,
    patience,
    trusted,
)
from flow_operator.defaults import DEFAULT_URL

if TYPE_CHECKING:
    import httpx

_NOT_MODIFIED = 304


class Connection:
    """Sends requests; how to construct it stands in :class:`FlowClient`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = 30.0,
        retry_for: float = 5.0,
        token: str | None = None,
        ca: str | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Sleep = sleep,
    ) -> None:
        import httpx  # noqa: PLC0415

        self.url = url
        self._seconds = timeout
        self._retry_for = retry_for
        self._sleep = sleep
        base, socket = base_url(url)
        if transport is None:
            # Connecting is tried twice; that repeats nothing that was sent.
            verify = trusted(base, ca)
            transport = httpx.HTTPTransport(verify=verify, retries=1, uds=socket)
        self._http = httpx.Client(
            base_url=base,
            timeout=patience(timeout),
            transport=transport,
            headers=authorization(token),
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

    def _call(self, method: str, path: str, *, repeat: Repeat, **options: Any) -> Any:
        """The JSON of an answer."""
        return decoded(self._send(method, path, repeat=repeat, **options))

    def _get(self, path: str, **options: Any) -> Any:
        return self._call("GET", path, repeat=Repeat.ALWAYS, **options)

    def _send(
        self, method: str, path: str, *, repeat: Repeat, stream: bool = False, **options: Any
    ) -> httpx.Response:
        """An answer that is a yes; with ``stream`` its body is still to be read."""

        def send() -> httpx.Response:
            with reaching(self.url):
                request = self._http.build_request(method, path, **options)
                response = self._http.send(request, stream=True)
                try:
                    if not (stream and response.is_success):
                        response.read()
                except BaseException:
                    response.close()
                    raise
            if response.status_code == _NOT_MODIFIED:
                raise NotModified("what if_none_match names is still so")
            if not response.is_success:
                raise refusal(response)
            return response

        return self._repeated(send, repeat)

    @contextmanager
    def _stream(
        self, path: str, *, repeat: Repeat, **options: Any
    ) -> Generator[httpx.Response]:
        """An answer whose body is read as it comes; closed at the end of the block."""
        response = self._send("GET", path, repeat=repeat, stream=True, **options)
        try:
            with reaching(self.url):
                yield response
        finally:
            response.close()

    def _repeated(
        self, call: Callable[[], httpx.Response], repeat: Repeat
    ) -> httpx.Response:
        begun = time.monotonic()
        try:
            return call()
        except (UnreachableError, Unavailable) as error:
            left = begun + self._retry_for - time.monotonic()
            if left <= 0 or repeat.delay(error) is None:
                raise
            failed = error
        from flow_operator.backoff import retry_call  # noqa: PLC0415 - as httpx

        return retry_call(call, failed, repeat.delay, left, self._sleep)
