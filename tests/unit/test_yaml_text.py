"""The YAML guard: what is read, what is refused, and where errors point."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_operator.errors import InvalidError
from flow_operator.manifest import SourceText, dump_yaml, parse_yaml
from flow_operator.manifest.plain_yaml import plain_yaml
from flow_operator.manifest.yaml_text import MAX_ALIASES, MAX_DEPTH, MAX_NODES


def _read(text: str):
    """The data of a text's only document."""
    (document,) = parse_yaml(SourceText(text))
    return document.data


def _refusal(text: str):
    """The one fault of a text that must be refused."""
    with pytest.raises(InvalidError) as caught:
        parse_yaml(SourceText(text, "f.yaml"))
    (fault,) = caught.value.faults
    assert fault.file == "f.yaml"
    return fault


def _depth(data) -> int:
    if isinstance(data, dict):
        data = list(data.values())
    return 1 + max(map(_depth, data), default=0) if isinstance(data, list) else 0


# --- scalars by YAML 1.2's core schema -------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            (word, word)
            for word in ("no", "yes", "on", "off", "No", "YES", "y", "n", "tRUE", "nul")
        ),
        *(
            (word, word)
            for word in ("1_000", "1:30", "0b1", "0o8", "0xG", "-0x1F", "1e", "e3", ".")
        ),
        *(
            (word, word)
            for word in ("2024-01-01", "=", "-a", "+", "--", "1.2.3", "0o", "~/x", "nan")
        ),
        *((word, None) for word in ("", "~", "null", "Null", "NULL")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *[("0", 0), ("-0", 0), ("+7", 7), ("007", 7), ("0o17", 15), ("0x1F", 31)],
        *[("1e3", 1000.0), (".5", 0.5), ("-.5e-1", -0.05), ("1.", 1.0), ("+1.5", 1.5)],
        *[("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63))],
        *[("'true'", "true"), ('"1"', "1"), ("! 1", "1"), ("!!str 1", "1"), ("!!int 1", 1)],
        *[("!!float 1", 1), ("!!null ''", None), ("!!bool true", True)],
    ],
)
def test_scalars_are_read_as_yaml_1_2_says(text, value):
    """``no`` is Norway; there are no sexagesimals, dates or underscores."""
    read = _read(f"v: {text}")["v"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *[(".inf", "not a number"), ("-.Inf", "not a number"), (".nan", "not a number")],
        *[("9223372036854775808", "64 bits"), ("-9223372036854775809", "64 bits")],
        *[("0x" + "F" * 16, "64 bits"), ("9" * 5000, "64 bits"), ("1e400", "too large")],
        *[("!!int x", "not of the kind"), ("!!bool 1", "not of the kind")],
        *[("!!binary aGk=", "not allowed"), ("!foo x", "not allowed")],
        *[("!!python/name:os.system ''", "not allowed"), ("!!set {a}", "not allowed")],
        *[("!!timestamp 2024-01-01", "not allowed"), ("!!omap []", "not allowed")],
    ],
)
def test_values_that_json_does_not_know_are_refused(text, said):
    """Every document must also be sendable as JSON."""
    fault = _refusal(f"# a\nv: {text}\n")
    assert said in fault.detail
    assert (fault.line, fault.column) == (2, 4)


# --- keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", (3, 1), "the key 'a' stands twice"),
        ("x:\n  - {'a': 1, a: 2}\n", (2, 14), "the key 'a' stands twice"),
        ("1: a\n", (1, 1), "a key must be text"),
        ("true: a\n", (1, 1), "a key must be text"),
        ("null: a\n", (1, 1), "a key must be text"),
        ("[a]: b\n", (1, 1), "a key must be text"),
        ("? {a: b}\n: c\n", (1, 3), "a key must be text"),
        ("a: &x t\nb:\n  *x : 1\n", (3, 3), "a key must be text"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", (3, 3), "merge keys"),
    ],
)
def test_keys_are_text_and_stand_once(text, place, said):
    """No merges either: a reader must see what holds."""
    fault = _refusal(text)
    assert said in fault.detail
    assert (fault.line, fault.column) == place


def test_keys_that_look_like_something_else_may_be_quoted():
    """Quoted, they are text."""
    assert _read('"1": a\n"<<": b\n"": c\n') == {"1": "a", "<<": "b", "": "c"}


# --- size ------------------------------------------------------------------------------------


@pytest.mark.parametrize("opening", ["[", "{a: "])
def test_nesting_is_limited(opening):
    """The limit is reached and not passed, in flow style."""
    closing = "]" if opening == "[" else "}"
    assert _depth(_read(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH)) == MAX_DEPTH
    fault = _refusal(opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1))
    assert f"deeper than {MAX_DEPTH}" in fault.detail
    assert (fault.line, fault.column) == (1, MAX_DEPTH * len(opening) + 1)


def test_nesting_is_limited_in_block_style():
    """And without ever ending."""
    text = "".join("  " * level + "a:\n" for level in range(100_000 // 50))
    assert "deeper than" in _refusal(text).detail
    assert "deeper than" in _refusal("[" * 1_000_000).detail
    assert "deeper than" in _refusal("- " * 10_000).detail


def test_aliases_cannot_make_data_that_is_nested_deeper():
    """What an alias stands for counts as if it stood there."""
    inner = "[" * 20 + "1" + "]" * 20
    fault = _refusal(f"a: &a {inner}\nb: &b {'[' * 20}*a{']' * 20}\n")
    assert "deeper than" in fault.detail
    assert fault.line == 2


def test_the_number_of_nodes_is_limited():
    """Counted for each document."""
    fits = "\n".join("- 1" for _ in range(MAX_NODES - 1))
    assert len(_read(fits)) == MAX_NODES - 1
    assert f"more than {MAX_NODES}" in _refusal(fits + "\n- 1").detail
    assert len(parse_yaml(SourceText(f"{fits}\n---\n{fits}"))) == 2


def test_a_billion_laughs_are_refused():
    """Aliased parts count each time they are used."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 9)]
    wide = ["a0: &a0 [" + "x," * 1500 + "]", f"b: [{','.join(['*a0'] * 20)}]"]
    for text in ("\n".join(lines).replace("x,x", "x," * 100 + "x"), "\n".join(wide)):
        assert "nodes" in _refusal(text).detail


def test_the_number_of_aliases_is_limited():
    """Twenty are enough for people."""
    text = "a: &a 1\nb: [" + "*a, " * MAX_ALIASES
    assert len(_read(text + "]")["b"]) == MAX_ALIASES
    assert f"more than {MAX_ALIASES} aliases" in _refusal(text + "*a]").detail


@pytest.mark.parametrize("text", ["a: &r [*r]", "&r a: {b: *r}", "a: &r {b: {c: *r}}", "*x"])
def test_an_alias_needs_an_anchor_that_is_finished(text):
    """So that data never contains itself."""
    assert "must follow the whole" in _refusal(text).detail


def test_an_alias_stands_for_the_last_anchor_of_its_name():
    """Names may be used again."""
    assert _read("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": 1, "b": 1, "c": 2, "d": 2}


# --- syntax ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: b: c\n", (1, 5)),
        ("a: [1, 2\nb: 3\n", (2, 2)),
        ("a:\n\t- b\n", (2, 1)),
        ("ok: 1\né: \x01\n", (2, 4)),
        ("a: \x00", (1, 4)),
        ("ö: ü\nä: 'ß\x7f'\n", (2, 6)),
        ("a: '", (1, 5)),
        ("a: %b", (1, 4)),
        ('a: "\\ud800"', (1, 7)),
        ("%YAML 3.0\n---\na: 1\n", (1, 1)),
    ],
)
def test_bad_syntax_is_refused_with_its_place(text, place):
    """Line and column count characters, also after those that are long in UTF-8."""
    fault = _refusal(text)
    assert fault.detail.startswith("not valid YAML: ")
    assert (fault.line, fault.column) == place


def test_several_documents_are_read_and_empty_ones_left_out():
    """A text of comments holds none."""
    assert [d.data for d in parse_yaml(SourceText("a: 1\n---\n# none\n---\n- 2\n...\n"))] == [
        {"a": 1},
        [2],
    ]
    assert parse_yaml(SourceText("# nothing\n")) == []
    assert parse_yaml(SourceText("")) == []


def test_places_are_those_of_the_values():
    """By pointer, also in later documents and under keys that a pointer must escape."""
    text = "first: 1\n---\n# a comment\na/b:\n  - x\n  - ~c: {d: 'v'}\n"
    document = parse_yaml(SourceText(text, "f.yaml"))[1]
    places = {
        "": (4, 1),
        "/a~1b": (5, 3),
        "/a~1b/0": (5, 5),
        "/a~1b/1": (6, 5),
        "/a~1b/1/~0c": (6, 9),
        "/a~1b/1/~0c/d": (6, 13),
    }
    for pointer, place in places.items():
        fault = document.fault(pointer, "x")
        assert (fault.line, fault.column, fault.file) == (*place, "f.yaml")
    assert document.fault("/a~1b/1/none/deep", "x").line == 6


# --- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        *(
            "no",
            "yes",
            "on",
            "null",
            "~",
            "",
            " ",
            "1",
            "0o17",
            "0x1F",
            "1e3",
            ".5",
            ".inf",
            "1_000",
        ),
        *("1:30", "2024-01-01", "=", "<<", "-", "- a", "a: b", "a #b", "#", "*a", "&a", "!a", "%a"),
        *("a\nb", "a\nb\n", "a\n\n", "\na", " a\nb", "a \nb", "\ta\nb", "a\tb", "a\r\nb", "---\na"),
        *(
            "é😀",
            "\x85",
            "\u2028",
            "\ufeff",
            "\x7f",
            "\x01",
            "x" * 500,
            "x " * 200,
            "'",
            '"',
            "\\n",
        ),
        *(2**63 - 1, -(2**63), 1e300, 1e-7, 0.1, -0.0, True, None, [], {}, [[], {}], [None]),
        *({"a": {"b": [1, {"c": "d"}]}}, {"no": 1, "<<": 2, "": 3, "a\nb": 4, "x" * 200: 5}),
    ],
)
def test_what_is_written_is_read_back(value):
    """Texts that look like something else, control characters, numbers at their limits."""
    read = _read(dump_yaml([{"v": value}]))["v"]
    assert (read, type(read)) == (value, type(value))


def test_written_yaml_is_readable():
    """Block style, keys in their order, scripts as literal blocks, no aliases."""
    shared = {"b": 1}
    document = {"z": shared, "a": shared, "script": "one\ntwo\n", "text": "ü"}
    assert dump_yaml([document]) == ("z:\n  b: 1\na:\n  b: 1\nscript: |\n  one\n  two\ntext: ü\n")
    assert dump_yaml([{}, {}], explicit_start=True) == "--- {}\n--- {}\n"


# --- written without PyYAML, as PyYAML writes it ---------------------------------------------

_WORDS = [
    *("a", "-c", "--x=1", "a=b", "x@y", "a%b", "a,b", "/bin/sleep", "sha256:abc", "a-", "k" * 100),
    *("10000", "-1", "1:30", "1e3", "0x1f", "0o7", ".5", "1_000", ".inf", "2026-11-26", "0b1"),
    *("2026-11-26T01:02:03.456Z", "190:20:30", "y", "no", "on", "null", "~", "-", "+", "=", "<<"),
    *(
        "exec x -a 1",
        "a; b && c | d > e",
        'say "it\'s" $(x)',
        "a\\b *.c !d",
        "1 2",
        "- a b",
        "-- a",
    ),
    *("2001-12-14 21:59:43", "a  b", "a ", " a", "a :b", "a ?", "a, b", "w " * 40 + "w", "w " * 55),
    *("...", "---x", "x:", "a b", "a: b", "a #b", "", "{", "é", "two\nlines", "k" * 200, "- a"),
]
_plain_data = st.recursive(
    st.sampled_from([*_WORDS, None, True, False, 0, -3, 1.5]) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=4)
    ),
    max_leaves=12,
)


def _as_pyyaml_writes(document) -> str:
    return dump_yaml([document], explicit_start=True).removeprefix("---\n")


@settings(max_examples=400, deadline=None)
@given(_plain_data | st.text("ab0-: #;$()&*!\"'\\,?.=@%~", max_size=9))
def test_plain_documents_are_written_as_all_others(document):
    """Whoever writes a document, it is the same text: a file must not change with its writer."""
    data = {"k": document}
    assert dump_yaml([data]) == _as_pyyaml_writes(data)


@pytest.mark.parametrize("word", _WORDS)
def test_words_are_quoted_where_they_would_be_no_text(word):
    """As a value, a key, in a list, and in a mapping in a list."""
    for data in ({"k": word}, {word: "v"}, {"k": [word]}, {"k": [{word: word}, {"a": {}}]}):
        assert dump_yaml([data]) == _as_pyyaml_writes(data)
        assert _read(dump_yaml([data])) == data


@pytest.mark.parametrize("text", ["word", "some words that may be folded", "w" * 90])
def test_deep_documents_are_written_too(text):
    """However little room is left in a line."""
    data: object = text
    for level in range(20):
        data = {"k": data} if level % 2 else {"k": [{"a": data}]}
    assert dump_yaml([data]) == _as_pyyaml_writes(data)


def test_most_manifests_are_plain():
    """Else it would be of no use."""
    text = (
        "metadata:\n  name: orders\nspec:\n  steps:\n  - name: read\n    command:\n    - cat\n"
        '  - name: write\n    script: exec sort -u > "$FLOW_DATA/out"\n'
    )
    assert plain_yaml(_read(text), lambda _word: False) == text
