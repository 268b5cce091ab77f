"""What docs/security.md says is shown by a test, is."""

from __future__ import annotations

import re

import pytest

from support import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


def test_every_threat_names_a_test() -> None:
    """A row without one is a promise."""
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and line.count("|") == 4]
    threats = [row for row in rows if "---" not in row and "shown by" not in row]
    assert len(threats) > 30
    assert [row for row in threats if "::test_" not in row] == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_tests_that_are_named_exist(file: str, name: str) -> None:
    """By that name, in that file."""
    assert re.search(rf"^ *def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
