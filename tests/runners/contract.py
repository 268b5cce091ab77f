"""What every runner must keep. One subclass per runner; the tests are the same for all.

The scripts mean the same to a shell and to the fake runner.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from flow_operator.errors import RunnerError, TerminalError
from flow_operator.runners.base import Call, Handle, Instance, Launch, Runner
from support import always_for, eventually, make_manifest

FOREVER = "exec sleep 1000"
TICKS = "while :; do echo x; sleep 0.01; done"
DEAF = "trap '' TERM; while :; do sleep 0.02; done"


class RunnerContract:
    """Subclasses give ``connect``: a context manager that yields a runner on one backend.

    The runner's notifications go to ``heard``.
    """

    connect: Callable[[], AbstractContextManager[Runner]]
    heard: list[str]

    def launch(self, run: str, *scripts: str, flow: str = "demo", replica: int = 0) -> Launch:
        """What a run of those steps is started from."""
        return Launch(run, replica, make_manifest(flow, *scripts, **self.spec()).flow, "/")

    def spec(self) -> dict[str, Any]:
        """What the runner needs in a flow's spec."""
        return {}

    @pytest.fixture
    def runner(self) -> Iterator[Runner]:
        """A runner; whatever is left of its runs is ended."""
        with self.connect() as runner:
            yield runner
            for flow_id in list(runner.flow_ids()):
                for instance in runner.observe(flow_id):
                    runner.sweep(instance.run, "SIGKILL")
                    self.await_gone(runner, instance.run, flow_id)
                    runner.forget(instance.run)

    # --- helpers -------------------------------------------------------------------------

    def one(self, runner: Runner, flow: str = "demo") -> Instance:
        found = runner.observe(flow)
        assert len(found) == 1, found
        return found[0]

    def await_exit(self, runner: Runner, index: int = 0) -> Instance:
        def exited() -> Instance:
            instance = self.one(runner)
            assert instance.steps[index].exit is not None
            return instance

        return eventually(exited)

    def await_gone(self, runner: Runner, run: str, flow: str = "demo") -> None:
        def gone() -> None:
            found = [instance for instance in runner.observe(flow) if instance.run == run]
            assert all(instance.gone and not instance.alive for instance in found), found

        eventually(gone)

    def await_deaf(self, runner: Runner) -> None:
        """Wait until the first step ignores SIGTERM; a real one needs a moment for that."""

    def await_frozen(self, runner: Runner, frozen: bool) -> None:
        def check() -> None:
            assert self.one(runner).frozen == frozen

        eventually(check)

    # --- the contract --------------------------------------------------------------------

    def test_an_unknown_flow_is_absent(self, runner: Runner) -> None:
        """Absence is an answer, not an exception; verbs for unknown runs do nothing."""
        assert runner.observe("nobody") == ()
        runner.end_step("nobody", 0)
        runner.signal("nobody", [0], "SIGTERM")
        runner.sweep("nobody", "SIGKILL")
        runner.freeze("nobody")
        runner.thaw("nobody")
        runner.forget("nobody")
        assert runner.observe("nobody") == ()
        assert runner.usage(["nobody"]) == {}

    def test_launching_twice_gives_one(self, runner: Runner) -> None:
        """A launch is idempotent by its run id."""
        runner.launch(self.launch("r1", FOREVER))
        first = self.one(runner)
        runner.launch(self.launch("r1", FOREVER))
        assert self.one(runner).steps[0].pid == first.steps[0].pid > 0

    def test_launching_from_two_threads_gives_one(self, runner: Runner) -> None:
        """Also at once."""
        threads = [
            threading.Thread(target=runner.launch, args=[self.launch("r1", FOREVER)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        instance = self.one(runner)
        assert instance.steps[0].attempt == 1
        assert instance.alive

    def test_a_second_run_of_one_replica_is_refused(self, runner: Runner) -> None:
        """Two copies of one instance never run, whatever the caller believes."""
        runner.launch(self.launch("r1", FOREVER))
        with pytest.raises(RunnerError):
            runner.launch(self.launch("r2", FOREVER))
        assert self.one(runner).run == "r1"

    def test_several_verbs_at_once_do_what_each_of_them_does(self, runner: Runner) -> None:
        """Whatever goes wrong with one of them is its own, and told in its place."""
        wanted = [self.launch(f"r{n}", FOREVER, flow=f"f{n}") for n in range(3)]
        other = self.launch("r9", FOREVER, flow="f1")
        refused = runner.begin([Call("launch", (launch,)) for launch in (*wanted, other)])()
        assert [type(error) for error in refused[:3]] == [type(None)] * 3
        assert isinstance(refused[3], TerminalError)
        assert all(self.one(runner, f"f{n}").alive for n in range(3))
        done = runner.begin(
            [
                Call("signal", ("r0", (0,), "SIGKILL")),
                Call("forget", ("r1",)),
                Call("freeze", ("r2",)),
                Call("end_step", ("nobody", 0)),
                Call("forget", ("nobody",)),
            ]
        )()
        assert isinstance(done.pop(1), TerminalError), "it is alive"
        assert done == [None] * 4
        eventually(lambda: _assert(not self.one(runner, "f0").alive))
        eventually(lambda: _assert(self.one(runner, "f2").frozen))
        assert runner.begin([Call("thaw", ("r2",)), Call("end_step", ("r0", 0))])() == [None] * 2
        assert self.one(runner, "f0").steps[0].ended
        eventually(lambda: _assert(not self.one(runner, "f2").frozen))

    @pytest.mark.parametrize("code", [0, 3])
    def test_an_exit_shows_its_code(self, runner: Runner, code: int) -> None:
        """How a step ended is seen without asking anything else."""
        runner.launch(self.launch("r1", f"exit {code}"))
        instance = self.await_exit(runner)
        ended = instance.steps[0].exit
        assert ended is not None
        assert (ended.code, ended.signal) == (code, None)
        assert ended.reason == ("Completed" if code == 0 else "Error")
        assert not instance.alive
        assert not instance.gone, "gone is only said after a sweep"

    def test_a_change_is_notified(self, runner: Runner) -> None:
        """An exit calls back with the flow's id."""
        runner.launch(self.launch("r1", FOREVER))
        runner.signal("r1", [0], "SIGKILL")
        self.await_exit(runner)
        eventually(lambda: _assert("demo" in self.heard))

    def test_a_signal_ends_only_the_steps_named(self, runner: Runner) -> None:
        """And the number of the signal is told."""
        runner.launch(self.launch("r1", FOREVER, FOREVER))
        runner.signal("r1", [1], "SIGTERM")
        instance = self.await_exit(runner, 1)
        assert instance.steps[1].exit is not None
        assert instance.steps[1].exit.signal == 15
        assert instance.steps[0].alive
        runner.signal("r1", [1], "SIGTERM")

    def test_a_step_is_started_again_alone(self, runner: Runner) -> None:
        """By attempt: the same one twice gives one process, and its neighbour keeps its own."""
        wanted = self.launch("r1", FOREVER, FOREVER)
        runner.launch(wanted)
        before = self.one(runner)
        runner.signal("r1", [1], "SIGKILL")
        self.await_exit(runner, 1)
        runner.start_step(wanted, 1, 2)
        again = self.one(runner)
        runner.start_step(wanted, 1, 2)
        assert self.one(runner).steps[1].pid == again.steps[1].pid > 0
        assert again.steps[1].attempt == 2
        assert again.steps[1].pid != before.steps[1].pid
        assert again.steps[0].pid == before.steps[0].pid

    def test_the_end_of_input_goes_on_step_by_step(self, runner: Runner) -> None:
        """A step that has ended for good lets its reader see the end of file."""
        runner.launch(self.launch("r1", FOREVER, "cat", "cat"))
        runner.signal("r1", [0], "SIGTERM")
        self.await_exit(runner, 0)
        for index in range(2):
            assert self.one(runner).steps[index + 1].alive
            runner.end_step("r1", index)
            ended = self.await_exit(runner, index + 1).steps[index + 1].exit
            assert ended is not None
            assert ended.code == 0
        runner.end_step("r1", 2)
        assert all(step.ended for step in self.one(runner).steps)

    def test_an_ended_step_is_not_started_again(self, runner: Runner) -> None:
        """Its pipes are gone."""
        wanted = self.launch("r1", "exit 0")
        runner.launch(wanted)
        self.await_exit(runner)
        runner.end_step("r1", 0)
        runner.start_step(wanted, 0, 2)
        assert not self.one(runner).alive

    def test_a_sweep_says_gone_when_nothing_is_left(self, runner: Runner) -> None:
        """Not before; and forgetting it makes the flow absent."""
        runner.launch(self.launch("r1", DEAF))
        self.await_deaf(runner)
        runner.sweep("r1", "SIGTERM")
        always_for(0.2, lambda: _assert(not self.one(runner).gone))
        runner.sweep("r1", "SIGKILL")
        self.await_gone(runner, "r1")
        runner.forget("r1")
        assert runner.observe("demo") == ()
        assert "demo" not in runner.flow_ids()
        runner.forget("r1")

    def test_what_is_alive_cannot_be_forgotten(self, runner: Runner) -> None:
        """Nobody loses sight of a process by mistake."""
        runner.launch(self.launch("r1", FOREVER))
        with pytest.raises(RunnerError):
            runner.forget("r1")
        assert self.one(runner).alive

    def test_freeze_and_thaw(self, runner: Runner) -> None:
        """Both idempotent, both told once they were seen."""
        runner.launch(self.launch("r1", DEAF, "cat"))
        for _ in range(2):
            runner.freeze("r1")
            assert not self.one(runner).thawed
            self.await_frozen(runner, frozen=True)
            assert not self.one(runner).thawed
        for _ in range(2):
            runner.thaw("r1")
            self.await_frozen(runner, frozen=False)
        assert self.one(runner).thawed
        runner.freeze("r1")
        assert not self.one(runner).thawed

    def test_a_freeze_holds_output_still_and_a_thaw_continues_it(self, runner: Runner) -> None:
        """Of every step, with the same processes."""
        runner.launch(self.launch("r1", TICKS, "cat"))
        before = self.one(runner)
        self.await_output(runner, 1)
        runner.freeze("r1")
        self.await_frozen(runner, frozen=True)
        still = runner.output(["r1"])
        always_for(0.2, lambda: _assert(runner.output(["r1"]) == still))
        runner.thaw("r1")
        self.await_frozen(runner, frozen=False)
        self.await_output(runner, 1)
        assert self.one(runner).steps == before.steps

    def test_a_source_that_is_ended_alone_leaves_the_others_waiting(self, runner: Runner) -> None:
        """They see no end of input and fall still; its next attempt goes on, on the old pipe."""
        wanted = self.launch("r1", TICKS, "cat", "cat")
        runner.launch(wanted)
        before = self.one(runner)
        self.await_output(runner, 2)
        runner.signal("r1", [0], "SIGTERM")
        self.await_exit(runner)

        def used_up() -> None:
            assert [used.in_flight_bytes for used in runner.usage(["demo"])["r1"]] == [0, 0, 0]
            still = runner.output(["r1"])
            always_for(0.2, lambda: _assert(runner.output(["r1"]) == still))

        eventually(used_up)
        assert self.one(runner).steps[1:] == before.steps[1:]
        runner.start_step(wanted, 0, 2)
        self.await_output(runner, 2)
        assert self.one(runner).steps[1:] == before.steps[1:]

    def await_output(self, runner: Runner, index: int) -> None:
        """Wait until a step has written something more."""
        before = runner.output(["r1"])["r1"][index]
        eventually(lambda: _assert(runner.output(["r1"])["r1"][index] != before))

    def test_a_frozen_run_can_be_killed(self, runner: Runner) -> None:
        """SIGKILL needs no thaw."""
        runner.launch(self.launch("r1", FOREVER, "cat"))
        runner.freeze("r1")
        self.await_frozen(runner, frozen=True)
        runner.sweep("r1", "SIGKILL")
        self.await_gone(runner, "r1")

    def test_a_second_runner_on_the_same_backend_adopts(self, runner: Runner) -> None:
        """It sees the same runs, and its verbs reach them."""
        runner.launch(self.launch("r1", FOREVER, "cat"))
        before = self.one(runner)
        with self.connect() as other:
            other.recover([handle_of(before)])
            assert self.one(other).steps == before.steps
            other.signal("r1", [0], "SIGTERM")
            self.await_exit(other, 0)
        self.await_exit(runner, 0)

    def test_a_handle_of_something_gone_is_not_alive(self, runner: Runner) -> None:
        """Recovering what has ended long ago invents no process and no exit code."""
        runner.launch(self.launch("r0", FOREVER, flow="other"))
        other = self.one(runner, "other")
        stale = Handle("r9", "demo", 0, ("s0",), other.steps)
        runner.recover([stale])
        for instance in runner.observe("demo"):
            assert not instance.alive
            assert all(s.exit is None or s.exit.code is None for s in instance.steps)
        assert self.one(runner, "other").steps == other.steps

    def test_observing_changes_nothing(self, runner: Runner) -> None:
        """However often."""
        runner.launch(self.launch("r1", FOREVER))
        assert {runner.observe("demo") for _ in range(50)} == {runner.observe("demo")}

    def test_checks_run_beside_a_step(self, runner: Runner) -> None:
        """Exit 0 is a success, anything else is not, nor is an answer that comes too late."""
        wanted = self.launch("r1", FOREVER)
        runner.launch(wanted)
        step = wanted.flow.spec.steps[0]
        assert runner.check(wanted, step, ("true",), 5).ok
        assert not runner.check(wanted, step, ("false",), 5).ok
        assert not runner.check(wanted, step, ("sleep", "100"), 0.05).ok
        assert not runner.check(wanted, step, ("/nonexistent/check",), 5).ok

    def test_a_log_is_read_from_where_the_attempt_began(self, runner: Runner) -> None:
        """What the attempt before has printed does not count; positions go on from there."""
        wanted = self.launch("r1", f"echo word; {FOREVER}")
        runner.launch(wanted)
        self.await_log(runner, b"word\n")
        part = runner.read_log("r1", 0, None)
        assert runner.read_log("r1", 0, part.end).data == b""
        assert runner.read_log("r1", 0, part.start + 2).data == b"rd\n"
        runner.signal("r1", [0], "SIGKILL")
        self.await_exit(runner)
        assert runner.read_log("r1", 0, None) == part, "until the next is started"
        runner.start_step(wanted, 0, 2)
        self.await_log(runner, b"word\n")
        again = runner.read_log("r1", 0, None)
        assert again.start == part.end == self.one(runner).steps[0].log_from
        assert runner.read_log("r1", 0, part.start).data == b"word\nword\n"

    def test_a_second_runner_knows_where_an_attempt_began(self, runner: Runner) -> None:
        """It was kept by the backend, together with the process."""
        wanted = self.launch("r1", f"echo word; {FOREVER}")
        runner.launch(wanted)
        self.await_log(runner, b"word\n")
        runner.signal("r1", [0], "SIGKILL")
        self.await_exit(runner)
        runner.start_step(wanted, 0, 2)
        self.await_log(runner, b"word\n")
        with self.connect() as other:
            assert other.read_log("r1", 0, None) == runner.read_log("r1", 0, None)

    def await_log(self, runner: Runner, wanted: bytes) -> None:
        eventually(lambda: _assert(runner.read_log("r1", 0, None).data == wanted))

    def test_a_log_of_nobody_is_empty(self, runner: Runner) -> None:
        """And a position in it stays where it is."""
        assert runner.read_log("nobody", 0, None).data == b""
        assert runner.read_log("nobody", 0, 7).end == 7

    def test_output_is_told_by_another_number(self, runner: Runner) -> None:
        """As long as a step writes nothing, its number stays as it is; absence is an answer."""
        runner.launch(self.launch("r1", "exec yes", "cat", flow="busy"))
        runner.launch(self.launch("r2", FOREVER, flow="quiet"))
        known = runner.output(["r1", "r2", "nobody"])
        assert {name: len(steps) for name, steps in known.items()} == {"r1": 2, "r2": 1}
        eventually(lambda: _assert(runner.output(["r1"])["r1"][0] != known["r1"][0]))

        def quiet() -> None:
            still = runner.output(["r2"])
            always_for(0.2, lambda: _assert(runner.output(["r2"]) == still))

        eventually(quiet)

    def test_a_pipe_that_nobody_reads_is_full(self, runner: Runner) -> None:
        """With its unread bytes; the first step has none, and one that nobody writes is empty."""
        runner.launch(self.launch("r1", "exec yes", FOREVER, FOREVER))

        def full() -> None:
            first, second, third = runner.pipes(["r1", "nobody"])["r1"]
            assert (first.full, first.unread_bytes) == (False, 0)
            assert second.full
            assert second.unread_bytes > 0
            assert (third.full, third.unread_bytes) == (False, 0)

        eventually(full)

    def test_closing_twice_is_harmless_and_ends_nothing(self, runner: Runner) -> None:
        """Flows outlive their runner."""
        with self.connect() as other:
            other.launch(self.launch("r1", FOREVER))
            other.close(final=False)
            other.close(final=False)
        with self.connect() as third:
            assert self.one(third).alive


def handle_of(instance: Instance) -> Handle:
    names = tuple(f"s{index}" for index in range(len(instance.steps)))
    return Handle(instance.run, instance.flow_id, instance.replica, names, instance.steps)


def _assert(condition: bool) -> None:
    assert condition
