"""Writes plain documents as PyYAML does, in a quarter of the time.

PyYAML makes a node of each value and resolves each twice, in Python. Nearly all documents consist
of mappings, lists, words and numbers, whose form in block style is simple. What is not surely
written as PyYAML writes it is left to PyYAML.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

WIDTH = 100
"""Columns after which PyYAML folds a text at its next space."""

_SAFE = r"A-Za-z0-9/_.+=@%,;$()<>|&*!\"'\\-"

_TEXT = re.compile(
    rf"(?!---|\.\.\.|-(?: |\Z))[A-Za-z0-9/_.+-](?:[{_SAFE}]|[: ](?=[{_SAFE}])){{0,{WIDTH}}}"
)
"""Text without anything that YAML could take for syntax, and short enough to be a simple key (128
bytes at most). It may still look like a number."""

_NAMED = {None: "null", True: "true", False: "false"}

Quoted = Callable[[str], bool]
"""Whether a word is taken for something else than text unless it is quoted."""


class _NotPlain(Exception):  # noqa: N818 - never leaves this module
    """Something is to be written by somebody else."""


def plain_yaml(document: Any, quoted: Quoted) -> str | None:
    """A document as YAML, keys in their given order; None if it is not plain."""
    if not isinstance(document, dict) or not document:
        return None
    lines: list[str] = []
    try:
        _mapping(document, "", "", lines, quoted)
    except _NotPlain:
        return None
    return "".join(lines)


def _mapping(
    value: dict[Any, Any], first: str, indent: str, lines: list[str], quoted: Quoted
) -> None:
    """Add a mapping; ``first`` stands before its first key, ``indent`` before the others."""
    for key, inner in value.items():
        head = f"{first}{_text(key, quoted)}:"
        first = indent
        if not inner or not isinstance(inner, (dict, list)):
            lines.append(_unfolded(f"{head} {_scalar(inner, quoted)}\n"))
        elif isinstance(inner, dict):
            lines.append(f"{head}\n")
            _mapping(inner, f"{indent}  ", f"{indent}  ", lines, quoted)
        else:
            lines.append(f"{head}\n")
            _list(inner, indent, lines, quoted)


def _list(value: list[Any], indent: str, lines: list[str], quoted: Quoted) -> None:
    for inner in value:
        if not inner or not isinstance(inner, (dict, list)):
            lines.append(_unfolded(f"{indent}- {_scalar(inner, quoted)}\n"))
        elif isinstance(inner, dict):
            _mapping(inner, f"{indent}- ", f"{indent}  ", lines, quoted)
        else:
            raise _NotPlain


def _unfolded(line: str) -> str:
    if len(line) > WIDTH:
        raise _NotPlain
    return line


def _scalar(value: Any, quoted: Quoted) -> str:
    if isinstance(value, str):
        return _text(value, quoted)
    if value is None or isinstance(value, bool):
        return _NAMED[value]
    if isinstance(value, int):
        return str(value)
    if value in ({}, []):
        return "{}" if isinstance(value, dict) else "[]"
    raise _NotPlain


def _text(value: Any, quoted: Quoted) -> str:
    if not isinstance(value, str) or not _TEXT.fullmatch(value):
        raise _NotPlain
    if not quoted(value):
        return value
    if "'" in value:
        raise _NotPlain
    return f"'{value}'"
