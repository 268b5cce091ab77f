"""JSON bodies, read as strictly as YAML."""

from __future__ import annotations

import pytest

from flow_operator.errors import InvalidError
from flow_operator.manifest import parse_json
from flow_operator.manifest.json_text import MAX_DEPTH


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b' {"a": [1, 2.5, "x", true, null]}\n', {"a": [1, 2.5, "x", True, None]}),
        (b"[]", []),
        (b'"\\ud83d\\ude00"', "😀"),
        ('"😀"'.encode(), "😀"),
        (b'"[[{{\\"[[\\\\"', '[[{{"[[\\'),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"1e3", 1000.0),
    ],
)
def test_json_is_read(body, value):
    """As RFC 8259 says, in UTF-8."""
    read = parse_json(body)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"a": "\xff"}', "UTF-8 at byte 7"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"9223372036854775808", "64 bits"),
        (b"-9223372036854775809", "64 bits"),
        (b"9" * 10_000, "64 bits"),
        (b"[1e400]", "too large"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'{"a": 1,}', "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": 1} {"b": 2}', "not valid JSON"),
        (b'"a\nb"', "not valid JSON"),
        (b'"a\x00b"', "not valid JSON"),
        (b"01", "not valid JSON"),
        (b"// x\n1", "not valid JSON"),
    ],
)
def test_what_is_no_json_is_refused(body, said):
    """Nothing that another reader would take for something else."""
    with pytest.raises(InvalidError, match="(?i)" + said.replace("(", r"\(")):
        parse_json(body)


def test_syntax_errors_have_a_place():
    """Line and column of what was not expected."""
    with pytest.raises(InvalidError) as caught:
        parse_json(b'{\n  "a": 1\n  "b": 2\n}')
    (fault,) = caught.value.faults
    assert (fault.line, fault.column) == (3, 3)


@pytest.mark.parametrize("pair", [b"[]", b"{}"])
def test_nesting_is_limited(pair):
    """Also where the text never comes to its end."""
    opening = b"[" if pair == b"[]" else b'{"a":'
    closing = pair[1:]
    assert parse_json(opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 200_000):
        with pytest.raises(InvalidError, match="deeper"):
            parse_json(opening * depth + b"1" + closing * depth)
        with pytest.raises(InvalidError, match="deeper"):
            parse_json(opening * depth)


def test_brackets_within_strings_do_not_nest():
    """Escaped quotes do not end a string."""
    text = '"' + "[" * 1000 + '\\"' + "{" * 1000 + '"'
    assert parse_json(f'{{"a": {text}}}'.encode())["a"].count("[") == 1000


@pytest.mark.parametrize("body", [b'{"\\ud800": 1, "\\ud800": 2}', b'["\\udfff"]'])
def test_a_refusal_can_always_be_told(body):
    """Its text can be sent, whatever was in the body."""
    with pytest.raises(InvalidError) as caught:
        parse_json(body)
    told = str(caught.value)
    assert told.encode("utf-8", "replace").decode() == told
