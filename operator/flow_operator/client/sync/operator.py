# Generated from aio/operator.py by `make client`: edit that one.
"""The operator itself."""

from __future__ import annotations

from flow_operator.client.sync.connection import Connection
from flow_operator.client.errors import Unavailable
from flow_operator.client.repeat import Repeat
from flow_operator.client.wire import JsonObject, expect


class Operator(Connection):
    """What it is, how it does, and its folder."""

    def manifests(self) -> JsonObject:
        """The watched folder: ``{"folder", "watch", "held", "vanished", "files"}``."""
        return expect(self._get("/manifests"), dict)

    def prune(self) -> list[str]:
        """Confirm a prune that is held; returns the ids of the flows that go. Never repeated.

        Raises:
            Conflict: the folder cannot be read.
        """
        answer = self._call("POST", "/manifests/prune", repeat=Repeat.NEVER)
        return expect(expect(answer, dict).get("flows"), list)

    def index(self) -> JsonObject:
        """What answers there: ``{"name", "version", "runners", "tokens", "links"}``."""
        return expect(self._get("/"), dict)

    def version(self) -> str:
        """The version of the operator."""
        return str((self.index()).get("version", "unknown"))

    def live(self) -> bool:
        """Whether the operator answers: it does, or :class:`UnreachableError` is raised."""
        return self._well("/livez")

    def ready(self) -> bool:
        """Whether the operator has recovered its state and does its work. Never waits for it."""
        return self._well("/readyz")

    def openapi(self) -> JsonObject:
        """The description of the whole API, as OpenAPI 3.1."""
        return expect(self._get("/openapi.json"), dict)

    def metrics(self) -> str:
        """All metrics, in Prometheus' text format."""
        return (self._send("GET", "/metrics", repeat=Repeat.ALWAYS)).text

    def _well(self, path: str) -> bool:
        try:
            self._send("GET", path, repeat=Repeat.NEVER)
        except Unavailable:
            return False
        return True
