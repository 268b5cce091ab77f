"""The JSON Schema: published, valid, and of one mind with the parser."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest

from flow_operator.errors import InvalidError
from flow_operator.manifest import Document, load_manifest
from flow_operator.model.schema import flow_schema
from support import ROOT

PUBLISHED = ROOT / "docs" / "flow.schema.json"

BASE: dict[str, Any] = {
    "metadata": {"name": "demo"},
    "spec": {"steps": [{"name": "a", "script": "x"}]},
}

_MISSING = object()


def test_the_published_schema_is_the_models():
    """Editors complete what the operator takes."""
    printed = subprocess.run(
        [sys.executable, "-m", "flow_operator.model.schema"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert PUBLISHED.exists(), "docs/flow.schema.json is missing: run `make schema`"
    assert PUBLISHED.read_text() == printed, "docs/flow.schema.json is old: run `make schema`"


def test_the_schema_is_a_schema():
    """Valid in the dialect that it names, and every reference leads somewhere."""
    schema = flow_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    named = set(schema["$defs"])
    assert {ref.rpartition("/")[2] for ref in _references(schema)} <= named


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [ref for inner in value for ref in _references(inner)]
    if not isinstance(value, dict):
        return []
    found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return found + [ref for inner in value.values() for ref in _references(inner)]


def test_every_key_that_may_be_left_out_has_its_default_in_the_schema():
    """Documentation comes from here."""
    for name, definition in flow_schema()["$defs"].items():
        for key, described in definition["properties"].items():
            required = key in definition.get("required", ())
            assert required != ("default" in described), f"{name}.{key}"


def test_every_field_says_what_it_means():
    """Editors and ``flowctl explain`` show it; it comes from the docstring of the Struct."""
    for name, definition in flow_schema()["$defs"].items():
        assert definition["description"], name
        for key, described in definition["properties"].items():
            assert len(described.get("description", "")) > len("of it."), f"{name}.{key}"


def test_a_hint_tells_how_a_value_is_written_and_not_what_it_means():
    """What does not fit is told with what would."""
    wrong = copy.deepcopy(BASE)
    wrong["metadata"]["name"] = "A_b"
    with pytest.raises(InvalidError) as refused:
        load_manifest(Document(wrong))
    said = "'A_b' does not fit: Lower-case letters, digits and '-'; 52 at most."
    assert refused.value.faults[0].detail == said


def test_defaults_are_themselves_valid():
    """What stands as a default may be written out."""
    schema = json.loads(json.dumps(flow_schema()))
    for name, definition in schema["$defs"].items():
        for key, described in definition["properties"].items():
            if "default" in described:
                part = jsonschema.Draft202012Validator({**described, "$defs": schema["$defs"]})
                assert part.is_valid(described["default"]), f"{name}.{key}"


def _with(path: str, value: Any) -> dict[str, Any]:
    """The base document with another value at a pointer."""
    document = copy.deepcopy(BASE)
    *parents, last = path.strip("/").split("/")
    here: Any = document
    for token in parents:
        here = here[int(token)] if isinstance(here, list) else here.setdefault(token, {})
    if value is _MISSING:
        del here[last]
    else:
        here[last] = value
    return document


STEP = "/spec/steps/0"

GOOD = [
    ("/x-any", {"a": [1]}),
    ("/apiVersion", "flow-operator.dev/v1"),
    ("/metadata/name", "a" * 52),
    ("/metadata/labels", {"a": "b"}),
    ("/metadata/annotations", {"a": {"b": [None, 1.5]}}),
    ("/metadata/x-a", None),
    ("/spec/replicas", 1000),
    ("/spec/description", "é\n\u2028"),
    ("/spec/stop", {"timeout": "1h30m", "mode": "signal", "signal": "SIGKILL"}),
    ("/spec/stop/timeout", 1.5),
    ("/spec/stop/timeout", 0),
    ("/spec/restart", {"backoff": {"factor": 1, "jitter": 1}, "maxRestarts": None}),
    ("/spec/restart/maxRestarts", 0),
    ("/spec/dependsOn", [{"name": "b", "condition": "Ready"}]),
    (f"{STEP}/successExitCodes", [0, 255]),
    (f"{STEP}/command", None),
    (f"{STEP}/env", [{"name": "_A1", "value": ""}]),
    (f"{STEP}/env", [{"name": "A", "valueFrom": {"file": "f"}}]),
    (f"{STEP}/resources", {"limits": {"openFiles": 16}}),
    (f"{STEP}/livenessProbe", {"httpGet": {"port": 1, "path": "/a?b=c"}}),
    (f"{STEP}/livenessProbe", {"exec": {"command": ["true"]}, "period": "1s"}),
    (f"{STEP}/livenessProbe", None),
    (f"{STEP}/readinessProbe", {"logLine": {"pattern": "^ready$"}}),
    ("/spec/progress", {}),
    ("/spec/progress", {"silenceTimeout": None, "action": "Restart"}),
    ("/spec/progress", {"silenceTimeout": "90s"}),
]

BAD = [
    ("/any", 1),
    ("/apiVersion", "v2"),
    ("/kind", None),
    ("/metadata", []),
    ("/metadata/name", _MISSING),
    ("/metadata/name", "a" * 53),
    ("/metadata/name", "a\n"),
    ("/metadata/name", ""),
    ("/metadata/labels", {"a": 1}),
    ("/metadata/labels", {"x-a": 1}),
    ("/metadata/labels", None),
    ("/spec", _MISSING),
    ("/spec/steps", []),
    ("/spec/steps", {}),
    ("/spec/steps", [{"name": f"s{n}", "script": "x"} for n in range(65)]),
    ("/spec/replicas", 0),
    ("/spec/replicas", 1001),
    ("/spec/replicas", 1.5),
    ("/spec/replicas", True),
    ("/spec/replicas", "1"),
    ("/spec/state", "Running"),
    ("/spec/description", "\0"),
    ("/spec/description", None),
    ("/spec/stop/timeout", "5"),
    ("/spec/stop/timeout", "5s\n"),
    ("/spec/stop/timeout", -1),
    ("/spec/stop/timeout", None),
    ("/spec/stop/timeout", True),
    ("/spec/stop/signal", "TERM"),
    ("/spec/restart/backoff", {"factor": 0.9}),
    ("/spec/restart/backoff", {"factor": 11}),
    ("/spec/restart/maxRestarts", -1),
    ("/spec/restart/x", 1),
    ("/spec/dependsOn", [{"name": "B"}]),
    ("/spec/progress", None),
    ("/spec/progress", {"silenceTimeout": "soon"}),
    ("/spec/progress", {"action": "Stop"}),
    (f"{STEP}/readinessProbe", {"logLine": {}}),
    (f"{STEP}/readinessProbe", {"logLine": {"pattern": ""}}),
    (f"{STEP}/readinessProbe", {"logLine": {"pattern": "x" * 1025}}),
    (f"{STEP}/readinessProbe", {"logLine": {"pattern": "x"}, "tcpSocket": {"port": 1}}),
    (f"{STEP}/script", _MISSING),
    (f"{STEP}/script", ""),
    (f"{STEP}/script", 5),
    (f"{STEP}/command", ["x"]),
    (f"{STEP}/successExitCodes", []),
    (f"{STEP}/successExitCodes", [256]),
    (f"{STEP}/env", [{"name": "A", "value": 1}]),
    (f"{STEP}/env", [{"name": "A"}]),
    (f"{STEP}/env", {"A": "b"}),
    (f"{STEP}/resources", {"limits": {"openFiles": 15}}),
    (f"{STEP}/livenessProbe", {}),
    (f"{STEP}/livenessProbe", {"httpGet": {"port": 0}}),
    (f"{STEP}/livenessProbe", {"httpGet": {"port": 1, "path": "a"}}),
    (f"{STEP}/livenessProbe", {"tcpSocket": {"port": 65536}}),
    (f"{STEP}/livenessProbe", {"tcpSocket": {"port": 1}, "failureThreshold": 0}),
]


@pytest.mark.parametrize(
    ("path", "value", "good"), [(*row, True) for row in GOOD] + [(*row, False) for row in BAD]
)
def test_the_schema_and_the_parser_are_of_one_mind(path, value, good):
    """What an editor accepts is accepted, and what it marks is refused."""
    document = _with(path, value)
    by_schema = jsonschema.Draft202012Validator(flow_schema()).is_valid(document)
    assert (by_schema, _loads(document)) == (good, good)


def _loads(document: dict[str, Any]) -> bool:
    try:
        load_manifest(Document(document))
    except InvalidError:
        return False
    return True
