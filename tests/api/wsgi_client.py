"""A client that calls a WSGI application in process and checks every rule of the interface."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator


@dataclass
class Answer:
    """What an application has answered.

    Attributes:
        body: what is left of the body to be read; close the answer when done.
    """

    status: int
    headers: dict[str, str]
    body: Iterator[bytes]
    close: Callable[[], None]

    def read(self) -> bytes:
        """The whole body; the answer is closed."""
        try:
            return b"".join(self.body)
        finally:
            self.close()

    def json(self) -> Any:
        return json.loads(self.read())


@dataclass
class Client:
    """Calls an application through :func:`wsgiref.validate.validator`."""

    app: Callable[..., Any]
    environ: dict[str, Any] = field(default_factory=dict)

    def open(
        self, method: str, url: str, body: bytes = b"", /, *, started: Any = None, **environ: Any
    ) -> Answer:
        """Call, and leave the body to be read; None leaves out what would be there."""
        path, _, query = url.partition("?")
        asked: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "HTTP_HOST": "127.0.0.1",
            **({"CONTENT_LENGTH": str(len(body))} if body else {}),
            **self.environ,
            **environ,
        }
        setup_testing_defaults(asked)
        asked = {name: value for name, value in asked.items() if value is not None}
        told: list[Any] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Any:
            told[:] = [int(status.split(maxsplit=1)[0]), dict(headers)]
            if started is not None:
                started.set()
            return io.BytesIO().write

        iterable = validator(self.app)(asked, start_response)
        return Answer(told[0], told[1], iter(iterable), iterable.close)

    def get(self, url: str, **environ: Any) -> Answer:
        return self.open("GET", url, **environ)

    def send(self, method: str, url: str, body: Any, **environ: Any) -> Answer:
        """Send JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.open(method, url, data, CONTENT_TYPE="application/json", **environ)
