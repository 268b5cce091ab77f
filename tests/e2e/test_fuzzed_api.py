"""Schemathesis against a real flowd: it asks what the OpenAPI document allows, and what not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import ROOT, Flowd, make_document

TOKEN = "0123456789" * 3
CONFIG = ROOT / "tests/api/schemathesis.toml"


class Pretending(Flowd):
    """An operator whose steps are not processes."""

    program = (str(ROOT / "tests/api/pretending_flowd.py"),)


@pytest.fixture
def pretending(root: Path) -> Iterator[Flowd]:
    """It asks for tokens, and has one flow, of the name that the document's examples use."""
    tokens = root / "tokens.yaml"
    tokens.write_text(f"tokens: [{{name: fuzzer, role: admin, token: '{TOKEN}'}}]")
    tokens.chmod(0o600)
    operator = Pretending(root, "--tokens", str(tokens))
    try:
        yield _ready(operator)
    finally:
        operator.destroy()


def _ready(operator: Flowd) -> Flowd:
    operator.start()
    operator.client.headers["Authorization"] = f"Bearer {TOKEN}"
    document = make_document("orders", "while :; do date; sleep 1; done")
    document["metadata"] = {"labels": {"team": "payments"}}
    operator.create(document)
    return operator


def fuzz(flowd: Flowd, root: Path, examples: int, record: Callable[[str, object], None]) -> None:
    """Run it; every check but one must hold for everything that it thinks up.

    That one is that valid data is accepted: a schema cannot say that no flow may depend on itself,
    that the names of steps differ, or that a generation is kept.
    """
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("st"), "--config-file", CONFIG, "--no-color"),
            *("run", str(flowd.client.base_url.join("/openapi.json")), "--continue-on-failure"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *("--max-examples", str(examples), "--seed", "1", "--generation-database", "none"),
        ],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(CONFIG.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    told = re.search(r"Test cases:\n\s*(\d+) generated, (.*)", done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert told
    assert "found no issues" in told[0] or "passed" in told[0], told[0]
    record("cases that schemathesis made", told[1])
    assert flowd.client.get("/livez").status_code == 200
    assert "handler failed" not in flowd.log.read_text()


def test_whatever_is_asked_is_answered_as_described(
    pretending: Flowd, root: Path, record_property: Callable[[str, object], None]
) -> None:
    """No 5xx, and every answer has a declared status, type, headers and schema.

    What is invalid is refused, and what was deleted is gone. It asks by examples, boundaries,
    chance and chains of calls.
    """
    fuzz(pretending, root, 10, record_property)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_whatever_is_asked_for_long(
    pretending: Flowd, root: Path, record_property: Callable[[str, object], None]
) -> None:
    """The same with many more of each."""
    fuzz(pretending, root, 300, record_property)
