"""Putting the application together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from bottle import Bottle

from flow_operator.api import (
    commands,
    dashboard,
    docs,
    events,
    flows,
    health,
    history,
    index,
    logs,
    manifests,
    metrics,
    status,
)
from flow_operator.api.auth import Gate
from flow_operator.api.errors import ProblemPlugin, bottle_error
from flow_operator.api.guard import Guard
from flow_operator.api.hosts import Hosts
from flow_operator.api.operation import Declared
from flow_operator.api.statuses import Statuses
from flow_operator.api.stream import Streams
from flow_operator.api.tokens import Tokens
from flow_operator.api.traffic import Traffic
from flow_operator.board import Board
from flow_operator.clock import Clock
from flow_operator.figures import Figures
from flow_operator.logs import Keeper
from flow_operator.meter import Meter
from flow_operator.model.folder import FolderView
from flow_operator.runners.base import Capabilities
from flow_operator.store import Desired, Store


@dataclass(frozen=True)
class Services:
    """What the API needs of the rest.

    Attributes:
        runners: what each runner can do now, by name.
        ready: tells whether every flow that ran before has been taken back and looked at.
        folder: describes the manifest folder, for ``GET /manifests``.
        prune: confirms a held prune, of exactly these flows (None: of all that are held); returns
            the ids of those that go.
        scrape: tells all metrics, and their content type, for an Accept header.
        hosts: the values of the Host header that are served.
        tokens: whom the API knows; None asks nobody who they are.
        closing: set when the server ends, so that streams end too.
        meter: told of each request.
    """

    store: Store
    desired: Desired
    board: Board
    figures: Figures
    logs: Keeper
    clock: Clock
    runners: Callable[[], Mapping[str, Capabilities]]
    ready: Callable[[], bool]
    folder: Callable[[], FolderView]
    prune: Callable[[frozenset[str] | None], list[str]]
    scrape: Callable[[str], tuple[bytes, str]]
    hosts: Hosts = field(default_factory=Hosts)
    tokens: Tokens | None = None
    prefix: str = ""
    closing: Event = field(default_factory=Event)
    meter: Meter = field(default_factory=Meter)


def create_app(services: Services) -> Callable[..., Any]:
    """The whole API as one WSGI application."""
    gate = Gate(services.tokens, services.clock)
    guarded = Guard(Streams(routed(services)), services.hosts, gate, services.prefix)
    return Traffic(guarded, services.clock, services.meter)


def routed(services: Services) -> Bottle:
    """The routes alone, without what stands before them."""
    app = Bottle()
    app.default_error_handler = bottle_error
    app.install(ProblemPlugin())
    app.install(Declared())
    statuses = Statuses(services)
    for listed in (flows, status):
        listed.add_routes(app, services, statuses)
    for resource in (history, commands, logs, events, manifests, health, metrics):
        resource.add_routes(app, services)
    for page in (index, dashboard, docs):
        page.add_routes(app, services)
    return app
