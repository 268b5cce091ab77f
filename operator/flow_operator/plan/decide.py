"""From what is wanted and what is seen to what to do."""

from __future__ import annotations

from msgspec.structs import replace

from flow_operator.backoff import restart_delay
from flow_operator.memory import (
    Finished,
    FlowMemory,
    Relaunch,
    RunMemory,
    StepMemory,
    StopMode,
    Stopping,
)
from flow_operator.model.flow import Flow
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
from flow_operator.plan.gauged import silence
from flow_operator.plan.intake import (
    Outcome,
    after_pause,
    end_source,
    ended_by_pause,
    is_ending,
    settle,
    start_source,
)
from flow_operator.runners.base import Exit, Instance, StepView, signal_name

KILL_GRACE = 5.0
"""Seconds between the TERM that ends an overdue drain and the KILL."""

VERIFY_FROZEN = 10.0
"""Seconds between two looks at a paused run, which somebody outside may have continued."""


def plan(want: Want, seen: Seen, memory: FlowMemory, now: float) -> Decision:
    """Decide what to do next about one flow.

    Args:
        want: what is wanted.
        seen: what is observed.
        memory: what the last plan returned.
        now: monotonic seconds.
    """
    planner = _Planner(want, seen, memory, now)
    return planner.decide()


def reason_to_stop(  # noqa: PLR0911 - one per reason
    want: Want, replica: int, launched: RunMemory | Want
) -> str:
    """Why an instance must not go on as it is; empty if it may.

    Args:
        want: what is wanted.
        replica: which instance.
        launched: what it was launched from.
    """
    if want.flow is None:
        return "Deleted"
    if want.state == "stopped":
        return "Stopped"
    if launched.uid != want.uid:
        return "Replaced"
    if replica >= want.flow.spec.replicas:
        return "ScaledDown"
    if want.paused:
        return ""
    if launched.token != want.token:
        return "Restarted"
    if launched.template != want.template and want.flow.spec.update.strategy == "Restart":
        return "Updated"
    return ""


def still_ended(want: Want, finished: Finished) -> bool:
    """Whether an instance that has ended for good stays so."""
    return (finished.token, finished.template) == (want.token, want.template)


class _Planner:
    def __init__(self, want: Want, seen: Seen, memory: FlowMemory, now: float) -> None:
        self.want = want
        self.seen = seen
        self.now = now
        self.memory = memory
        self.runs = dict(memory.runs)
        self.standing = self.runs
        self.begun: dict[int, RunMemory] = {}
        self.noticed: dict[int, RunMemory] = {}
        self.relaunches = dict(memory.relaunches)
        self.finished = dict(memory.finished)
        self.restarts = memory.restarts
        self.launches = memory.launches
        self.last_stop = memory.last_stop
        self.instances = {instance.run: instance for instance in seen.instances}
        self.actions: list[Action] = []
        self.notes: list[Note] = []
        self.wake: float | None = None
        self.strays = False

    def decide(self) -> Decision:
        self._forget_other_lives()
        self._end_strays()
        for replica in sorted(self.runs):
            self._one(replica)
        if self.want.state == "running" and not self.strays:
            self._launch_missing()
        nothing_left = self.want.flow is None and not self.runs and not self.strays
        return Decision(
            self._intent(),
            None if nothing_left else self._remembered(),
            tuple(self.actions),
            tuple(self.notes),
            self.wake,
            self._has_only_noticed(),
        )

    def _has_only_noticed(self) -> bool:
        """Whether all that is to be remembered is what was seen: from there this plan was made."""
        memory = self.memory
        return (
            self.runs == {**memory.runs, **self.noticed}
            and (self.launches, self.last_stop) == (memory.launches, memory.last_stop)
            and (self.relaunches, self.finished) == (memory.relaunches, memory.finished)
        )

    def _intent(self) -> FlowMemory:
        launched = {
            action.memory.replica: action.memory
            for action in self.actions
            if isinstance(action, LaunchRun)
        }
        if not launched and not self.begun:
            return self.memory
        return replace(
            self.memory,
            boot=self.seen.boot,
            uid=self.want.uid,
            launches=self.launches,
            runs={**self.standing, **self.begun, **launched},
            relaunches=self.memory.relaunches if self.memory.uid == self.want.uid else {},
            finished=self.finished,
        )

    def _remembered(self) -> FlowMemory:
        return FlowMemory(
            boot=self.seen.boot,
            uid=self.want.uid or self.memory.uid,
            launches=self.launches,
            restarts=self.restarts,
            runs=self.runs,
            relaunches=self.relaunches,
            finished=self.finished,
            last_stop=self.last_stop,
        )

    def _wake_at(self, moment: float) -> None:
        self.wake = moment if self.wake is None else min(self.wake, moment)

    def _note(self, reason: str, message: str, *, warning: bool = False) -> None:
        self.notes.append(Note(reason, message, warning))

    # --- what no longer holds ------------------------------------------------------------

    def _forget_other_lives(self) -> None:
        """Drop what another boot or another flow of the same name has left in memory."""
        if self.memory.boot and self.memory.boot != self.seen.boot:
            if self.runs:
                self._note("Rebooted", "the machine was restarted; nothing had survived")
            self.runs.clear()
            self.relaunches.clear()
        self.standing = dict(self.runs)
        if self.want.flow is None or self.want.flow.spec.state == "stopped":
            # Not when only the operator is about to end: what has completed stays completed.
            self.relaunches.clear()
            self.finished.clear()
            return
        if self.memory.uid and self.memory.uid != self.want.uid:
            self.relaunches.clear()
            self.finished.clear()
            self.restarts = 0
        for replica, finished in list(self.finished.items()):
            if not still_ended(self.want, finished):
                del self.finished[replica]

    def _end_strays(self) -> None:
        """Kill instances that nobody intended; the intent always comes first, so none should be."""
        known = {run.run for run in self.runs.values()}
        for instance in self.instances.values():
            if instance.run in known:
                continue
            if instance.gone and not instance.alive:
                self.actions.append(Forget(instance.run))
                continue
            self.strays = True
            self.actions.append(Sweep(instance.run, "SIGKILL"))

    # --- launching -----------------------------------------------------------------------

    def _launch_missing(self) -> None:
        want = self.want
        assert want.flow is not None  # noqa: S101 - a deleted flow is never wanted running
        if want.blocked or any(run.uid != want.uid for run in self.runs.values()):
            return
        for replica in range(want.flow.spec.replicas):
            if replica in self.runs or replica in self.finished:
                continue
            relaunch = self.relaunches.pop(replica, None)
            if relaunch is not None and relaunch.at > self.now:
                self.relaunches[replica] = relaunch
                self._wake_at(relaunch.at)
                continue
            self._launch(want.flow, replica, relaunch.failures if relaunch else 0)

    def _launch(self, flow: Flow, replica: int, failures: int) -> None:
        self.launches += 1
        run = RunMemory(
            run=f"{flow.flow_id}-{replica}-{self.want.uid[:8]}-{self.launches}",
            replica=replica,
            uid=self.want.uid,
            token=self.want.token,
            template=self.want.template,
            flow=flow,
            base=self.want.base,
            launched_at=self.now,
            steps=tuple(StepMemory(started_at=self.now) for _ in flow.spec.steps),
            failures=failures,
        )
        if failures:
            self.restarts += 1
        self.runs[replica] = run
        self._note("Launching", f"replica {replica} as {run.run}")
        self.actions.append(LaunchRun(run.run, run))

    # --- one instance --------------------------------------------------------------------

    def _one(self, replica: int) -> None:
        run = self.runs[replica]
        instance = self.instances.get(run.run)
        if instance is None:
            self._unseen(run)
            return
        ordered = sum(step.restarts for step in run.steps)
        run = self.noticed[replica] = _synchronised(run, instance)
        self.restarts += sum(step.restarts for step in run.steps) - ordered
        reason = reason_to_stop(self.want, replica, run)
        if run.stop is None and reason and not self.want.hold:
            # Remembered before anything of it is done: it is finished whatever is wanted by then,
            # since a step whose pipes were let go cannot go on.
            run = self.begun[replica] = self._begin_stop(run, reason)
            self._note("Stopping", f"replica {replica}: {reason}")
            self._go_on_stopping(run, instance)
        elif run.stop is not None:
            self._go_on_stopping(run, instance)
        elif self.want.paused and self._policy(run).spec.pause.mode == "freeze":
            self._hold_still(run, instance)
        elif self.want.paused:
            self._stop_intake(run, instance)
        elif instance.frozen or run.verify_at:
            # Also where the freeze was asked for and never seen to be complete.
            self.runs[replica] = self._thaw(run, instance)
            if run.verify_at and not self.runs[replica].verify_at:
                self._note("Resuming", f"replica {replica} goes on")
        elif run.pause is not None:
            self._resume_intake(run, instance)
        else:
            self._keep_running(run, instance)

    def _unseen(self, run: RunMemory) -> None:
        if run.confirmed or run.stop is not None or reason_to_stop(self.want, run.replica, run):
            # It was there and is not any more, or was never started: nothing of it is left.
            del self.runs[run.replica]
            if run.stop is not None:
                self.last_stop = run.stop.outcome
            elif run.confirmed:
                self._note("Lost", f"the runner no longer knows {run.run}", warning=True)
        else:
            self.actions.append(LaunchRun(run.run, run))

    def _policy(self, run: RunMemory) -> Flow:
        """The flow whose settings hold for a run: the present one, where it still is the same."""
        if self.want.flow is not None and self.want.uid == run.uid:
            return self.want.flow
        return run.flow

    def _success_codes(self, run: RunMemory, index: int) -> tuple[int, ...]:
        policy = self._policy(run)
        steps = policy.spec.steps if run.template == self.want.template else run.flow.spec.steps
        return steps[index].success_exit_codes

    # --- paused --------------------------------------------------------------------------

    def _hold_still(self, run: RunMemory, instance: Instance) -> None:
        if not instance.frozen and run.verify_at == 0:
            self._note("Pausing", f"replica {run.replica}: stopping every process where it is")
        if not instance.frozen or run.verify_at <= self.now:
            # Each time: the operator that asked for it may have been killed before it was done.
            self.actions.append(Freeze(run.run))
        begins = run.verify_at == 0
        if run.verify_at <= self.now:
            run = replace(run, verify_at=self.now + VERIFY_FROZEN)
        if begins:
            # Remembered before anybody stands still: whatever is wanted by then, the next operator
            # has them go on or holds the rest as well.
            self.begun[run.replica] = run
        self._wake_at(run.verify_at)
        self.runs[run.replica] = run

    def _thaw(self, run: RunMemory, instance: Instance) -> RunMemory:
        """Let all go on, and remember that they were paused until they were seen to go on.

        The operator that asks for it may be killed before it is done; the next one asks again.
        """
        if instance.frozen or not instance.thawed:
            self.actions.append(Thaw(run.run))
            # Due at once: a pause that comes meanwhile asks for another freeze.
            held = replace(run, verify_at=min(run.verify_at or self.now, self.now))
            if not run.verify_at:
                self.begun[run.replica] = held
            return held
        pause = run.pause
        if pause is not None:
            # A first step that was told to end could not while it was frozen.
            deadline = self.now + self._policy(run).spec.stop.timeout.seconds
            pause = replace(pause, deadline=deadline)
        return replace(run, verify_at=0.0, pause=pause)

    def _stop_intake(self, run: RunMemory, instance: Instance) -> None:
        """End the first step; look after the others as ever, until they are idle and beyond."""
        if instance.frozen or run.verify_at:
            run = self._thaw(run, instance)
        run = self._take(end_source(run, instance, self._policy(run), self.now))
        self._keep_running(run, instance)
        run = self.runs[run.replica]
        if run.stop is None:
            outcome = settle(run, instance, self.seen, self._policy(run), self.now)
            self.runs[run.replica] = self._take(outcome)

    def _resume_intake(self, run: RunMemory, instance: Instance) -> None:
        if is_ending(run, instance):
            # It is about to exit, and can only then be started again.
            run = self._take(end_source(run, instance, self._policy(run), self.now))
            self._keep_running(run, instance)
        else:
            self.runs[run.replica] = self._take(start_source(run, instance, self.now))

    def _take(self, outcome: Outcome) -> RunMemory:
        self.actions += outcome.actions
        self.notes += outcome.notes
        if outcome.wake is not None:
            self._wake_at(outcome.wake)
        return outcome.run

    # --- running -------------------------------------------------------------------------

    def _keep_running(self, run: RunMemory, instance: Instance) -> None:
        steps = list(run.steps)
        for index, view in enumerate(instance.steps):
            if view.alive and index == 0 and run.pause is not None:
                continue  # It is to end, however it is.
            if view.alive:
                step = self._with_printed(run, index, steps[index])
                steps[index] = self._watch_health(run, index, step)
            elif not view.ended:
                steps[index] = self._after_exit(run, index, view, steps[index])
        run = replace(run, steps=tuple(steps))
        self.runs[run.replica] = run
        if any(step.retry_at is not None for step in steps):
            self._restart_whole_flow_if_asked(run)
        failed = next((s for s in steps if self._used_up(run, s)), None)
        if failed is not None:
            self._fail(run, "RestartsExhausted")
        elif all(view.ended for view in instance.steps):
            self._finish(run)

    def _with_printed(self, run: RunMemory, index: int, step: StepMemory) -> StepMemory:
        """Remember the lines that were found: the log that holds them may be gone later."""
        lines = {
            pattern: attempt
            for name, at, attempt, pattern in self.seen.printed
            if (name, at, attempt) == (run.run, index, step.attempt)
        }
        return replace(step, printed=lines) if not lines.items() <= step.printed.items() else step

    def _watch_health(self, run: RunMemory, index: int, step: StepMemory) -> StepMemory:
        """Tell an unhealthy step to end, and see to it."""
        stop = self._policy(run).spec.stop
        if step.term_at is None:
            trouble = self._ill(run, (run.run, index, step.attempt))
            if not trouble:
                return step
            name = run.flow.spec.steps[index].name
            self._note("Unhealthy", f"step '{name}' {trouble}; restarting it", warning=True)
            self.actions.append(SignalSteps(run.run, (index,), stop.signal))
            step = replace(step, term_at=self.now, killed=False, trouble=f"{trouble} and was ended")
        assert step.term_at is not None  # noqa: S101 - set just above
        overdue = step.term_at + stop.timeout.seconds
        if overdue > self.now:
            self._wake_at(overdue)
        elif not step.killed:
            self.actions.append(SignalSteps(run.run, (index,), "SIGKILL"))
            step = replace(step, killed=True)
        return step

    def _ill(self, run: RunMemory, attempt: tuple[str, int, int]) -> str:
        """Why a step must be started again, as said after its name; empty if it need not."""
        if attempt in self.seen.unhealthy:
            return "fails its probe"
        flow = self._policy(run)
        progress = flow.spec.progress
        asked = progress.action == "Restart" and progress.silence_timeout is not None
        return silence(flow) if asked and attempt in self.seen.silent else ""

    def _after_exit(
        self, run: RunMemory, index: int, view: StepView, step: StepMemory
    ) -> StepMemory:
        """Judge an exit once, then start the step again when it is due, or let it go."""
        assert view.exit is not None  # noqa: S101 - neither alive nor ended
        if view.attempt < step.attempt and self._is_still_wanted(run, index, view):
            # It was started by a shim that was killed before its word had come, and nobody has
            # seen how it ended: it is asked for once more, which changes nothing where it runs.
            self.actions.append(StartStep(run.run, run, index, step.attempt))
            return step
        if ended_by_pause(run, index, view):
            return after_pause(step, view, self._policy(run).spec.restart.reset_after.seconds)
        step = self._judged(run, index, view, step)
        if step.retry_at is None:
            self.actions.append(EndStep(run.run, index))
            return replace(step, ended=True)
        return self._started_when_due(run, index, view, step)

    def _judged(self, run: RunMemory, index: int, view: StepView, step: StepMemory) -> StepMemory:
        """Whether, and when, a step that has exited is started again."""
        assert view.exit is not None  # noqa: S101 - neither alive nor ended
        restart = self._policy(run).spec.restart
        if step.judged < view.attempt:
            well = self._well(run, index, view.exit) and step.term_at is None
            step = replace(step, judged=view.attempt, term_at=None)
            if self._wants_restart(run, index, view, well=well):
                healthy = view.exit.at - step.started_at >= restart.reset_after.seconds
                failures = 1 if healthy else step.failures + 1
                delay = restart_delay(restart.backoff, failures, f"{run.run}/{index}")
                step = replace(step, failures=failures, retry_at=self.now + delay)
            name = run.flow.spec.steps[index].name
            asked = well or run.stop is not None
            self._note("StepExited", f"step '{name}' {_told(view.exit)}", warning=not asked)
        elif run.stop is not None and step.retry_at is not None:
            # It was due while the flow ran: now or never.
            last = self._used_up(run, step) or not self._wants_restart(run, index, view, well=False)
            first = step.started_at < run.stop.begun
            step = replace(step, retry_at=None if last else self.now if first else step.retry_at)
        return step

    def _started_when_due(
        self, run: RunMemory, index: int, view: StepView, step: StepMemory
    ) -> StepMemory:
        assert step.retry_at is not None  # noqa: S101 - else it would have ended for good
        scope = self._policy(run).spec.restart.scope
        held = index == 0 and run.pause is not None
        whole = scope == "flow" and run.stop is None and not self.want.paused
        if held or whole or self._used_up(run, step):
            return step
        if step.retry_at > self.now:
            self._wake_at(step.retry_at)
            return step
        self.restarts += 1
        attempt = view.attempt + 1
        self.actions.append(StartStep(run.run, run, index, attempt))
        return replace(
            step,
            attempt=attempt,
            restarts=step.restarts + 1,
            started_at=self.now,
            retry_at=None,
            trouble="",
        )

    def _well(self, run: RunMemory, index: int, ended: Exit) -> bool:
        return ended.code is not None and ended.code in self._success_codes(run, index)

    def _wants_restart(self, run: RunMemory, index: int, view: StepView, *, well: bool) -> bool:
        policy = self._policy(run).spec.restart.policy
        if policy == "Never" or (well and policy == "OnFailure" and not view.cut):
            return False
        if run.stop is None:
            return True
        # While draining, only a step that still has something to read is worth a restart.
        upstream_ended = index == 0 or run.steps[index - 1].ended
        return index > 0 and (view.input_bytes > 0 or not upstream_ended)

    def _is_still_wanted(self, run: RunMemory, index: int, view: StepView) -> bool:
        return run.stop is None or self._wants_restart(run, index, view, well=False)

    def _used_up(self, run: RunMemory, step: StepMemory) -> bool:
        most = self._policy(run).spec.restart.max_restarts
        return most is not None and step.retry_at is not None and step.failures > most

    def _restart_whole_flow_if_asked(self, run: RunMemory) -> None:
        restart = self._policy(run).spec.restart
        if restart.scope != "flow" or self.want.state != "running":
            return
        healthy = self.now - run.launched_at >= restart.reset_after.seconds
        failures = 1 if healthy else run.failures + 1
        if restart.max_restarts is not None and failures > restart.max_restarts:
            self._fail(run, "RestartsExhausted")
            return
        delay = restart_delay(restart.backoff, failures, run.flow.flow_id)
        self.relaunches[run.replica] = Relaunch(failures, self.now + delay, "a step exited")
        self.runs[run.replica] = self._begin_stop(run, "StepExited", "signal")
        self._wake_at(self.now)

    def _finish(self, run: RunMemory) -> None:
        """Every step has ended for good: sweep up, and remember how it went."""
        well = all(
            step.last_exit is not None and self._well(run, index, step.last_exit)
            for index, step in enumerate(run.steps)
        )
        if well:
            self._finished(run, Finished("Completed", run.token, run.template, run.steps))
            self._note("Completed", "every step has ended well")
        else:
            self._fail(run, "StepFailed")

    def _fail(self, run: RunMemory, reason: str) -> None:
        if run.replica in self.finished:
            return
        self._finished(run, Finished("Failed", run.token, run.template, run.steps))
        self._note(reason, "the flow has failed; start runs it again", warning=True)

    def _finished(self, run: RunMemory, finished: Finished) -> None:
        self.finished[run.replica] = finished
        self.relaunches.pop(run.replica, None)
        self.runs[run.replica] = self._begin_stop(run, finished.outcome)
        self._wake_at(self.now)

    # --- stopping ------------------------------------------------------------------------

    def _begin_stop(self, run: RunMemory, reason: str, mode: StopMode | None = None) -> RunMemory:
        stop = self._policy(run).spec.stop
        mode = mode or stop.mode
        stopping = Stopping(
            mode=mode,
            stage="drain" if mode == "drain" else "term",
            reason=reason,
            deadline=self.now + stop.timeout.seconds,
            begun=self.now,
        )
        return replace(run, stop=stopping, pause=None)

    def _go_on_stopping(self, run: RunMemory, instance: Instance) -> None:
        if instance.gone and not instance.alive:
            self._stopped(run)
            return
        stopping = self._stage(run)
        run = replace(run, stop=stopping)
        if (instance.frozen or run.verify_at) and stopping.stage != "kill":
            run = self._thaw(run, instance)
        if not stopping.signalled:
            self._signal_stage(run, instance, stopping)
            run = replace(run, stop=replace(stopping, signalled=True))
        run = self._let_go(run, instance, draining=stopping.stage == "drain")
        if stopping.stage == "kill":
            self.actions.append(Sweep(run.run, "SIGKILL"))
        elif not instance.alive and all(step.ended for step in run.steps) and not run.verify_at:
            # Not before all were seen to go on: a runner does one of both at a time.
            self.actions.append(Sweep(run.run, "SIGTERM"))
        if stopping.stage != "kill":
            self._wake_at(stopping.deadline)
        self.runs[run.replica] = run

    def _stage(self, run: RunMemory) -> Stopping:
        stopping = run.stop
        assert stopping is not None  # noqa: S101 - only called while stopping
        if stopping.stage == "kill":
            return stopping
        overdue = stopping.deadline <= self.now
        if self.want.hard or (overdue and stopping.stage == "term"):
            if not self.want.hard:
                self._note("Forced", "still there after SIGTERM; killing it", warning=True)
            return replace(stopping, stage="kill", signalled=False)
        if overdue or (self.want.hurry and stopping.stage == "drain"):
            self._note("DrainTimedOut", "not drained in time; ending every step", warning=True)
            deadline = self.now + KILL_GRACE
            return replace(stopping, stage="term", signalled=False, deadline=deadline)
        return stopping

    def _signal_stage(self, run: RunMemory, instance: Instance, stopping: Stopping) -> None:
        living = _living(instance)
        if stopping.stage == "kill":
            name = "SIGKILL"
        else:
            name = self._policy(run).spec.stop.signal
            if stopping.stage == "drain":
                living = tuple(index for index in living if index == 0)
        if living:
            self.actions.append(SignalSteps(run.run, living, name))

    def _let_go(self, run: RunMemory, instance: Instance, *, draining: bool) -> RunMemory:
        """Hand the end of file on past each step that has ended, in order."""
        for index, view in enumerate(instance.steps):
            if view.alive or view.ended:
                continue
            if draining:
                step = self._after_exit(run, index, view, run.steps[index])
            else:
                if run.stop is not None and run.stop.stage != "kill":
                    self.actions.append(EndStep(run.run, index))
                step = replace(run.steps[index], ended=True, retry_at=None)
            run = replace(run, steps=(*run.steps[:index], step, *run.steps[index + 1 :]))
        return run

    def _stopped(self, run: RunMemory) -> None:
        assert run.stop is not None  # noqa: S101 - only called while stopping
        self.actions.append(Forget(run.run))
        del self.runs[run.replica]
        self.last_stop = run.stop.outcome
        lossy = self.last_stop in ("Forced", "DrainTimedOut")
        message = f"replica {run.replica} is gone ({run.stop.reason})"
        self._note(self.last_stop, message, warning=lossy)
        self._wake_at(self.now)


def _living(instance: Instance) -> tuple[int, ...]:
    return tuple(index for index, view in enumerate(instance.steps) if view.alive)


def _synchronised(run: RunMemory, instance: Instance) -> RunMemory:
    """Take over what the runner saw."""
    pairs = zip(run.steps, instance.steps, strict=True)
    steps = tuple(
        _step_as_seen(*pair, resumed=index == 0 and run.pause is not None)
        for index, pair in enumerate(pairs)
    )
    return replace(run, confirmed=True, steps=steps)


def _step_as_seen(step: StepMemory, view: StepView, *, resumed: bool) -> StepMemory:
    if view.attempt > step.attempt:
        # It was started, and the operator that did it was killed before it could remember that.
        restarts = step.restarts + (not resumed)
        step = replace(step, attempt=view.attempt, restarts=restarts, retry_at=None)
    return replace(
        step,
        pid=view.pid,
        start=view.start,
        ended=view.ended or step.ended,
        last_exit=view.exit if view.exit is not None else step.last_exit,
        exited=view.attempt if view.exit is not None else step.exited,
        log_from=view.log_from,
    )


def _told(ended: Exit) -> str:
    if ended.reason == "SpawnFailed":
        return f"could not be started: {ended.detail}"
    if ended.reason == "OOMKilled":
        return "was killed for its memory limit (resources.limits.memory)"
    if ended.signal is not None:
        return f"was ended by {signal_name(ended.signal)}"
    if ended.code is None:
        return f"has ended; nobody saw how ({ended.detail})"
    return f"exited with code {ended.code}"
