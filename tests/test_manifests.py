"""Every manifest that people are given to copy is right."""

from __future__ import annotations

import pytest

from flow_operator.manifest import SourceText, load_manifests
from support import ROOT

FILES = sorted((ROOT / "manifests").rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_loads(path) -> None:
    """Without a single fault."""
    assert load_manifests(SourceText(path.read_text(), path.name))


def test_the_readmes_flow_loads() -> None:
    """So does what the README and docs/manifest.md show."""
    for name in ("README.md", "docs/manifest.md"):
        blocks = (ROOT / name).read_text().split("```yaml\n")[1:]
        assert blocks
        for block in blocks:
            assert load_manifests(SourceText(block.split("```")[0], name))
