"""What flowd does not import."""

from __future__ import annotations

import subprocess
import sys

import pytest


def _said(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_flowd_imports_neither_rich_nor_asyncio():
    """They would take 5 MB of the operator, and do nothing."""
    listed = _said("import flow_operator.flowd, sys; print(*sys.modules)").split()
    assert [name for name in listed if name.startswith(("rich", "pygments", "asyncio"))] == []


@pytest.mark.parametrize("name", ["rich", "asyncio"])
def test_others_can_import_them_after_it(name):
    """Only structlog is kept from them."""
    said = f"import flow_operator.lean, {name}; print({name}.__file__)"
    assert _said(said).endswith(f"{name}/__init__.py\n")


@pytest.mark.parametrize("name", ["rich", "asyncio"])
def test_whoever_has_them_keeps_them(name):
    """A process that uses them already is not disturbed."""
    said = f"import {name}, flow_operator.lean, sys; print(sys.modules[{name!r}] is {name})"
    assert _said(said) == "True\n"


def test_structlog_finds_asyncio_when_it_needs_it():
    """Whoever logs from a coroutine."""
    program = """
import flow_operator.lean, asyncio, structlog
structlog.configure(wrapper_class=structlog.stdlib.BoundLogger)
structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
async def tell():
    await structlog.get_logger().awarning("told")
import logging; logging.basicConfig(stream=__import__("sys").stdout)
asyncio.run(tell())
"""
    assert "told" in _said(program)
