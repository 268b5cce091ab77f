"""What needs no operator: ``validate`` and ``explain``."""

from __future__ import annotations

import pytest

GOOD = "metadata: {name: %s}\nspec: {steps: [{name: a, script: 'true'}]}\n"


@pytest.fixture
def alone(flowctl, nobody):
    """The command line, where no operator is."""

    def run(*args, **options):
        return flowctl("--url", nobody, *args, **options)

    return run


def test_manifests_are_checked_without_an_operator(alone, tmp_path):
    """Files, directories and stdin; each flow is named with its file."""
    (tmp_path / "a.yaml").write_text(GOOD % "a" + "---\n" + GOOD % "b")
    (tmp_path / "c.json").write_text(
        '{"flow_id": "c", "spec": {"steps": [{"name": "a", "script": "x"}]}}'
    )
    result = alone("validate", str(tmp_path), "-", input=GOOD % "d")
    assert result.exit_code == 0
    a, c = tmp_path / "a.yaml", tmp_path / "c.json"
    assert result.stdout.splitlines() == [
        f"flow/a valid ({a})",
        f"flow/b valid ({a})",
        f"flow/c valid ({c})",
        "flow/d valid (<stdin>)",
    ]


def test_what_is_wrong_is_printed_as_compilers_do(alone, tmp_path):
    """File, line and column of each fault, over all files; exit code 2."""
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    second.write_text("metadata: {name: b}\nspec: [\n")
    first.write_text("metadata: {name: a}\nspec:\n  stop: {mod: drain}\n  steps: []\n")
    result = alone("validate", str(first), "-f", str(second))
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    unknown = f"{first}:3:15: /spec/stop/mod: unknown key 'mod'; did you mean 'mode'?"
    assert unknown in lines
    assert f"{first}:4:10: /spec/steps: must not be empty" in lines
    assert any(line.startswith(f"{second}:3:1: ") for line in lines)


def test_validating_nothing_is_a_usage_error(alone):
    """It says what may be named."""
    result = alone("validate")
    assert result.exit_code == 2
    assert "files, directories, or - for stdin" in result.stderr


# --- explain -----------------------------------------------------------------------------------


def test_a_field_is_explained_from_the_schema(alone):
    """Type, default, what it may be, and what it means."""
    text = alone("explain", "spec.stop.mode").stdout
    assert text.splitlines()[:3] == [
        "FIELD:    spec.stop.mode <text>",
        "DEFAULT:  drain",
        "ALLOWED:  drain, signal",
    ]
    text = alone("explain", "spec.stop").stdout
    assert "How a soft stop goes" in text
    assert "timeout" in text
    assert "default 30s" in text


@pytest.mark.parametrize(
    "path",
    ["spec.steps.env", "spec/steps/0/env", "flow.spec.steps[0].env", ".spec.steps[].env"],
)
def test_a_path_may_be_written_in_any_usual_way(alone, path):
    """Dots, slashes as in errors, with or without indices."""
    assert alone("explain", path).stdout.startswith("FIELD:    spec.steps.env <list of EnvVar>\n")


def test_a_field_may_be_explained_as_a_tree(alone):
    """Whatever is below, in the manifest's own shape."""
    lines = alone("explain", "spec.restart", "--recursive").stdout.splitlines()
    assert any(line.startswith("  backoff ") for line in lines)
    assert any(line.startswith("    initial ") for line in lines)
    whole = alone("explain", "-r").stdout
    assert "successExitCodes" in whole


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("spec.stop.mod", "spec.stop has no field 'mod'; did you mean mode?"),
        ("spec.silenceTimeout", "did you mean spec.progress.silenceTimeout?"),
        ("spec.stop.zzz", "spec.stop has no field 'zzz'; it has signal, mode, timeout"),
        ("spec.state.x", "spec.state has no fields"),
    ],
)
def test_an_unknown_field_tells_the_nearest(alone, path, said):
    """Exit code 2."""
    result = alone("explain", path)
    assert result.exit_code == 2
    assert said in result.stderr


def test_fields_complete(alone):
    """One level at a time."""
    env = {
        "_FLOWCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "flowctl explain spec.re",
        "COMP_CWORD": "2",
    }
    assert alone(env=env).stdout == "plain,spec.replicas\nplain,spec.restart\n"
