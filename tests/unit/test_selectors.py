"""Selectors of labels and fields."""

from __future__ import annotations

import pytest

from flow_operator.api.selectors import field_selector, label_selector
from flow_operator.errors import InvalidError
from flow_operator.model.status import Condition, FlowStatus, Source

LABELS = {"team": "payments", "app.kubernetes.io/tier": "gold", "empty": ""}

HOLDS = [
    "team=payments",
    "team==payments",
    "team = payments",
    "team!=search",
    "other!=payments",
    "team in (search, payments)",
    "team in (payments),team",
    "team notin (search,data)",
    "other notin (search)",
    "team",
    "!other",
    "! other",
    "empty=",
    "empty in ()",
    "app.kubernetes.io/tier=gold,team=payments",
]
FAILS = [
    "team=search",
    "other=payments",
    "team!=payments",
    "team in (search, data)",
    "other in (payments)",
    "team notin (payments)",
    "!team",
    "other",
    "team=payments,other",
    "empty!=",
    "team=",
]
FAULTY = [
    *("=", "team=a=b", "team in payments", "team in (a", "in (a)"),
    *(",", "team,", "te am", "*", "-a"),
]


@pytest.mark.parametrize("text", HOLDS)
def test_labels_that_are_selected(text: str) -> None:
    """As Kubernetes reads it; what lacks a label differs from every value of it."""
    assert label_selector(text).labels(LABELS)


@pytest.mark.parametrize("text", FAILS)
def test_labels_that_are_not_selected(text: str) -> None:
    """Every part must hold."""
    assert not label_selector(text).labels(LABELS)


@pytest.mark.parametrize("text", FAULTY)
def test_what_is_no_selector(text: str) -> None:
    """It is refused with what would be right, never taken for everything or nothing."""
    with pytest.raises(InvalidError, match="cannot be read; write KEY=VALUE"):
        label_selector(text)


def _status() -> FlowStatus:
    return FlowStatus(
        flow_id="demo",
        uid="",
        status="running",
        desired="paused",
        generation=1,
        observed_generation=1,
        restarts=0,
        replicas=1,
        ready_replicas=1,
        started_at=None,
        message="",
        source=Source("file", "a.yaml"),
        conditions=(Condition("Ready", "True", "Ready", "", ""),),
        steps=(),
    )


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("status=running", True),
        ("status!=running", False),
        ("status=running,desired!=running", True),
        ("metadata.name=demo", True),
        ("flow_id=other", False),
        ("source.kind=file,source.file=a.yaml", True),
        ("ready=True", True),
        ("stalled=Unknown", True),
    ],
)
def test_fields(text: str, holds: bool) -> None:
    """Fields of the status; a condition that is not told is Unknown."""
    assert field_selector(text).fields(_status()) is holds


@pytest.mark.parametrize("text", ["status", "status in (a)", "pid=1", "", "status=a=b"])
def test_what_is_no_field_selector(text: str) -> None:
    """It is refused, and the fields are named."""
    with pytest.raises(InvalidError, match="field selector: "):
        field_selector(text)
