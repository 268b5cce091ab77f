"""What is installed is whole, and starts."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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


def _pins(name: str) -> dict[str, tuple[str, list[str]]]:
    """What a lock file pins: version and hashes, by name."""
    pins: dict[str, tuple[str, list[str]]] = {}
    for line in (ROOT / name).read_text().replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            pin, *hashes = line.split(" --hash=")
            project, version = pin.split(";")[0].strip().split("==")
            pins[project] = version, [text.strip() for text in hashes]
    return pins


def test_what_the_image_installs_is_what_setup_py_asks_for() -> None:
    """Everything that the operator needs, and its runner of containers: `make lock`."""
    pins = _pins("requirements.lock")
    asked = [Requirement(text) for text in importlib.metadata.requires("flow-operator") or ()]
    needed = [ask for ask in asked if not ask.marker or ask.marker.evaluate({"extra": "container"})]
    assert {"bottle", "docker"} <= {ask.name for ask in needed}
    for ask in needed:
        assert ask.specifier.contains(pins[ask.name][0]), f"{ask}: run make lock"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-build.lock"])
def test_every_pin_has_its_hashes(name: str) -> None:
    """So that nobody can put another file in the place of the one that was locked."""
    pins = _pins(name)
    assert pins
    for project, (_, hashes) in pins.items():
        assert hashes, project
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in hashes), project


def test_the_image_takes_only_what_is_locked() -> None:
    """Each installation in the Dockerfile asks for hashes, or no index; its version is ours."""
    text = (ROOT / "Dockerfile").read_text()
    installs = [part.split("&&")[0] for part in text.replace("\\\n", " ").split(" install ")[1:]]
    by_pip = [part for part in installs if "--no-cache-dir" in part]
    assert len(by_pip) == 3
    assert all("--require-hashes" in part or "--no-index" in part for part in by_pip)
    assert f"ARG VERSION={flow_operator.__version__}\n" in text
