"""``apply``, and that what ``get`` prints can be applied."""

from __future__ import annotations

import json

import pytest
from stub_operator import manifest

GOOD = """\
metadata: {name: orders}
spec:
  steps:
    - {name: read, command: [cat]}
"""


@pytest.fixture
def file(tmp_path):
    """Writes a manifest; returns its path as text."""

    def write(content, name="flow.yaml"):
        path = tmp_path / name
        path.write_text(content)
        return str(path)

    return write


def test_new_flows_are_created_with_one_request(operator, flowctl, file):
    """All or none, so all in one array."""
    path = file(GOOD + "---\nflow_id: audit\nspec: {steps: [{name: a, script: 'true'}]}\n")
    result = flowctl("apply", "-f", path)
    assert result.exit_code == 0
    assert result.stdout == "flow/orders created\nflow/audit created\n"
    [(path, _, body)] = operator.asked("POST")
    assert path == "/flows"
    assert [flow["metadata"]["name"] for flow in body] == ["orders", "audit"]


def test_only_what_differs_is_sent_again(operator, flowctl, file):
    """A second apply changes nothing; an edited flow is replaced whole."""
    path = file(GOOD)
    flowctl("apply", "-f", path)
    assert flowctl("apply", "-f", path).stdout == "flow/orders unchanged\n"
    assert operator.asked("PUT") == []
    file(GOOD.replace("[cat]", "[cat, -n]"))
    assert flowctl("apply", "-f", path).stdout == "flow/orders configured\n"
    [(_, _, body)] = operator.asked("PUT")
    assert body["spec"]["steps"][0]["command"] == ["cat", "-n"]


def test_a_manifest_without_a_state_leaves_the_state_alone(operator, flowctl, file):
    """A flow that was stopped by command stays stopped, and is no difference by itself."""
    path = file(GOOD)
    flowctl("apply", "-f", path)
    operator.flows["orders"]["spec"]["state"] = "stopped"
    assert flowctl("apply", "-f", path).stdout == "flow/orders unchanged\n"
    file(GOOD + "  replicas: 2\n")
    flowctl("apply", "-f", path)
    assert operator.flows["orders"]["spec"]["state"] == "stopped"
    file(GOOD + "  state: running\n")
    flowctl("apply", "-f", path)
    assert operator.flows["orders"]["spec"]["state"] == "running"


def test_a_dry_run_tells_what_would_happen_to_processes(operator, flowctl, file):
    """The operator is asked, and asked to write nothing."""
    operator.flows = {"orders": manifest("orders"), "same": manifest("same")}
    path = file(GOOD + "---\nflow_id: audit\nspec: {steps: [{name: a, script: 'true'}]}\n")
    same = file(json.dumps(manifest("same")), "same.json")
    before = dict(operator.flows)
    result = flowctl("apply", "--dry-run", "--force", "-f", path, "-f", same)
    assert result.stdout.splitlines() == [
        "flow/audit created (dry run: start)",
        "flow/orders configured (dry run: restart)",
        "flow/same unchanged (dry run: none)",
    ]
    writes = [(verb, path, query) for verb, path, query, _ in operator.requests if verb != "GET"]
    assert writes == [
        ("POST", "/flows", {"dryRun": "All"}),
        ("PUT", "/flows/orders", {"dryRun": "All", "force": "true"}),
    ]
    assert operator.flows == before


def test_a_dry_run_is_refused_as_the_real_one_would_be(operator, flowctl, file):
    """With the exit code of a refusal, and its place."""
    fault = {"pointer": "/spec/steps", "detail": "too many", "line": None, "column": None}
    operator.flows = {"orders": manifest("orders")}
    operator.answers["PUT /flows/orders"] = operator.problem(400, "no", [fault])
    path = file(GOOD)
    result = flowctl("apply", "--dry-run", "-f", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{path}:4:5: /spec/steps: too many\n" in result.stderr


def test_everything_wrong_is_told_with_its_place_and_nothing_is_sent(operator, flowctl, file):
    """Exit code 2, one line for each fault, over all files."""
    first = file("metadata: {name: orders}\nspec:\n  step: []\n", "a.yaml")
    second = file("metadata: {name: x}\n\tspec: {}\n", "b.yaml")
    third = file(GOOD, "c.yaml")
    result = flowctl("apply", "-f", first, "-f", second, "-f", third)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert any(
        line.startswith(f"{first}:3:9: /spec/step: unknown key 'step'; did you mean 'steps'?")
        for line in lines
    )
    assert any(line.startswith(f"{second}:2:1: not valid YAML") for line in lines)
    assert result.stdout == ""
    assert operator.requests == []


def test_one_flow_in_two_files_is_refused(flowctl, file):
    """Which of them to believe is not for us to say."""
    result = flowctl("apply", "-f", file(GOOD, "a.yaml"), "-f", file(GOOD, "b.yaml"))
    assert result.exit_code == 2
    assert "b.yaml:1:18: /metadata/name: the flow 'orders' stands twice" in result.stderr


def test_a_directory_means_its_own_manifests(flowctl, file, tmp_path):
    """By name, without dot files, other files and what is below."""
    file(GOOD, "b.yml")
    file(json.dumps(manifest("from-json")), "a.json")
    file("not: a flow", ".hidden.yaml")
    file("not: a flow", "notes.txt")
    (tmp_path / "below.yaml").mkdir()
    result = flowctl("apply", "-f", str(tmp_path))
    assert result.stdout == "flow/from-json created\nflow/orders created\n"


def test_stdin_is_a_manifest(flowctl):
    """``-f -`` reads it; its faults are placed in <stdin>."""
    assert flowctl("apply", "-f", "-", input=GOOD).stdout == "flow/orders created\n"
    result = flowctl("apply", "-f", "-", input="metadata: {name: x}\n")
    assert result.exit_code == 2
    assert "<stdin>:1:1: 'spec' is missing" in result.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "there is no flow in"),
        ("# only a comment\n", "there is no flow in"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_without_flows_is_refused(flowctl, file, tmp_path, content, said):
    """Applying nothing is a mistake in a script, not success."""
    path = str(tmp_path / "missing.yaml") if content is None else file(content)
    result = flowctl("apply", "-f", path)
    assert result.exit_code == 2
    assert said in result.stderr
    assert path in result.stderr


def test_text_that_is_not_utf8_is_refused(flowctl, tmp_path):
    """With the byte, as there are no lines to speak of."""
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"metadata: {name: caf\xe9}\n")
    result = flowctl("apply", "-f", str(path))
    assert result.exit_code == 2
    assert result.stderr == f"{path}: not valid UTF-8 at byte 20: save it as UTF-8\n"


def test_a_refusal_of_the_operator_is_placed_in_the_users_file(operator, flowctl, file):
    """Its pointer counts within the array that was sent; the user sees file and line."""
    fault = {"pointer": "/1/spec/steps", "detail": "too many", "line": None, "column": None}
    operator.answers["POST /flows"] = operator.problem(400, "/1/spec/steps: too many", [fault])
    path = file(GOOD + "---\nflow_id: audit\nspec: {steps: [{name: a, script: 'true'}]}\n")
    result = flowctl("apply", "-f", path)
    assert result.exit_code == 1
    assert result.stderr == f"{path}:7:15: /spec/steps: too many\n"
    assert result.stdout == ""


def test_one_flow_that_is_refused_does_not_keep_the_others(operator, flowctl, file):
    """A flow that a file owns is a conflict; the rest is applied, and the exit code is 1."""
    operator.flows = {"orders": manifest("orders"), "audit": manifest("audit")}
    operator.answers["PUT /flows/orders"] = operator.problem(409, "orders.yaml owns it")
    path = file(GOOD + "---\nflow_id: audit\nspec: {steps: [{name: a, script: 'true'}]}\n")
    result = flowctl("apply", "-f", path)
    assert result.exit_code == 1
    assert result.stdout == "flow/audit configured\n"
    assert result.stderr == "Error: orders.yaml owns it\n"


def test_force_takes_a_flow_over(operator, flowctl, file):
    """It is passed on to the operator."""
    operator.flows["orders"] = manifest("orders")
    flowctl("apply", "--force", "-f", file(GOOD))
    assert operator.asked("PUT")[0][1] == {"force": "true"}


@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize("names", [(), ("orders",)])
def test_what_get_prints_can_be_applied_unchanged(operator, flowctl, form, names):
    """Round trip, with text that YAML 1.1 or a careless dumper would change."""
    for name in ("orders", "audit"):
        operator.flows[name] = manifest(name, description="no: #1\n\u00fc  \n")
        operator.flows[name]["metadata"]["annotations"] = {"on": "0x10", "n": [1, 1.5, None, True]}
    printed = flowctl("get", *names, "-o", form).stdout
    result = flowctl("apply", "-f", "-", input=printed)
    assert result.exit_code == 0
    expected = names or ("audit", "orders")
    assert result.stdout == "".join(f"flow/{name} unchanged\n" for name in expected)
