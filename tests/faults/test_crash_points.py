"""A writer is killed at every one of its system calls in turn: nothing acknowledged is lost.

That is tried for each scene of ``crash_scenes``, until one is played to its end; see ``tracer`` for
what counts as a call.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.crash_scenes import SCENES, Scene, State
from faults.tracer import unavailable
from support import require
from unit.store_support import create, opening

HERE = Path(__file__).parent


class Driver:
    """The program that plays, and what it is asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def play(self, scene: str, root: Path, kill_at: int) -> dict[str, Any]:
        """Play once, killed at that call if it comes to it."""
        request = {"scene": scene, "root": str(root), "kill_at": kill_at}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    """One for all tests."""
    require(unavailable())
    with subprocess.Popen(
        [sys.executable, str(HERE / "crash_driver.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])},
    ) as process:
        yield Driver(process)
        process.stdin.close()


def states_of(scene: Scene, root: Path) -> list[State]:
    """The state before anything is done, and after each part of it."""
    return list(scene.play(root))


def prepared(scene: Scene, root: Path, name: str) -> Path:
    """A directory as the scene finds it."""
    path = root / name
    if not (root / "before").exists():
        (root / "before" / "data").mkdir(parents=True)
        scene.prepare(root / "before")
    shutil.copytree(root / "before", path)
    return path


@pytest.mark.parametrize("name", SCENES)
def test_killed_at_every_call_all_that_was_acknowledged_stands(
    root: Path, driver: Driver, record_property: Callable[[str, int], None], name: str
) -> None:
    """And what was under way stands whole or not at all; nothing is torn or left lying about."""
    scene = SCENES[name]
    states = states_of(scene, prepared(scene, root, "whole"))
    for kill_at in itertools.count(1):
        path = prepared(scene, root, str(kill_at))
        answer = driver.play(name, path, kill_at)
        if answer["status"] == 0:
            break
        assert answer["status"] == -signal.SIGKILL, answer
        assert answer["calls"] == kill_at
        _check(scene, states, path, answer)
        shutil.rmtree(path)
    assert answer["done"] == len(states) - 1
    assert kill_at > len(states), "the calls were not seen"
    record_property("system calls tried", kill_at - 1)


def _check(scene: Scene, states: list[State], path: Path, answer: dict[str, Any]) -> None:
    old = states[answer["done"]]
    new = states[min(answer["done"] + 1, len(states) - 1)]
    found = scene.read(path)
    assert scene.right(old, new, found), (answer, old, new, found)
    assert _leftovers(path / "data") == [], answer
    if scene.go_on is not None:
        assert scene.go_on(path) == new, answer
    if "version" in old:
        assert old["version"] <= found["version"], answer
        with opening(path / "data") as store:
            (record,) = create(store, "one-more")
            assert record.version > max(old["version"], found["version"]), answer


def _leftovers(data: Path) -> list[str]:
    kinds = (".tmp-", "txn-")
    return [
        path.name
        for path in data.rglob("*")
        if path.name.startswith(kinds) or ".corrupt" in path.name
    ]
