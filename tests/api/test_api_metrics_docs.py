"""docs/metrics.md, the dashboard and the alerts speak of metrics that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest

from scrapes import Scrape, make_status, make_step
from support import ROOT, make_document, require

DOCS = ROOT / "docs"
OWN = "flow_operator_"
STANDARD = ("process_", "python_")
"""What every program tells that uses the library."""

_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.+) \|$", re.MULTILINE)


@pytest.fixture
def told(api: Any) -> Scrape:
    """A scrape in which every family has a sample."""
    api.client.send("POST", "/flows", [make_document("a", "x", "y")]).close()
    steps = (make_step(), make_step(name="s1"))
    api.board.publish(make_status("a", steps=steps))
    api.board.record("a", "Launching", "")
    return Scrape(api.client.get("/metrics").read().decode())


def _rows(told: Scrape) -> dict[str, str]:
    """What must stand in the tables, by name."""
    rows = {}
    for family in told.families:
        if not family.name.startswith(OWN):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        listed = ", ".join(f"`{label}`" for label in sorted(labels))
        rows[name] = f"| `{name}` | {family.type} | {listed} | {family.documentation} |"
    return rows


def test_every_metric_is_documented_as_it_is(told):
    """Its type, its labels and what it says of itself; and none that there is not."""
    text = (DOCS / "metrics.md").read_text()
    written = {match.group(1): match.group(0) for match in _ROW.finditer(text)}
    needed = _rows(told)
    wrong = [row for name, row in needed.items() if written.get(name) != row]
    assert not wrong, "docs/metrics.md lacks:\n" + "\n".join(wrong)
    assert written.keys() == needed.keys()


def test_names_follow_the_conventions_of_prometheus(told):
    """Base units, and a suffix for what only grows."""
    for family in told.families:
        if family.name.startswith(OWN):
            assert not re.search(r"_(ms|millis|kb|mb|minutes|percent)(_|$)", family.name)
            assert family.documentation.endswith("."), family.name
            assert family.type in {"gauge", "counter", "histogram"}, family.name


def test_promtool_has_nothing_to_say(told):
    """The linter of Prometheus itself."""
    promtool = shutil.which("promtool")
    require(None if promtool else "promtool is not installed")
    done = subprocess.run(
        [str(promtool), "check", "metrics"],
        input=told.text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- expressions -----------------------------------------------------------------------------


def _selectors(node: Any) -> Iterator[tuple[str, set[str]]]:
    """Every (metric, labels that are matched) of a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        assert node.name, "a selector without a name"
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
    parts = [
        getattr(node, part, None) for part in ("expr", "lhs", "rhs", "vector_selector", "param")
    ]
    for child in [*parts, *(getattr(node, "args", None) or ())]:
        if child is not None:
            yield from _selectors(child)


def _check(expression: str, told: Scrape) -> None:
    """Every metric of it is there, and has the labels that are matched."""
    for variable, value in {"$__rate_interval": "5m", "$__range": "1h"}.items():
        expression = expression.replace(variable, value)
    known: dict[str, set[str]] = {}
    for name, labels in told.series():
        known.setdefault(name, {"job", "instance"}).update(dict(labels))
    found = list(_selectors(promql_parser.parse(expression)))
    assert found, expression
    for name, labels in found:
        assert name in known or name == "up", f"{expression}: there is no {name}"
        assert labels <= known.get(name, {"job", "instance"}), f"{expression}: {labels}"


def test_a_name_or_label_that_is_not_there_is_found(told):
    """The check itself: deep in an expression, too."""
    _check(
        "histogram_quantile(0.99, sum by (le) (rate(flow_operator_store_commit_duration_seconds"
        "_bucket[5m]))) > 1 and on () flow_operator_ready == 1",
        told,
    )
    for wrong in (
        "sum(rate(flow_operator_nonsense_total[5m])) > 0",
        "1 - flow_operator_nonsense",
        "topk(3, max by (flow) (flow_operator_nonsense))",
        'flow_operator_flows{state="running"}',
    ):
        with pytest.raises(AssertionError):
            _check(wrong, told)
