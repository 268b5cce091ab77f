"""Groups that no process leaves by forking: one cgroup v2 group for each run.

What is started in a group stays in it, whatever it does to its session and its environment, so
that a whole run can be killed, frozen and limited at once. Kernel documentation: cgroup-v2.rst.

The groups of a shim are ``BASE/flow-operator-ID/RUN``, with ``STEP.ATTEMPT`` below them where there
are controllers, whose limits are a step's; the shim itself lives beside them in ``shim``, because a
group with limits may not hold both processes and groups.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping

from flow_operator.shim.digest import sha256
from flow_operator.shim.kernel import read_all
from flow_operator.shim.spawn_into import SPAWNS_INTO

_CONTROLLERS = ("cpu", "memory", "pids")

_CPU_PERIOD = 100_000
"""Microseconds; the kernel's own default period of ``cpu.max``."""

_HOME = "shim"

_MOUNTS = "/proc/self/mountinfo"

_WARM = 0.015
"""Seconds after a move within which another one does not wait for all processors."""

_ROW = 4
"""Starts in a row, without :data:`_WARM` between them, after which the next ones are by a move: so
many forks take as much longer than spawns as the wait of one move does."""


class Cgroups:
    """The groups of one shim.

    Attributes:
        root: the directory that holds them.
        controllers: which limits can be enforced.
        more_follow: whether the next request starts a step as well.
        refused: whether the kernel, or a filter, has let nobody be started in a group from outside.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.controllers = frozenset(_read(root, "cgroup.subtree_control").split())
        self._away = False
        self._new: str | None = None
        """The group that was just made for what is started now: nobody has frozen it."""
        self._moved = self._started = 0.0
        self._row = 0
        self.more_follow = False
        self.refused = False

    @classmethod
    def found(cls, data: str) -> Cgroups | None:
        """Groups for a data directory, with this process moved to its place among them.

        None where there is no cgroup v2 that we may write, or one from before Linux 5.14, which
        can neither be killed nor frozen as a whole.
        """
        try:
            root = root_of(data)
            if root is None:
                return None
            for path in (root, os.path.join(root, _HOME)):
                os.makedirs(path, exist_ok=True)
            if not os.path.exists(os.path.join(root, "cgroup.kill")):
                return None
            _enter(os.path.join(root, _HOME))
        except OSError:
            return None
        _enable(os.path.dirname(root), root)
        groups = cls(root)
        for name in os.listdir(root):
            if name != _HOME and os.path.isdir(os.path.join(root, name)):
                remove(os.path.join(root, name))  # Fails, as it should, where somebody lives.
        return groups

    def open(self, run: str) -> str:
        """Make the group of a run; returns its directory."""
        path = os.path.join(self.root, run)
        _make(path)
        for controller in self.controllers:
            _try_write(path, "cgroup.subtree_control", f"+{controller}")
        self._new = path
        return path

    def of(self, run: str) -> str | None:
        """The group that an earlier shim has made for a run here; None if there is none."""
        path = os.path.join(self.root, run)
        return path if os.path.isdir(path) else None

    def place(self, group: str, leaf: str) -> str:
        """Where in a run's group a step is to be born: in one of its own where there are limits.

        That one is new, so that it is neither out of its quota nor full, and its limits come later.

        Raises:
            OSError: it cannot be made, or the run is frozen, as who goes there would be.
        """
        if group != self._new and _read(group, "cgroup.freeze").strip() == "1":
            raise OSError("the run is frozen; resume it first")
        if not self.controllers:
            return group
        path = os.path.join(group, leaf)
        _make(path)
        return path

    def born_there(self) -> bool:
        """Whether the step that is now started is to be born in its group while we are elsewhere.

        Who moves there and has not for a while waits until all processors have seen the lock that
        it takes, 6 to 30 ms. Nobody waits where the C library can spawn into a group. A fork into
        it (clone3(2)) does not wait either, but takes some milliseconds more than a spawn, so it is
        for those that come alone.
        """
        if self.refused:
            return False
        if SPAWNS_INTO:
            return True
        now = time.monotonic()
        self._row = self._row + 1 if now - self._started < _WARM else 1
        self._started = now
        waits = now - self._moved > _WARM
        alone = not self.more_follow and self._row <= _ROW
        return waits and alone and not _moves_quickly()

    def enter(self, place: str) -> None:
        """Go where a step is to be born, so that what is spawned now is.

        This process moves and not its child, which could have forked before it is moved; it stays
        until :meth:`go_home`.

        Raises:
            OSError: it cannot be entered.
        """
        self._away = True
        _enter(place)
        self._moved = time.monotonic()

    def go_home(self) -> None:
        """Leave the group of a run, if we are in one: what is done to it is not for us."""
        self._new = None
        if not self._away:
            return
        home = os.path.join(self.root, _HOME)
        try:
            _enter(home)
        except OSError:
            # While nobody was in it, somebody may have tidied it away.
            os.makedirs(home, exist_ok=True)
            _enter(home)
        self._away = False
        self._moved = time.monotonic()

    def close(self) -> None:
        """Leave nothing behind, where the kernel lets us."""
        with contextlib.suppress(OSError):
            _enter(os.path.dirname(self.root))
        remove(self.root)


def change(path: str, what: str) -> None:
    """``kill``, ``freeze`` or ``thaw`` everybody in a group; nobody can fork out of its way.

    Raises:
        OSError: it could not be written.
    """
    name, value = {
        "kill": ("cgroup.kill", "1"),
        "freeze": ("cgroup.freeze", "1"),
        "thaw": ("cgroup.freeze", "0"),
    }[what]
    with contextlib.suppress(FileNotFoundError):  # It went with the last of its members.
        _write(path, name, value)


def limit(path: str | None, limits: Mapping[str, float]) -> dict[str, bool]:
    """Set the limits of a group; returns which of them hold.

    Args:
        path: the group; where there is none, no limit holds.
        limits: ``cpu`` in cores, ``memory`` in bytes, ``pids`` in processes and threads.
    """
    if path is None:
        return dict.fromkeys(limits, False)
    held = {name: _try_write(path, *_setting(name, value)) for name, value in limits.items()}
    if held.get("memory"):
        # A limit that swaps is none, and half a killed step is of no use to anybody.
        _try_write(path, "memory.swap.max", "0")
        _try_write(path, "memory.oom.group", "1")
    return held


def _setting(name: str, value: float) -> tuple[str, str]:
    if name == "cpu":
        return "cpu.max", f"{max(int(value * _CPU_PERIOD), 1000)} {_CPU_PERIOD}"
    return f"{name}.max", str(int(value))


def held(path: str) -> dict[str, bool]:
    """The limits that hold in a group, whoever has set them."""
    return {name: True for name in _CONTROLLERS if _is_limited(path, name)}


def _is_limited(path: str, name: str) -> bool:
    try:
        return not _read(path, f"{name}.max").startswith("max")
    except OSError:
        return False  # The controller is not there.


def out_of_memory(path: str) -> bool:
    """Whether the kernel has killed somebody in a group for its memory limit."""
    with contextlib.suppress(OSError):
        for line in _read(path, "memory.events").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count) > 0
    return False


def group_of(pid: int, run: str) -> str | None:
    """The group of a run, found by the place of one of its processes; None if it is in none."""
    with contextlib.suppress(OSError):
        mount, top = _mount()
        path = _place(f"/proc/{pid}/cgroup")
        while path not in ("/", ""):
            if os.path.basename(path) == run:
                return os.path.join(mount, os.path.relpath(path, top))
            path = os.path.dirname(path)
    return None


def root_of(data: str) -> str | None:
    """Where the groups for a data directory are, once there are any.

    None where there is no cgroup that we may write.

    Raises:
        OSError: cgroup v2 is mounted nowhere.
    """
    base = _delegated()
    return os.path.join(base, "flow-operator-" + sha256(os.fsencode(data))[:12]) if base else None


def remove(path: str) -> None:
    """Remove a group and those below it, as far as nobody lives in them."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                remove(entry.path)
        os.rmdir(path)


def _delegated() -> str | None:
    """The group below which we may make our own.

    The nearest one around us that systemd marks as delegated (systemd.resource-control(5)), else
    the one that we are in.
    """
    mount, top = _mount()
    own = os.path.join(mount, os.path.relpath(_place("/proc/self/cgroup"), top))
    path = own = os.path.normpath(own)
    while f"{path}/".startswith(f"{mount}/"):
        for attribute in ("user.delegate", "trusted.delegate"):
            with contextlib.suppress(OSError):
                if os.getxattr(path, attribute) == b"1":
                    return path
        path = os.path.dirname(path)
    inside = f"{own}/".startswith(f"{mount}/")
    return own if inside and os.access(own, os.W_OK) else None


def _mount() -> tuple[str, str]:
    """(where cgroup v2 is mounted, which group is its top there).

    Raises:
        OSError: it is mounted nowhere.
    """
    fields, _ = _mounted()
    top, where = fields.split()[3:5]
    return where, top


def _moves_quickly(table: str = _MOUNTS) -> bool:
    """Whether who moves never waits: with the mount option favordynmods, all others do, a bit."""
    _, options = _mounted(table)
    return "favordynmods" in options.split()[-1].split(",")


def _mounted(table: str = _MOUNTS) -> tuple[str, str]:
    """The line of proc_pid_mountinfo(5) about cgroup v2, up to and after its separator.

    Raises:
        OSError: it is mounted nowhere.
    """
    with open(table, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, kind = line.partition(" - ")
            if kind.startswith("cgroup2 "):
                return fields, kind
    raise FileNotFoundError("cgroup v2 is not mounted")


def _place(file: str) -> str:
    with open(file, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if line.startswith("0::"):
                return line[3:].rstrip("\n").removesuffix(" (deleted)")
    raise FileNotFoundError(f"{file} names no group of version 2")


def _enable(base: str, root: str) -> None:
    """Hand as many controllers down as there are.

    A group that holds processes cannot (the top one can): where it is the top of a container,
    and all in it are us and those who started us, they move beside us.
    """
    offered = _read(base, "cgroup.controllers").split()
    for controller in filter(offered.__contains__, _CONTROLLERS):
        line = f"+{controller}"
        if not _try_write(base, "cgroup.subtree_control", line):
            _clear(base, root)
            _try_write(base, "cgroup.subtree_control", line)
        _try_write(root, "cgroup.subtree_control", line)


def _clear(base: str, root: str) -> None:
    if _place("/proc/self/cgroup").count("/") != 2:  # noqa: PLR2004 - /flow-operator-ID/shim
        return
    with contextlib.suppress(OSError):
        residents = set(map(int, _read(base, "cgroup.procs").split()))
        if residents <= _ancestors():
            for pid in residents:
                _try_write(os.path.join(root, _HOME), "cgroup.procs", str(pid))


def _ancestors() -> set[int]:
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0:
        found.add(pid)
        pid = int(read_all(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    return found


def _make(path: str) -> None:
    """Have a directory, whose parent nearly always is there."""
    try:
        os.mkdir(path)
    except OSError:
        os.makedirs(path, exist_ok=True)


def _enter(path: str) -> None:
    _write(path, "cgroup.procs", "0")


def _read(path: str, name: str) -> str:
    return read_all(f"{path}/{name}").decode("ascii")


def _write(path: str, name: str, text: str) -> None:
    descriptor = os.open(f"{path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _try_write(path: str, name: str, text: str) -> bool:
    try:
        _write(path, name, text)
    except OSError:
        return False
    return True
