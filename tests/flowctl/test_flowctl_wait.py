"""``wait``, and ``apply`` that waits or prunes."""

from __future__ import annotations

import signal
import threading
from typing import get_args

import pytest
from click import testing
from stub_operator import manifest, status

from flow_operator.flowctl.deadline import LateError, deadline
from flow_operator.flowctl.goals import PHASES
from flow_operator.flowctl.keeping import MARK
from flow_operator.model.status import Phase

TELLS = "flowctl describe a tells more"
FILE = "metadata: {name: %s}\nspec:\n  steps:\n  - {name: read, command: [cat]}\n"


def ready(value="True"):
    return [{"type": "Ready", "status": value}]


@pytest.fixture
def later(operator):
    """Changes statuses a moment after a watch has begun; the changes are told in order."""
    timers = []

    def change(name, kind="MODIFIED", **fields):
        timer = threading.Timer(0.3, operator.change, (name, kind), fields)
        timers.append(timer)
        timer.start()

    yield change
    for timer in timers:
        timer.join()


def test_what_is_there_already_is_not_waited_for(operator, flowctl):
    """One look; ``running`` is the default."""
    operator.add("a")
    result = flowctl("wait", "a")
    assert (result.exit_code, result.stdout) == (0, "flow/a running\n")
    assert all("watch" not in query for _, query, _ in operator.asked("GET"))


def test_a_wait_ends_when_the_watch_tells_it(operator, flowctl, later):
    """By the operator's watch, without asking again and again."""
    operator.add("a", "starting")
    later("a", status="running")
    result = flowctl("wait", "--for=running", "a", "--timeout", "20s")
    assert (result.exit_code, result.stdout) == (0, "flow/a running\n")
    assert ["/flows/status/a", {"watch": "1"}, None] in operator.asked("GET")


def test_all_that_are_named_or_chosen_are_waited_for(operator, flowctl, later):
    """Each is told when it is there."""
    operator.add("a", "starting", labels={"team": "x"})
    operator.add("b", "running", labels={"team": "x"})
    operator.add("c", "starting")
    later("a", status="running")
    result = flowctl("wait", "-l", "team=x", "--timeout", "20")
    assert result.stdout == "flow/b running\nflow/a running\n"


def test_conditions_are_waited_for(operator, flowctl, later):
    """As kubectl writes them; a value other than True may be named."""
    operator.add("a", conditions=ready("False"))
    assert flowctl("wait", "--for=condition=Ready=False", "a").exit_code == 0
    later("a", conditions=ready())
    result = flowctl("wait", "--for", "condition=ready", "a", "--timeout", "20s")
    assert (result.exit_code, result.stdout) == (0, "flow/a condition=ready\n")


def test_an_older_generation_is_not_what_is_waited_for(operator, flowctl):
    """A flow that was just told to do something else shows its old status for a moment."""
    operator.add("a", observedGeneration=1, generation=2, conditions=ready())
    for goal in ("running", "condition=Ready"):
        assert flowctl("wait", "a", f"--for={goal}", "--timeout", "0").exit_code == 1


def test_a_flow_that_is_gone_is_deleted(operator, flowctl, later):
    """Also one that there never was, as with kubectl."""
    assert flowctl("wait", "--for=deleted", "nope").stdout == "flow/nope deleted\n"
    operator.add("a", "stopping")
    later("a", "DELETED")
    result = flowctl("wait", "--for=deleted", "a", "--timeout", "20s")
    assert (result.exit_code, result.stdout) == (0, "flow/a deleted\n")


@pytest.mark.parametrize("alarm", [0, 100])
def test_a_deadline_leaves_alarms_as_they_were(alarm):
    """Both when the block ends by itself and when time is up; that of the test's timeout, too."""
    of_the_test = signal.setitimer(signal.ITIMER_REAL, alarm)
    try:
        before = signal.getsignal(signal.SIGALRM)
        with deadline(60):
            assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
        with pytest.raises(LateError), deadline(0.01):
            signal.pause()
        assert alarm - 30 < signal.getitimer(signal.ITIMER_REAL)[0] <= alarm
        assert signal.getsignal(signal.SIGALRM) is before
    finally:
        signal.setitimer(signal.ITIMER_REAL, *of_the_test)


def test_time_that_is_up_is_an_error_with_what_the_flow_does(operator, flowctl):
    """Exit code 1; nothing is left behind of the watch."""
    operator.add("a", "starting", message="waits for db")
    result = flowctl("wait", "a", "--timeout", "0.3s")
    assert result.exit_code == 1
    said = f"Error: flow/a is not running after 0.3s but starting: waits for db; {TELLS}\n"
    assert result.stderr == said


@pytest.mark.parametrize("goal", ["running", "condition=Ready"])
def test_a_flow_that_has_failed_is_not_waited_for(operator, flowctl, goal):
    """It will not start by itself; the wait ends at once."""
    operator.add("a", "failed", message="exit code 1")
    result = flowctl("wait", f"--for={goal}", "a", "--timeout", "60s")
    assert result.exit_code == 1
    said = f"Error: flow/a is not {goal} and will not be: failed: exit code 1; {TELLS}\n"
    assert result.stderr == said


def test_a_flow_that_is_deleted_meanwhile_ends_the_wait(operator, flowctl, later):
    """It will not come there."""
    operator.add("a", "starting")
    later("a", "DELETED")
    result = flowctl("wait", "a", "--timeout", "20s")
    assert result.exit_code == 1
    assert "flow/a is not running and will not be: it was deleted; flowctl apply" in result.stderr


def test_every_status_can_be_waited_for():
    """The list of the command line is that of the model."""
    assert get_args(Phase) == PHASES


def test_what_there_is_not_cannot_be_waited_for(operator, flowctl):
    """A name, a selector, or a goal."""
    assert flowctl("wait", "nope").exit_code == 1
    assert flowctl("wait", "-l", "team=x").stderr.startswith("Error: no flow matches")
    result = flowctl("wait", "a", "--for", "happiness")
    assert result.exit_code == 2
    assert "condition=TYPE" in result.stderr


# --- apply -------------------------------------------------------------------------------------


def test_apply_waits_until_flows_are_ready(operator, flowctl, later):
    """Running is not enough; those that are not wanted running are waited for as they are."""
    operator.flows = {"a": manifest("a"), "b": manifest("b", state="stopped")}
    operator.statuses = {
        "a": status("a", conditions=ready("False")),
        "b": status("b", "stopped", desired="stopped"),
    }
    later("a", conditions=ready())
    both = FILE % "a" + "---\n" + FILE % "b"
    result = flowctl("apply", "-", "--wait", "--timeout", "20s", input=both)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-2:] == ["flow/b stopped", "flow/a ready"]


def test_apply_that_waits_in_vain_says_for_what(operator, flowctl):
    """Exit code 1, though all is applied."""
    operator.statuses = {"a": status("a", "backoff", message="exit code 1")}
    result = flowctl("apply", "-", "--wait", "--timeout", "0", input=FILE % "a")
    assert result.exit_code == 1
    assert "flow/a is not ready but backoff: exit code 1" in result.stderr
    assert "a" in operator.flows


@pytest.fixture
def team(operator, flowctl):
    """Flows a and b made by the set ``team``, c by another one, d by none."""
    flowctl("apply", "-", "--set", "team", input=FILE % "a" + "---\n" + FILE % "b")
    flowctl("apply", "-", "--set", "other", input=FILE % "c")
    flowctl("apply", "-", input=FILE % "d")
    operator.requests.clear()
    return operator


def test_prune_deletes_what_the_set_has_made_and_nothing_else(team, flowctl):
    """Softly, after all else is applied."""
    result = flowctl("apply", "-", "--set", "team", "--prune", "--yes", input=FILE % "a")
    assert result.stdout == "flow/a unchanged\nflow/b pruned\n"
    assert sorted(team.flows) == ["a", "c", "d"]
    assert team.asked("DELETE") == [["/flows/b", {}, None]]


def test_a_flow_that_was_there_before_is_not_pruned(team, flowctl):
    """The set has changed it, but has not made it; that is said."""
    both = FILE % "a" + "---\n" + FILE % "d"
    result = flowctl("apply", "-", "--set", "team", input=both)
    assert "flow/d was not made by the set 'team', which will never prune it" in result.stderr
    flowctl("apply", "-", "--set", "team", "--prune", "--yes", input=FILE % "a")
    assert "d" in team.flows


def test_a_copy_of_a_manifest_is_no_member(team, flowctl):
    """What ``get`` prints has the set's mark; under another name it means nothing."""
    printed = flowctl("get", "b", "-o", "yaml").stdout
    assert MARK in printed
    flowctl("apply", "-", input=printed.replace("name: b", "name: e"))
    team.flows["f"] = manifest("f")
    team.flows["f"]["metadata"]["annotations"] = {MARK: "team/b"}
    flowctl("apply", "-", "--set", "team", "--prune", "--yes", input=FILE % "a")
    assert sorted(team.flows) == ["a", "c", "d", "e", "f"]
    assert "annotations" not in team.flows["e"]["metadata"]


def test_a_flow_stays_in_its_set_when_it_is_applied_otherwise(team, flowctl):
    """Neither its own file, nor the set's absence, takes the mark away."""
    assert flowctl("apply", "-", input=FILE % "b").stdout == "flow/b unchanged\n"
    flowctl("apply", "-", input=FILE % "b" + "  replicas: 2\n")
    assert team.flows["b"]["metadata"]["annotations"] == {MARK: "team/b"}


def test_prune_asks_and_without_an_answer_changes_nothing(team, flowctl):
    """Nobody to ask is exit code 2, before anything is sent."""
    edited = FILE % "a" + "  replicas: 2\n"
    result = flowctl("apply", "-", "--set", "team", "--prune", input=edited)
    assert result.exit_code == 2
    assert "this would delete flow/b; say --yes if that is meant" in result.stderr
    assert team.asked("PUT") == team.asked("DELETE") == []


def test_prune_needs_a_set(team, flowctl):
    """Else it would have to guess whose flows they are."""
    result = flowctl("apply", "-", "--prune", "--yes", input=FILE % "a")
    assert result.exit_code == 2
    assert "--prune needs --set SET" in result.stderr
    assert team.requests == []


def test_a_dry_run_of_a_prune_tells_what_would_go(team, flowctl):
    """It asks nothing and deletes nothing."""
    result = flowctl("apply", "-", "--set", "team", "--prune", "--dry-run", input=FILE % "a")
    assert "flow/b pruned (dry run: stop)" in result.stdout
    assert "b" in team.flows


@pytest.mark.parametrize(("answer", "left"), [("y\n", False), ("n\n", True), ("", True)])
def test_prune_asks_on_a_terminal(team, flowctl, tmp_path, monkeypatch, answer, left):
    """Whatever is not a yes is a no, and nothing is sent then."""
    path = tmp_path / "a.yaml"
    path.write_text(FILE % "a" + "  replicas: 2\n")
    monkeypatch.setattr(testing._NamedTextIOWrapper, "isatty", lambda _: True, raising=False)
    result = flowctl("apply", str(path), "--set", "team", "--prune", input=answer)
    assert "Delete flow/b? [y/N]" in result.stderr
    assert ("b" in team.flows, bool(team.asked("PUT"))) == (left, not left)
    assert result.exit_code == (1 if left else 0)
