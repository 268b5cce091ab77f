"""How many flows let others have the processor."""

from __future__ import annotations

import pytest

from flow_operator import turns
from flow_operator.turns import in_turns


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in its order."""
    happened: list[str] = []
    monkeypatch.setattr(turns.os, "sched_yield", lambda: happened.append("yield"))
    return happened


def test_between_two_the_processor_is_offered(order: list[str]) -> None:
    """And not before the first, or after the last: then we wait for something anyway."""
    looked_at = order.append
    for item in in_turns("abc"):
        looked_at(item)
    assert order == ["a", "yield", "b", "yield", "c"]


def test_one_by_itself_yields_to_nobody(order: list[str]) -> None:
    """Somebody waits for it."""
    assert list(in_turns("a")) == ["a"]
    assert order == []
