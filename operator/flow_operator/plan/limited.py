"""What is told of the limits that steps ask for."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from flow_operator.model.flow import Limits, Step
from flow_operator.model.status import StepStatus
from flow_operator.runners.base import StepView

_OF_EACH_PROCESS = frozenset({"openFiles"})
"""What holds for each process, which is not started without."""

_NAMES = tuple((field.name, field.encode_name) for field in msgspec.structs.fields(Limits))
"""Of each limit here and in the manifest. Asked for once: msgspec evaluates all annotations."""


def limits_told(step: Step, view: StepView) -> dict[str, bool]:
    """By name in the manifest, whether each limit that a running step asks for is enforced."""
    if not view.alive:
        return {}
    held = dict(view.limits)
    return {
        told: told in _OF_EACH_PROCESS or held.get(told, False)
        for name, told in _NAMES
        if getattr(step.resources.limits, name) is not None
    }


def limits_enforced(steps: Iterable[StepStatus]) -> bool | None:
    """Whether all of them are; None where none is asked for."""
    told = [held for step in steps for held in step.limits.values()]
    return all(told) if told else None
