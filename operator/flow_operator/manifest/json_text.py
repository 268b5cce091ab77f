"""JSON request bodies, read as strictly as YAML is."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from flow_operator.errors import Fault, InvalidError, clipped

MAX_DEPTH = 33
"""One level more than a document may have: bodies are arrays of documents."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)', re.DOTALL)
"""Possessive, and an unfinished string matches too: anything else backtracks for minutes."""

_BRACKETS = re.compile(rb"[\[\]{}]")
_MAX_INT_DIGITS = 20


def parse_json(body: bytes) -> Any:
    """Parse one JSON text (RFC 8259) in UTF-8.

    Raises:
        InvalidError: bad UTF-8 or syntax, a duplicate key, NaN or Infinity, a number beyond 64
            bits, a lone surrogate, or nesting deeper than 33.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidError(f"not valid UTF-8 at byte {error.start}: send it as UTF-8") from None
    if not text.strip():
        raise InvalidError("the body is empty; send a JSON document")
    _check_depth(body)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_pairs,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except json.JSONDecodeError as error:
        raise InvalidError(
            [Fault(f"not valid JSON: {error.msg}", "", error.lineno, error.colno)]
        ) from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _check_depth(body: bytes) -> None:
    """Count brackets outside strings: the standard parser recurses once for each level."""
    depth = 0
    for match in _BRACKETS.finditer(_STRING.sub(b"", body)):
        depth += 1 if match.group() in b"[{" else -1
        if depth > MAX_DEPTH:
            raise InvalidError(f"nested deeper than {MAX_DEPTH} levels: make it flatter")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidError(
            f"the key {clipped(ascii(twice))} stands twice in one object: leave one out"
        )
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidError(f"{name} is not JSON; use null or leave the field out")


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= _MAX_INT_DIGITS else 2**64
    if not -(2**63) <= value < 2**63:
        raise InvalidError(f"the number {digits[:40]} does not fit 64 bits; send it as a string")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise InvalidError(f"the number {digits[:40]} is too large; send it as a string")
    return value


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidError(
            "a string holds half of a surrogate pair (\\ud800 to \\udfff): send both, or neither"
        ) from None
