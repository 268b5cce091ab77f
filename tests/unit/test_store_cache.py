"""The cache of what the files of flows hold: a start need not parse what it knows."""

from __future__ import annotations

import hashlib

import pytest
from store_support import create, edits, opening

from flow_operator.settings import Layout
from flow_operator.store import cache as module
from flow_operator.store import store as reading
from flow_operator.store.cache import LEAST
from support import make_manifest

MANY = LEAST


@pytest.fixture
def parsed(monkeypatch):
    """The names of the files that were parsed."""
    names = []
    real = reading.parse_yaml

    def parse(source, **options):
        names.append(source.file)
        return real(source, **options)

    monkeypatch.setattr(reading, "parse_yaml", parse)
    return names


@pytest.fixture
def root(tmp_path):
    """A data directory with many flows, and the cache of them."""
    with opening(tmp_path) as store:
        create(store, *(f"f{n}" for n in range(MANY)))
        edits(store).command("stop", ["f1"], hard=True, by="api:x")
    return tmp_path


def _records(root):
    with opening(root) as store:
        return dict(store.records())


def test_a_start_parses_nothing_that_it_knows(root, parsed):
    """Neither after a start nor after a kill: the cache is written with the files."""
    _records(root)
    assert parsed == []


def test_what_the_cache_gives_is_what_is_parsed(root, parsed):
    """Whole records: who wrote them, how often they were restarted, where they come from."""
    cached = _records(root)
    Layout(root).cache.unlink()
    assert _records(root) == cached
    assert len(parsed) == MANY


def test_a_file_that_was_changed_by_hand_is_parsed(root, parsed):
    """However the cache speaks of it."""
    path = root / "flows" / "f3.yaml"
    path.write_text(path.read_text().replace("script: x", "script: 'y'"))
    assert _records(root)["f3"].flow.spec.steps[0].script == "y"
    assert parsed == ["f3.yaml"]


def test_a_file_that_has_gone_is_not_brought_back(root):
    """The files are what stands."""
    (root / "flows" / "f3.yaml").unlink()
    assert "f3" not in _records(root)


def test_a_flow_that_was_replaced_has_its_newest_record(root, parsed):
    """The cache is older than its file then, and counts no more."""
    with opening(root) as store:
        edits(store).replace(make_manifest("f3", "y"), by="api:x")
    assert _records(root)["f3"].flow.spec.steps[0].script == "y"
    assert parsed == ["f3.yaml"]


def test_a_deleted_flow_leaves_the_cache(root):
    """And so does not make it grow."""
    with opening(root) as store:
        edits(store).delete("f3", by="api:x")
        store.purge(store.record("f3"))
        create(store, *(f"g{n}" for n in range(MANY)))
    assert b'"f3"' not in Layout(root).cache.read_bytes()


def test_the_cache_of_another_program_is_ignored(root, parsed, monkeypatch):
    """It may have read and checked flows by other rules."""
    monkeypatch.setattr(module, "_code", lambda: "other")
    assert len(_records(root)) == MANY
    assert len(parsed) == MANY


@pytest.mark.parametrize("place", [0, 70, 200, -5])
def test_a_damaged_cache_is_ignored(root, parsed, place):
    """Wherever it is damaged."""
    path = Layout(root).cache
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert len(_records(root)) == MANY
    assert len(parsed) == MANY


def test_a_cache_of_rubbish_is_ignored(root):
    """Even where its digest is right."""
    rest = b'[["x", {}, {}]]'
    head = f"{module._code()} {hashlib.sha256(rest).hexdigest()}"
    Layout(root).cache.write_bytes(head.encode() + b"\n" + rest)
    assert len(_records(root)) == MANY


def test_a_record_that_does_not_stand_in_its_file_yet_is_left_out(tmp_path):
    """It would be told of a file that holds an earlier one."""
    with opening(tmp_path) as store:
        records = {r.flow_id: r for r in create(store, *(f"f{n}" for n in range(MANY)))}
    path = tmp_path / "cache"
    cache = module.RecordCache(path, records.get)
    for record in records.values():
        cache.note(record, b"a file")
    records["f3"] = records["f3"].written(999, "2030-01-01T00:00:00Z")
    cache.write()
    again = module.RecordCache(path, records.get)
    again.load()
    assert again.read("f3", b"a file") is None
    assert again.read("f4", b"a file") == records["f4"]


def test_few_changes_do_not_write_it_again(root):
    """It is written as a whole, and would cost more than it saves."""
    path = Layout(root).cache
    before = path.stat().st_ino
    with opening(root) as store:
        create(store, "one-more")
    assert path.stat().st_ino == before


def test_a_disk_that_refuses_the_cache_disturbs_nobody(tmp_path):
    """Flows are stored all the same."""
    Layout(tmp_path).cache.mkdir()
    with opening(tmp_path) as store:
        create(store, *(f"f{n}" for n in range(MANY)))
    assert len(_records(tmp_path)) == MANY


def test_a_disk_that_is_nearly_full_has_no_cache(tmp_path, monkeypatch):
    """The space is for what cannot be made again."""
    monkeypatch.setattr(module, "_OF_FREE", 2**60)
    with opening(tmp_path) as store:
        create(store, *(f"f{n}" for n in range(MANY)))
    assert not Layout(tmp_path).cache.exists()
