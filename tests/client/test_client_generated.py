"""The synchronous client is what the generator makes of the asynchronous one."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from flow_operator.client import AsyncFlowClient, FlowClient
from flow_operator.client.generate import SYNC, generated, synchronous


def test_it_is_generated_anew() -> None:
    """Whoever edits ``aio/`` or ``sync/`` runs ``make client``."""
    assert {path: path.read_text() for path in SYNC.glob("*.py")} == generated()


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("async def f() -> AsyncIterator[int]:", "def f() -> Iterator[int]:"),
        ("    async with x.stream() as y:", "    with x.stream() as y:"),
        ("call: Callable[[], Awaitable[httpx.Response]]", "call: Callable[[], httpx.Response]"),
        ("from collections.abc import Awaitable, Callable", "from collections.abc import Callable"),
        ("from abc import AsyncGenerator, Awaitable, X", "from abc import Generator, X"),
        ("await self.aclose()", "self.close()"),
        ("httpx.AsyncClient(base)", "httpx.Client(base)"),
        ("return await async_retry_call(call)", "return retry_call(call)"),
        ("a read of areas, awaited", "a read of areas, awaited"),
    ],
)
def test_words_are_changed_and_nothing_else(written: str, made: str) -> None:
    """What is no word of the table stays."""
    assert synchronous(written, "x.py").splitlines()[1:] == [made]


def test_both_have_the_same_methods_with_the_same_arguments() -> None:
    """Of what is public; what the one awaits the other returns."""
    theirs, ours = _methods(AsyncFlowClient), _methods(FlowClient)
    theirs["close"] = theirs.pop("aclose")
    assert theirs == ours


def _methods(kind: type) -> dict[str, list[str]]:
    return {
        name: [str(parameter) for parameter in inspect.signature(method).parameters.values()]
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_the_generator_needs_no_synchronous_client() -> None:
    """One that is broken must not stand in the way of its own repair."""
    code = (
        "import sys\n"
        "import flow_operator.client.generate\n"
        "loaded = [name for name in sys.modules if 'client.sync' in name]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
