"""Reading /proc: who belongs to which run."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_HOME = b"FLOW_OPERATOR="
_FLOW = b"FLOW_ID="
_REPLICA = b"FLOW_REPLICA="
_RUN = b"FLOW_RUN="
_STEP = b"FLOW_STEP="
_ATTEMPT = b"FLOW_ATTEMPT="

_EXITING = 0x4
"""``PF_EXITING`` of Linux' include/linux/sched.h, in field 9 of a stat."""

ZOMBIE_STATES = frozenset("ZXx")
STOPPED_STATES = frozenset("Tt")


class Proc(NamedTuple):
    """One process, from /proc/PID/stat (proc(5)).

    Attributes:
        environ: where in its memory its environment begins and ends. Each exec moves it, as the
            kernel puts stacks at random places, and it is of another size. Zeros if it may not be
            seen.
    """

    pid: int
    state: str
    ppid: int
    sid: int
    start: int
    cpu_ticks: int
    rss_pages: int
    threads: int = 1
    environ: tuple[bytes, ...] = (b"0", b"0")

    @property
    def dead(self) -> bool:
        """Whether it has ended; not where only its main thread has, which others outlive."""
        return self.state in ZOMBIE_STATES and self.threads <= 1

    @property
    def cpu_seconds(self) -> float:
        """User and system time, with that of children it has waited for."""
        return self.cpu_ticks / _TICKS

    @property
    def memory_bytes(self) -> int:
        """Resident memory."""
        return self.rss_pages * _PAGE


def read_proc(pid: int) -> Proc | None:
    """One process, or None if there is none of that pid.

    Raises:
        OSError: it could not be looked at, which says nothing about it: no descriptor was left.
    """
    fields = _stat(pid)
    if fields is None:
        return None
    return Proc(
        pid,
        fields[0].decode(),
        int(fields[1]),
        int(fields[3]),
        int(fields[19]),
        int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14]),
        int(fields[21]),
        int(fields[17]),
        tuple(fields[47:49]),
    )


def _stat(pid: int) -> list[bytes] | None:
    """What proc_pid_stat(5) names, from its field 3 on, which is index 0 here."""
    try:
        return _read(f"/proc/{pid}/stat", 1024).rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _read(path: str, most: int) -> bytes:
    """The beginning of a file of procfs, in half of the time that a file object takes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)


def pids() -> list[int]:
    """Everybody's, zombies' and kernel threads' too."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def scan(besides: Container[int] = ()) -> dict[int, Proc]:
    """Every process that is not a zombie.

    Args:
        besides: who need not be looked at.

    Raises:
        OSError: not all could be looked at.
    """
    found: dict[int, Proc] = {}
    for pid in pids():
        proc = read_proc(pid) if pid not in besides else None
        if proc is not None and not proc.dead:
            found[pid] = proc
    return found


def environment(pid: int) -> bytes:
    """The environment that a process was started with; empty if it may not be read.

    Raises:
        OSError: it could not be looked at, which says nothing about it.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def is_in_exec(proc: Proc) -> bool:
    """Whether a process whose environment was found to be empty is in the middle of execve(2).

    It has closed by then what it was not to keep, locks and sockets among it. The kernel tells it
    where its environment is before it has put it there, and where its code is last of all
    (load_elf_binary in Linux' fs/binfmt_elf.c).
    """
    if proc.ppid in (0, 2):
        return False  # kthreadd and its children have no memory.
    now = _stat(proc.pid)
    if now is None or int(now[6]) & _EXITING:
        return False
    code, begin, end = now[23], now[47], now[48]
    # Else it was, a moment ago.
    return code == b"0" or begin != end


def prints_to(pid: int, path: str | os.PathLike[str]) -> bool:
    """Whether a process has a file as its standard output or error; no if that cannot be seen."""
    try:
        wanted = os.stat(path)
    except OSError:
        return False
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{descriptor}"), wanted):
                return True
    return False


def _variable(environ: bytes, prefix: bytes) -> str:
    rest = (b"\0" + environ).partition(b"\0" + prefix)[2]
    return rest.partition(b"\0")[0].decode(errors="replace")


def run_of(pid: int, home: str) -> str:
    """The run id in a process' environment, or ``""``.

    Args:
        pid: of the process.
        home: the data directory of the operator that must have started it. A copy of a data
            directory holds the same run ids; what runs for the original is not the copy's.
    """
    told, run = told_by(pid)
    return run if told == home else ""


def told_by(pid: int) -> tuple[str, str]:
    """(data directory, run id) in a process' environment; ``""`` for what does not stand there."""
    environ = environment(pid)
    if _HOME not in environ and _RUN not in environ:
        return "", ""  # Nearly all of a machine's processes, at each look at all of them.
    return _variable(environ, _HOME), _variable(environ, _RUN)


class Identity(NamedTuple):
    """Who a process was started as, by its environment."""

    flow_id: str
    replica: int
    run: str
    step: str
    attempt: int


def identity(environ: bytes, home: str) -> Identity | None:
    """Who a process with that environment was started as; None where it is not of ``home``."""
    if _variable(environ, _HOME) != home:
        return None
    try:
        return Identity(
            _variable(environ, _FLOW),
            int(_variable(environ, _REPLICA)),
            _variable(environ, _RUN),
            _variable(environ, _STEP),
            int(_variable(environ, _ATTEMPT)),
        )
    except ValueError:
        return None  # It has made up a number of its own.


class RunIndex:
    """Tells the run of each process, and remembers it: environments rarely change.

    That a process carries none holds until its next exec: one that was just forked still shows
    its parent's environment.
    """

    def __init__(self, home: str) -> None:
        self._home = home
        self._known: dict[tuple[int, int], str] = {}
        self._others: dict[tuple[int, int], tuple[bytes, ...]] = {}

    def runs(self, procs: Mapping[int, Proc]) -> dict[int, str]:
        """Pid -> run id, for the processes that carry one."""
        known: dict[tuple[int, int], str] = {}
        others: dict[tuple[int, int], tuple[bytes, ...]] = {}
        for pid, proc in procs.items():
            if proc.ppid == 2:  # noqa: PLR2004 - children of kthreadd have no environment
                continue
            key = pid, proc.start
            if self._others.get(key) == proc.environ:
                others[key] = proc.environ
            elif run := self._known.get(key) or run_of(pid, self._home):
                known[key] = run
            elif b"0" not in proc.environ:
                others[key] = proc.environ
        self._known, self._others = known, others
        return {pid: run for (pid, _), run in known.items()}


def with_descendants(procs: Mapping[int, Proc], roots: Mapping[int, str]) -> dict[int, str]:
    """Extend pid -> run to all descendants that carry no run id of their own."""
    children: dict[int, list[int]] = {}
    for proc in procs.values():
        children.setdefault(proc.ppid, []).append(proc.pid)
    members = dict(roots)
    todo = list(roots)
    while todo:
        pid = todo.pop()
        for child in children.get(pid, ()):
            if child not in members:
                members[child] = members[pid]
                todo.append(child)
    return members


def descendants(pid: int) -> list[Proc]:
    """A process and all its descendants, by /proc/PID/task/TID/children."""
    found: list[Proc] = []
    todo = [pid]
    while todo:
        current = todo.pop()
        proc = read_proc(current)
        if proc is None:
            continue
        found.append(proc)
        todo += _children(proc)
    return found


def _children(proc: Proc) -> Iterable[int]:
    threads = f"/proc/{proc.pid}/task"
    try:
        # Most have one thread, and those who ask may ask about thousands.
        for task in [proc.pid] if proc.threads == 1 else os.listdir(threads):
            path = f"{threads}/{task}/children"
            told = _read(path, _PAGE)
            if len(told) > _PAGE // 2:  # There may be more: a page at most is given at once.
                with open(path, "rb", buffering=0) as file:
                    told = file.read()
            yield from map(int, told.split())
    except OSError:
        return


def open_files(pid: int) -> int:
    """How many descriptors a process holds; 0 if that may not be read, or it is gone."""
    path = f"/proc/{pid}/fd"
    try:
        # From Linux 6.2 on the directory's size is their number.
        return os.stat(path).st_size or len(os.listdir(path))
    except OSError:
        return 0


def written_bytes(pid: int) -> int | None:
    """Bytes that a process, and children it has waited for, have handed to write(2) and its like.

    ``wchar`` of /proc/PID/io (proc(5)). Not among them: send(2) and its like, and what is written
    to mapped files. 0 if it is gone, None if it may not be read.
    """
    try:
        with open(f"/proc/{pid}/io", "rb", buffering=0) as file:
            return int(file.read().partition(b"wchar: ")[2].split()[0])
    except (ProcessLookupError, IndexError):
        return 0
    except FileNotFoundError:
        # The process is gone, or this kernel does not count.
        return None if read_proc(pid) else 0
    except OSError:
        return None


def send_signal(proc: Proc, number: signal.Signals) -> None:
    """Signal exactly that process: one that has its pid but another start time is never hit.

    Raises:
        OSError: it could not be told which process has the pid; nothing was sent.
    """
    try:
        descriptor = os.pidfd_open(proc.pid)
    except ProcessLookupError:
        return
    try:
        now = read_proc(proc.pid)
        if now is not None and now.start == proc.start:
            signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        pass  # Gone meanwhile, or not ours: the next look at /proc tells which.
    finally:
        os.close(descriptor)
