"""Which file has which flow, what stands over a file's wish, and what is held: look by look."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_support import edits

from flow_operator.board import Board
from flow_operator.clock import rfc3339
from flow_operator.errors import ConflictError
from flow_operator.model.status import Change
from flow_operator.settings import Layout
from flow_operator.sources import FolderSource, apply, scan
from flow_operator.sources.prune import QUIET, Prune
from flow_operator.sources.scan import SETTLE
from flow_operator.store import Desired, Store, StoredFlow
from flow_operator.store.journal import write_journal
from flow_operator.store.records import Act
from support import FakeClock, make_manifest

LONG_AGO = 1e9


def flow(name: str, **spec: Any) -> str:
    """One document of a manifest file."""
    told = "".join(f"  {key}: {value}\n" for key, value in spec.items())
    return f"flow_id: {name}\nspec:\n  steps: [{{name: s, script: x}}]\n{told}"


def flows(*names: str) -> str:
    return "---\n".join(map(flow, names))


class World:
    """A folder, a store, and what keeps the one like the other; time passes when told to."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "manifests"
        self.folder.mkdir()
        self.prune: Prune = "auto"
        self.clock = FakeClock(wall=4e9)
        self.board = Board(self.clock)
        self._layout = Layout(root / "data")
        self._layout.root.mkdir()
        self.change: Change = "none"
        self.store = self._store()
        self.source = self._source()

    def _store(self) -> Store:
        store = Store(self._layout, self.clock)
        store.recover()
        return store

    def _source(self) -> FolderSource:
        source = FolderSource(
            folder=self.folder,
            store=self.store,
            board=self.board,
            state=self._layout.folder_state,
            prune=self.prune,
            foresee=lambda _before, _after: self.change,
            clock=self.clock,
        )
        self.store.subscribe(source._changed)
        return source

    def restart(self) -> None:
        """Another operator on the same data."""
        self.store.close()
        self.store = self._store()
        self.board = Board(self.clock)
        self.source = self._source()
        self.look()

    def write(self, file: str, text: str) -> Path:
        """A file that nobody has touched for long."""
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, (LONG_AGO, LONG_AGO))
        return path

    def remove(self, *files: str) -> None:
        for file in files:
            (self.folder / file).unlink()

    def look(self) -> None:
        """As often as it takes until nothing is waited for."""
        self.source.scan()
        for _ in range(3):
            self.clock.advance(QUIET)
            self.source.scan()

    def flow(self, name: str) -> StoredFlow:
        found = self.store.get(name)
        assert found is not None
        return found

    def owner(self, name: str) -> str | None:
        return self.flow(name).origin.file

    def state(self, name: str) -> str:
        return self.flow(name).flow.spec.state

    def ids(self) -> list[str]:
        return [record.flow_id for record in self.store.flows()]

    def error(self, file: str) -> str:
        return self.entry(file)["error"] or ""

    def entry(self, file: str) -> dict[str, Any]:
        return next(e for e in self.source.describe()["files"] if e["file"] == file)

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        return [json.loads(line) for line in self._layout.audit.read_text().splitlines()]

    @property
    def held(self) -> list[str]:
        told = self.source.describe()
        assert bool(told["held"]) >= bool(told["vanished"])
        return told["vanished"]

    @property
    def desired(self) -> Desired:
        return edits(self.store)


@pytest.fixture
def world(root: Path) -> Iterator[World]:
    made = World(root)
    yield made
    made.store.close()


# --- two files, one flow ---------------------------------------------------------------------


@pytest.mark.parametrize("order", [("a.yaml", "b.yaml"), ("b.yaml", "a.yaml")])
def test_of_two_new_files_the_first_by_name_has_the_flow(
    world: World, order: tuple[str, str]
) -> None:
    """However the folder lists them. Both show the conflict, the flow itself is well."""
    for file in order:
        world.write(file, flow("f", description=file))
    world.look()
    assert world.owner("f") == "a.yaml"
    assert "Conflict: 'f' also stands in b.yaml, which is ignored" in world.error("a.yaml")
    assert "Conflict: 'f' belongs to the file a.yaml" in world.error("b.yaml")
    assert world.board.source_error("f") is None


def test_the_present_owner_keeps_its_flow_until_it_lets_go(world: World) -> None:
    """Then the other takes over, in place, and no conflict is left."""
    world.write("z.yaml", flow("f") + "---\n" + flow("g"))
    world.look()
    before = world.flow("f")
    world.write("a.yaml", flow("f") + "---\n" + flow("h"))
    world.look()
    assert world.owner("f") == "z.yaml"
    assert world.owner("h") == "a.yaml"
    world.restart()
    assert world.owner("f") == "z.yaml"
    world.write("z.yaml", flow("g"))
    world.look()
    after = world.flow("f")
    assert after.origin.file == "a.yaml"
    assert (after.uid, after.generation, after.template) == (
        *(before.uid, before.generation, before.template),
    )
    assert (world.error("a.yaml"), world.error("z.yaml")) == ("", "")


@pytest.mark.parametrize("text", ["flow_id: f\nspec: [\n", "", "# nothing\n"])
def test_an_owner_that_is_broken_or_emptied_keeps_its_flow(world: World, text: str) -> None:
    """It is the other who waits."""
    world.write("a.yaml", flow("f", description="mine"))
    world.write("b.yaml", flow("f", description="yours"))
    world.look()
    world.write("a.yaml", text)
    world.look()
    world.restart()
    assert world.owner("f") == "a.yaml"
    assert "belongs to the file a.yaml" in world.error("b.yaml")


def test_an_owner_that_is_being_written_after_a_restart_keeps_its_flow(world: World) -> None:
    """It has not been read yet, which is not the same as having gone."""
    path = world.write("a.yaml", flow("f"))
    world.write("b.yaml", flow("f"))
    world.look()
    with path.open("a"):
        world.restart()
        assert world.owner("f") == "a.yaml"
        world.clock.advance(scan.PATIENCE)  # Now nobody waits for it any more.
        world.look()
        assert world.owner("f") == "a.yaml"
    world.look()
    assert world.owner("f") == "a.yaml"


def test_an_owner_that_is_just_being_replaced_keeps_its_flow(world: World) -> None:
    """Also when others have been waited for so long that all is applied that can be."""
    world.write("a.yaml", flow("f"))
    world.write("b.yaml", flow("f"))
    world.look()
    with (world.folder / "log.yaml").open("w"):
        world.source.scan()
        world.remove("a.yaml")
        world.clock.advance(scan.PATIENCE - SETTLE)
        world.source.scan()
        with (world.folder / "a.yaml").open("w"):
            world.source.scan()
            world.clock.advance(SETTLE)
            world.write("c.yaml", flow("h"))
            world.source.scan()
            assert world.ids() == ["f", "h"]
            assert world.owner("f") == "a.yaml"


# --- a bad file ------------------------------------------------------------------------------


def test_a_bad_document_leaves_all_flows_of_its_file_as_they_are(world: World) -> None:
    """Neither changed nor removed; other files go on."""
    world.write("a.yaml", flow("f", description="one") + "---\n" + flow("g"))
    world.look()
    world.write("a.yaml", flow("f", description="two") + "---\n" + "flow_id: h\nspec: {}\n")
    world.write("b.yaml", flow("i"))
    world.look()
    assert world.ids() == ["f", "g", "i"]
    assert world.flow("f").flow.spec.description == "one"
    [fault] = world.entry("a.yaml")["errors"]
    assert (fault["line"], fault["column"], fault["pointer"]) == (7, 7, "/spec")
    for name in ("f", "g"):
        assert "a.yaml:7:7: /spec: 'steps' is missing" in (world.board.source_error(name) or "")


def test_a_circle_is_the_fault_of_the_file_that_closes_it(world: World) -> None:
    """Nothing of that file is applied, all of the others is; once it is mended, all is well."""
    world.write("a.yaml", flow("f", dependsOn="[{name: h}]"))
    world.write("b.yaml", flow("g") + "---\n" + flow("h", dependsOn="[{name: f}]"))
    world.write("c.yaml", flow("i", dependsOn="[{name: f}]"))
    world.look()
    assert world.ids() == ["f", "i"]
    assert "depend on each other" in world.error("b.yaml")
    assert (world.error("a.yaml"), world.error("c.yaml")) == ("", "")
    world.write("a.yaml", flow("f"))
    world.look()
    assert world.ids() == ["f", "g", "h", "i"]
    assert world.error("b.yaml") == ""


def test_a_circle_that_turns_round_in_one_go_is_none(world: World) -> None:
    """What counts is how it is when all files are applied, not after each of them."""
    world.write("a.yaml", flow("f"))
    world.write("b.yaml", flow("g", dependsOn="[{name: f}]"))
    world.look()
    world.write("a.yaml", flow("f", dependsOn="[{name: g}]"))
    world.write("b.yaml", flow("g"))
    world.look()
    assert (world.error("a.yaml"), world.error("b.yaml")) == ("", "")
    assert world.flow("f").flow.spec.depends_on


# --- who decides -----------------------------------------------------------------------------


def test_a_commanded_state_stands_until_the_file_changes_its_own(world: World) -> None:
    """Over touch, reformatting, other edits, renaming, another owner and restarts."""
    path = world.write("a.yaml", flow("f", state="running"))
    world.write("z.yaml", flow("f", state="running"))
    world.look()
    world.desired.command("stop", ["f"])
    world.look()
    os.utime(path, (LONG_AGO + 1, LONG_AGO + 1))
    world.look()
    assert world.state("f") == "stopped"
    world.write("a.yaml", "# so it is better to read\n" + flow("f", state='"running"'))
    world.look()
    assert world.state("f") == "stopped"
    world.write("a.yaml", flow("f", state="running", description="new"))
    world.restart()
    assert (world.state("f"), world.flow("f").flow.spec.description) == ("stopped", "new")
    path.rename(world.folder / "b.yaml")
    world.look()
    assert (world.owner("f"), world.state("f")) == ("b.yaml", "stopped")
    world.remove("b.yaml")
    world.look()
    assert (world.owner("f"), world.state("f")) == ("z.yaml", "stopped")
    world.write("z.yaml", flow("f", state="paused"))
    world.look()
    assert world.state("f") == "paused"
    world.write("z.yaml", flow("f"))
    world.look()
    assert world.state("f") == "running"


def test_a_flow_that_was_taken_over_is_the_apis_whatever_its_file_says(world: World) -> None:
    """The file shows whose it is; it gets the flow back when that is deleted and it changes."""
    world.write("a.yaml", flow("f", description="file") + "---\n" + flow("g"))
    world.look()
    world.desired.command("stop", ["f"])
    mine = make_manifest("f", "x", description="api", state="stopped")
    with pytest.raises(ConflictError, match=r"a\.yaml"):
        world.desired.replace(mine)
    with pytest.raises(ConflictError, match=r"a\.yaml"):
        world.desired.delete("f")
    world.desired.replace(mine, force=True)
    for description in ("file", "changed"):
        world.write("a.yaml", flow("f", description=description) + "---\n" + flow("g"))
        world.look()
        world.restart()
        assert "Conflict: 'f' belongs to the API" in world.error("a.yaml")
        assert world.board.source_error("g") is None
        spec = world.flow("f").flow.spec
        assert (world.owner("f"), spec.description, spec.state) == (None, "api", "stopped")
    world.desired.delete("f")
    world.look()
    assert (world.owner("f"), world.state("f")) == ("a.yaml", "running")
    assert world.error("a.yaml") == ""


def test_a_flow_that_the_api_deletes_stays_so_until_its_file_changes(world: World) -> None:
    """Taken over first or not; over a restart and a touch too."""
    path = world.write("a.yaml", flow("f") + "---\n" + flow("g"))
    world.look()
    world.desired.replace(make_manifest("f", "y"), force=True)
    world.look()
    world.desired.delete("f")
    world.desired.delete("g", force=True)
    world.look()
    os.utime(path, (LONG_AGO + 1, LONG_AGO + 1))
    world.restart()
    assert world.ids() == []
    for name in ("f", "g"):
        assert f"'{name}' was deleted through the API" in world.error("a.yaml")
    world.write("a.yaml", flow("f") + "---\n" + flow("g") + "# again\n")
    world.look()
    assert world.ids() == ["f", "g"]


def test_a_file_gets_a_flow_that_it_never_had_once_the_api_deletes_it(world: World) -> None:
    """That is what its conflict has asked for."""
    world.desired.create([make_manifest("f", "y")])
    world.write("a.yaml", flow("f"))
    world.look()
    world.restart()
    assert "belongs to the API" in world.error("a.yaml")
    world.desired.delete("f")
    world.look()
    assert (world.owner("f"), world.error("a.yaml")) == ("a.yaml", "")
    world.desired.delete("f", force=True)
    world.look()
    assert world.ids() == []


# --- what has gone ---------------------------------------------------------------------------


def test_a_gap_between_removing_and_writing_deletes_nothing(world: World) -> None:
    """As some editors and git leave it."""
    world.write("a.yaml", flow("f"))
    world.write("b.yaml", flow("g"))
    world.look()
    uid = world.flow("f").uid
    world.remove("a.yaml")
    world.source.scan()
    world.clock.advance(QUIET * 0.9)
    world.source.scan()
    world.write("a.yaml", flow("f", description="new"))
    world.look()
    assert (world.flow("f").uid, world.flow("f").flow.spec.description) == (uid, "new")
    world.remove("a.yaml")
    world.look()
    assert world.ids() == ["g"]


def test_what_is_held_stays_so_over_restarts_and_new_files(world: World) -> None:
    """Until somebody confirms; what returns is free, and so is the rest of the folder."""
    gone = [f"f{n}" for n in range(5)]
    world.write("five.yaml", flows(*gone))
    world.write("one.yaml", flow("one"))
    world.look()
    world.remove("five.yaml")
    world.look()
    assert world.held == gone
    world.restart()
    world.write("more.yaml", flows(*(f"more{n}" for n in range(50))))
    world.look()
    world.restart()
    assert world.held == gone
    assert "5 of 6 flows" in world.source.describe()["held"]
    assert "five.yaml has gone: 5 of 6 flows" in (world.board.source_error("f0") or "")
    world.write("back.yaml", flow("f0"))
    world.remove("one.yaml")
    world.look()
    assert world.held == gone[1:]
    assert "one" not in world.ids()
    assert world.source.confirm_prune() == gone[1:]
    assert world.source.confirm_prune() == []
    assert world.held == []
    assert world.owner("f0") == "back.yaml"


def test_a_confirmation_is_for_what_was_held_and_nothing_else(world: World) -> None:
    """Not for what has vanished since, and not for what has come back unseen."""
    world.write("five.yaml", flows(*(f"f{n}" for n in range(5))))
    world.write("back.yaml", flow("back"))
    world.write("later.yaml", flow("later"))
    world.look()
    world.remove("five.yaml", "back.yaml")
    world.look()
    assert len(world.held) == 6
    told = frozenset(world.held)
    for others in (told - {"back"}, told | {"later"}, frozenset()):
        with pytest.raises(ConflictError, match="read /manifests again"):
            world.source.confirm_prune(others)
    assert len(world.held) == 6
    world.write("back.yaml", flow("back"))
    world.remove("later.yaml")
    assert world.source.confirm_prune(told) == [f"f{n}" for n in range(5)]
    assert world.ids() == ["back", "later"]


def test_a_confirmation_waits_for_a_file_that_is_just_coming_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its flows stay, the others go."""
    world.write("five.yaml", flows(*(f"f{n}" for n in range(5))))
    world.write("other.yaml", flow("other"))
    world.look()
    world.remove("five.yaml")
    world.look()
    writer = (world.folder / "back.yaml").open("w")

    def wait(seconds: float) -> bool:
        if not writer.closed:
            writer.write(flow("f0"))
            writer.close()
        world.clock.advance(seconds)
        return False

    monkeypatch.setattr(world.source._closed, "wait", wait)
    assert world.source.confirm_prune() == ["f1", "f2", "f3", "f4"]
    assert world.ids() == ["f0", "other"]


def test_a_folder_that_was_away_holds_what_it_does_not_bring_back(world: World) -> None:
    """However little that is: nobody has removed a file."""
    world.write("a.yaml", flow("f"))
    world.write("b.yaml", flow("g"))
    world.look()
    away = world.folder.rename(world.folder.with_name("away"))
    world.look()
    assert world.held == ["f", "g"]
    assert "No such file" in world.source.describe()["held"]
    world.restart()
    (away / "b.yaml").unlink()
    away.rename(world.folder)
    world.look()
    assert world.held == ["g"]
    assert world.ids() == ["f", "g"]
    assert world.source.confirm_prune() == ["g"]


def test_a_folder_that_is_away_for_a_moment_holds_nothing(world: World) -> None:
    """As when it is replaced as a whole."""
    world.write("a.yaml", flow("f"))
    world.write("b.yaml", flow("g"))
    world.look()
    world.folder.rename(world.folder.with_name("away"))
    world.source.scan()
    world.folder.mkdir()
    world.write("a.yaml", flow("f"))
    world.look()
    assert (world.held, world.ids()) == ([], ["f"])


def test_a_folder_that_has_gone_for_good_can_be_confirmed(world: World) -> None:
    """With --prune=never too, once it has told what would go; one that cannot be read cannot."""
    world.prune = "never"
    world.restart()
    world.write("a.yaml", flow("f"))
    world.look()
    world.folder.chmod(0o777)
    world.look()
    with pytest.raises(ConflictError, match="nobody can tell what has gone"):
        world.source.confirm_prune()
    world.folder.chmod(0o755)
    world.look()
    assert world.ids() == ["f"]
    world.folder.rename(world.folder.with_name("away"))
    assert world.source.confirm_prune() == []
    world.look()
    assert world.held == ["f"]
    assert world.source.confirm_prune() == ["f"]


def test_flows_of_a_sub_folder_that_cannot_be_seen_have_not_gone(world: World) -> None:
    """They go on, and are not held either: nobody asks to confirm anything."""
    world.write("sub/a.yaml", flow("f"))
    world.write("b.yaml", flow("g"))
    world.look()
    sub = world.folder / "sub"
    sub.chmod(0o777)
    world.look()
    world.restart()
    assert (world.ids(), world.held) == (["f", "g"], [])
    assert "may be written by everybody" in world.error("sub/")
    sub.chmod(0o755)
    (sub / "a.yaml").unlink()
    world.look()
    assert world.ids() == ["g"]


def test_a_file_that_is_written_all_the_time_does_not_keep_others_from_going(world: World) -> None:
    """A log that is named like a manifest must not hold everything up."""
    world.write("a.yaml", flow("f"))
    world.write("b.yaml", flow("g"))
    world.look()
    with (world.folder / "log.yaml").open("w"):
        world.remove("a.yaml")
        world.write("c.yaml", flow("h"))
        world.look()
        assert world.ids() == ["f", "g"]
        world.clock.advance(scan.PATIENCE)
        world.look()
        assert world.ids() == ["g", "h"]
        assert "written all the time" in world.error("log.yaml")


# --- what is told, and at what cost ----------------------------------------------------------


def test_since_when_a_file_is_so_is_kept_over_restarts(world: World) -> None:
    """It changes with the content and with what is wrong, and with nothing else."""
    path = world.write("a.yaml", flow("f"))
    world.look()
    first = world.entry("a.yaml")
    os.utime(path, (LONG_AGO + 1, LONG_AGO + 1))
    world.restart()
    assert world.entry("a.yaml") == first
    world.write("a.yaml", "flow_id: f\n")
    world.look()
    broken = world.entry("a.yaml")
    assert broken["since"] > first["since"]
    assert broken["sha256"] != first["sha256"]
    world.restart()
    assert world.entry("a.yaml") == broken
    assert broken["flows"] == ["f"]


def test_an_unchanged_folder_is_not_parsed_again_after_a_restart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store knows what it held; only what has changed since is read as text."""
    world.write("a.yaml", flow("f") + "---\n" + flow("g"))
    world.write("b.yaml", flow("h"))
    world.look()
    world.desired.command("stop", ["f"])
    world.look()
    parsed: list[str] = []
    parse = scan.load_manifests
    monkeypatch.setattr(scan, "load_manifests", lambda s: parsed.append(s.file) or parse(s))
    versions = [record.version for record in world.store.flows()]
    world.restart()
    assert (parsed, world.state("f")) == ([], "stopped")
    [first, _] = world.source._look.files["a.yaml"].manifests
    assert first.flow.spec.state == "running"
    assert [record.version for record in world.store.flows()] == versions
    world.write("b.yaml", flow("h", description="new"))
    world.restart()
    assert parsed == ["b.yaml"]
    assert world.flow("h").flow.spec.description == "new"


def test_an_unchanged_file_is_not_opened_again_after_a_restart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stamp tells, which nobody can set back; whose it is counts anew."""
    old = world.write("a.yaml", flow("f", description="one"))
    world.write("b.yaml", flow("g"))
    world.look()
    opened: list[str] = []
    content = scan._content
    monkeypatch.setattr(
        scan, "_content", lambda path, stamp: opened.append(path) or content(path, stamp)
    )
    world.restart()
    assert opened == []
    assert set(world.ids()) == {"f", "g"}
    world.write("a.yaml", flow("f", description="two"))  # of the same size and time
    world.restart()
    assert opened == [str(old)]
    assert world.flow("f").flow.spec.description == "two"
    old.touch()
    os.utime(old, (LONG_AGO, LONG_AGO))
    world.restart()
    world.restart()
    assert opened == [str(old)] * 2  # Once for the touch.
    monkeypatch.setattr(scan, "distrust_entry", lambda _info: "belongs to user 7")
    world.restart()
    assert "belongs to user 7" in world.error("a.yaml")
    assert opened == [str(old)] * 2


def test_where_seconds_are_counted_a_file_is_opened_again_after_a_restart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have changed in the second in which it was read."""
    fine = scan.Stamp.of
    second = 10**9

    def coarse(info: os.stat_result) -> scan.Stamp:
        return fine(info)._replace(modified=4 * second, changed=5 * second)

    monkeypatch.setattr(scan.Stamp, "of", coarse)
    world.write("a.yaml", flow("f", description="one"))
    world.look()
    world.write("a.yaml", flow("f", description="two"))
    world.restart()
    assert world.flow("f").flow.spec.description == "two"


def test_what_was_applied_before_a_crash_is_not_taken_for_what_the_file_says(world: World) -> None:
    """The record of the file may be older than the flows, and the file changed back meanwhile."""
    world.write("a.yaml", flow("f", description="one"))
    world.look()
    record = world._layout.folder_state.read_bytes()
    world.write("a.yaml", flow("f", description="two"))
    world.look()
    world._layout.folder_state.write_bytes(record)  # As if killed in between.
    world.write("a.yaml", flow("f", description="one"))
    world.restart()
    assert world.flow("f").flow.spec.description == "one"


def test_nobody_waits_for_the_store_while_files_are_read_and_merged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the write itself is done under its lock."""
    free: list[bool] = []

    def spied(module: Any, name: str) -> None:
        real = getattr(module, name)

        def spy(*given: Any, **named: Any) -> Any:
            free.append(not world.store._door.alone.locked())
            return real(*given, **named)

        monkeypatch.setattr(module, name, spy)

    spied(scan, "load_manifests")
    spied(apply, "created")
    spied(apply, "load_manifest")
    world.write("a.yaml", flow("f"))
    world.look()
    world.desired.command("stop", ["f"])
    world.write("a.yaml", flow("f", description="new"))
    world.look()
    assert (world.state("f"), world.flow("f").flow.spec.description) == ("stopped", "new")
    assert len(free) == 4
    assert all(free)


def test_a_command_that_comes_while_a_look_is_worked_out_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what the file has changed."""
    world.write("a.yaml", flow("f"))
    world.look()
    run = apply.Apply.run
    commands = iter(["stop"])

    def interrupted(self: apply.Apply) -> apply.Applied:
        applied = run(self)
        for command in commands:
            world.desired.command(command, ["f"])
        return applied

    monkeypatch.setattr(apply.Apply, "run", interrupted)
    world.write("a.yaml", flow("f", description="new"))
    world.look()
    assert (world.state("f"), world.flow("f").flow.spec.description) == ("stopped", "new")


def test_a_circle_that_the_api_closes_while_a_look_is_worked_out_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for once more under the lock."""
    world.desired.create([make_manifest("g", "x")])
    run = apply.Apply.run
    bodies = iter([make_manifest("g", "x", dependsOn=[{"name": "f"}])])

    def interrupted(self: apply.Apply) -> apply.Applied:
        applied = run(self)
        for body in bodies:
            world.desired.replace(body)
        return applied

    monkeypatch.setattr(apply.Apply, "run", interrupted)
    world.write("a.yaml", flow("f", dependsOn="[{name: g}]"))
    world.look()
    assert world.ids() == ["g"]
    assert "depend on each other" in world.error("a.yaml")


def test_an_unchanged_look_applies_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless somebody has changed a flow of a file meanwhile."""
    world.write("a.yaml", flow("f"))
    world.look()
    applied: list[int] = []
    run = apply.Apply.run
    monkeypatch.setattr(apply.Apply, "run", lambda self: applied.append(1) or run(self))
    world.look()
    world.desired.create([make_manifest("other", "x")])
    world.look()
    assert applied == []
    world.desired.delete("f", force=True)
    world.look()
    assert len(applied) == 1
    assert "deleted through the API" in world.error("a.yaml")


def test_changes_of_one_look_are_one_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Creations and edits; what has gone follows in another once it was quiet."""
    commits: list[int] = []
    monkeypatch.setattr(
        "flow_operator.store.store.write_journal",
        lambda path, parts: commits.append(len(parts)) or write_journal(path, parts),
    )
    for number in range(20):
        world.write(f"f{number}.yaml", flow(f"f{number}"))
    world.look()
    world.remove("f0.yaml", "f1.yaml")
    for number in range(2, 30):
        world.write(f"f{number}.yaml", flow(f"f{number}", description="new"))
    world.look()
    assert commits == [20, 28, 2]


# --- who has done it -------------------------------------------------------------------------


def test_history_and_audit_log_tell_the_file_of_each_change(world: World) -> None:
    """And what it did to processes, of each as it was foreseen when it was written."""
    world.change = "start"
    world.write("a.yaml", flow("f"))
    world.look()
    world.change = "restart"
    world.write("a.yaml", flow("f", description="new"))
    world.look()
    told = [(r.made.by, r.made.action, r.made.change) for r in world.store.history("f") if r.made]
    assert told == [("file:a.yaml", "replace", "restart"), ("file:a.yaml", "create", "start")]
    world.write("b.yaml", flow("other"))
    world.remove("a.yaml")
    world.look()
    lines = [(e["by"], e["action"], e["version"]) for e in world.audit()]
    assert lines == [
        ("file:a.yaml", "create", 1),
        ("file:a.yaml", "replace", 2),
        ("file:b.yaml", "create", 3),
        ("file:a.yaml", "prune", 4),
    ]


def test_a_change_is_of_the_time_when_it_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of when it was thought out, or the audit log would go back in time."""
    run = apply.Apply.run

    def slow(self: apply.Apply) -> apply.Applied:
        applied = run(self)
        world.clock.advance(5)
        return applied

    monkeypatch.setattr(apply.Apply, "run", slow)
    world.write("a.yaml", flow("f"))
    world.source.scan()
    act = Act(rfc3339(world.clock.wall()), "file:a.yaml", "create", "none")
    assert (world.flow("f").wrote, world.flow("f").made) == (act, act)
    world.remove("a.yaml")
    world.write("b.yaml", flow("other"))
    world.look()
    assert [e["at"] for e in world.audit()] == sorted({e["at"] for e in world.audit()})
