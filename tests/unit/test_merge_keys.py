"""Merge keys of YAML, which other programs' files may have."""

from __future__ import annotations

import pytest

from flow_operator.errors import InvalidError
from flow_operator.manifest import SourceText, parse_yaml


def merged(text):
    [document] = parse_yaml(SourceText(text, "f"), merge=True)
    return document


def test_own_keys_win_over_merged_ones_and_earlier_over_later():
    """Whatever comes first in the text."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {z: 3, <<: [*a, *b]}\nd: {<<: *b, y: 4}\n"
    data = merged(text).data
    assert data["c"] == {"z": 3, "x": 1, "y": 1}
    assert data["d"] == {"y": 4, "z": 2}
    assert data["a"] == {"x": 1, "y": 1}


def test_a_merge_may_be_merged_again_and_written_out():
    """Anchors of merged mappings hold all their keys; a mapping may stand there itself."""
    text = (
        "a: &a {x: 1}\nb: &b\n  <<: *a\n  y: 2\nc: {<<: *b}\nd: {<<: {q: 1}, <<x: 2}\ne: {<<: }\n"
    )
    data = merged(text).data
    assert data["c"] == {"y": 2, "x": 1}
    assert data["d"] == {"<<x": 2, "q": 1}
    assert data["e"] == {}


def test_a_quoted_merge_key_is_a_key():
    """As in YAML 1.1, where only a plain one is special."""
    assert merged("{'<<': 1}").data == {"<<": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {<<: 1}\n", "must be mappings"),
        ("a: {<<: [1]}\n", "must be mappings"),
        ("a: &a {<<: *a}\n", "must follow the whole"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}\n", "stands twice"),
        ("a: &a {x: 1}\n" + "".join(f"b{n}: {{<<: *a}}\n" for n in range(21)), "20 aliases"),
        ("a: &a [" + "1," * 3000 + "]\n" + "".join(f"b{n}: *a\n" for n in range(7)), "nodes"),
    ],
)
def test_the_guard_stands_for_merges_too(text, said):
    """Each refusal has its place."""
    with pytest.raises(InvalidError, match=said) as caught:
        merged(text)
    assert caught.value.faults[0].line is not None


def test_places_are_those_of_the_mapping_that_merges():
    """Own keys have their own places; a block mapping begins at its first key."""
    document = merged("a: &a {x: 1}\nb:\n  y: 1\n  <<: *a\n")
    assert document.fault("/b/y", "").line == 3
    assert document.fault("/b/x", "").line == 3


def test_manifests_still_may_not_merge():
    """Only who asks for it gets it."""
    with pytest.raises(InvalidError, match="merge keys"):
        parse_yaml(SourceText("a: {<<: {}}\n"))
