"""``start``, ``stop``, ``pause``, ``resume``, ``restart`` and ``delete``."""

from __future__ import annotations

import pytest
from stub_operator import status

VERBS = {
    "start": "running",
    "resume": "running",
    "restart": "running",
    "stop": "stopped",
    "pause": "paused",
}


@pytest.mark.parametrize(("verb", "reached"), VERBS.items())
def test_a_command_names_its_flows_and_prints_what_was_observed(operator, flowctl, verb, reached):
    """Each name once, in the order given, with the wait in seconds."""
    operator.add("a")
    operator.add("b")
    result = flowctl(verb, "b", "flow/a", "b", "--timeout", "2.5")
    assert result.exit_code == 0
    assert result.stdout == f"flow/b {reached}\nflow/a {reached}\n"
    [(path, query, body)] = operator.asked("PATCH")
    assert (path, query) == ("/flows/commands", {"timeout": "2.5"})
    assert body == {"command": verb, "flow_ids": ["b", "a"]}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("args", [(), ("a", "--all")])
def test_everything_is_never_commanded_by_accident(operator, flowctl, verb, args):
    """Neither no name at all nor names beside --all are taken for an answer."""
    operator.add("a")
    result = flowctl(verb, *args)
    assert result.exit_code == 2
    assert "--all" in result.stderr
    assert operator.requests == []


def test_all_leaves_the_names_to_the_operator(operator, flowctl):
    """So that a flow created meanwhile is meant too."""
    operator.add("a")
    result = flowctl("stop", "--all", "--hard")
    assert result.stdout == "flow/a stopped\n"
    assert operator.asked("PATCH")[0][2] == {"command": "stop", "type": 1}


def test_all_of_no_flows_is_no_error(flowctl):
    """There is nothing that did not get there."""
    result = flowctl("stop", "--all")
    assert (result.exit_code, result.stderr) == (0, "No flows.\n")


def test_a_flow_that_is_late_is_told_with_what_it_does(operator, flowctl):
    """Exit code 1; stdout has the observed status, stderr the reason."""
    operator.add("a")
    operator.after["stop"] = "stopping"
    operator.statuses["a"] = status("a", "stopping", message="draining step 'write'")
    result = flowctl("stop", "a", "--timeout", "3")
    assert result.exit_code == 1
    assert result.stdout == "flow/a stopping\n"
    said = "flow/a is not stopped after 3s but stopping: draining step 'write'"
    assert result.stderr == f"Error: {said}; flowctl describe a tells more\n"


def test_without_waiting_nothing_is_late(operator, flowctl):
    """``--timeout 0`` asks only that the wish is taken."""
    operator.add("a")
    operator.after["stop"] = "stopping"
    result = flowctl("stop", "a", "--timeout", "0")
    assert (result.exit_code, result.stdout) == (0, "flow/a stop requested\n")


def test_a_pause_is_content_with_a_flow_that_was_not_running(operator, flowctl):
    """It holds whatever is there."""
    operator.add("a")
    operator.after["pause"] = "stopped"
    assert flowctl("pause", "a").exit_code == 0


def test_an_unknown_flow_fails_the_command(operator, flowctl):
    """The operator does nothing then, and says which one it was."""
    operator.add("a")
    result = flowctl("start", "a", "nope")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert (
        result.stderr == "Error: There is no flow 'nope'. `flowctl get` lists those that exist.\n"
    )


@pytest.mark.parametrize("timeout", ["-1", "601", "soon"])
def test_a_timeout_beyond_what_the_api_takes_is_a_usage_error(flowctl, timeout):
    """0 to 600 seconds."""
    assert flowctl("start", "a", "--timeout", timeout).exit_code == 2


def test_delete_goes_on_after_a_refusal(operator, flowctl):
    """What can be deleted is; the exit code tells that not all could."""
    operator.add("a")
    result = flowctl("delete", "nope", "a", "--hard", "--force")
    assert result.exit_code == 1
    assert result.stdout == "flow/a deleted\n"
    assert (
        result.stderr == "Error: There is no flow 'nope'. `flowctl get` lists those that exist.\n"
    )
    assert operator.asked("DELETE")[1][1] == {"type": "1", "force": "true"}


def test_a_soft_delete_asks_for_nothing_special(operator, flowctl):
    """Draining is the default."""
    operator.add("a")
    flowctl("delete", "a")
    assert operator.asked("DELETE") == [["/flows/a", {}, None]]


def test_delete_without_a_name_is_a_usage_error(operator, flowctl):
    """There is no way to delete everything."""
    assert flowctl("delete").exit_code == 2
    assert flowctl("delete", "--all").exit_code == 2
    assert operator.requests == []
