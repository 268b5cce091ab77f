"""What an engine tells of one container."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from signal import Signals
from typing import Any, Literal

import msgspec
from msgspec import Struct

from flow_operator.runners import container_spec as spec
from flow_operator.runners.base import Exit

Phase = Literal["made", "running", "paused", "ended"]

_BY_SIGNAL = 128
"""An init reports a child that signal N has ended as 128 + N, as shells do (POSIX, 2.8.2)."""

_SIGNALS = frozenset(map(int, Signals))
_PHASES: Mapping[str, Phase] = {"created": "made", "initialized": "made", "configured": "made"}
_LIMITS = {"cpu": "NanoCpus", "memory": "Memory", "pids": "PidsLimit"}
_ENDED = frozenset({"exited", "dead", "stopped", "removing", "stopping"})


class Box(Struct, frozen=True):
    """One container: the attempt of a step.

    Attributes:
        owner: the id of the operator that made it.
        names: of all steps of its run.
        pid: of its init, for the engine's machine; 0 unless it runs.
        started: microseconds since the epoch; 0 if it never was.
        ended: seconds since the epoch; 0 unless it has.
        error: why the engine could not start it.
        asked: which limits of all its processes together it was made with.
        address: at which it can be reached from the engine's machine; empty for that machine's own.
        exit: how it has ended; None if it has not.
    """

    id: str
    name: str
    owner: str
    run: str
    flow_id: str
    replica: int
    names: tuple[str, ...]
    index: int
    attempt: int
    phase: Phase
    pid: int = 0
    started: int = 0
    ended: float = 0.0
    code: int = 0
    out_of_memory: bool = False
    error: str = ""
    asked: tuple[str, ...] = ()
    address: str = ""
    exit: Exit | None = None

    @property
    def alive(self) -> bool:
        """Whether its processes run, or are paused."""
        return self.phase in ("running", "paused")

    @property
    def unstarted(self) -> bool:
        """Whether it was made, and nobody has tried to start it."""
        return self.phase == "made" and not self.error


def box_of(told: Mapping[str, Any], wall: float, monotonic: float) -> Box | None:
    """A container as the engine's ``inspect`` tells it; None if it is none of ours.

    Args:
        told: by the engine.
        wall: the present time, seconds since the epoch.
        monotonic: the same on the clock that exits are told in.
    """
    labels, state = told["Config"].get("Labels") or {}, told["State"]
    try:
        names = tuple(json.loads(labels[spec.STEPS]))
        placed = (int(labels[spec.INDEX]), int(labels[spec.ATTEMPT]), int(labels[spec.REPLICA]))
        run, flow_id, owner = labels[spec.RUN], labels[spec.FLOW], labels[spec.OWNER]
    except (KeyError, ValueError):
        return None
    phase = _phase(state)
    alive = phase in ("running", "paused")
    box = Box(
        id=told["Id"],
        name=told["Name"].lstrip("/"),
        owner=owner,
        run=run,
        flow_id=flow_id,
        replica=placed[2],
        names=names,
        index=placed[0],
        attempt=placed[1],
        phase=phase,
        pid=int(state.get("Pid") or 0) if alive else 0,
        started=int(_seconds(state.get("StartedAt") or "") * 1e6),
        ended=0.0 if alive else _seconds(state.get("FinishedAt") or ""),
        code=int(state.get("ExitCode") or 0),
        out_of_memory=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        asked=tuple(
            name for name, key in _LIMITS.items() if (told.get("HostConfig") or {}).get(key)
        ),
        address=_address(told.get("NetworkSettings") or {}),
    )
    return msgspec.structs.replace(box, exit=_exit(box, wall, monotonic))


def _exit(box: Box, wall: float, monotonic: float) -> Exit | None:
    if box.alive or box.unstarted:
        return None
    if box.phase == "made":
        return Exit("SpawnFailed", detail=box.error, at=monotonic, wall=wall)
    at = (monotonic - max(0.0, wall - box.ended), box.ended) if box.ended else (monotonic, wall)
    if box.out_of_memory:
        return Exit("OOMKilled", None, Signals.SIGKILL, "", *at)
    if (number := box.code - _BY_SIGNAL) in _SIGNALS:
        return Exit("Signaled", None, number, "", *at)
    return Exit("Completed" if box.code == 0 else "Error", box.code, None, "", *at)


def _phase(state: Mapping[str, Any]) -> Phase:
    status = state.get("Status") or ""
    if state.get("Paused") or status == "paused":
        return "paused"
    if status in _ENDED:
        return "ended"
    return _PHASES.get(status, "running")


def _seconds(text: str) -> float:
    """Since the epoch; 0 for none, which engines tell as year 1."""
    if not text or text.startswith("0001-"):
        return 0.0
    return datetime.fromisoformat(text).timestamp()


def _address(network: Mapping[str, Any]) -> str:
    found = network.get("IPAddress") or ""
    for other in (network.get("Networks") or {}).values():
        found = found or other.get("IPAddress") or ""
    return str(found)
