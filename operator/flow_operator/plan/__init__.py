"""All decisions: ``plan(want, seen, memory, now)`` tells what to do next.

Pure functions: no clock, no randomness, no input or output. Whoever calls carries the actions out
and asks again with what is observed then.
"""

from flow_operator.plan.actions import (
    Action,
    Decision,
    EndStep,
    Forget,
    Freeze,
    LaunchRun,
    Note,
    Seen,
    SignalSteps,
    StartStep,
    Sweep,
    Thaw,
    Want,
)
from flow_operator.plan.decide import KILL_GRACE, plan
from flow_operator.plan.foresee import foresee
from flow_operator.plan.gauged import over, transitions
from flow_operator.plan.report import report
from flow_operator.plan.tally import Tally, tally
from flow_operator.plan.trouble import launch_failed, start_failed

__all__ = [
    "KILL_GRACE",
    "Action",
    "Decision",
    "EndStep",
    "Forget",
    "Freeze",
    "LaunchRun",
    "Note",
    "Seen",
    "SignalSteps",
    "StartStep",
    "Sweep",
    "Tally",
    "Thaw",
    "Want",
    "foresee",
    "launch_failed",
    "over",
    "plan",
    "report",
    "start_failed",
    "tally",
    "transitions",
]
