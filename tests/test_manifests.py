"""Every manifest that people are given to copy is right."""

from __future__ import annotations

import configparser
import shlex

import pytest
import yaml

from flow_operator.flowd import LEAVE
from flow_operator.manifest import SourceText, load_manifests
from flow_operator.options import read_settings
from support import ROOT

COMPOSE = ROOT / "manifests" / "compose.yaml"
FILES = sorted(set((ROOT / "manifests").rglob("*.yaml")) - {COMPOSE})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_loads(path) -> None:
    """Without a single fault."""
    assert load_manifests(SourceText(path.read_text(), path.name))


def test_the_readmes_flow_loads() -> None:
    """So does what the README and the documents show."""
    for name in ("README.md", "docs/manifest.md", "docs/containers.md"):
        blocks = (ROOT / name).read_text().split("```yaml\n")[1:]
        assert blocks
        for block in blocks:
            assert load_manifests(SourceText(block.split("```")[0], name))


def test_the_compose_file_asks_who_calls_and_gives_flows_their_time() -> None:
    """It fits the image: its volume, its folder, its user's group; and no flag opens it to all."""
    text = COMPOSE.read_text()
    service = yaml.safe_load(text)["services"]["flowd"]
    assert service["stop_grace_period"] == service["environment"]["FLOWD_STOP_GRACE"]
    assert service["environment"]["FLOWD_TOKENS"] == f"/run/secrets/{service['secrets'][0]}"
    assert {mount.split(":")[1] for mount in service["volumes"]} == {"/data", "/manifests"}
    assert service["read_only"]
    assert service["user"].endswith(":0")
    assert "insecure" not in text.lower() + (ROOT / "Dockerfile").read_text().lower()


def test_the_unit_drains_at_a_stop_and_leaves_flows_alone_at_a_restart() -> None:
    """It has options that there are, and gives more time than they say."""
    unit = configparser.RawConfigParser()
    unit.read_string((ROOT / "manifests" / "flowd.service").read_text().replace("\\\n", " "))
    service = unit["Service"]
    settings = read_settings(shlex.split(service["ExecStart"])[1:], {})
    assert settings.stop_grace
    assert float(service["TimeoutStopSec"].removesuffix("s")) > settings.stop_grace
    assert service["TimeoutStartSec"] == "infinity"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert str(settings.layout.root) == f"/var/lib/{service['StateDirectory']}"
    assert str(settings.address.unix).startswith(f"/run/{service['RuntimeDirectory']}/")
    assert (service["Type"], service["KillMode"]) == ("notify", "process")
    assert service["RestartKillSignal"] == LEAVE.name
