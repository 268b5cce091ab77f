"""The watched folder: dropping, editing, breaking, renaming and removing manifests."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import Flowd, always_for, eventually, processes_of

SOON = 1.0
"""Seconds within which a change of the folder must be seen."""


def manifest(name: str, script: str = "exec sleep 1000", extra: str = "") -> str:
    return f"""\
flow_id: {name}
spec:
  steps:
  - name: main
    script: {script}
{extra}"""


def drop(flowd: Flowd, file: str, text: str) -> Path:
    """Put a file in place as careful programs do: whole, by rename."""
    path = flowd.manifests / file
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.rename(path)
    return path


def await_running(flowd: Flowd, name: str) -> None:
    """A flow that may not even be known yet."""
    eventually(lambda: _equal(flowd.statuses().get(name, {}).get("status"), "running"))


def folder(flowd: Flowd) -> dict[str, Any]:
    return flowd.client.get("/manifests").json()


def file_entry(flowd: Flowd, file: str) -> dict[str, Any]:
    entries = [entry for entry in folder(flowd)["files"] if entry["file"] == file]
    assert entries, folder(flowd)
    return entries[0]


def keep_company(flowd: Flowd) -> None:
    """Another manifest, so that removing one does not leave the folder empty."""
    drop(flowd, "company.yaml", manifest("company"))
    await_running(flowd, "company")


def test_a_dropped_manifest_runs_within_a_second(flowd: Flowd) -> None:
    """From the rename to the running process: less than a second."""
    begun = time.monotonic()
    drop(flowd, "a.yaml", manifest("a"))

    def running() -> None:
        statuses = flowd.statuses()
        assert statuses.get("a", {}).get("status") == "running"

    eventually(running, within=SOON)
    assert time.monotonic() - begun < SOON
    assert flowd.status("a")["source"] == {"kind": "file", "file": "a.yaml", "error": None}
    assert file_entry(flowd, "a.yaml")["flows"] == ["a"]


def test_an_edit_restarts_only_what_it_changes(flowd: Flowd) -> None:
    """Another script drains and starts again; a label, a timeout or a comment does not."""
    drop(flowd, "a.yaml", manifest("a"))
    await_running(flowd, "a")
    [pid] = flowd.pids("a")
    drop(flowd, "a.yaml", "# a comment\n" + manifest("a", extra="  stop: {timeout: 7s}\n"))

    def in_place() -> None:
        assert flowd.client.get("/flows/a").json()["spec"].get("stop") == {"timeout": "7s"}
        assert flowd.status("a")["observedGeneration"] == 2

    eventually(in_place, within=SOON)
    assert flowd.pids("a") == [pid]
    drop(flowd, "a.yaml", manifest("a", script="exec sleep 2000"))

    def restarted() -> None:
        status = flowd.status("a")
        assert status["status"] == "running"
        assert [step["pid"] for step in status["steps"]] != [pid]

    eventually(restarted, within=2 * SOON)
    assert len(processes_of(flowd.data)) == 1


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        ("flow_id: a\nspec:\n  steps: [{name: main, scrip: x}]\n", "a.yaml:3:31"),
        ("flow_id: a\nspec: [\n", "a.yaml:3:1"),
        ("flow_id: a\nspec:\n  steps: []\n  restart: {policy: Sometimes}\n", "a.yaml:4:21"),
        ("\x00\x01", "a.yaml:1:1"),
    ],
)
def test_a_broken_edit_keeps_the_flow_and_names_the_place(
    flowd: Flowd, broken: str, place: str
) -> None:
    """The last good generation runs on, same pid; the error stands where people look."""
    drop(flowd, "a.yaml", manifest("a"))
    await_running(flowd, "a")
    [pid] = flowd.pids("a")
    drop(flowd, "a.yaml", broken)

    def told() -> None:
        assert place in (file_entry(flowd, "a.yaml")["error"] or "")
        assert place in (flowd.status("a")["source"]["error"] or "")

    eventually(told, within=SOON)
    always_for(0.3, lambda: _equal(flowd.pids("a"), [pid]))
    assert place in flowd.log.read_text()
    drop(flowd, "a.yaml", manifest("a"))
    eventually(lambda: _equal(flowd.status("a")["source"]["error"], None), within=SOON)
    assert flowd.pids("a") == [pid]


def test_a_broken_file_beside_good_ones_stops_nobody(flowd: Flowd) -> None:
    """Per file: what is right is applied, what is wrong is told."""
    (flowd.manifests / "bad.yaml").write_text("flow_id: bad\nspec: {}\n")
    drop(flowd, "good.yaml", manifest("good"))
    await_running(flowd, "good")
    eventually(lambda: _contains(file_entry(flowd, "bad.yaml")["error"], "'steps' is missing"))
    assert "bad" not in flowd.statuses()


def test_a_removed_manifest_removes_its_flows(flowd: Flowd) -> None:
    """Softly, and for good."""
    keep_company(flowd)
    path = drop(flowd, "a.yaml", manifest("a"))
    await_running(flowd, "a")
    [pid] = flowd.pids("a")
    path.unlink()
    eventually(lambda: _equal(flowd.client.get("/flows/a").status_code, 404), within=SOON)
    flowd.await_gone("a")
    assert pid not in processes_of(flowd.data)


def test_a_renamed_manifest_changes_nothing_but_the_owner(flowd: Flowd) -> None:
    """The flow goes on, same pid; its source is the new name."""
    keep_company(flowd)
    path = drop(flowd, "a.yaml", manifest("a"))
    await_running(flowd, "a")
    pids = flowd.pids("a")
    path.rename(flowd.manifests / "b.yaml")
    eventually(lambda: _equal(flowd.status("a")["source"]["file"], "b.yaml"), within=SOON)
    assert flowd.pids("a") == pids


def test_a_slow_writer_is_not_read_half(flowd: Flowd) -> None:
    """A file that is open for writing waits, however complete it looks."""
    keep_company(flowd)
    whole = manifest("slow", extra="  description: at last\n")
    cut = whole.index("  description")
    with (flowd.manifests / "slow.yaml").open("w") as file:
        file.write(whole[:cut])
        file.flush()
        always_for(0.6, lambda: _equal("slow" in flowd.statuses(), second=False))
        file.write(whole[cut:])
    eventually(lambda: _equal("slow" in flowd.statuses(), second=True), within=SOON)
    assert flowd.client.get("/flows/slow").json()["spec"]["description"] == "at last"
    assert flowd.status("slow")["generation"] == 1


def test_a_commanded_state_stands_until_the_file_changes_its_own(flowd: Flowd) -> None:
    """Three-way apply: what the file did not change, it does not touch."""
    drop(flowd, "a.yaml", manifest("a"))
    await_running(flowd, "a")
    flowd.command("stop", "a")
    drop(flowd, "a.yaml", manifest("a", extra="  description: new\n"))
    eventually(
        lambda: _equal(flowd.client.get("/flows/a").json()["spec"].get("description"), "new"),
        within=SOON,
    )
    always_for(0.3, lambda: _equal(flowd.status("a")["status"], "stopped"))
    drop(flowd, "a.yaml", manifest("a", extra="  description: new\n  state: paused\n"))
    eventually(lambda: _equal(flowd.status("a")["desired"], "paused"), within=SOON)
    drop(flowd, "a.yaml", manifest("a", extra="  state: running\n"))
    flowd.await_status("a", "running")


def test_two_files_with_one_flow_conflict(flowd: Flowd) -> None:
    """The present owner keeps it, the other is told; it takes over when the owner goes."""
    first = drop(flowd, "first.yaml", manifest("a"))
    await_running(flowd, "a")
    pids = flowd.pids("a")
    drop(flowd, "another.yaml", manifest("a"))
    eventually(lambda: _contains(file_entry(flowd, "another.yaml")["error"], "Conflict"))
    assert flowd.status("a")["source"]["file"] == "first.yaml"
    first.unlink()
    eventually(lambda: _equal(flowd.status("a")["source"]["file"], "another.yaml"))
    assert flowd.pids("a") == pids
    assert file_entry(flowd, "another.yaml")["error"] is None


def test_the_api_refuses_what_a_file_owns_unless_forced(flowd: Flowd) -> None:
    """409 naming the file; ?force=true takes the flow over or deletes it for good."""
    for name in ("a", "b"):
        drop(flowd, f"{name}.yaml", manifest(name))
        await_running(flowd, name)
    body = flowd.client.get("/flows/a").json()
    for answer in (flowd.client.put("/flows/a", json=body), flowd.client.delete("/flows/a")):
        assert answer.status_code == 409
        assert "a.yaml" in answer.json()["detail"]
    assert flowd.client.put("/flows/a?force=true", json=body).status_code == 200
    eventually(lambda: _equal(flowd.status("a")["source"]["kind"], "api"))
    eventually(lambda: _contains(file_entry(flowd, "a.yaml")["error"], "belongs to the API"))
    assert flowd.client.delete("/flows/b?force=true").status_code == 200
    flowd.await_gone("b")
    eventually(lambda: _contains(file_entry(flowd, "b.yaml")["error"], "deleted through the API"))
    flowd.kill()
    flowd.start()
    always_for(0.3, lambda: _equal("b" in flowd.statuses(), second=False))
    drop(flowd, "b.yaml", "# back\n" + manifest("b"))
    await_running(flowd, "b")


def test_an_emptied_folder_is_not_a_wish_to_delete(flowd: Flowd) -> None:
    """Pruning is held and says so; a confirmation lets it go, returning files need none."""
    path = drop(flowd, "a.yaml", manifest("a"))
    await_running(flowd, "a")
    pids = flowd.pids("a")
    text = path.read_text()
    path.unlink()
    eventually(lambda: _contains(folder(flowd)["held"], "empty"), within=SOON)
    assert folder(flowd)["vanished"] == ["a"]
    assert flowd.pids("a") == pids
    drop(flowd, "a.yaml", text)
    eventually(lambda: _equal(folder(flowd)["held"], None), within=SOON)
    path.unlink()
    eventually(lambda: _contains(folder(flowd)["held"], "empty"), within=SOON)
    answer = flowd.client.post("/manifests/prune")
    assert answer.json() == {"status": "Pruned", "flows": ["a"]}
    flowd.await_gone("a")
    assert processes_of(flowd.data) == []


def test_a_removed_folder_stops_nobody_and_is_found_again(flowd: Flowd) -> None:
    """rm -rf of the folder holds; a new folder of that name is watched again."""
    drop(flowd, "a.yaml", manifest("a"))
    await_running(flowd, "a")
    pids = flowd.pids("a")
    shutil.rmtree(flowd.manifests)
    eventually(lambda: _contains(folder(flowd)["held"], "cannot read"))
    assert flowd.pids("a") == pids
    flowd.manifests.mkdir()
    drop(flowd, "a.yaml", manifest("a"))
    drop(flowd, "b.yaml", manifest("b"))
    await_running(flowd, "b")
    assert flowd.pids("a") == pids
    drop(flowd, "c.yaml", manifest("c"))
    eventually(lambda: _equal("c" in flowd.statuses(), second=True), within=2 * SOON)


def test_many_vanishing_at_once_are_held(flowd: Flowd) -> None:
    """More than 3 and more than 30 % of the flows at once look like an accident."""
    text = "---\n".join(manifest(f"m{n}") for n in range(5))
    drop(flowd, "many.yaml", text)
    drop(flowd, "few.yaml", manifest("few"))
    eventually(lambda: _equal(len(flowd.statuses()), 6))
    (flowd.manifests / "many.yaml").unlink()
    eventually(lambda: _contains(folder(flowd)["held"], "5 of 6 flows"), within=SOON)
    assert len(flowd.client.get("/flows").json()) == 6


def test_a_thousand_files_are_one_transaction(flowd: Flowd) -> None:
    """A checkout of many files is applied as a whole, stopped flows included."""
    source = flowd.manifests.parent / "checkout"
    source.mkdir()
    for n in range(1000):
        (source / f"f{n:04}.yaml").write_text(manifest(f"f{n:04}", extra="  state: stopped\n"))
    source.rename(flowd.manifests / "checkout")
    eventually(lambda: _equal(len(flowd.client.get("/flows").json()), 1000))
    eventually(lambda: _equal(len(folder(flowd)["files"]), 1000))
    assert folder(flowd)["files"][0]["file"] == "checkout/f0000.yaml"


def test_a_config_map_swap_is_one_generation(flowd: Flowd) -> None:
    """Kubernetes swaps ``..data``: no delete is seen, and no half of one generation."""
    root = flowd.manifests

    def generation(number: int) -> None:
        directory = root / f"..gen{number}"
        directory.mkdir()
        for name in ("a", "b"):
            (directory / f"{name}.yaml").write_text(
                manifest(name, extra=f"  description: g{number}\n")
            )
        temporary = root / "..data_tmp"
        temporary.symlink_to(directory.name)
        temporary.rename(root / "..data")

    generation(0)
    for name in ("a", "b"):
        (root / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    eventually(lambda: _equal(len(flowd.statuses()), 2))
    for name in ("a", "b"):
        flowd.await_status(name, "running")
    pids = flowd.pids("a"), flowd.pids("b")
    for number in range(1, 6):
        generation(number)
        shutil.rmtree(root / f"..gen{number - 1}")

        def arrived(number: int = number) -> None:
            said = {f["spec"]["description"] for f in flowd.client.get("/flows").json()}
            assert said == {f"g{number}"}

        eventually(arrived)
    assert (flowd.pids("a"), flowd.pids("b")) == pids
    assert folder(flowd)["held"] is None


def test_a_folder_that_others_may_write_is_refused(flowd: Flowd) -> None:
    """Whoever may write a manifest may run commands as us."""
    drop(flowd, "a.yaml", manifest("a"))
    await_running(flowd, "a")
    flowd.manifests.chmod(0o777)
    drop(flowd, "b.yaml", manifest("b"))
    eventually(lambda: _contains(folder(flowd)["held"], "may be written by everybody"))
    assert "b" not in flowd.statuses()
    assert flowd.status("a")["status"] == "running"
    flowd.manifests.chmod(0o755)
    drop(flowd, "c.yaml", "")
    await_running(flowd, "b")


def test_a_link_out_of_the_folder_is_refused(flowd: Flowd) -> None:
    """Links must stay inside."""
    outside = flowd.manifests.parent / "outside.yaml"
    outside.write_text(manifest("outside"))
    (flowd.manifests / "link.yaml").symlink_to(outside)
    eventually(lambda: _contains(file_entry(flowd, "link.yaml")["error"], "outside"))
    assert "outside" not in flowd.statuses()


def test_relative_paths_start_at_the_manifest(flowd: Flowd) -> None:
    """A step runs in its manifest's directory; FLOW_DATA is a directory of the flow's own."""
    (flowd.manifests / "sub").mkdir()
    (flowd.manifests / "sub" / "note.txt").write_text("from beside the manifest")
    text = manifest("rel", script='"cat note.txt > $FLOW_DATA/copy; exec sleep 1000"')
    drop(flowd, "sub/rel.yaml", text)
    copy = flowd.work("rel") / "copy"
    eventually(lambda: _equal(copy.exists() and copy.read_text(), "from beside the manifest"))


def test_prune_never_keeps_everything(make_flowd: Callable[..., Flowd]) -> None:
    """--prune=never: a removed file leaves its flow."""
    flowd = make_flowd("--prune", "never").start()
    keep_company_file = drop(flowd, "a.yaml", manifest("a"))
    drop(flowd, "b.yaml", manifest("b"))
    eventually(lambda: _equal(len(flowd.statuses()), 2))
    os.unlink(keep_company_file)
    eventually(lambda: _contains(folder(flowd)["held"], "--prune=never"))
    always_for(0.3, lambda: _equal("a" in flowd.statuses(), second=True))


def _equal(first: Any, second: Any) -> None:
    assert first == second


def _contains(text: str | None, part: str) -> None:
    assert part in (text or ""), text


def test_what_was_changed_while_nobody_looked_is_not_run_as_it_was(flowd: Flowd) -> None:
    """The folder is read before anything is launched: nothing old, nothing deleted runs again."""
    mark = '"echo {} >> $FLOW_DATA/ran; exec sleep 1000"'
    drop(flowd, "kept.yaml", manifest("kept", script=mark.format("old")))
    drop(flowd, "gone.yaml", manifest("gone", script=mark.format("old")))
    for name in ("kept", "gone"):
        await_running(flowd, name)
        eventually(lambda n=name: _equal((flowd.work(n) / "ran").read_text(), "old\n"))
    assert flowd.end() == 0
    drop(flowd, "kept.yaml", manifest("kept", script=mark.format("new")))
    (flowd.manifests / "gone.yaml").unlink()
    flowd.start()
    await_running(flowd, "kept")
    eventually(lambda: _equal((flowd.work("kept") / "ran").read_text(), "old\nnew\n"))
    assert "gone" not in flowd.statuses()
    assert (flowd.work("gone") / "ran").read_text() == "old\n"


def test_what_is_wrong_with_a_file_stands_in_the_message(flowd: Flowd) -> None:
    """Where people look first; also that its prune is held."""
    path = drop(flowd, "a.yaml", manifest("a"))
    await_running(flowd, "a")
    drop(flowd, "a.yaml", "flow_id: a\n")
    eventually(lambda: _contains(flowd.status("a")["message"], "file not applied: a.yaml:1:1"))
    path.unlink()
    eventually(lambda: _contains(flowd.status("a")["message"], "a.yaml has gone"))
    assert flowd.status("a")["status"] == "running"
    assert "pruning is held" in flowd.log.read_text()


def test_an_emptied_file_is_not_a_wish_to_delete(flowd: Flowd) -> None:
    """An editor on a full disk leaves a file of no bytes."""
    path = drop(flowd, "a.yaml", manifest("a"))
    drop(flowd, "b.yaml", manifest("b"))
    await_running(flowd, "a")
    path.write_text("")
    eventually(lambda: _contains(file_entry(flowd, "a.yaml")["error"], "it is empty"))
    always_for(0.3, lambda: _equal(flowd.status("a")["status"], "running"))


def test_links_in_a_circle_are_one_files_fault(flowd: Flowd) -> None:
    """The watching goes on."""
    (flowd.manifests / "loop.yaml").symlink_to("loop.yaml")
    eventually(lambda: _contains(file_entry(flowd, "loop.yaml")["error"], "cannot read it"))
    drop(flowd, "a.yaml", manifest("a"))
    await_running(flowd, "a")
