"""What only the whole of a Flow tells."""

from __future__ import annotations

from typing import Any

import pytest

from flow_operator.errors import InvalidError
from flow_operator.manifest import Document, load_manifest
from support import make_document, make_manifest

PROBE = {"tcpSocket": {"port": 80}}


def _faults(*steps: dict[str, Any], **spec: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidError) as caught:
        load_manifest(Document(make_document("demo", *steps, **spec)))
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


def _step(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "script": "x", **fields}


# --- exactly one of --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "pointer", "names"),
    [
        ({"name": "a"}, "", "command, script"),
        ({"name": "a", "script": "x", "command": ["y"]}, "", "command, script"),
        ({"name": "a", "script": None, "command": None}, "", "command, script"),
        (_step(env=[{"name": "A"}]), "/env/0", "value, valueFrom"),
        (
            _step(env=[{"name": "A", "value": "", "valueFrom": {"file": "f"}}]),
            "/env/0",
            "value, valueFrom",
        ),
        (_step(livenessProbe={}), "/livenessProbe", "exec, httpGet, tcpSocket, logLine"),
        (
            _step(startupProbe={**PROBE, "exec": {"command": ["x"]}}),
            "/startupProbe",
            "exec, httpGet, tcpSocket, logLine",
        ),
    ],
)
@pytest.mark.parametrize("also_wrong", [False, True])
def test_exactly_one_of_several_must_stand(step, pointer, names, also_wrong):
    """None and two are faults, alone or beside others."""
    found = _faults(step, **({"foo": 1} if also_wrong else {}))
    assert (f"/spec/steps/0{pointer}", f"must have exactly one of {names}") in found
    assert len(found) == 1 + also_wrong


@pytest.mark.parametrize(
    "step",
    [
        {"name": "a", "script": "x", "command": None},
        {"name": "a", "command": ["x"]},
        _step(env=[{"name": "A", "value": ""}]),
        _step(readinessProbe={**PROBE, "exec": None}),
    ],
)
def test_null_counts_as_left_out(step):
    """As in Kubernetes."""
    assert load_manifest(Document(make_document("demo", step))).flow.spec.steps


@pytest.mark.parametrize(
    ("steps", "spec", "pointer"),
    [
        ([_step(), _step()], {}, "/spec/steps/1/name"),
        ([_step(env=[{"name": "A", "value": "1"}] * 2)], {}, "/spec/steps/0/env/1/name"),
        ([{"name": "a", "command": [""]}], {}, "/spec/steps/0/command/0"),
        ([_step(livenessProbe={**PROBE, "period": "0s"})], {}, "/spec/steps/0/livenessProbe"),
        ([_step(livenessProbe={**PROBE, "timeout": 0})], {}, "/spec/steps/0/livenessProbe"),
        ([_step()], {"dependsOn": [{"name": "b"}, {"name": "demo"}]}, "/spec/dependsOn/1"),
        ([_step()], {"restart": {"backoff": {"initial": "6m"}}}, "/spec/restart/backoff"),
    ],
)
def test_parts_must_fit_together(steps, spec, pointer):
    """Names stand once, nothing depends on itself, times make sense."""
    assert [found for found, _ in _faults(*steps, **spec)] == [pointer]


def test_all_that_does_not_fit_together_is_told_at_once():
    """One fault does not hide another."""
    found = _faults(_step(), _step(), {"name": "b", "command": [""]}, dependsOn=[{"name": "demo"}])
    assert len(found) == 3


@pytest.mark.parametrize(
    "text", [{"script": "a\0b"}, {"command": ["a\0"]}, {"workingDir": "\0"}, {"script": ""}]
)
def test_text_that_no_process_can_be_given_is_refused(text):
    """NUL ends a C string."""
    assert (
        len(_faults({"name": "a", **({} if "workingDir" not in text else {"script": "x"}), **text}))
        == 1
    )


@pytest.mark.parametrize("name", ["A-B", "1A", "", "A=B", "A\n", "Ä"])
def test_names_of_variables_are_those_a_shell_knows(name):
    """Others cannot be used by scripts."""
    ((pointer, _),) = _faults(_step(env=[{"name": name, "value": "x"}]))
    assert pointer == "/spec/steps/0/env/0/name"


@pytest.mark.parametrize(
    ("step", "pointer", "said"),
    [
        (
            _step(livenessProbe={"logLine": {"pattern": "x"}}),
            "/livenessProbe/logLine",
            "use logLine in startupProbe or readinessProbe",
        ),
        (
            _step(readinessProbe={"logLine": {"pattern": "a(b"}}),
            "/readinessProbe/logLine/pattern",
            "'a(b' is no regular expression: missing ), unterminated subpattern at position 1",
        ),
        (
            _step(startupProbe={"logLine": {"pattern": "a{99999999999}"}}),
            "/startupProbe/logLine/pattern",
            "is no regular expression",
        ),
    ],
)
def test_a_log_line_probe_is_checked(step, pointer, said):
    """Its pattern is an expression, and liveness is nothing that a line can tell."""
    [(at, detail)] = _faults(step)
    assert at == f"/spec/steps/0{pointer}"
    assert said in detail


def test_a_log_has_room_for_a_block():
    """Less cannot be taken away."""
    [(at, detail)] = _faults({"name": "a", "script": "x"}, logs={"maxSize": "4095"})
    assert (at, detail) == ("/spec/logs/maxSize", "must be at least 4Ki")
    assert make_manifest("a", logs={"maxSize": "4Ki"}).flow.spec.logs.max_size.bytes == 4096


def test_a_silence_of_no_time_is_refused():
    """Every step would be silent at once."""
    [(at, detail)] = _faults({"name": "a", "script": "x"}, progress={"silenceTimeout": "0s"})
    assert at == "/spec/progress/silenceTimeout"
    assert "leave it out" in detail
