"""What is measured of requests: all of them, also those that are refused before any route."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flow_operator.clock import Clock
from flow_operator.meter import Meter

Wsgi = Callable[..., Iterable[bytes]]


class Traffic:
    """Tells a meter of each request that an application answers.

    Never of its path, which a client chooses, but of the rule that it was found to match.

    Args:
        app: the application.
        clock: for how long it takes.
        meter: what is told.
    """

    def __init__(self, app: Wsgi, clock: Clock, meter: Meter) -> None:
        self._app = app
        self._clock = clock
        self._meter = meter

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        begun, status = self._clock.monotonic(), 500

        def seen(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, headers, exc_info)

        self._meter.asked()
        try:
            return self._app(environ, seen)
        finally:
            route = environ.get("bottle.route")
            rule = route.rule if route is not None else ""
            took = self._clock.monotonic() - begun
            self._meter.answered(rule, environ["REQUEST_METHOD"], status, took)
