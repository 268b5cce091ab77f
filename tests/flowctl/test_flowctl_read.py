"""``get``, ``status``, ``describe``, ``manifests`` and ``version``."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from stub_operator import manifest, status

from flow_operator.flowctl import text


def columns(line):
    """The cells of a plain table's line: three blanks part them."""
    return [cell.strip() for cell in line.split("   ") if cell.strip()]


def test_get_lists_every_configuration_with_the_models_defaults(operator, flowctl):
    """One aligned row for each flow; what a manifest leaves out shows as its default."""
    operator.add("orders")
    operator.flows["audit"] = manifest("audit", state="paused", replicas=3)
    operator.statuses["audit"] = status(
        "audit", "paused", source={"kind": "file", "file": "audit.yaml"}
    )
    result = flowctl("get")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert columns(lines[0]) == ["NAME", "STATE", "RUNNER", "REPLICAS", "SOURCE", "STEPS"]
    assert columns(lines[1]) == ["audit", "paused", "process", "3", "audit.yaml", "read | write"]
    assert columns(lines[2]) == ["orders", "running", "process", "1", "api", "read | write"]
    assert lines[0].index("STEPS") == lines[1].index("read") == lines[2].index("read")


def test_get_of_some_names_prints_those_and_fails_for_the_missing(operator, flowctl):
    """A name that does not exist costs exit code 1, not the answer for the others."""
    operator.add("orders")
    result = flowctl("get", "nope", "flow/orders")
    assert result.exit_code == 1
    assert "orders" in result.stdout
    assert (
        result.stderr == "Error: There is no flow 'nope'. `flowctl get` lists those that exist.\n"
    )


def test_get_without_flows_says_so_on_stderr(flowctl):
    """Scripts see an empty stdout."""
    result = flowctl("get")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No flows.\n")


def test_get_as_json_is_an_object_for_one_name_and_an_array_otherwise(operator, flowctl):
    """As with kubectl, so that jq expressions are stable."""
    operator.add("orders")
    assert json.loads(flowctl("get", "orders", "-o", "json").stdout) == manifest("orders")
    assert json.loads(flowctl("get", "-o", "json").stdout) == [manifest("orders")]


def test_names_are_checked_before_anything_is_sent(operator, flowctl):
    """A name that would be another route of the API never reaches it."""
    for name in ("status", "commands", "../livez", "A"):
        result = flowctl("delete", "fine", name)
        assert result.exit_code == 2
        assert "cannot be a flow" in result.stderr
    assert operator.requests == []


def test_status_shows_what_is_observed(operator, flowctl):
    """Columns as documented; a flow that is not up has no uptime."""
    long_ago = datetime.now(UTC) - timedelta(hours=2, minutes=5, seconds=1)
    operator.add("orders", startedAt=long_ago.isoformat())
    operator.add("broken", "backoff", restarts=7, message="step 'read' exited\nwith 1\x1b[31m")
    result = flowctl("status")
    lines = result.stdout.splitlines()
    assert columns(lines[0])[:6] == ["NAME", "STATUS", "DESIRED", "READY", "RESTARTS", "UPTIME"]
    assert columns(lines[2]) == ["orders", "running", "running", "1/1", "0", "2h5m"]
    assert columns(lines[1]) == [
        *["broken", "backoff", "running", "0/1", "7", "-"],
        r"step 'read' exited with 1\x1b[31m",
    ]


def test_plain_tables_are_never_cut(operator, flowctl):
    """Off a terminal a long message stays on one line, whatever COLUMNS says."""
    operator.add("orders", message="word " * 100)
    result = flowctl("status", env={"app_url": operator.url, "COLUMNS": "40"})
    assert len(result.stdout.splitlines()) == 2
    assert ("word " * 100).strip() in result.stdout


def test_status_as_data_is_what_the_api_sent(operator, flowctl):
    """Fields this version does not know are kept; one name gives that one's object."""
    operator.add("orders", somethingNew=[1])
    alone = flowctl("status", "orders", "-o", "json")
    assert json.loads(alone.stdout)["somethingNew"] == [1]
    assert list(json.loads(flowctl("status", "-o", "json").stdout)) == ["orders"]
    assert flowctl("status", "-o", "yaml").stdout.startswith("orders:\n")
    assert flowctl("status", "--watch", "-o", "json").exit_code == 2


def test_describe_tells_conditions_steps_and_events(operator, flowctl):
    """Everything about one flow, in sections; exits are told by name and time."""
    now = datetime.now(UTC)
    step = {
        "name": "read",
        "replica": 0,
        "state": "waiting",
        "pid": None,
        "restarts": 3,
        "lastExit": {
            "code": None,
            "signal": 9,
            "reason": "Signaled",
            "at": (now - timedelta(seconds=30)).isoformat(),
            "detail": "killed",
        },
        "cpuSeconds": 0.5,
        "memoryBytes": 12 * 1024 * 1024,
        "inFlightBytes": 0,
        "openFiles": 7,
        "probes": [
            {
                "kind": "startup",
                "ok": None,
                "message": "not yet checked",
                "checkedAt": None,
                "successes": 0,
                "failures": 0,
            },
            {
                "kind": "readiness",
                "ok": False,
                "message": "HTTP status 503",
                "checkedAt": (now - timedelta(seconds=4)).isoformat(),
                "successes": 0,
                "failures": 2,
            },
        ],
    }
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "BackOff",
        "message": "waits 4s",
        "lastTransitionTime": now.isoformat(),
    }
    operator.add("orders", "backoff", steps=[step], conditions=[condition], observedGeneration=0)
    operator.events = [
        {"at": now.isoformat(), "type": "Warning", "reason": "Crashed", "message": "x", "count": 2}
    ]
    result = flowctl("describe", "orders")
    assert result.exit_code == 0
    rows = [columns(line) for line in result.stdout.splitlines()]
    assert "Generation:   1 (observed: 0)" in result.stdout
    assert ["Ready", "False", "BackOff", "0s", "waits 4s"] in rows
    assert rows[next(i for i, row in enumerate(rows) if row[:1] == ["read"])] == [
        *["read", "0", "waiting", "-", "3", "0.50s", "12Mi", "0", "7"],
        "Signaled, SIGKILL, 30s ago: killed",
    ]
    assert ["0s", "Warning", "Crashed", "2", "x"] in rows
    assert ["read", "0", "startup", "-", "0", "-", "not yet checked"] in rows
    assert ["read", "0", "readiness", "no", "2", "4s", "HTTP status 503"] in rows


def test_events_are_listed_by_when_they_last_happened(operator, flowctl):
    """Of all flows, or of those that are named; as a table or as data."""
    now = datetime.now(UTC)
    operator.events = [
        {
            "flow_id": name,
            "type": "Warning",
            "reason": reason,
            "message": "m",
            "at": (now - timedelta(seconds=ago)).isoformat(),
            "firstAt": now.isoformat(),
            "count": ago,
        }
        for name, reason, ago in (("b", "Late", 5), ("a", "Early", 60))
    ]
    operator.add("a")
    for arguments in ((), ("a",)):
        result = flowctl("events", *arguments)
        assert result.exit_code == 0
        assert [columns(line) for line in result.stdout.splitlines()][1:] == [
            ["1m", "60", "a", "Warning", "Early", "m"],
            ["5s", "5", "b", "Warning", "Late", "m"],
        ]
    listed = json.loads(flowctl("events", "-o", "json").stdout)
    assert [event["reason"] for event in listed] == ["Early", "Late"]
    operator.events = []
    assert flowctl("events").stderr == "No events.\n"


def test_events_cannot_be_watched_as_data(operator, flowctl):
    """It says what can."""
    result = flowctl("events", "-w", "-o", "json")
    assert result.exit_code == 2
    assert operator.requests == []


@pytest.mark.parametrize(
    ("enforced", "told"),
    [
        (None, []),
        (True, ["Limits:       enforced"]),
        (False, ["Limits:       not enforced: read (cpu, pids), write (cpu)"]),
    ],
)
def test_describe_tells_whether_limits_hold(operator, flowctl, enforced, told):
    """Naming those that do not, once for all replicas; nothing where none is asked for."""
    read = {"name": "read", "limits": {"cpu": False, "memory": True, "pids": False}}
    write = {"name": "write", "limits": {"cpu": False}}
    operator.add("orders", limitsEnforced=enforced, steps=[read, write, {**read, "replica": 1}])
    lines = flowctl("describe", "orders").stdout.splitlines()
    assert [line for line in lines if line.startswith("Limits")] == told


def test_describe_still_tells_about_a_deleted_flow_that_drains(operator, flowctl):
    """The configuration is gone, the processes are not yet."""
    operator.statuses["orders"] = status("orders", "stopping", desired="deleted")
    result = flowctl("describe", "orders")
    assert result.exit_code == 0
    assert "stopping" in result.stdout
    assert "deleted" in result.stdout


def test_manifests_shows_each_file_and_a_held_prune(operator, flowctl):
    """The table stays on stdout; what to do about a held prune goes to stderr."""
    operator.folder = {
        "folder": "/etc/flows",
        "held": "5 of 6 files vanished at once",
        "files": [
            {
                "file": "a.yaml",
                "sha256": "0123456789abcdef",
                "flows": ["a", "b"],
                "error": None,
                "since": (datetime.now(UTC) - timedelta(minutes=3)).isoformat(),
            },
            {"file": "bad.yaml", "sha256": "", "flows": [], "error": "3:1: no", "since": None},
        ],
    }
    result = flowctl("manifests")
    rows = [columns(line) for line in result.stdout.splitlines()]
    assert rows == [
        ["FILE", "FLOWS", "HASH", "SINCE", "ERROR"],
        ["a.yaml", "a,b", "0123456789ab", "3m", "-"],
        ["bad.yaml", "-", "-", "-", "3:1: no"],
    ]
    assert "5 of 6 files vanished at once" in result.stderr
    assert "flowctl prune" in result.stderr


def test_prune_names_what_goes(operator, flowctl):
    """One line for each flow; none is no error."""
    assert flowctl("prune").stderr == "Nothing to prune.\n"
    operator.pruned = ["a", "b"]
    assert flowctl("prune").stdout == "flow/a pruned\nflow/b pruned\n"


def test_version_tells_both_sides(operator, flowctl):
    """This program's, and the operator's with where it is."""
    lines = flowctl("version").stdout.splitlines()
    assert lines[0].split() == ["flowctl", flowctl("--version").stdout.split()[-1]]
    assert lines[1].split() == ["operator", "9.9.9,", "ready,", "at", operator.url]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-5, "0s"),
        (0.4, "0s"),
        (59, "59s"),
        (60, "1m"),
        (192, "3m12s"),
        (3599, "59m59s"),
        (7500, "2h5m"),
        (86400 * 2 + 3600 * 4 + 59, "2d4h"),
        (86400 * 40 + 3600, "40d"),
    ],
)
def test_spans_are_written_in_two_units_at_most(seconds, written):
    """Short enough for a column, precise enough to tell."""
    assert text.span(seconds) == written


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (None, "-"),
        (0, "0"),
        (1023, "1023"),
        (1024, "1.0Ki"),
        (12 << 20, "12Mi"),
        (1 << 50, "1024Ti"),
    ],
)
def test_sizes_are_written_in_binary_units(count, written):
    """As manifests write them."""
    assert text.size(count) == written
