"""The operator itself."""

from __future__ import annotations

from flow_operator.client.aio.connection import AsyncConnection
from flow_operator.client.errors import Unavailable
from flow_operator.client.repeat import Repeat
from flow_operator.client.wire import JsonObject, expect


class AsyncOperator(AsyncConnection):
    """What it is, how it does, and its folder."""

    async def manifests(self) -> JsonObject:
        """The watched folder: ``{"folder", "watch", "held", "vanished", "files"}``."""
        return expect(await self._get("/manifests"), dict)

    async def prune(self) -> list[str]:
        """Confirm a prune that is held; returns the ids of the flows that go. Never repeated.

        Raises:
            Conflict: the folder cannot be read.
        """
        answer = await self._call("POST", "/manifests/prune", repeat=Repeat.NEVER)
        return expect(expect(answer, dict).get("flows"), list)

    async def index(self) -> JsonObject:
        """What answers there: ``{"name", "version", "runners", "tokens", "links"}``."""
        return expect(await self._get("/"), dict)

    async def version(self) -> str:
        """The version of the operator."""
        return str((await self.index()).get("version", "unknown"))

    async def live(self) -> bool:
        """Whether the operator answers: it does, or :class:`UnreachableError` is raised."""
        return await self._well("/livez")

    async def ready(self) -> bool:
        """Whether the operator has recovered its state and does its work. Never waits for it."""
        return await self._well("/readyz")

    async def openapi(self) -> JsonObject:
        """The description of the whole API, as OpenAPI 3.1."""
        return expect(await self._get("/openapi.json"), dict)

    async def metrics(self) -> str:
        """All metrics, in Prometheus' text format."""
        return (await self._send("GET", "/metrics", repeat=Repeat.ALWAYS)).text

    async def _well(self, path: str) -> bool:
        try:
            await self._send("GET", path, repeat=Repeat.NEVER)
        except Unavailable:
            return False
        return True
