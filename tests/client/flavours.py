"""Both clients behind one face: what is tried with the one is tried with the other."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Self

from flow_operator.client import AsyncFlowClient, FlowClient
from flow_operator.client.aio.streams import async_following
from flow_operator.client.sync.streams import following


class Sync:
    """The synchronous client as it is."""

    name = "sync"

    def client(self, url: str, **options: Any) -> Any:
        return FlowClient(url, **options)

    def following(self, memory: Any, connect: Any, sleep: Any, left: Any) -> Iterator[Any]:
        return following(memory, connect, sleep, left)

    def close(self) -> None:
        """Nothing is held."""


class Async:
    """The asynchronous client, of which each call runs a loop until it is done."""

    name = "async"

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._open: list[Generator[Any, None, None]] = []

    def client(self, url: str, **options: Any) -> Any:
        if "sleep" in options:
            options["sleep"] = _awaited(options["sleep"])
        return Awaited(self.run, AsyncFlowClient(url, **options))

    def following(self, memory: Any, connect: Any, sleep: Any, left: Any) -> Iterator[Any]:
        return self.run(async_following(memory, _aconnect(connect), _awaited(sleep), left))

    def run(self, result: Any) -> Any:
        """What a coroutine returns, or an iterator of what is iterated."""
        if inspect.iscoroutine(result):
            return self._runner.run(result)
        self._open.append(iterated(self._runner, result))
        return self._open[-1]

    def close(self) -> None:
        for iterator in self._open:
            iterator.close()
        self._runner.close()


class Awaited:
    """An asynchronous client with methods that wait."""

    def __init__(self, run: Callable[[Any], Any], client: AsyncFlowClient) -> None:
        self._run = run
        self._client = client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._run(self._client.aclose())

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return self._waiting(found) if callable(found) else found

    def _waiting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._run(method(*args, **kwargs))


def iterated(
    runner: asyncio.Runner, items: AsyncGenerator[Any, None]
) -> Generator[Any, None, None]:
    """An asynchronous iterator, waited for piece by piece."""
    nothing = object()

    async def following_one() -> Any:
        return await anext(items, nothing)

    try:
        while (item := runner.run(following_one())) is not nothing:
            yield item
    finally:
        runner.run(items.aclose())


def _awaited(function: Callable[[float], None]) -> Any:
    async def call(seconds: float) -> None:
        function(seconds)

    return call


def _aconnect(connect: Callable[..., AbstractContextManager[Iterator[str]]]) -> Any:
    @asynccontextmanager
    async def connected(version: str | None) -> AsyncIterator[AsyncIterator[str]]:
        with connect(version) as lines, contextlib.closing(lines):  # type: ignore[type-var]

            async def each() -> AsyncIterator[str]:
                for line in lines:
                    yield line

            yield each()

    return connected


FLAVOURS = (Sync, Async)
