"""``/``: what answers here, and what it can do on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottle import Bottle, HTTPResponse, request
from msgspec import Struct

from flow_operator import __version__
from flow_operator.api import dashboard
from flow_operator.api.http import json_response
from flow_operator.api.operation import Example, Operation
from flow_operator.runners.base import Capabilities

if TYPE_CHECKING:
    from flow_operator.api.app import Services


class RunnerView(Struct, frozen=True, rename="camel"):
    """What a runner can do here.

    Attributes:
        freeze: whether it can hold processes where they are.
        step_restart: whether a step can be restarted alone.
        groups: whether each run is in a cgroup of its own.
        limits: which of `cpu`, `memory` and `pids` can be enforced.
    """

    freeze: bool
    step_restart: bool
    groups: bool
    limits: tuple[str, ...]


class TokensView(Struct, frozen=True):
    """The tokens that are asked for.

    Attributes:
        count: how many there are.
        error: why their file as it is now is not used; null if it is.
    """

    count: int
    error: str | None


class Index(Struct, frozen=True):
    """What answers here.

    Attributes:
        tokens: null if none are asked for.
    """

    name: str
    version: str
    runners: dict[str, RunnerView]
    tokens: TokensView | None
    links: tuple[str, ...]


_LINKS = (
    *("/flows", "/flows/status", "/events", "/manifests", "/livez", "/readyz"),
    "/metrics",
    *("/openapi.json", "/docs", dashboard.PATH),
)

READ = Operation(
    summary="What answers here",
    description="A browser is sent on to the dashboard.",
    tag="Operator",
    answers=(Index,),
    example=Example(
        answer={
            "name": "flow-operator",
            "version": __version__,
            "runners": {
                "process": {"freeze": True, "stepRestart": True, "groups": True, "limits": []}
            },
            "tokens": {"count": 2, "error": None},
            "links": list(_LINKS),
        }
    ),
)


def add_routes(app: Bottle, services: Services) -> None:
    """Add this resource's routes."""

    @app.get("/", operation=READ)
    def get_index() -> HTTPResponse:
        if dashboard.from_browser(request.environ):
            where = f"{services.prefix}{dashboard.PATH}"
            return HTTPResponse(status=303, Location=where, Vary="Accept")
        runners = {name: _told(can) for name, can in services.runners().items()}
        known = services.tokens
        tokens = TokensView(known.count, known.error) if known is not None else None
        return json_response(Index("flow-operator", __version__, runners, tokens, _LINKS))


def _told(can: Capabilities) -> RunnerView:
    return RunnerView(can.freeze, can.step_restart, can.groups, can.limits)
