"""The examples of docs/client.md run, in their order, against a real operator."""

from __future__ import annotations

import re
from typing import Any

from flow_operator.client import AsyncFlowClient, FlowClient, errors
from flow_operator.errors import FlowError
from support import ROOT, Flowd

PAGE = (ROOT / "docs" / "client.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_examples_run(flowd: Flowd) -> None:
    """Each has what those above it have made."""
    names: dict[str, Any] = {"url": str(flowd.client.base_url)}
    assert len(BLOCKS) > 5
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/client.md, example {number + 1}", "exec"), names)  # noqa: S102


def test_every_exception_is_told() -> None:
    """With what to do about it."""
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, FlowError) and kind is not FlowError
    }
    assert kinds - set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == set()


def test_every_method_has_a_docstring() -> None:
    """Editors show them."""
    for client in (FlowClient, AsyncFlowClient):
        for name in dir(client):
            assert name.startswith("_") or getattr(client, name).__doc__, name
