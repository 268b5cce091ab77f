"""``edit``, ``apply``, ``diff``, ``scale`` and ``wait`` against a real operator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from flowctl_runs import PROGRAM, environment, flowctl

from support import Flowd, always_for, eventually, make_document, spawned


def editor(root: Path, change: str) -> dict[str, str]:
    """An editor that is a script; ``text`` in ``change`` is what it is given."""
    script = root / "editor.py"
    script.write_text(
        "import pathlib, subprocess, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "text = path.read_text()\n"
        f"{change}\n"
        "path.write_text(text)\n"
    )
    return {"EDITOR": f"{sys.executable} {script}", "VISUAL": "", "TMPDIR": str(root)}


def test_an_edit_changes_the_flow_and_tells_what_it_did(flowd: Flowd, root: Path) -> None:
    """The change of the environment restarts it."""
    flowd.create(make_document("a"))
    before = flowd.await_status("a", "running")["steps"][0]["pid"]
    change = "text = text.replace('script:', 'env: [{name: A, value: b}]\\n    script:')"
    done = flowctl(flowd, "edit", "a", **editor(root, change))
    assert (done.returncode, done.stdout) == (0, "flow/a edited (restart)\n")
    assert flowctl(flowd, "wait", "a", "--for=condition=Ready").returncode == 0
    assert flowd.pids("a") != [before]
    assert list(root.glob("flowctl-*")) == []


def test_an_edit_never_overwrites_what_somebody_else_has_changed(flowd: Flowd, root: Path) -> None:
    """The other one scales while the editor is open; the editor opens again and shows it."""
    flowd.create(make_document("a"))
    scale = [*PROGRAM, "--url", str(flowd.client.base_url), "scale", "a=2"]
    change = (
        f"log = pathlib.Path({str(root / 'texts')!r})\n"
        "first = not log.exists()\n"
        "log.open('a').write(text)\n"
        f"if first:\n"
        f"    subprocess.run({scale!r}, check=True, capture_output=True)\n"
        "    text = text.replace('spec:', 'spec:\\n  description: mine')\n"
    )
    done = flowctl(flowd, "edit", "a", **editor(root, change))
    assert done.returncode == 1
    assert "+  replicas: 2" in (root / "texts").read_text()
    spec = flowd.client.get("/flows/a").json()["spec"]
    assert (spec["replicas"], "description" in spec) == (2, False)
    [kept] = root.glob("flowctl-*")
    assert "description: mine" in kept.read_text()


def test_a_flow_of_a_file_says_which_file_to_edit(flowd: Flowd, root: Path) -> None:
    """No editor is opened for what would be refused."""
    (flowd.manifests / "f.yaml").write_text(
        "metadata: {name: a}\nspec: {steps: [{name: s, script: exec sleep 1000}]}\n"
    )
    eventually(lambda: flowd.await_status("a", "running", within=0))
    done = flowctl(flowd, "edit", "a", **editor(root, "sys.exit('opened')"))
    assert done.returncode == 1
    assert "f.yaml" in done.stderr
    assert "edit that file" in done.stderr


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_get_prints_is_no_change(flowd: Flowd, form: str) -> None:
    """Applied, compared and validated; state, labels and all."""
    document = make_document("a", state="paused", stop={"timeout": "1m"})
    document["metadata"] = {"name": "a", "labels": {"team": "x"}, "annotations": {"n": [1, None]}}
    flowd.create(document)
    printed = flowctl(flowd, "get", "-o", form).stdout
    for command, said in (
        ("apply", "flow/a unchanged\n"),
        ("diff", ""),
        ("validate", "flow/a valid (<stdin>)\n"),
    ):
        done = subprocess.run(
            [*PROGRAM, command, "-"],
            input=printed,
            capture_output=True,
            text=True,
            check=False,
            env=environment(flowd),
        )
        assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_a_set_prunes_what_it_made(flowd: Flowd, root: Path) -> None:
    """Applied, waited for, diffed, pruned; others' flows run on."""
    flowd.create(make_document("others"))
    file = root / "set.yaml"
    flow = "metadata: {{name: {}}}\nspec: {{steps: [{{name: s, script: exec sleep 1000}}]}}\n"
    file.write_text(flow.format("a") + "---\n" + flow.format("b"))
    done = flowctl(flowd, "apply", str(file), "--set", "mine", "--wait")
    assert (done.returncode, sorted(done.stdout.split())) == (
        0,
        sorted(["flow/a", "created", "flow/b", "created", "flow/a", "ready", "flow/b", "ready"]),
    )
    file.write_text(flow.format("a"))
    assert flowctl(flowd, "diff", str(file)).returncode == 0
    done = flowctl(flowd, "apply", str(file), "--set", "mine", "--prune", "--yes")
    assert done.stdout == "flow/a unchanged\nflow/b pruned\n"
    assert flowctl(flowd, "wait", "b", "--for=deleted").returncode == 0
    assert sorted(flowd.statuses()) == ["a", "others"]


def test_a_wait_ends_as_soon_as_the_flow_is_there(flowd: Flowd) -> None:
    """Also for a deletion, and for flows by their label; a timeout is exit code 1."""
    document = make_document("a", "sleep 0.5; exit 0", restart={"policy": "Never"})
    document["metadata"] = {"name": "a", "labels": {"team": "x"}}
    del document["flow_id"]
    flowd.create(document)
    done = flowctl(flowd, "wait", "-l", "team=x", "--for=completed")
    assert (done.returncode, done.stdout) == (0, "flow/a completed\n")
    done = flowctl(flowd, "wait", "a", "--for", "paused", "--timeout", "0.3s")
    assert done.returncode == 1
    assert "flow/a is not paused after 0.3s but completed" in done.stderr
    flowctl(flowd, "delete", "-l", "team=x")
    done = flowctl(flowd, "wait", "a", "--for=deleted")
    assert (done.returncode, done.stdout) == (0, "flow/a deleted\n")


def test_a_flow_that_fails_ends_a_wait_at_once(flowd: Flowd) -> None:
    """With the exit code that it had."""
    flowd.create(make_document("a", "sleep 0.3; exit 3", restart={"policy": "Never"}))
    done = flowctl(flowd, "wait", "a", "--for=completed", "--timeout", "50s")
    assert done.returncode == 1
    assert "and will not be: failed" in done.stderr


def test_commands_by_status_and_label_reach_those_flows_alone(flowd: Flowd) -> None:
    """What has failed is restarted; the others keep their processes."""
    flowd.create(make_document("well"), make_document("bad", "exit 3", restart={"policy": "Never"}))
    flowd.await_status("bad", "failed")
    pids = flowd.pids("well")
    events = flowctl(flowd, "events", "--field", "status=failed").stdout
    assert "bad" in events
    assert "well" not in events
    flowctl(flowd, "restart", "--field", "status=failed", "--no-wait")
    always_for(0.2, lambda: _same(flowd, pids))
    assert flowd.status("bad")["generation"] == 2
    assert flowd.status("well")["generation"] == 1


def _same(flowd: Flowd, pids: list[int]) -> None:
    assert flowd.pids("well") == pids


def test_scaling_adds_and_drains_replicas_and_restarts_nothing(flowd: Flowd) -> None:
    """Two more, and back to one: the first goes on throughout."""
    flowd.create(make_document("a"))
    [first] = [step["pid"] for step in flowd.await_status("a", "running")["steps"]]
    assert flowctl(flowd, "scale", "a=3").stdout == "flow/a scaled from 1 to 3\n"
    assert flowctl(flowd, "wait", "a", "--for=condition=Ready").returncode == 0
    assert len(flowd.pids("a")) == 3
    flowctl(flowd, "scale", "a", "--replicas", "1")
    assert flowctl(flowd, "wait", "a", "--for=condition=Reconciling=False").returncode == 0
    assert flowd.pids("a") == [first]


@pytest.mark.parametrize("chosen", [("a", "b"), ("-l", "team=x"), ("--field", "source.kind=api")])
def test_events_of_chosen_flows_are_watched(flowd: Flowd, chosen: tuple[str, ...]) -> None:
    """Of several names, or of what a selector chooses; of no other flow."""
    (flowd.manifests / "f.yaml").write_text(
        "metadata: {name: other}\nspec: {steps: [{name: s, script: exec sleep 1000}]}\n"
    )
    eventually(lambda: flowd.await_status("other", "running", within=0))
    for name in ("a", "b"):
        document = make_document(name)
        document["metadata"] = {"name": name, "labels": {"team": "x"}}
        flowd.create(document)
        flowd.await_status(name, "running")
    command = [*PROGRAM, "events", "-w", *chosen]
    piped = {"stdout": subprocess.PIPE, "text": True}
    with spawned(command, **piped, env=environment(flowd)) as process:
        seen = {""}
        while not {"a", "b"} <= seen:
            line = process.stdout.readline()
            assert line, seen
            seen.add(line.split()[2])
    assert "other" not in seen
