"""The dashboard and the alert rules speak of metrics that there are, and the rules work."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from promql import check, labels_of
from scrapes import Scrape
from support import ROOT, require

ALERTS = ROOT / "docs" / "alerts.yaml"
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


def test_a_name_or_label_that_is_not_there_is_found(full_scrape: Scrape) -> None:
    """The check itself: wherever in an expression it stands."""
    known = labels_of(full_scrape)
    commits = "flow_operator_store_commit_duration_seconds_bucket"
    check(f"histogram_quantile(0.9, sum by (le) (rate({commits}[$__rate_interval]))) > 1", known)
    for wrong in (
        "sum(rate(flow_operator_nonsense_total[5m])) > 0",
        "1 - flow_operator_nonsense",
        "topk(3, max by (flow) (flow_operator_nonsense))",
        'flow_operator_flows{state="running"}',
        "sum by (state) (flow_operator_flows)",
        "flow_operator_flow_ready * on (name) flow_operator_flow_ready",
        "vector(1)",
    ):
        with pytest.raises(AssertionError):
            check(wrong, known)
    with pytest.raises(ValueError, match="unclosed"):
        check("sum(", known)


# --- the dashboard ---------------------------------------------------------------------------


def test_every_expression_of_the_dashboard_speaks_of_what_there_is(full_scrape: Scrape) -> None:
    """Those of panels, of annotations, and of the variables."""
    known = labels_of(full_scrape)
    dashboard = _dashboard()
    targets = [t for panel in dashboard["panels"] for t in panel.get("targets", ())]
    assert len(targets) > 40
    for target in [*targets, *dashboard["annotations"]["list"]]:
        check(target["expr"], known)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            told = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert told, variable["name"]
            check(told[1], known)
            assert told[2] in known[told[1].partition("{")[0]]


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """No data source of ours, no variable that is not there, no two panels in one place."""
    dashboard = _dashboard()
    panels = dashboard["panels"]
    identities = [panel["id"] for panel in panels]
    assert len(set(identities)) == len(identities)
    assert dashboard["schemaVersion"] >= 39
    assert dashboard.get("id") is None
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())) - {"__rate_interval", "__all"}
    assert used == variables
    for panel in panels:
        assert panel["type"] == "row" or panel["datasource"] == SOURCE, panel["title"]
        assert all(target["datasource"] == SOURCE for target in panel.get("targets", ()))
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


# --- the alert rules -------------------------------------------------------------------------


def test_every_alert_speaks_of_what_there_is(full_scrape: Scrape) -> None:
    """And says what has happened, and what to do."""
    known = labels_of(full_scrape)
    names = [rule["alert"] for rule in _rules()]
    assert len(set(names)) == len(names)
    for rule in _rules():
        check(rule["expr"], known)
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}


def _promtool(*arguments: str | Path) -> None:
    promtool = shutil.which("promtool")
    require(None if promtool else "promtool is not installed")
    done = subprocess.run(
        [str(promtool), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules() -> None:
    """Expressions, durations and templates."""
    _promtool("check", "rules", ALERTS)


QUIET = {
    'up{job="flow-operator"}': "1x120",
    "flow_operator_ready": "1x120",
    "flow_operator_shim_connected": "1x120",
    "flow_operator_shim_restarts_total": "0x120",
    "flow_operator_store_degraded": "0x120",
    "flow_operator_store_corrupt_flows": "0x120",
    'flow_operator_reconcile_duration_seconds_count{result="retry"}': "0x120",
    "flow_operator_workqueue_longest_running_processor_seconds": "0x120",
    'flow_operator_http_request_duration_seconds_count{code="2xx"}': "0+10x120",
    'flow_operator_http_request_duration_seconds_count{code="5xx"}': "0x120",
    'process_open_fds{job="flow-operator"}': "10x120",
    'process_max_fds{job="flow-operator"}': "1000x120",
    "flow_operator_manifest_files_with_errors": "0x120",
    "flow_operator_manifest_held_flows": "0x120",
    "flow_operator_manifest_folder_unreadable": "0x120",
    "flow_operator_manifest_last_look_timestamp_seconds": "0+60x120",
    'flow_operator_flow_condition{condition="Stalled",flow="a"}': "0x120",
    'flow_operator_flow_condition{condition="Reconciling",flow="a"}': "0x120",
    'flow_operator_flow_condition{condition="Backpressured",flow="a"}': "0x120",
    'flow_operator_flow_condition{condition="Silent",flow="a"}': "0x120",
    'flow_operator_flow_condition{condition="PipeUnheld",flow="a"}': "0x120",
    'flow_operator_flow_ready{flow="a"}': "1x120",
    'flow_operator_flow_status{flow="a",status="running",desired="running"}': "1x120",
    'flow_operator_flow_generation{flow="a"}': "2x120",
    'flow_operator_flow_observed_generation{flow="a"}': "2x120",
    'flow_operator_flow_restarts_total{flow="a"}': "7x120",
    'flow_operator_runs_ended_total{outcome="DrainTimedOut"}': "3x120",
    'flow_operator_runs_ended_total{outcome="Lost"}': "0x120",
    'flow_operator_runs_ended_total{outcome="Drained"}': "0+1x120",
    'flow_operator_step_exits_total{reason="OOMKilled"}': "0x120",
    "flow_operator_log_dropped_bytes_total": "0x120",
    'flow_operator_store_sync_duration_seconds_bucket{kind="journal",le="0.001"}': "0+10x120",
    'flow_operator_store_sync_duration_seconds_bucket{kind="journal",le="1.0"}': "0+10x120",
    'flow_operator_store_sync_duration_seconds_bucket{kind="journal",le="+Inf"}': "0+10x120",
    'flow_operator_workqueue_queue_duration_seconds_bucket{lane="hurried",le="0.01"}': "0+9x120",
    'flow_operator_workqueue_queue_duration_seconds_bucket{lane="hurried",le="5.0"}': "0+9x120",
    'flow_operator_workqueue_queue_duration_seconds_bucket{lane="hurried",le="+Inf"}': "0+9x120",
}
"""Two hours of an operator to which nothing happens, a minute a step."""

TROUBLES = {
    "FlowOperatorDown": {'up{job="flow-operator"}': "0x120"},
    "FlowOperatorNotReady": {"flow_operator_ready": "0x120"},
    "FlowOperatorShimAway": {"flow_operator_shim_connected": "0x120"},
    "FlowOperatorShimDies": {"flow_operator_shim_restarts_total": "0x80 1+1x40"},
    "FlowOperatorStoreDegraded": {"flow_operator_store_degraded": "1x120"},
    "FlowOperatorStoreSlow": {
        'flow_operator_store_sync_duration_seconds_bucket{kind="journal",le="0.001"}': "0x120"
    },
    "FlowOperatorFlowsUnreadable": {"flow_operator_store_corrupt_flows": "1x120"},
    "FlowOperatorReconcileErrors": {
        'flow_operator_reconcile_duration_seconds_count{result="retry"}': "0+10x120"
    },
    "FlowOperatorReconcileStuck": {
        "flow_operator_workqueue_longest_running_processor_seconds": "0+60x120"
    },
    "FlowOperatorQueueSlow": {
        'flow_operator_workqueue_queue_duration_seconds_bucket{lane="hurried",le="0.01"}': "0x120"
    },
    "FlowOperatorApiErrors": {
        'flow_operator_http_request_duration_seconds_count{code="5xx"}': "0+1x120"
    },
    "FlowOperatorFilesNearlyUsedUp": {'process_open_fds{job="flow-operator"}': "900x120"},
    "FlowManifestErrors": {"flow_operator_manifest_files_with_errors": "1x120"},
    "FlowManifestPruneHeld": {"flow_operator_manifest_held_flows": "4x120"},
    "FlowManifestFolderUnreadable": {"flow_operator_manifest_folder_unreadable": "1x120"},
    "FlowManifestFolderNotLookedAt": {
        "flow_operator_manifest_last_look_timestamp_seconds": "600x120"
    },
    "FlowStalled": {'flow_operator_flow_condition{condition="Stalled",flow="a"}': "1x120"},
    "FlowNotReady": {'flow_operator_flow_ready{flow="a"}': "0x120"},
    "FlowNotAsDesired": {'flow_operator_flow_condition{condition="Reconciling",flow="a"}': "1x120"},
    "FlowGenerationNotObserved": {'flow_operator_flow_generation{flow="a"}': "3x120"},
    "FlowRestartsOften": {'flow_operator_flow_restarts_total{flow="a"}': "0+1x120"},
    "FlowBackpressured": {
        'flow_operator_flow_condition{condition="Backpressured",flow="a"}': "1x120"
    },
    "FlowSilent": {'flow_operator_flow_condition{condition="Silent",flow="a"}': "1x120"},
    "FlowPipeUnheld": {'flow_operator_flow_condition{condition="PipeUnheld",flow="a"}': "1x120"},
    "FlowDrainsTimedOut": {'flow_operator_runs_ended_total{outcome="DrainTimedOut"}': "3x90 4x30"},
    "FlowRunsLost": {'flow_operator_runs_ended_total{outcome="Lost"}': "0x90 1x30"},
    "FlowStepsOutOfMemory": {'flow_operator_step_exits_total{reason="OOMKilled"}': "0x90 1x30"},
    "FlowLogsDropped": {"flow_operator_log_dropped_bytes_total": "0x90 4096x30"},
}
"""What has to go otherwise for each alert to be raised."""


def _case(name: str, troubles: dict[str, str]) -> dict[str, Any]:
    """Two hours in which nothing but one alert is raised; or none, without a trouble."""
    series = [
        {"series": _of_an_instance(key), "values": value}
        for key, value in {**QUIET, **troubles}.items()
    ]
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    raised = [{"labels": f'{{alertname="{name}"}}', "value": 1}] if troubles else []
    return {
        "name": name,
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{"expr": firing, "eval_time": "115m", "exp_samples": raised}],
    }


def _of_an_instance(series: str) -> str:
    """The same with the label that Prometheus gives it."""
    name, _, labels = series.partition("{")
    return f'{name}{{instance="here",{labels.removesuffix("}")}}}'.replace(",}", "}")


def test_each_alert_is_raised_by_what_it_is_for_and_by_nothing_else(root: Path) -> None:
    """Two hours of Prometheus for each, and two of peace."""
    assert TROUBLES.keys() == {rule["alert"] for rule in _rules()}
    cases = [_case("peace", {}), *(_case(name, trouble) for name, trouble in TROUBLES.items())]
    path = root / "alerts.test.yaml"
    given = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": cases}
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    _promtool("test", "rules", path)
