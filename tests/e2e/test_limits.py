"""What is told of limits: at the start, and of each flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support import Flowd, make_document

TOGETHER = {"cpu": "1", "memory": "64Mi", "pids": 50}


def _limited(name: str, **limits: Any) -> dict[str, Any]:
    step = {"name": "s0", "script": "exec sleep 1000", "resources": {"limits": limits}}
    return make_document(name, step, "exec sleep 1000")


def _welcome(flowd: Flowd) -> str:
    [line] = [line for line in flowd.welcome if line.startswith("  cgroups")]
    return line


def test_the_status_tells_which_limits_hold(flowd: Flowd) -> None:
    """As many as the operator has said at its start that it can enforce."""
    can = flowd.client.get("/").json()["runners"]["process"]
    flowd.create(_limited("together", **TOGETHER), _limited("each", openFiles=64), _limited("none"))
    status = flowd.await_status("together", "running")
    held = {name: name in can["limits"] for name in TOGETHER}
    assert [step["limits"] for step in status["steps"]] == [held, {}]
    assert status["limitsEnforced"] is all(held.values())
    assert flowd.await_status("each", "running")["limitsEnforced"] is True
    assert flowd.await_status("none", "running")["limitsEnforced"] is None
    assert ("not used" in _welcome(flowd)) is not can["groups"]
    for name in can["limits"]:
        assert name in _welcome(flowd)


def test_without_groups_no_limit_of_a_step_is_enforced(make_flowd: Callable[..., Flowd]) -> None:
    """And that is said at the start, in the log, at ``GET /`` and in the status."""
    flowd = make_flowd("--cgroups", "off").start()
    assert flowd.client.get("/").json()["runners"]["process"] == {
        "freeze": True,
        "stepRestart": True,
        "groups": False,
        "limits": [],
    }
    assert _welcome(flowd).startswith("  cgroups    not used (off)")
    assert "groups=False" in flowd.log.read_text()
    flowd.create(_limited("some", memory="64Mi", openFiles=64))
    status = flowd.await_status("some", "running")
    assert status["steps"][0]["limits"] == {"memory": False, "openFiles": True}
    assert status["limitsEnforced"] is False
