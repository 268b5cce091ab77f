"""What a service may use, by the old keys and by ``deploy``."""

from __future__ import annotations

import re

from flow_operator.errors import clipped
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.section import Section

_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)\s*(b|k|m|g|t|)b?", re.IGNORECASE)
_FACTORS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_MOST_BYTES = 2**50

_RLIMITS = ("as", "core", "cpu", "data", "fsize", "memlock", "nproc", "stack")
_MOST_REPLICAS = 1000
_LEAST_FILES, _MOST_FILES = 16, 1_048_576
_MOST_PIDS = 4_194_304
_LEAST_CPUS, _MOST_CPUS = 0.01, 10_000

_UNLIMITED = "is not carried over: a step has no limit of its own, but never more than flowd has"
_SWARM = "is not carried over: flows run on one machine"


def set_limits(draft: Draft, keys: Section) -> None:
    """Carry limits and replicas over; what ``deploy`` says counts."""
    deploy = keys.below("deploy")
    resources = deploy.below("resources")
    inner = resources.below("limits")
    for section, names in (
        (keys, ("cpus", "mem_limit", "pids_limit")),
        (inner, ("cpus", "memory", "pids")),
    ):
        _cpus(draft, section, names[0])
        _memory(draft, section, names[1])
        _pids(draft, section, names[2])
    inner.leave({"*": "is not carried over: only cpus, memory and pids are limited"})
    resources.leave({"*": "is not carried over: nothing is reserved for a flow"})
    _ulimits(draft, keys.below("ulimits"))
    for section, key in ((keys, "scale"), (deploy, "replicas")):
        _replicas(draft, section, key)
    deploy.raw("restart_policy")
    deploy.leave({"*": _SWARM})


def _replicas(draft: Draft, keys: Section, key: str) -> None:
    count = keys.whole(key)
    if count == 0:
        draft.stop_at_first()
    elif count is not None and count > _MOST_REPLICAS:
        keys.place_of(key).refuse(f"more than {_MOST_REPLICAS} cannot be imported")
    elif count is not None:
        draft.spec["replicas"] = count


def _cpus(draft: Draft, keys: Section, key: str) -> None:
    count = keys.number(key)
    if count:
        if not _LEAST_CPUS <= count <= _MOST_CPUS:
            keys.say(key, f"must be {_LEAST_CPUS} to {_MOST_CPUS}; it was left out")
        else:
            draft.limits()["cpu"] = f"{round(count * 1000)}m"


def _memory(draft: Draft, keys: Section, key: str) -> None:
    written = keys.text(key)
    if written is None:
        return
    match = _SIZE.fullmatch(written.strip())
    number = int(float(match[1]) * _FACTORS[match[2].lower()]) if match else 0
    if not 0 < number <= _MOST_BYTES:
        keys.say(key, f"{clipped(repr(written))} is no size; it was left out")
    else:
        draft.limits()["memory"] = str(number) if number % 2**20 else f"{number // 2**20}Mi"


def _pids(draft: Draft, keys: Section, key: str) -> None:
    written = keys.text(key)
    if written is None or written == "-1":
        return
    count = keys.whole(key)
    if count is not None and not 1 <= count <= _MOST_PIDS:
        keys.say(key, f"must be 1 to {_MOST_PIDS}; it was left out")
    elif count is not None:
        draft.limits()["pids"] = count


def _ulimits(draft: Draft, keys: Section) -> None:
    for name, value in keys.values.items():
        if isinstance(value, dict):
            both = keys.below(name)
            soft, hard = both.text("soft"), both.text("hard")
            if soft != hard:
                keys.say(name, f"{clipped(soft)} is the soft and the hard limit at once")
            both.leave({})
        else:
            soft = keys.text(name)
        known = name in _RLIMITS or name == "nofile"
        if not known:
            keys.say(name, "is not carried over: nothing sets this limit for a step")
        elif soft is None or not re.fullmatch("[0-9]{1,15}", soft):
            keys.say(name, _UNLIMITED)
        elif name == "nofile":
            _files(draft, keys, int(soft))
        else:
            numbered = name in ("cpu", "nproc")
            draft.limits("rlimits")[name] = int(soft) if numbered else soft


def _files(draft: Draft, keys: Section, count: int) -> None:
    if _LEAST_FILES <= count <= _MOST_FILES:
        draft.limits()["openFiles"] = count
    else:
        keys.say("nofile", f"must be {_LEAST_FILES} to {_MOST_FILES}; it was left out")
