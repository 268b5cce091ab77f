"""Selectors: the same for whatever speaks of flows; and what is shown while a command waits."""

from __future__ import annotations

import signal
import threading

import pytest
from stub_operator import status

from flow_operator.api.selectors import FIELDS as OF_API
from flow_operator.flowctl.choice import FIELDS
from flow_operator.flowctl.progress import Lines, sentence

VERBS = ("start", "stop", "pause", "resume", "restart")


@pytest.fixture
def teams(operator):
    """Two flows of one team and one of another, which has failed."""
    operator.add("a", labels={"team": "x"})
    operator.add("b", labels={"team": "x"})
    operator.add("c", "failed", labels={"team": "y"})
    return operator


@pytest.mark.parametrize("command", ["get", "status"])
def test_lists_are_of_the_flows_that_a_selector_chooses(teams, flowctl, command):
    """Both selectors are the operator's to judge."""
    rows = flowctl(command, "-l", "team=x").stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["a", "b"]
    rows = flowctl(command, "--field", "status=failed").stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["c"]


@pytest.mark.parametrize("command", [("get",), ("status",), ("delete",), ("stop",)])
def test_a_selector_that_chooses_nothing_is_no_error(teams, flowctl, command):
    """It is said, and nothing is done."""
    result = flowctl(*command, "-l", "team=nobody")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No flows.\n")
    assert sorted(teams.flows) == ["a", "b", "c"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_leaves_the_choice_to_the_operator(teams, flowctl, verb):
    """One request: what begins to match meanwhile is meant too."""
    result = flowctl(verb, "-l", "team=x", "--timeout", "3s")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["flow/a", "flow/b"]
    [(_, query, body)] = teams.asked("PATCH")
    assert (query, body) == ({"timeout": "3", "labelSelector": "team=x"}, {"command": verb})


def test_flows_of_a_status_are_commanded(teams, flowctl):
    """What has failed is started again, and nothing else."""
    assert flowctl("restart", "--field", "status=failed").stdout == "flow/c running\n"
    [(_, query, body)] = teams.asked("PATCH")
    assert (query["fieldSelector"], body) == ("status=failed", {"command": "restart"})


def test_no_flow_of_a_status_commands_none(teams, flowctl):
    """Never all of them."""
    result = flowctl("stop", "--field", "status=backoff")
    assert (result.exit_code, result.stderr) == (0, "No flows.\n")
    assert teams.asked("PATCH") == []


def test_what_a_selector_chooses_is_deleted(teams, flowctl):
    """One by one, as names are."""
    assert flowctl("delete", "-l", "team=x").stdout == "flow/a deleted\nflow/b deleted\n"
    assert list(teams.flows) == ["c"]


def test_events_are_of_the_flows_that_a_selector_chooses(teams, flowctl):
    """The operator's list has no selectors, its statuses have."""
    event = {"type": "Normal", "reason": "R", "message": "", "at": "2024-01-01", "count": 1}
    teams.events = [{"flow_id": name} | event for name in ("a", "c")]
    rows = flowctl("events", "-l", "team=x").stdout.splitlines()[1:]
    assert [row.split()[2] for row in rows] == ["a"]


@pytest.mark.parametrize("command", ["get", "status", "events", "stop", "delete"])
def test_names_and_selectors_exclude_each_other(teams, flowctl, command):
    """One would have to guess whether both must hold."""
    result = flowctl(command, "a", "-l", "team=x")
    assert result.exit_code == 2
    assert "Say one of: names, -l or --field" in result.stderr
    assert teams.requests == []


def test_fields_complete_to_what_the_operator_takes(flowctl):
    """The list of the command line is that of the API."""
    assert set(FIELDS) == set(OF_API)
    env = {
        "_FLOWCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "flowctl get --field st",
        "COMP_CWORD": "3",
    }
    assert flowctl(env=env).stdout == "plain,status=\nplain,stalled=\n"


def test_not_waiting_is_a_wait_of_nothing(teams, flowctl):
    """As ``--timeout 0``, for those who know the one or the other."""
    assert flowctl("stop", "a", "--no-wait").stdout == "flow/a stop requested\n"
    assert teams.asked("PATCH")[0][1] == {"timeout": "0"}


@pytest.mark.parametrize(("written", "sent"), [("90", "90"), ("90s", "90"), ("2m", "120")])
def test_times_are_written_as_in_manifests_too(teams, flowctl, written, sent):
    """With or without a unit."""
    flowctl("stop", "a", "--timeout", written)
    assert teams.asked("PATCH")[0][1] == {"timeout": sent}


def test_get_prints_names_for_other_commands(teams, flowctl):
    """``-o name`` is what they take; ``-o wide`` adds labels and generation."""
    assert flowctl("get", "-l", "team=x", "-o", "name").stdout == "flow/a\nflow/b\n"
    head, row, *_ = flowctl("get", "-o", "wide").stdout.splitlines()
    assert head.split()[-3:] == ["GENERATION", "LABELS", "STEPS"]
    assert "team=x" in row


# --- while a command waits ---------------------------------------------------------------------


def draining(**fields):
    """A flow of which one step still works off what is in the pipe."""
    steps = [
        {"name": "read", "state": "exited", "inFlightBytes": 0},
        {"name": "write", "state": "running", "inFlightBytes": 12288},
    ]
    return status("a", "stopping", steps=steps) | fields


def test_what_still_drains_is_told_in_words():
    """The step that runs and the bytes before it."""
    assert sentence(draining()) == "stopping: write still runs, 12Ki in flight"
    assert sentence(status("a", "stopping")) == "stopping"


def test_a_line_is_told_once_until_something_changes(capsys):
    """Bytes alone are told every five seconds; a flow that is there is not told at all."""
    lines = Lines(("stopped",))
    lines.show({"a": draining()}, 1.0)
    lines.show({"a": draining()}, 2.0)
    fewer = draining(steps=[{"name": "write", "state": "running", "inFlightBytes": 5}])
    lines.show({"a": fewer}, 3.0)
    assert len(capsys.readouterr().err.splitlines()) == 1
    lines.show({"a": fewer}, 6.5)
    assert "5 bytes in flight" in capsys.readouterr().err
    lines.show({"a": status("a", "stopped")}, 7.0)
    assert capsys.readouterr().err == ""


def test_a_command_that_waits_tells_what_still_drains(operator, spawn):
    """On stderr, while it waits; stdout has the answer alone."""
    operator.add("a")
    operator.statuses["a"] = draining()
    operator.command_gate = threading.Event()
    process = spawn("stop", "a")
    told = b"flow/a stopping: write still runs, 12Ki in flight\n"
    assert process.stderr.readline() == told
    operator.command_gate.set()
    stdout, stderr = process.communicate(timeout=30)
    assert (stdout, stderr, process.returncode) == (b"flow/a stopped\n", b"", 0)


def test_ctrl_c_ends_a_wait_that_is_told(operator, spawn):
    """At once and without a word; the flow goes on to where it was told to go."""
    operator.add("a")
    operator.statuses["a"] = draining()
    operator.command_gate = threading.Event()
    process = spawn("stop", "a")
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr.strip()) == (130, b"")
