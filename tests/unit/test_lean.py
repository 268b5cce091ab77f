"""What flowd does not import."""

from __future__ import annotations

import subprocess
import sys


def _said(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_flowd_imports_no_rich():
    """It would take 4 MB of the operator, and format nothing."""
    listed = _said("import flow_operator.flowd, sys; print(*sys.modules)").split()
    assert [name for name in listed if name.startswith(("rich", "pygments"))] == []


def test_others_can_import_rich_after_it():
    """Only structlog is kept from it."""
    assert _said("import flow_operator.lean, rich; print(rich.__name__)") == "rich\n"


def test_whoever_has_rich_keeps_it():
    """A process that uses it already is not disturbed."""
    said = "import rich, flow_operator.lean, sys; print(sys.modules['rich'] is rich)"
    assert _said(said) == "True\n"
