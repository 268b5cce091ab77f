"""Restart= and what ends a unit."""

from __future__ import annotations

import re
from typing import Any

from flow_operator.errors import clipped
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.unit_file import UnitSection
from flow_operator.flowctl.importing.unit_words import INFINITY, time
from flow_operator.flowctl.importing.values import FOREVER, seconds, set_signal

_POLICIES = {
    "no": "Never",
    "always": "Always",
    "on-failure": "OnFailure",
    "on-success": "Always",
    "on-abnormal": "OnFailure",
    "on-abort": "OnFailure",
    "on-watchdog": "Never",
}
_NOT_QUITE = {
    "on-success": "it is restarted after failures, too: there is no policy for success only",
    "on-abnormal": "it is restarted after exit codes of failure, too, not only after signals",
    "on-abort": "it is restarted after exit codes of failure, too, not only after signals",
    "on-watchdog": "it is not restarted: there is no watchdog; use livenessProbe and Always",
}

_DELAY = 0.1
_INTERVAL = 10.0
_BURST = 5
_STOP = 90.0
"""systemd's defaults: DefaultRestartSec and the others of systemd-system.conf(5); seconds."""


def set_restart(draft: Draft, keys: UnitSection, unit: UnitSection) -> None:
    """Carry Restart=, its delays, its limit and its exit codes over."""
    written = keys.text("Restart") or "no"
    policy = _POLICIES.get(written)
    if policy is None:
        keys.say("Restart", f"{clipped(written)} is no policy of systemd; it is not restarted")
    elif written in _NOT_QUITE:
        keys.say("Restart", _NOT_QUITE[written])
    policy = policy or "Never"
    restart = draft.part("restart")
    restart["policy"] = policy
    delay = _time(keys, "RestartSec", _DELAY)
    longest = _time(keys, "RestartMaxDelaySec", 0.0)
    steps = keys.whole("RestartSteps")
    limit = _limit(keys, unit, delay)
    if policy != "Never":
        restart["backoff"] = _backoff(delay, longest, steps or 0)
        restart |= limit
    _codes(draft, keys)


def _backoff(delay: float, longest: float, steps: int) -> dict[str, Any]:
    delay = min(delay, 3600.0 * 24)
    if longest > delay > 0 and steps:
        factor = min(10.0, max(1.0, round((longest / delay) ** (1 / steps), 3)))
        return _delays(delay, factor, longest)
    return _delays(delay, 1, delay)


def _delays(initial: float, factor: float, most: float) -> dict[str, Any]:
    initial, most = max(initial, 0.001), max(most, 0.001)
    return {"initial": seconds(initial), "factor": factor, "max": seconds(most), "jitter": 0}


def _limit(keys: UnitSection, unit: UnitSection, delay: float) -> dict[str, Any]:
    """More than ``burst`` starts within ``interval`` fail the unit.

    What runs so long each time that this is never reached is healthy: ``resetAfter``.
    """
    interval, burst = _INTERVAL, _BURST
    for section in (keys, unit):
        for key in ("StartLimitInterval", "StartLimitIntervalSec"):
            interval = _time(section, key, interval)
        own = section.whole("StartLimitBurst")
        burst = burst if own is None else own
    if interval <= 0 or burst <= 0:
        return {}
    healthy = interval / burst - delay
    if healthy <= 0:
        return {}
    after = FOREVER if healthy == INFINITY else seconds(max(healthy, 0.001))
    return {"resetAfter": after, "maxRestarts": burst - 1}


def _codes(draft: Draft, keys: UnitSection) -> None:
    codes: set[int] = {0}
    for key in ("SuccessExitStatus", "RestartPreventExitStatus"):
        for line in keys.all(key):
            for word in line.value.split():
                if re.fullmatch("[0-9]{1,3}", word) and int(word) < 256:  # noqa: PLR2004 - a byte
                    codes.add(int(word))
                else:
                    keys.tell(key, line, f"{clipped(word)} is no exit code; it was left out")
            if key == "RestartPreventExitStatus":
                keys.tell(key, line, "these codes count as a good end (successExitCodes)")
    if codes != {0}:
        draft.step["successExitCodes"] = sorted(codes)


def set_stop(draft: Draft, keys: UnitSection) -> None:
    """Carry KillSignal= and TimeoutStopSec= over."""
    set_signal(draft, keys, "KillSignal")
    both = _time(keys, "TimeoutSec", _STOP)
    timeout = _time(keys, "TimeoutStopSec", both) or INFINITY
    draft.part("stop")["timeout"] = FOREVER if timeout == INFINITY else seconds(timeout)
    mode = keys.text("KillMode") or "control-group"
    if mode == "mixed":
        keys.say("KillMode", "mixed: the whole process group gets the signal, not only the first")
    elif mode != "control-group":
        keys.say("KillMode", f"{clipped(mode)}: a stop ends every process of the flow")


def _time(keys: UnitSection, key: str, default: float) -> float:
    written = keys.text(key)
    if written is None:
        return default
    value = time(written)
    if value is None:
        keys.say(key, f"{clipped(repr(written))} is no time; it was left out")
        return default
    return value
