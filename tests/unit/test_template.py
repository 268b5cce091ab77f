"""What a running instance was started from."""

from __future__ import annotations

from typing import Any

import pytest

from flow_operator.model.flow import template_hash
from support import make_manifest

STEP = {
    "name": "b",
    "command": ["sleep", "1"],
    "env": [{"name": "A", "value": "b"}],
    "resources": {"limits": {"openFiles": 64}},
}


def test_an_upgrade_of_the_operator_changes_no_hash() -> None:
    """The hash of the first release: another one would restart every flow at an upgrade."""
    assert template_hash(make_manifest("a", "cat", STEP).flow, "/srv") == "e36ad4bbf0610ad2"


@pytest.mark.parametrize(
    "change",
    [
        {"user": "nobody"},
        {"umask": "027"},
        {"resources": {"limits": {"openFiles": 64, "memory": "1Gi"}}},
        {"resources": {"limits": {"openFiles": 64}, "rlimits": {"core": 0}}},
        {"workingDir": "/tmp"},
    ],
)
def test_what_a_process_is_started_with_is_in_the_hash(change: dict[str, Any]) -> None:
    """Such a change needs a restart."""
    changed = make_manifest("a", "cat", {**STEP, **change}).flow
    assert template_hash(changed, "/srv") != "e36ad4bbf0610ad2"


@pytest.mark.parametrize(
    "change",
    [{"successExitCodes": [0, 3]}, {"readinessProbe": {"tcpSocket": {"port": 1}}}],
)
def test_what_only_the_operator_looks_at_is_not(change: dict[str, Any]) -> None:
    """Such a change is taken over in place."""
    changed = make_manifest("a", "cat", {**STEP, **change}).flow
    assert template_hash(changed, "/srv") == "e36ad4bbf0610ad2"
