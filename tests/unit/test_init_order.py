"""What PID 1 does before it starts the operator."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flow_operator.shim import init
from flow_operator.shim.cgroups import Cgroups


@pytest.mark.parametrize("arguments", [[], ["--cgroups", "off"], ["--cgroups=auto"]])
def test_the_groups_are_found_while_nobody_else_is_in_ours(
    monkeypatch: pytest.MonkeyPatch, root: Path, arguments: list[str]
) -> None:
    """With the operator in it, the top group of a container could hand no controllers down."""
    done: list[str] = []
    monkeypatch.setattr(sys, "argv", ["flowd-init", "--data", str(root), *arguments])
    monkeypatch.setattr(Cgroups, "found", lambda _data: done.append("groups"))
    monkeypatch.setattr(init.Init, "serve", lambda _self: done.append("serve"))
    monkeypatch.setattr(init.server, "claim", lambda _data: (0, None))
    monkeypatch.setattr(init.server, "settle", lambda *_, **__: None)
    monkeypatch.setattr(init.Init, "__init__", _bare)
    monkeypatch.setattr(init.signal, "pthread_sigmask", lambda *_: None)
    with pytest.raises(SystemExit):
        init.main()
    assert done == (["serve"] if "off" in arguments else ["groups", "serve"])


def _bare(shim: init.Init, data: Path, *_: object) -> None:
    shim._data = data
    shim.code = 0
