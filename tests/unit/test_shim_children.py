"""How the shim notices the ends of those whom it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from flow_operator.shim import children
from flow_operator.shim.children import BURST_WITHIN, LOOK_WITHIN, Children
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
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {}, setsigmask=())
        self.pids.append(pid)
        return pid

    def kill(self, *pids: int) -> None:
        """Have them end, and leave them to be reaped."""
        for pid in pids:
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
        if which != -1:
            return real(which, flags)
        for pid in made.pids:  # This process has children of other tests, too.
            with contextlib.suppress(ChildProcessError):
                found = real(pid, flags)
                if found[0]:
                    return found
        return 0, 0

    with monkeypatch.context() as patched:
        patched.setattr(children.os, "waitpid", waitpid)
        yield made
    made.end()


def _looked(family: Family, count: int) -> None:
    family.children.look_if_due()
    assert len(family.told) == count


def test_only_who_has_ended_is_waited_for(family: Family) -> None:
    """However many others live: to look for it among all is what takes long."""
    pids = [family.start() for _ in range(5)]
    family.kill(pids[3])
    family.children.signalled([pids[3]])
    assert family.told == [(pids[3], signal.SIGKILL)]
    assert family.waited == [pids[3]]
    family.children.look_if_due()
    assert family.waited == [pids[3]], "all were looked at too soon"


def test_those_whose_signals_were_one_with_anothers_are_found_soon(family: Family) -> None:
    """By one look for all of them, orphans too."""
    pids = [family.start() for _ in range(4)]
    assert family.children.look_in is None
    family.kill(*pids[:3])
    family.children.signalled(pids[:1])
    assert [pid for pid, _ in family.told] == pids[:1]
    assert family.children.look_in is not None
    assert family.children.look_in <= LOOK_WITHIN
    eventually(lambda: _looked(family, 3))
    assert {pid for pid, _ in family.told} == set(pids[:3])
    assert family.children.look_in is None


def test_many_that_end_at_once_are_found_together(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that they can be told of together, and sooner than by themselves."""
    moments = iter([7.0, *[7.0 + BURST_WITHIN / 2] * 3, 7.0 + 2 * BURST_WITHIN])
    monkeypatch.setattr(children.time, "monotonic", lambda: next(moments))
    pids = [family.start() for _ in range(3)]
    family.kill(*pids)
    family.children.signalled(pids[:1])
    family.children.signalled(pids[1:])
    assert [pid for pid, _ in family.told] == pids[:1]
    assert family.children.look_in == pytest.approx(BURST_WITHIN)
    family.children.look_if_due()
    assert len(family.told) == 1
    family.children.look_if_due()
    assert {pid for pid, _ in family.told} == set(pids)


def test_somebody_elses_wait_is_no_end_of_the_world(family: Family) -> None:
    """A library may have waited for its own child."""
    pid = family.start()
    family.kill(pid)
    os.waitid(os.P_PID, pid, os.WEXITED)
    family.pids.remove(pid)
    family.children.signalled([pid])
    family.children.look_at_all()
    assert family.told == []


REAL = """
import os, select, signal
from flow_operator.shim.children import Children

told = []
children = Children(lambda pid, status: told.append(pid))
pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {}, setsigmask=())
assert not select.select([children], [], [], 0)[0]
os.kill(pid, signal.SIGKILL)
assert select.select([children], [], [], 20)[0]
children.look()
assert told == [pid], told
assert not select.select([children], [], [], 0)[0]
children.look()
"""


def test_the_kernel_tells_who_has_ended() -> None:
    """In a process of one thread, as the shim is: another thread would take the signal away."""
    subprocess.run([sys.executable, "-c", REAL], check=True, timeout=60)


def test_who_ignores_its_children_and_starts_us_does_not_matter() -> None:
    """They would be gone before we hear of them, and how they ended."""
    script = f"import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n{REAL}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
