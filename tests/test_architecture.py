"""The layers hold, and every module stands in one."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from support import ROOT

SOURCE = ROOT / "operator" / "flow_operator"


def test_the_layers_hold() -> None:
    """What pyproject.toml says of imports is so."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "operator"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_stands_in_a_layer() -> None:
    """A new module must say where it belongs."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    placed = {name.strip() for layer in layers for name in layer.split("|")}
    top = {
        path.stem if path.is_file() else path.name
        for path in SOURCE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    alone = {"__init__", "shim", "runners"}
    missing = {f"flow_operator.{name}" for name in top - alone} - placed
    runners = {f"flow_operator.runners.{path.stem}" for path in (SOURCE / "runners").glob("*.py")}
    missing |= runners - placed - {"flow_operator.runners.__init__"}
    assert not missing, f"name them in the layers of pyproject.toml: {sorted(missing)}"


def test_operator_is_no_package() -> None:
    """A package of that name would shadow the standard library's operator module."""
    assert not (ROOT / "operator" / "__init__.py").exists()
