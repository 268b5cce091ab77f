"""How the shim notices the ends of those whom it has started."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from flow_operator.shim import children
from flow_operator.shim.children import LOOK_WITHIN, Children
from support import eventually


@dataclass
class Family:
    """Real children, and what was told of them."""

    told: list[tuple[int, int]] = field(default_factory=list)
    waited: list[int] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.children = Children(lambda pid, status: self.told.append((pid, status)))

    def start(self) -> int:
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
        self.pids.append(pid)
        return pid

    def kill(self, pid: int) -> None:
        """Have it end, and leave it to be reaped."""
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    def end(self) -> None:
        self.children.close()
        for pid in set(self.pids) - {pid for pid, _ in self.told}:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    made, real = Family(), os.waitpid

    def waitpid(which: int, flags: int) -> tuple[int, int]:
        made.waited.append(which)
        return real(which, flags)

    with monkeypatch.context() as patched:
        patched.setattr(children.os, "waitpid", waitpid)
        yield made
    made.end()


def _readable(family: Family) -> bool:
    return bool(select.select([family.children], [], [], 0)[0])


def test_only_those_who_have_ended_are_waited_for(family: Family) -> None:
    """However many others live: to look for them among all is what takes long."""
    pids = [family.start() for _ in range(10)]
    for pid in pids:
        family.children.watch(pid)
    assert not _readable(family)
    for pid in pids[3:5]:
        family.kill(pid)
    assert _readable(family)
    family.children.look()
    assert sorted(family.told) == [(pid, signal.SIGKILL) for pid in sorted(pids[3:5])]
    assert sorted(family.waited) == sorted(pids[3:5])
    assert not _readable(family)


def test_who_ends_before_it_is_watched_is_noticed(family: Family) -> None:
    pid = family.start()
    family.kill(pid)
    family.children.watch(pid)
    family.children.look()
    assert family.told == [(pid, signal.SIGKILL)]


def test_orphans_are_reaped_soon_and_together(family: Family) -> None:
    """Whose parent has died comes to us; a signal is all that tells of its end."""
    watched, *orphans = (family.start() for _ in range(3))
    family.children.watch(watched)
    assert family.children.look_in is None
    for pid in orphans:
        family.kill(pid)
        family.children.signalled()
    assert family.told == []
    assert family.children.look_in is not None
    assert family.children.look_in <= LOOK_WITHIN
    eventually(lambda: _looked(family, 2))
    assert {pid for pid, _ in family.told} == set(orphans)
    assert family.children.look_in is None


def _looked(family: Family, count: int) -> None:
    family.children.look_if_due()
    assert len(family.told) == count


def test_where_descriptors_are_short_children_are_noticed_by_their_signal(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: half of the descriptors are left for pipes, logs and operators."""
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(children, "own_limit", lambda: 6)
    pid = family.start()
    family.children.watch(pid)
    assert len(os.listdir("/proc/self/fd")) == before
    family.kill(pid)
    family.children.signalled()
    assert family.told == [(pid, signal.SIGKILL)]
    family.children.signalled()
    assert family.children.look_in is not None, "nobody is left who has to be looked for at once"


def test_a_look_at_all_lets_go_of_who_was_watched(family: Family) -> None:
    """It may come first; the descriptor is then that of nobody."""
    before = len(os.listdir("/proc/self/fd"))
    pid = family.start()
    family.children.watch(pid)
    family.kill(pid)
    family.children.look_at_all()
    assert family.told == [(pid, signal.SIGKILL)]
    assert len(os.listdir("/proc/self/fd")) == before
    family.children.look()
    assert len(family.told) == 1


def test_somebody_elses_wait_is_no_end_of_the_world(family: Family) -> None:
    """A library may have waited for its own child."""
    pid = family.start()
    family.children.watch(pid)
    family.kill(pid)
    os.waitid(os.P_PID, pid, os.WEXITED)
    family.pids.remove(pid)
    family.children.look()
    assert family.told == []
    assert not _readable(family)
