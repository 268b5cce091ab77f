from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from flavours import FLAVOURS, Async, Sync

from support import Flowd, eventually, memory_directory, processes_of


@pytest.fixture(params=FLAVOURS, ids=lambda kind: kind.name)
def flavour(request: pytest.FixtureRequest) -> Iterator[Sync | Async]:
    """Either client."""
    made = request.param()
    yield made
    made.close()


@pytest.fixture(scope="package")
def shared() -> Iterator[Flowd]:
    """One operator for all tests that do not hurt it."""
    with memory_directory() as root:
        operator = Flowd(root)
        operator.client.close()
        # A connection that is kept would count for the test that has opened it.
        limits = httpx.Limits(max_keepalive_connections=0)
        operator.client = httpx.Client(timeout=60, limits=limits)
        try:
            yield operator.start()
        finally:
            operator.destroy()


@pytest.fixture
def operator(shared: Flowd) -> Iterator[Flowd]:
    """The same without a flow, before and after."""
    yield shared
    for name in shared.statuses():
        shared.client.delete(f"/flows/{name}?type=1")
    eventually(lambda: _nothing(shared))


def _nothing(operator: Flowd) -> None:
    assert operator.statuses() == {}
    assert processes_of(operator.data) == []


@pytest.fixture
def client(flavour: Sync | Async, operator: Flowd) -> Iterator[Any]:
    """Either client of the operator."""
    with flavour.client(url_of(operator)) as made:
        yield made


def url_of(operator: Flowd) -> str:
    return str(operator.client.base_url).rstrip("/")
