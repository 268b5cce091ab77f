"""What it takes to import the client."""

from __future__ import annotations

import subprocess
import sys

import pytest

import flow_operator.client as package

SLOW = ("httpx", "tenacity", "msgspec", "asyncio", "ssl")


def loaded(code: str) -> list[str]:
    """Which of the slow modules are there afterwards."""
    code += f"\nimport sys\nprint(*(name for name in {SLOW!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.parametrize("name", ["FlowClient", "AsyncFlowClient", "ApiError"])
def test_importing_loads_nothing_that_takes_long(name: str) -> None:
    """That is for who makes a client, or has to repeat a call."""
    assert loaded(f"from flow_operator.client import {name}") == []


def test_a_client_loads_httpx_alone() -> None:
    """And tenacity only once something has failed."""
    code = "import sys\nsys.modules['anyio'] = None\n"  # which would load asyncio
    code += "from flow_operator.client import FlowClient\nFlowClient().close()"
    assert loaded(code) == ["httpx", "ssl"]


def test_who_repeats_nothing_loads_nothing_for_it() -> None:
    """Completion, for one, which nobody wants to wait for."""
    code = "import sys\nsys.modules['anyio'] = None\n"
    code += "from flow_operator.client import FlowClient, UnreachableError\n"
    code += "try:\n    FlowClient('http://127.0.0.1:1', retry_for=0).flows()\n"
    code += "except UnreachableError:\n    pass"
    assert loaded(code) == ["httpx", "ssl"]


def test_every_name_can_be_imported() -> None:
    """Also those that are imported when they are asked for; no others."""
    for name in package.__all__:
        assert getattr(package, name)
    with pytest.raises(AttributeError, match="Nonsense"):
        package.Nonsense  # noqa: B018
