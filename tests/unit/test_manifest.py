"""From text to a checked Manifest: names, extensions, places, every fault at once."""

from __future__ import annotations

import pytest

from flow_operator.errors import InvalidError
from flow_operator.manifest import Document, SourceText, load_manifest, load_manifests, parse_json

GOOD = """\
apiVersion: flow-operator.dev/v1
kind: Flow
metadata:
  name: orders
spec:
  steps:
    - {name: read, command: [cat]}
"""


def _load(text: str):
    (manifest,) = load_manifests(SourceText(text, "orders.yaml"))
    return manifest


def _faults(text: str):
    with pytest.raises(InvalidError) as caught:
        load_manifests(SourceText(text, "orders.yaml"))
    return caught.value.faults


def _told(text: str) -> list[str]:
    return [str(fault) for fault in _faults(text)]


# --- what may be left out --------------------------------------------------------------------


@pytest.mark.parametrize("left_out", ["apiVersion: flow-operator.dev/v1\n", "kind: Flow\n"])
def test_api_version_and_kind_may_be_left_out(left_out):
    """What is given back has them."""
    assert _load(GOOD.replace(left_out, "")) == _load(GOOD)


def test_flow_id_may_stand_for_the_name():
    """And does not come back in the document, whose name is in its metadata."""
    text = GOOD.replace("metadata:\n  name: orders", "flow_id: orders")
    assert _load(text).flow.flow_id == "orders"
    assert _load(text).document["metadata"] == {"name": "orders"}
    assert "flow_id" not in _load(text).document


def test_flow_id_and_name_may_both_stand_if_they_agree():
    """Labels beside the name are kept."""
    assert _load(GOOD + "flow_id: orders\n") == _load(GOOD)
    text = GOOD.replace("  name: orders", "  labels: {a: b}") + "flow_id: orders\n"
    assert _load(text).flow.metadata.labels == {"a": "b"}


def test_flow_id_and_name_must_not_disagree():
    """The fault stands at ``flow_id`` and names both."""
    assert _told("flow_id: other\n" + GOOD) == [
        "orders.yaml:1:10: /flow_id: 'other' and metadata.name 'orders' disagree; leave one out"
    ]


@pytest.mark.parametrize("value", ["7", "null", "[a]", "true"])
def test_flow_id_must_be_text(value):
    """Whatever else it is, the fault stands at it."""
    faults = _faults(f"flow_id: {value}\n" + GOOD)
    assert [(f.pointer, f.line, f.column) for f in faults] == [("/flow_id", 1, 10)]


def test_what_the_user_wrote_is_what_is_given_back():
    """Defaults are not filled in; extension keys and the order of keys are kept."""
    text = GOOD + "  x-note: {a: 1}\n  description: d\nx-top: [1]\n"
    document = _load(text).document
    assert list(document) == ["apiVersion", "kind", "metadata", "spec", "x-top"]
    assert document["spec"] == {
        "steps": [{"name": "read", "command": ["cat"]}],
        "x-note": {"a": 1},
        "description": "d",
    }


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a--b", "7up", "a" * 52])
def test_names_are_dns_labels(name):
    """Of 52 characters at most."""
    assert _load(GOOD.replace("orders", f'"{name}"')).flow.flow_id == name


@pytest.mark.parametrize(
    "name", ["", "a" * 53, "-a", "a-", "-", "A", "a_b", "a.b", "a b", "ä", "a/b", "../a", "a\\n"]
)
def test_other_names_are_refused(name):
    """They would not do as a path, a file or a Kubernetes name."""
    (fault,) = _faults(GOOD.replace("orders", f'"{name}"'))
    assert (fault.pointer, fault.line, fault.column) == ("/metadata/name", 4, 9)
    assert "52 at most" in fault.detail


@pytest.mark.parametrize("name", ["status", "commands"])
def test_names_of_routes_are_refused(name):
    """``/flows/status`` is not a flow."""
    (fault,) = _faults(GOOD.replace("orders", name))
    assert fault.pointer == "/metadata/name"
    assert "route" in fault.detail


def test_a_name_must_not_stand_twice_in_one_text():
    """The fault is told at the second one."""
    (fault,) = _faults(GOOD + "---\n" + GOOD)
    assert fault.detail == "the flow 'orders' stands twice: leave one out"
    assert (fault.pointer, fault.line) == ("/metadata/name", 12)


def test_a_name_that_looks_like_a_number_must_be_quoted():
    """YAML reads it as one."""
    (fault,) = _faults(GOOD.replace("orders", "007"))
    assert fault.detail == "must be text, not the number 7"


def test_a_pattern_that_is_no_expression_is_told_with_its_place():
    """What is wrong with it, and where in the file."""
    bad = GOOD.replace("[cat]}", "[cat], readinessProbe: {logLine: {pattern: '*'}}}")
    [told] = _told(bad)
    place, _, said = told.partition(": '*' ")
    assert place == "orders.yaml:7:72: /spec/steps/0/readinessProbe/logLine/pattern"
    assert said == "is no regular expression: nothing to repeat at position 0"


# --- unknown keys ----------------------------------------------------------------------------


def test_an_unknown_key_is_an_error_with_a_suggestion():
    """A typing mistake must not silently mean the default."""
    assert _told(GOOD + "  restrat: {}\n") == [
        "orders.yaml:8:12: /spec/restrat: unknown key 'restrat'; did you mean 'restart'?"
    ]


def test_an_unknown_key_that_resembles_none_lists_the_known_ones():
    """So that nobody has to look them up."""
    (told,) = _told(GOOD + "  stop: {qqq: 1}\n")
    assert told.endswith("unknown key 'qqq'; known here: signal, mode, timeout")


@pytest.mark.parametrize("where", ["x-a: 1\n", "  x-a: {b: [1]}\n", "  stop: {x-a: null, x-: 1}\n"])
def test_extension_keys_are_let_through(where):
    """``x-`` keys are the user's own, at every level."""
    assert _load(GOOD + where).flow == _load(GOOD).flow


def test_extension_keys_are_let_through_within_lists():
    """In steps as well."""
    text = GOOD.replace("{name: read,", "{x-a: {nested: true}, name: read,")
    assert _load(text).flow == _load(GOOD).flow


def test_annotations_hold_anything():
    """Also keys and values that would be errors elsewhere."""
    text = GOOD.replace("  name: orders", "  name: orders\n  annotations: {x-a: 1, b: {c: []}}")
    assert _load(text).flow.metadata.annotations == {"x-a": 1, "b": {"c": []}}


def test_labels_are_kept_whole():
    """Their keys are the user's own, so none of them is an extension of ours."""
    text = GOOD.replace("  name: orders", "  name: orders\n  labels: {x-team: a, b: c}")
    assert _load(text).flow.metadata.labels == {"x-team": "a", "b": "c"}


# --- every fault at once ---------------------------------------------------------------------

BAD = """\
kind: Flows
metadata: {name: Orders}
spec:
  state: runing
  replicas: 0
  steps:
    - name: read
      comand: [cat]
    - name: write
      command: []
      script: x
      env:
        - {name: 1A, value: x}
        - {name: B, value: x, valueFrom: {file: y}}
  stop:
    timeout: 5 minutes
    signal: TERM
  restart: {backoff: {factor: 0.5, jitter: yes}}
"""


def test_everything_that_is_wrong_is_told_at_once_with_its_place():
    """File, line, column and pointer of each."""
    found = {(f.pointer, f.line, f.column) for f in _faults(BAD)}
    assert found == {
        ("/kind", 1, 7),
        ("/metadata/name", 2, 18),
        ("/spec/replicas", 5, 13),
        ("/spec/restart/backoff/factor", 18, 31),
        ("/spec/restart/backoff/jitter", 18, 44),
        ("/spec/state", 4, 10),
        ("/spec/steps/0", 7, 7),
        ("/spec/steps/0/comand", 8, 15),
        ("/spec/steps/1", 9, 7),
        ("/spec/steps/1/command", 10, 16),
        ("/spec/steps/1/env/0/name", 13, 18),
        ("/spec/steps/1/env/1", 14, 11),
        ("/spec/stop/signal", 17, 13),
        ("/spec/stop/timeout", 16, 14),
    }
    assert all(fault.file == "orders.yaml" for fault in _faults(BAD))


def test_faults_say_what_would_be_right():
    """Each sentence names the wrong value and the right ones."""
    told = "\n".join(_told(BAD))
    for sentence in (
        "/spec/state: must be one of ",
        "/spec/replicas: must be at least 1, not 0",
        "/spec/steps/0/comand: unknown key 'comand'; did you mean 'command'?",
        "/spec/steps/0: must have exactly one of command, script",
        "/spec/steps/1/command: must not be empty",
        "/spec/restart/backoff/jitter: must be a number, not the text 'yes'",
        "/spec/stop/timeout: '5 minutes' does not fit: A duration",
    ):
        assert sentence in told


def test_the_faults_of_all_documents_are_told():
    """One bad document does not hide the next."""
    text = GOOD.replace("orders", "A") + "---\n" + GOOD.replace("steps", "step")
    faults = _faults(text)
    assert {fault.line for fault in faults} >= {4, 14}


def test_a_fault_that_only_the_parser_sees_is_told_with_the_others():
    """A duration that is out of range, beside a key that is unknown."""
    pointers = [f.pointer for f in _faults(GOOD + "  stop: {timeout: 9999d}\n  foo: 1\n")]
    assert pointers == ["/spec/foo", "/spec/stop/timeout"]


def test_a_duration_out_of_range_has_its_place():
    """Although the schema cannot say it."""
    (told,) = _told(GOOD + "  stop:\n    timeout: 9999d\n")
    assert told == (
        "orders.yaml:9:14: /spec/stop/timeout: '9999d' is out of range: it must be from 0s to 3650d"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "a Flow must be an object (a mapping), not a list"),
        ("just text\n", "a Flow must be an object (a mapping), not the text 'just text'"),
        ("5\n", "a Flow must be an object (a mapping), not the number 5"),
    ],
)
def test_a_document_that_is_no_object_is_no_flow(text, said):
    """Whatever else it is."""
    assert [fault.detail for fault in _faults(text)] == [said]


@pytest.mark.parametrize("key", ["metadata", "spec", "apiVersion", "kind"])
@pytest.mark.parametrize("value", ["null", "[]", "text", "7"])
def test_any_part_may_be_of_the_wrong_kind(key, value):
    """It is told, never a crash."""
    lines = [f"{key}: {value}"]
    lines += [] if key == "metadata" else ["metadata: {name: a}"]
    lines += [] if key == "spec" else ["spec: {steps: [{name: a, script: x}]}"]
    (fault,) = _faults("\n".join(lines))
    assert fault.pointer == f"/{key}"


def test_the_same_faults_are_found_in_json_without_places():
    """REST bodies have pointers only."""
    with pytest.raises(InvalidError) as caught:
        load_manifest(Document(parse_json(b'{"flow_id": "a", "spec": {"steps": [], "foo": 1}}')))
    assert [(f.pointer, f.line, f.file) for f in caught.value.faults] == [
        ("/spec/foo", None, None),
        ("/spec/steps", None, None),
    ]


def test_the_number_of_faults_is_bounded():
    """A document of nothing but mistakes makes no endless answer."""
    text = GOOD + "".join(f"  bad{n}: 1\n" for n in range(500))
    assert len(_faults(text)) <= 60
