"""The laws of the three-way merge."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flow_operator.sources.merge import merge

LEAVES = st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "a", 1.0, 0.0])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)

laws = settings(max_examples=200, deadline=None)


def _same(one: Any, other: Any) -> bool:
    """As JSON: ``true`` is not 1, and 1 is not 1.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@given(DOCUMENTS, DOCUMENTS)
@laws
def test_what_nobody_else_has_touched_becomes_what_the_file_says(applied, wanted):
    """With live = applied, the merge is the file."""
    assert _same(merge(applied, applied, wanted), wanted)


@given(DOCUMENTS, DOCUMENTS)
@laws
def test_a_file_that_has_not_changed_changes_nothing(live, applied):
    """Whatever others have done since."""
    assert _same(merge(live, applied, applied), live)


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
@laws
def test_applying_twice_is_applying_once(live, applied, wanted):
    """From the same base, and from the new one."""
    once = merge(live, applied, wanted)
    assert _same(merge(once, applied, wanted), once)
    assert _same(merge(once, wanted, wanted), once)


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
@laws
def test_keys_that_the_file_never_named_stay(live, applied, wanted):
    """They are somebody else's."""
    merged = merge(live, applied, wanted)
    for key in set(live) - set(applied) - set(wanted):
        assert _same(merged[key], live[key])


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
@laws
def test_keys_that_the_file_has_dropped_go(live, applied, wanted):
    """And no key comes from nowhere."""
    merged = merge(live, applied, wanted)
    assert not (set(applied) - set(wanted)) & set(merged)
    assert set(merged) <= set(live) | set(wanted)


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
@laws
def test_nothing_that_was_given_is_changed(live, applied, wanted):
    """Records are shared between threads."""
    given_ = copy.deepcopy((live, applied, wanted))
    merge(live, applied, wanted)
    assert _same(given_, (live, applied, wanted))


def test_values_that_python_takes_for_equal_are_told_apart():
    """A file that changes 1 to true, or 0 to false, has changed."""
    for before, after in ((1, True), (0, False), (1, 1.0), ([1], [True])):
        assert _same(merge({"a": before}, {"a": before}, {"a": after}), {"a": after})


def test_a_field_that_was_commanded_stands_until_the_file_changes_it():
    """``state`` within ``spec``: the file's other edits leave it alone."""
    applied = {"spec": {"state": "running", "replicas": 1}}
    live = {"spec": {"state": "stopped", "replicas": 1}}
    wanted = {"spec": {"state": "running", "replicas": 2}}
    assert merge(live, applied, wanted) == {"spec": {"state": "stopped", "replicas": 2}}
    paused = {"spec": {"state": "paused", "replicas": 2}}
    assert merge(live, wanted, paused) == {"spec": {"state": "paused", "replicas": 1}}


def test_lists_are_values():
    """A changed list replaces the live one whole."""
    live, applied, wanted = {"a": [1, 2]}, {"a": [1]}, {"a": [3]}
    assert merge(live, applied, wanted) == {"a": [3]}
