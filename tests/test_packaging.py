"""What is installed is whole, and starts."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import flow_operator
from support import ROOT


def test_both_programs_start() -> None:
    """As the console scripts that setup.py declares, with the package's version."""
    for module in ("flow_operator.flowd", "flow_operator.flowctl.main"):
        code = f"import sys; from {module} import main; sys.argv = ['x', '--help']; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "sage" in done.stdout


def test_every_import_is_declared() -> None:
    """A third-party module that the sources import stands in setup.py."""
    declared = (ROOT / "setup.py").read_text()
    names = {"yaml": "pyyaml", "prometheus_client": "prometheus-client"}
    for path in Path(flow_operator.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top != "flow_operator":
                    assert f'"{names.get(top, top)}>=' in declared, f"{path}: {top}"


def test_the_shim_runs_without_site_packages() -> None:
    """On an isolated interpreter, as it is started; it must stay small and alone."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'operator')!r})\n"
        "import flow_operator.shim.server\n"
        "ours = [m for m in sys.modules if m.startswith('flow_operator.')]\n"
        "assert all(m.startswith('flow_operator.shim') for m in ours), ours\n"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
