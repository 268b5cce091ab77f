"""``history`` and ``rollback``."""

from __future__ import annotations

import json

import pytest
from stub_operator import STARTED, manifest

DIFF = "--- generation 1\n+++ generation 2\n@@ -1 +1 @@\n-  a: 1\n+  a: \x1b[31m2\n"


@pytest.fixture
def edited(operator):
    """A flow of two generations, of which the first is compared with nothing that is kept."""
    operator.add("orders")
    entry = {"at": STARTED, "by": "api:127.0.0.1", "action": "replace"}
    kept = [
        {"generation": 2, **entry, "change": "restart", "diff": DIFF},
        {"generation": 1, **entry, "action": "create", "change": None, "diff": None},
    ]
    operator.answers["GET /flows/orders/history"] = (
        200,
        {"flow_id": "orders", "history": kept},
    )
    operator.answers["GET /flows/orders/history/1"] = (
        200,
        {"flow_id": "orders", **manifest("orders")},
    )
    return operator


def test_history_is_a_table(edited, flowctl):
    """One row for each generation, the present one first."""
    lines = flowctl("history", "flow/orders").stdout.splitlines()
    assert lines[0].split() == ["GENERATION", "AGE", "ACTION", "CHANGE", "BY"]
    assert [line.split()[0] for line in lines[1:]] == ["2", "1"]
    assert lines[1].split()[2:] == ["replace", "restart", "api:127.0.0.1"]
    assert lines[2].split()[2:] == ["create", "-", "api:127.0.0.1"]


def test_a_difference_cannot_steer_the_terminal(edited, flowctl):
    """It is printed line by line, indented as it was, each one clean."""
    result = flowctl("history", "orders", "--diff", "2")
    assert result.exit_code == 0
    assert result.stdout == DIFF.replace("\x1b", "\\x1b")


@pytest.mark.parametrize(("number", "why"), [("1", "before 1"), ("7", "use one of 2, 1")])
def test_a_difference_that_is_not_kept(edited, flowctl, number, why):
    """Exit code 2, and why."""
    result = flowctl("history", "orders", "--diff", number)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


def test_an_earlier_manifest_is_shown_as_apply_reads_it(edited, flowctl):
    """Without ``flow_id``, as YAML."""
    result = flowctl("history", "orders", "--show", "1")
    assert result.stdout.startswith("apiVersion: ")
    assert "flow_id" not in result.stdout
    shown = json.loads(flowctl("history", "orders", "--show", "1", "-o", "json").stdout)
    assert shown == manifest("orders")
    assert len(json.loads(flowctl("history", "orders", "-o", "json").stdout)) == 2


def test_one_thing_at_a_time(edited, flowctl):
    """A difference and a manifest are two."""
    assert flowctl("history", "orders", "--diff", "2", "--show", "1").exit_code == 2


def test_rollback_says_what_became_of_it(edited, flowctl):
    """The generation it went back to, and the one that this made."""
    answer = {"flow_id": "orders", "to": 1, "generation": 3, "change": "restart"}
    edited.answers["POST /flows/orders/rollback"] = (200, answer)
    said = "flow/orders rolled back to generation 1, as generation 3\n"
    assert flowctl("rollback", "orders", "--to", "1", "--force").stdout == said
    assert edited.requests[-1][2:] == ({"force": "true"}, {"generation": 1})
    assert flowctl("rollback", "orders").stdout == said
    assert edited.requests[-1][2:] == ({}, {})


def test_a_dry_run_of_a_rollback(edited, flowctl):
    """What would happen to what runs."""
    answer = {"dryRun": "All", "details": [{"flow_id": "orders", "change": "restart"}]}
    edited.answers["POST /flows/orders/rollback"] = (200, answer)
    said = "flow/orders rolled back (dry run: restart)\n"
    assert flowctl("rollback", "orders", "--dry-run").stdout == said
    assert edited.requests[-1][2:] == ({"dryRun": "All"}, {})


def test_a_refused_rollback(edited, flowctl):
    """Exit code 1, in the words of the command line."""
    detail = "'orders' belongs to the manifest file a.yaml: or take it over with ?force=true"
    edited.answers["POST /flows/orders/rollback"] = edited.problem(409, detail)
    result = flowctl("rollback", "orders")
    assert result.exit_code == 1
    assert "--force" in result.stderr
