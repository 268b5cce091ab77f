"""Has runners do what was planned."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flow_operator.backoff import retry_transient
from flow_operator.errors import FlowError, RetryableError, TerminalError
from flow_operator.memory import RunMemory
from flow_operator.plan import (
    Action,
    EndStep,
    Forget,
    Freeze,
    LaunchRun,
    SignalSteps,
    StartStep,
    Sweep,
    Thaw,
)
from flow_operator.runners.base import Call, Finish, Launch, Runner


class _Begun(NamedTuple):
    """What one runner has begun: calls, with the places that they have among all."""

    runner: Runner
    numbers: list[int]
    calls: list[Call]
    finish: Finish


class Executor:
    """Carries out actions of many flows at once.

    Args:
        runners: by name.
        interrupt: set when the operator ends, so that nothing is tried again.
    """

    def __init__(self, runners: Mapping[str, Runner], interrupt: threading.Event) -> None:
        self._runners = runners
        self._interrupt = interrupt

    def begin(self, wishes: Sequence[tuple[str, Action]]) -> Finish:
        """Begin to carry out actions, each with the id of its flow, and each of another one.

        What a runner cannot do now is tried again for a few seconds. Of the errors that are given
        in the end, a TerminalError says that an action was refused.
        """
        outcomes: list[Exception | None] = [None] * len(wishes)
        places: dict[str, list[int]] = {}
        for number, (flow_id, action) in enumerate(wishes):
            try:
                places.setdefault(self._runner_of(flow_id, action), []).append(number)
            except FlowError as error:
                outcomes[number] = error
        all_begun: list[_Begun] = []
        for name, numbers in places.items():
            runner, calls = self._runners[name], [_call(wishes[number][1]) for number in numbers]
            all_begun.append(_Begun(runner, numbers, calls, runner.begin(calls)))

        def finish() -> list[Exception | None]:
            for begun in all_begun:
                for number, error in zip(begun.numbers, self._finished(begun), strict=True):
                    outcomes[number] = error
            return outcomes

        return finish

    def _finished(self, begun: _Begun) -> list[Exception | None]:
        outcomes = begun.finish()
        left = _retryable(outcomes)

        def again() -> None:
            nonlocal left
            errors = begun.runner.begin([begun.calls[number] for number in left])()
            for number, error in zip(left, errors, strict=True):
                outcomes[number] = error
            left = _retryable(outcomes)
            if left:
                raise RetryableError

        if left:
            with contextlib.suppress(RetryableError):
                retry_transient(again, self._interrupt)
        return outcomes

    def _runner_of(self, flow_id: str, action: Action) -> str:
        """Which runner has a run, or is to have it.

        Raises:
            TerminalError: this operator has no such runner.
        """
        if isinstance(action, LaunchRun | StartStep):
            wanted = action.memory.flow.spec.runner
            if wanted not in self._runners:
                raise TerminalError(no_runner(wanted))
            return wanted
        *others, last = self._runners
        for name in others:
            if any(run.run == action.run for run in self._runners[name].observe(flow_id)):
                return name
        return last


def no_runner(name: str) -> str:
    """That this operator has no such runner, and what to do about it."""
    hint = " --engine unix:///run/docker.sock" if name == "container" else ""
    return f"this operator has no runner '{name}': start flowd with one{hint}"


def _retryable(outcomes: Sequence[Exception | None]) -> list[int]:
    return [n for n, error in enumerate(outcomes) if isinstance(error, RetryableError)]


def _call(action: Action) -> Call:  # noqa: PLR0911 - one per action
    """What a runner is to do."""
    match action:
        case LaunchRun():
            return Call("launch", (_launch(action.memory),))
        case StartStep():
            return Call("start_step", (_launch(action.memory), action.index, action.attempt))
        case EndStep():
            return Call("end_step", (action.run, action.index))
        case SignalSteps():
            return Call("signal", (action.run, action.indexes, action.name))
        case Sweep():
            return Call("sweep", (action.run, action.name))
        case Freeze():
            return Call("freeze", (action.run,))
        case Thaw():
            return Call("thaw", (action.run,))
        case Forget():
            return Call("forget", (action.run,))
        case _:
            raise NotImplementedError(action)


def _launch(memory: RunMemory) -> Launch:
    return Launch(memory.run, memory.replica, memory.flow, memory.base)
