"""Limit*=, MemoryMax=, CPUQuota= and TasksMax= as the limits of a step."""

from __future__ import annotations

import re

from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.unit_file import UnitSection
from flow_operator.flowctl.importing.unit_words import INFINITY, size, time
from flow_operator.flowctl.importing.values import size as shown

_SIZES = {
    "LimitAS": "as",
    "LimitCORE": "core",
    "LimitDATA": "data",
    "LimitFSIZE": "fsize",
    "LimitMEMLOCK": "memlock",
    "LimitSTACK": "stack",
}
_MOST_BYTES = 2**50
_MOST_NUMBER = 2**62
_LEAST_FILES, _MOST_FILES = 16, 1_048_576
_MOST_PIDS = 4_194_304
_LEAST_CPU, _MOST_CPU = 10, 10_000_000
"""Thousandths of a CPU; what a manifest may ask for (model/flow.py, model/units.py)."""

_UNLIMITED = "is not carried over: a step has no limit of its own, but never more than flowd has"


def set_limits(draft: Draft, keys: UnitSection) -> None:
    """Carry over what a step can be limited in."""
    for key, name in _SIZES.items():
        number = _value(keys, key, _MOST_BYTES)
        if number is not None:
            draft.limits("rlimits")[name] = shown(number)
    processes = _value(keys, "LimitNPROC", _MOST_NUMBER)
    if processes is not None:
        draft.limits("rlimits")["nproc"] = processes
    files = _value(keys, "LimitNOFILE", _MOST_FILES, _LEAST_FILES)
    if files is not None:
        draft.limits()["openFiles"] = files
    _cpu_seconds(draft, keys)
    memory = _value(keys, "MemoryMax", _MOST_BYTES, 1) or _value(keys, "MemoryLimit", _MOST_BYTES)
    if memory:
        draft.limits()["memory"] = shown(memory)
    pids = _value(keys, "TasksMax", _MOST_PIDS, 1)
    if pids is not None:
        draft.limits()["pids"] = pids
    quota = keys.text("CPUQuota")
    match = re.fullmatch(r"([0-9]{1,9})(?:\.([0-9]))?[0-9]*%", quota or "")
    if match:
        milli = int(match[1]) * 10 + int(match[2] or 0)
        draft.limits()["cpu"] = f"{min(max(milli, _LEAST_CPU), _MOST_CPU)}m"
    elif quota is not None:
        keys.say("CPUQuota", "must be a percentage; it was left out")


def _value(keys: UnitSection, key: str, most: int, least: int = 0) -> int | None:
    written = _soft(keys, key)
    if written is None:
        return None
    number = size(written)
    if number == INFINITY:
        keys.say(key, _UNLIMITED)
    elif number is None or not least <= number <= most:
        keys.say(key, f"must be a number of {least} to {most}; it was left out")
    else:
        return int(number)
    return None


def _cpu_seconds(draft: Draft, keys: UnitSection) -> None:
    written = _soft(keys, "LimitCPU")
    number = time(written) if written is not None else None
    if written is not None and (number is None or number == INFINITY):
        keys.say("LimitCPU", _UNLIMITED)
    elif number is not None:
        draft.limits("rlimits")["cpu"] = int(number)


def _soft(keys: UnitSection, key: str) -> str | None:
    written = keys.text(key)
    if written is None:
        return None
    soft, colon, hard = written.partition(":")
    if colon and soft != hard:
        keys.say(key, f"{soft} is the soft and the hard limit at once")
    return soft
