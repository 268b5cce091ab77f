"""Kills a process at its n-th system call on files below a directory, by ptrace(2).

strace can inject a signal too, but it counts for each system call and each thread by itself: what a
process of several threads does at its n-th call cannot be told from that. Here one count runs over
all threads and all calls that create, write, sync, rename or remove, so that trying every number
tries every moment between two of them. The kill comes on the way into the call, which is not
carried out any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
from dataclasses import dataclass
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long

_SYSCALL, _SEIZE, _INTERRUPT, _LISTEN, _GET_SYSCALL_INFO = 24, 0x4206, 0x4207, 0x4208, 0x420E
_SYSGOOD, _CLONE, _EXITKILL = 1, 1 << 3, 1 << 20
_EVENT_STOP = 128
_ENTRY = 1
_AT_FDCWD = -100
_WALL = 0x40000000

CALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "close": 3,
        "copy_file_range": 326,
        "creat": 85,
        "fallocate": 285,
        "fdatasync": 75,
        "fsync": 74,
        "ftruncate": 77,
        "link": 86,
        "linkat": 265,
        "mkdir": 83,
        "mkdirat": 258,
        "open": 2,
        "openat": 257,
        "pwrite64": 18,
        "pwritev": 296,
        "rename": 82,
        "renameat": 264,
        "renameat2": 316,
        "rmdir": 84,
        "sync_file_range": 277,
        "syncfs": 306,
        "truncate": 76,
        "unlink": 87,
        "unlinkat": 263,
        "write": 1,
        "writev": 20,
    },
    "aarch64": {
        "close": 57,
        "copy_file_range": 285,
        "fallocate": 47,
        "fdatasync": 83,
        "fsync": 82,
        "ftruncate": 46,
        "linkat": 37,
        "mkdirat": 34,
        "openat": 56,
        "pwrite64": 68,
        "pwritev": 70,
        "renameat": 38,
        "renameat2": 276,
        "sync_file_range": 84,
        "syncfs": 267,
        "truncate": 45,
        "unlinkat": 35,
        "write": 64,
        "writev": 66,
    },
}
"""What changes files, and its number on each kind of machine."""

_BY_PATH = {"truncate", "rename", "mkdir", "rmdir", "creat", "open", "link", "unlink"}


class _SyscallInfo(ctypes.Structure):
    """struct ptrace_syscall_info of linux/ptrace.h, as it is on the way into a call."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("nr", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
        ("rest", ctypes.c_uint64 * 4),
    )


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def unavailable() -> str | None:
    """Why processes cannot be traced here; None if they can."""
    if platform.machine() not in CALLS:
        return f"the system calls of {platform.machine()} are not listed"
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    try:
        _ptrace(_SEIZE, pid, 0, _EXITKILL)
    except OSError as error:
        return f"ptrace is refused: {error.strerror}"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return None


@dataclass
class Tracer:
    """Follows one process, which must be a child of ours, and its threads.

    Attributes:
        pid: of the process.
        below: the directory whose files count.
        kill_at: at which call it is killed; 0 is never.
        armed: nothing is counted while this is false.
        count: how many calls there were.
        last: the name of the last call, and of its file.
    """

    pid: int
    below: Path
    kill_at: int = 0
    armed: bool = True
    count: int = 0
    last: tuple[str, str] = ("", "")

    def seize(self) -> None:
        """Follow every thread that there is; later ones are followed by themselves."""
        self._names = {number: name for name, number in CALLS[platform.machine()].items()}
        for tid in map(int, os.listdir(f"/proc/{self.pid}/task")):
            _ptrace(_SEIZE, tid, 0, _SYSGOOD | _CLONE | _EXITKILL)
            _ptrace(_INTERRUPT, tid)
            os.waitpid(tid, _WALL)
            _ptrace(_SYSCALL, tid)

    def follow(self) -> int:
        """Until it ends; returns its wait status."""
        while True:
            tid, status = os.waitpid(-1, _WALL)
            if tid == self.pid and not os.WIFSTOPPED(status):
                return status
            with contextlib.suppress(ProcessLookupError):  # A thread that was just killed.
                self._stopped(tid, status)

    def _stopped(self, tid: int, status: int) -> None:
        if not os.WIFSTOPPED(status):
            return
        number, event = os.WSTOPSIG(status), status >> 16
        if event == _EVENT_STOP and number != signal.SIGTRAP:
            _ptrace(_LISTEN, tid)  # Stopped by a signal, as a shell's jobs are.
        elif event or number == signal.SIGTRAP:
            _ptrace(_SYSCALL, tid)
        elif number == signal.SIGTRAP | 0x80:
            self._call(tid)
            _ptrace(_SYSCALL, tid)
        else:
            _ptrace(_SYSCALL, tid, 0, number)

    def _call(self, tid: int) -> None:
        info = _SyscallInfo()
        _ptrace(_GET_SYSCALL_INFO, tid, ctypes.sizeof(info), ctypes.addressof(info))
        name = self._names.get(info.nr)
        if not self.armed or info.op != _ENTRY or name is None:
            return
        path = self._path(name, info.args)
        if self.below not in (path, *path.parents):
            return
        self.count += 1
        self.last = (name, path.name)
        if self.count == self.kill_at:
            os.kill(self.pid, signal.SIGKILL)

    def _path(self, name: str, arguments: ctypes.Array[ctypes.c_uint64]) -> Path:
        """The file that a call is about."""
        if name in _BY_PATH:
            return self._absolute(_AT_FDCWD, self._text(arguments[0]))
        first = ctypes.c_int(arguments[0]).value
        if name.rstrip("2").endswith("at"):
            return self._absolute(first, self._text(arguments[1]))
        return self._opened(f"fd/{first}")

    def _absolute(self, directory: int, name: str) -> Path:
        return self._opened("cwd" if directory == _AT_FDCWD else f"fd/{directory}") / name

    def _opened(self, link: str) -> Path:
        try:
            return Path(os.readlink(f"/proc/{self.pid}/{link}"))
        except OSError:
            return Path("/")

    def _text(self, address: int) -> str:
        """A name in the memory of the process."""
        data = b""
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            while b"\0" not in data and len(data) < 4096:
                # Not beyond the page, behind which there may be nothing.
                memory.seek(address + len(data))
                part = memory.read(4096 - (address + len(data)) % 4096)
                if not part:
                    break  # It was killed meanwhile, and has no memory any more.
                data += part
        return os.fsdecode(data.partition(b"\0")[0])
