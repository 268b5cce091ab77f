"""What a step may use, as the shim takes it."""

from __future__ import annotations

import resource
from typing import Any

import msgspec

from flow_operator.model.flow import Rlimits, Step
from flow_operator.model.units import Size

_SOFT_NOFILE = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
"""Descriptors that a step may open unless it says otherwise: as many as flowd, when it started."""

_RLIMITS = tuple(
    (field.name, field.encode_name.upper()) for field in msgspec.structs.fields(Rlimits)
)
"""Of each field and in setrlimit(2). Asked for once: msgspec evaluates all annotations."""


def limits_of(step: Step) -> dict[str, Any]:
    """``nofile`` and ``rlimits`` by setrlimit(2)'s names, ``limits`` for a cgroup, ``umask``."""
    limits = step.resources.limits
    rlimits: dict[str, int] = {}
    for name, told in _RLIMITS:
        value = getattr(step.resources.rlimits, name)
        if value is not None:
            rlimits[told] = value.bytes if isinstance(value, Size) else value
    if limits.open_files is not None:
        rlimits["NOFILE"] = limits.open_files
    together = {
        "cpu": limits.cpu.cores if limits.cpu is not None else None,
        "memory": limits.memory.bytes if limits.memory is not None else None,
        "pids": limits.pids,
    }
    return {
        "nofile": _SOFT_NOFILE,
        "rlimits": rlimits,
        "limits": {name: value for name, value in together.items() if value is not None},
        "umask": None if step.umask is None else int(step.umask, 8),
    }
