"""The three-way merge of ``kubectl apply``."""

from __future__ import annotations

from typing import Any

import msgspec


def merge(live: dict[str, Any], applied: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Carry what has changed from ``applied`` to ``wanted`` over to ``live``.

    What the file did not change, it does not touch; a key that it has dropped goes. Lists are
    values: a changed one replaces the live one whole.
    """
    merged = dict(live)
    for key in applied:
        if key not in wanted:
            merged.pop(key, None)
    for key, value in wanted.items():
        before = applied.get(key, _ABSENT)
        if before is not _ABSENT and _same(value, before):
            continue
        here = live.get(key)
        if isinstance(value, dict) and isinstance(here, dict):
            merged[key] = merge(here, before if isinstance(before, dict) else {}, value)
        else:
            merged[key] = value
    return merged


_ABSENT = object()


def _same(first: Any, second: Any) -> bool:
    """Equal as JSON is: 1, 1.0 and true are three things."""
    return first == second and msgspec.json.encode(first) == msgspec.json.encode(second)
