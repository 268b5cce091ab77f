"""Whatever JSON can say survives YAML."""

from __future__ import annotations

import json

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from flow_operator.manifest import SourceText, dump_yaml, parse_json, parse_yaml

TRICKY = st.sampled_from(
    [
        *("no", "yes", "on", "off", "null", "~", "true", "True", "<<", "=", "-", "?", ":", "---"),
        *("...", "0o17", "0x1F", "0b1", "1e3", "1e", ".5", "5.", ".inf", ".nan", "-.INF", "1_0"),
        *("1:30", "2024-01-01", "2024-01-01T00:00:00Z", "&a", "*a", "!a", "|", ">", "%a", "@a"),
        *("a: b", "a #b", "- a", "[a", "{a", "'", '"', "\\", " a", "a ", "\n", "\r", "\t", "\r\n"),
        *("a\n b", "a\n\n\nb\n\n", "\n a", "\ta\n", "a\n ", "a\n---\nb", "\x00", "\x85", "\u2028"),
        *("\ufeff", "\ufeffa", "\u200b", "\x7f", "😀", "é" * 90, "word " * 40, "#", "a\n#b\n"),
    ]
)
TEXT = st.text() | TRICKY | st.builds("".join, st.lists(TRICKY | st.text(max_size=3), max_size=4))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
DOCUMENTS = st.dictionaries(TEXT, VALUES, max_size=4) | st.lists(VALUES, max_size=4)


def _same(one: object, other: object) -> bool:
    """Equal with the types of all parts, and with the order of keys."""
    return json.dumps(one) == json.dumps(other)


@given(DOCUMENTS)
@example({"a" * 200: {"b\nc": ["x\n"]}})
@settings(max_examples=300, deadline=None)
def test_data_survives_being_written_and_read(data):
    """Same values, same types, same order of keys."""
    (document,) = parse_yaml(SourceText(dump_yaml([data])))
    assert _same(document.data, data)


@given(st.lists(DOCUMENTS, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_streams_survive_too(documents):
    """Each document for itself."""
    text = dump_yaml(documents, explicit_start=True)
    assert _same([document.data for document in parse_yaml(SourceText(text))], documents)


@given(DOCUMENTS)
@settings(max_examples=100, deadline=None)
def test_json_is_yaml(data):
    """A JSON body that is put in a file means the same there.

    But for characters beyond U+FFFF that are written as two escapes, which libyaml refuses.
    """
    assume(max(json.dumps(data, ensure_ascii=False)) <= "\uffff")
    text = json.dumps(data)
    (document,) = parse_yaml(SourceText(text))
    assert _same(document.data, parse_json(text.encode()))
    assert _same(document.data, data)


@given(DOCUMENTS)
@settings(max_examples=100, deadline=None)
def test_every_part_has_a_place(data):
    """Each pointer leads to a line and column within the text."""
    text = dump_yaml([data])
    lines = text.split("\n")
    (document,) = parse_yaml(SourceText(text))
    for line, column in document.places().values():
        assert 1 <= line <= len(lines) + text.count("\u2028") + text.count("\x85")
        assert column >= 1
