"""What a container uses, from its cgroup, where the engine's processes can be seen from here.

Never by the engine's ``stats``, which takes a second or two for each container.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flow_operator.runners.procfs import open_files, written_bytes

_ROOT = Path("/sys/fs/cgroup")
_NANO = 1e9
_MICRO = 1e6


def groups_of(pid: int) -> dict[str, Path]:
    """The cgroups of a process by controller; ``""`` is that of version 2.

    Empty where the process is not to be seen, as from within another container.
    """
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return {}
    found: dict[str, Path] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            place = (
                _ROOT / controller / path.lstrip("/") if controller else _ROOT / path.lstrip("/")
            )
            if place.is_dir():
                found[controller] = place
    return found


def cpu_seconds(groups: dict[str, Path]) -> float:
    """User and system time of all processes that were in the container (cgroups(7))."""
    if (group := groups.get("cpuacct")) is not None:
        return _number(group / "cpuacct.usage") / _NANO
    for line in _lines(groups.get("", Path("/none")) / "cpu.stat"):
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) / _MICRO
    return 0.0


def memory_bytes(groups: dict[str, Path]) -> int:
    """Memory of all processes in the container, its page cache included."""
    if (group := groups.get("memory")) is not None:
        return _number(group / "memory.usage_in_bytes")
    return _number(groups.get("", Path("/none")) / "memory.current")


def members(groups: dict[str, Path]) -> Iterator[int]:
    """The pids of the container."""
    group = groups.get("pids") or groups.get("memory") or groups.get("")
    if group is not None:
        yield from (int(line) for line in _lines(group / "cgroup.procs") if line != "0")


def opened(groups: dict[str, Path]) -> int:
    """Descriptors that the container's processes hold."""
    return sum(open_files(pid) for pid in members(groups))


def written(groups: dict[str, Path]) -> int:
    """Bytes that the container's processes have written; another number once they have."""
    return sum(written_bytes(pid) or 0 for pid in members(groups))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []  # It has ended meanwhile.


def _number(path: Path) -> int:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdecimal() else 0
