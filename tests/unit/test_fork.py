"""Processes that are forked and not spawned."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from flow_operator.runners.procfs import descendants
from flow_operator.shim import fork
from flow_operator.shim import spawn as spawning
from flow_operator.shim.fork import ForkError, fork_into, run_forked
from flow_operator.shim.spawn import NULL, SpawnError, spawn

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
"""Of threads, from Python 3.12 on: the tests have some, the shim has none."""


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _raising(error: BaseException) -> Callable[[], None]:
    def become() -> None:
        raise error

    return become


def _children() -> set[int]:
    """Also those that have ended, and that nobody has waited for; other tests may have some."""
    return {proc.pid for proc in descendants(os.getpid()) if proc.ppid == os.getpid()}


def test_it_returns_once_the_program_runs() -> None:
    """The parent's own mask is what it was."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def become() -> None:
        os.setsid()
        os.execve("/bin/sh", ["sh", "-c", "exit 7"], {})  # noqa: S606 - a program of the tests

    pid = run_forked(become, os.fork)
    assert _ended(pid) == 7
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize(
    ("error", "number", "why"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), errno.ENOENT, "No such file"),
        (ValueError("embedded null byte"), 0, "embedded null byte"),
        (KeyboardInterrupt("no"), 0, "no"),
    ],
)
def test_what_the_child_meets_is_told_and_nobody_is_left(
    error: BaseException, number: int, why: str
) -> None:
    """Whatever it is; the child does not go on with what is its parent's."""
    open_before, children = set(os.listdir("/proc/self/fd")), _children()
    with pytest.raises(OSError, match=why) as raised:
        run_forked(_raising(error), os.fork)
    assert raised.value.errno == number
    assert _children() == children
    assert set(os.listdir("/proc/self/fd")) == open_before


def test_a_fork_that_is_refused_leaves_nothing_behind() -> None:
    """No descriptor, and no signal that stays blocked."""
    open_before = set(os.listdir("/proc/self/fd"))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, "none to be had")

    with pytest.raises(OSError, match="none to be had"):
        run_forked(_raising(OSError()), refused)
    assert set(os.listdir("/proc/self/fd")) == open_before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    """As by a spawn."""
    spec = {"argv": ["/no/such"], "cwd": str(tmp_path), "nofile": 64, "rlimits": {"CORE": 0}}
    with pytest.raises(SpawnError, match=r"cannot start '/no/such': No such file") as raised:
        spawn(spec, {}, (NULL, NULL, NULL))
    assert raised.value.errno == errno.ENOENT


def test_a_signal_that_comes_before_the_program_is_the_childs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, or not, as a new process does; no handler of its parent's swallows it."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    monkeypatch.setattr(spawning, "_set_limits", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    spec = {"argv": ["/bin/true"], "cwd": str(tmp_path), "nofile": 64, "rlimits": {"CORE": 0}}
    try:
        assert _ended(spawn(spec, {}, (NULL, NULL, NULL))) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("why", ["no group", "old kernel", "gone"])
def test_a_group_that_nobody_can_be_forked_into_is_told(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No directory is a group but one of cgroup v2; an old kernel does not know the call."""
    children = _children()
    if why == "old kernel":
        monkeypatch.setattr(fork, "_CLONE3", 1_000_000)
    place = tmp_path / "gone" if why == "gone" else tmp_path
    spec = {"argv": ["/bin/true"], "cwd": str(tmp_path), "nofile": 64}
    with pytest.raises(ForkError) as raised:
        fork_into(str(place))
    assert raised.value.lasting is (why != "gone")
    with pytest.raises(ForkError):
        spawn(spec, {}, (NULL, NULL, NULL), str(place))
    assert _children() == children
