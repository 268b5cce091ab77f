"""``diff``, ``edit`` and ``scale``: changes of single flows."""

from __future__ import annotations

import sys

import pytest
from stub_operator import manifest, status


@pytest.fixture
def editor(tmp_path, monkeypatch):
    """Has $EDITOR apply Python functions' source to the text, one at each call."""
    count = tmp_path / "count"
    count.write_text("0")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def use(*changes):
        script = tmp_path / "editor.py"
        script.write_text(
            "import pathlib, sys\n"
            f"count = pathlib.Path({str(count)!r})\n"
            "number = int(count.read_text())\n"
            "count.write_text(str(number + 1))\n"
            "path = pathlib.Path(sys.argv[-1])\n"
            "text = path.read_text()\n"
            f"pathlib.Path({str(tmp_path)!r}, f'seen{{number}}').write_text(text)\n"
            f"changes = {list(changes)!r}\n"
            "change = changes[number] if number < len(changes) else 'text'\n"
            "path.write_text(eval(change))\n"
        )
        return {"VISUAL": f"{sys.executable} {script}"}

    use.seen = lambda number: (tmp_path / f"seen{number}").read_text()
    use.kept = lambda: list(tmp_path.glob("flowctl-*"))
    return use


@pytest.fixture
def edit(operator, flowctl, editor):
    """Edits flow ``a`` by the changes given."""
    operator.add("a")

    def run(*changes, args=("a",)):
        env = {"app_url": operator.url, **editor(*changes)}
        return flowctl("edit", *args, env=env)

    return run


REPLICAS = "text.replace('spec:', 'spec:\\n  replicas: 3')"
UNKNOWN = "text.replace('spec:', 'spec:\\n  replica: 3')"


def test_what_is_saved_is_sent_if_nobody_else_has_changed_it(operator, edit, editor):
    """The YAML that ``get`` prints, with the version that was read; no draft is left."""
    result = edit(REPLICAS)
    assert (result.exit_code, result.stdout) == (0, "flow/a edited (restart)\n")
    assert operator.flows["a"]["spec"]["replicas"] == 3
    assert editor.seen(0).startswith("#: flow/a: save")
    assert editor.kept() == []


@pytest.mark.parametrize("change", ["text", "''", "text.replace('#: ', '#: x')"])
def test_what_is_left_unchanged_is_not_sent(operator, edit, editor, change):
    """An empty text means the same, and our own lines are nobody's change."""
    result = edit(change)
    assert result.exit_code == 0
    assert operator.asked("PUT") == []
    assert editor.kept() == []


def test_a_fault_opens_the_editor_again_with_nothing_lost(operator, edit, editor):
    """It stands at the top, with its line in the text below it; nothing was sent before."""
    result = edit(UNKNOWN, "text.replace('replica:', 'replicas:')")
    assert (result.exit_code, result.stdout) == (0, "flow/a edited (restart)\n")
    again = editor.seen(1).splitlines()
    line = 1 + again.index("  replica: 3")
    assert again[1] == (
        f"#:   line {line}:12: /spec/replica: unknown key 'replica'; did you mean 'replicas'?"
    )
    assert len(operator.asked("PUT")) == 1


def test_who_gives_up_on_a_fault_keeps_the_text(operator, edit, editor):
    """Leaving the editor without a change ends it; the path is told, exit code 2."""
    result = edit(UNKNOWN, "text")
    assert result.exit_code == 2
    [kept] = editor.kept()
    assert result.stderr.endswith(f"What you have written is kept in {kept}\n")
    assert "replica: 3" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert operator.asked("PUT") == []


def test_a_refusal_of_the_operator_opens_the_editor_again(operator, edit, editor):
    """With its words."""
    fault = {"pointer": "/spec/replicas", "detail": "too many", "line": None, "column": None}
    operator.answers["PUT /flows/a"] = operator.problem(400, "no", [fault])
    result = edit(REPLICAS, "text")
    assert result.exit_code == 1
    assert "#:   /spec/replicas: too many" in editor.seen(1)
    assert len(editor.kept()) == 1


def test_a_change_meanwhile_is_shown_and_not_overwritten(operator, edit, editor, monkeypatch):
    """Theirs as a diff at the top, mine below; what is saved then is sent with the new version."""
    asked = operator.answer

    def bumping(method, path, query, body):
        if path == "/bump":
            operator.flows["a"] = manifest("a", description="theirs")
            operator.versions["a"] = 2
            return 200, {}
        return asked(method, path, query, body)

    monkeypatch.setattr(operator, "answer", bumping)
    bump = (
        f"[__import__('urllib.request').request.urlopen('{operator.url}/bump').close(), "
        "text.replace('spec:', 'spec:\\n  replicas: 3')][1]"
    )
    result = edit(bump, "text.replace('  steps:', '  description: both\\n  steps:', 1)")
    assert result.exit_code == 0
    assert "#: +  description: theirs" in editor.seen(1)
    assert "  replicas: 3" in editor.seen(1)
    assert operator.flows["a"]["spec"]["replicas"] == 3
    assert operator.flows["a"]["spec"]["description"] == "both"


def test_a_flow_cannot_be_renamed_by_editing(edit, editor):
    """The fault says so."""
    assert edit("text.replace('name: a', 'name: b')").exit_code == 2
    assert "a flow cannot be renamed: leave 'a'" in editor.seen(1)


def test_a_flow_that_a_file_owns_is_not_edited(operator, edit):
    """Before the editor opens: the work would be lost. --force takes it over."""
    operator.statuses["a"] = status("a", source={"kind": "file", "file": "a.yaml"})
    result = edit(REPLICAS)
    assert result.exit_code == 1
    assert "belongs to a.yaml in the operator's folder: edit that file" in result.stderr
    assert edit(REPLICAS, args=("a", "--force")).exit_code == 0
    assert operator.asked("PUT")[0][1] == {"force": "true"}


def test_an_editor_that_fails_sends_nothing(operator, flowctl, tmp_path, monkeypatch):
    """And one that there is not says what to set."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    operator.add("a")
    env = {"app_url": operator.url, "VISUAL": "false"}
    result = flowctl("edit", "a", env=env)
    assert result.exit_code == 2
    assert "'false' has ended with 1; nothing was sent" in result.stderr
    result = flowctl("edit", "a", env={**env, "VISUAL": "/no/such/editor"})
    assert result.exit_code == 2
    assert "set VISUAL or EDITOR" in result.stderr


# --- diff --------------------------------------------------------------------------------------

FILE = "metadata: {name: %s}\nspec:\n  steps:\n  - {name: read, command: [cat]}\n"


def test_diff_shows_what_apply_would_change_and_do_to_processes(operator, flowctl):
    """Unified, of the YAML; exit code 1; nothing is changed."""
    operator.flows["a"] = manifest("a")
    result = flowctl("diff", "-f", "-", input=FILE % "a" + "---\n" + FILE % "new")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "# flow/a would be configured (processes: restart)",
        "--- live/a",
        "+++ <stdin>",
    ]
    assert "-    script: wc" in lines
    assert "# flow/new would be created (processes: start)" in lines
    assert all(query == {"dryRun": "All"} for _, query, _ in operator.asked("POST"))
    assert operator.flows == {"a": manifest("a")}


def test_diff_of_what_is_so_already_is_empty(operator, flowctl):
    """Exit code 0. A state that the manifest does not say is no difference."""
    flowctl("apply", "-", input=FILE % "a")
    operator.flows["a"]["spec"]["state"] = "stopped"
    result = flowctl("diff", "-", input=FILE % "a")
    assert (result.exit_code, result.output) == (0, "")


def test_diff_tells_a_refusal_apart_from_a_difference(operator, flowctl):
    """Exit code 2: what differs cannot be applied."""
    operator.answers["POST /flows"] = operator.problem(400, "that user is not allowed")
    result = flowctl("diff", "-", input=FILE % "a")
    assert result.exit_code == 2
    assert "that user is not allowed" in result.stderr
    assert "(processes: refused)" in result.stdout


# --- scale -------------------------------------------------------------------------------------


def test_scaling_changes_the_replicas_and_nothing_else(operator, flowctl):
    """As kubectl takes it, or as the shorter NAME=N."""
    operator.add("a")
    operator.add("b")
    assert flowctl("scale", "a", "--replicas", "3").stdout == "flow/a scaled from 1 to 3\n"
    result = flowctl("scale", "a=2", "flow/b=4")
    assert result.stdout == "flow/a scaled from 3 to 2\nflow/b scaled from 1 to 4\n"
    assert operator.flows["a"] == manifest("a", replicas=2)


def test_scaling_to_what_is_wanted_sends_nothing(operator, flowctl):
    """It says that nothing has changed."""
    operator.add("a")
    assert flowctl("scale", "a=1").stdout == "flow/a unchanged\n"
    assert operator.asked("PUT") == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("a",), "How many of a? Say NAME=N, or --replicas N."),
        (("a=0",), "to have none run: flowctl stop NAME"),
        (("a=x",), "'x' is not a valid integer"),
        (("a", "--replicas", "2000"), "1<=x<=1000"),
    ],
)
def test_scaling_without_a_good_number_is_a_usage_error(operator, flowctl, args, said):
    """Nothing is asked of the operator."""
    result = flowctl("scale", *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert operator.requests == []


def test_scaling_goes_on_after_somebody_elses_change(operator, flowctl, monkeypatch):
    """It reads again and changes only the number of replicas."""
    operator.add("a")
    asked = operator.answer

    def changed_once(method, path, query, body):
        answer = asked(method, path, query, body)
        if method == "GET" and operator.versions.get("a", 1) == 1:
            operator.flows["a"] = manifest("a", description="theirs")
            operator.versions["a"] = 2
        return answer

    monkeypatch.setattr(operator, "answer", changed_once)
    assert flowctl("scale", "a=3").stdout == "flow/a scaled from 1 to 3\n"
    assert operator.flows["a"]["spec"]["description"] == "theirs"
