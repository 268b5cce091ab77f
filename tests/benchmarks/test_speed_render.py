"""The page that benchmarks write."""

from __future__ import annotations

import pytest

from speed.figures import Result, Sample
from speed.measures import FLOOR, OURS, PARSE, SHELL
from speed.render import render


def page(*samples: tuple[str, str, int, float], **extra: object) -> str:
    rows = [Sample(who, what, flows, 0, value) for who, what, flows, value in samples]
    return render(Result(machine={"kernel": "6.18"}, samples=rows, **extra), [])


def row(text: str, title: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"| {title}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("ours", "floor", "met"),
    [(0.4, 0.01, "yes"), (0.6, 0.25, "yes"), (0.6, 0.1, "**no**")],
    ids=["absolute", "by the floor", "neither"],
)
def test_a_start_is_good_by_the_clock_or_by_the_floor(ours: float, floor: float, met: str) -> None:
    """0.5 s, or three times the floor where the machine is a slow one."""
    text = page((OURS, "start", 1000, ours), (FLOOR, "start", 1000, floor))
    assert row(text, "start all")[6] == met


def test_of_a_rate_more_is_better() -> None:
    """1,500 calls a second are to be reached."""
    base = (OURS, "start", 1000, 1.0)
    assert row(page(base, (OURS, "status-rate", 1000, 1600)), "status of all, 8")[6] == "yes"
    assert row(page(base, (OURS, "status-rate", 1000, 1400)), "status of all, 8")[6] == "**no**"


def test_a_peer_has_a_column_where_it_was_measured() -> None:
    """And none where it was not; why stands at the end."""
    text = page(
        (OURS, "start", 1000, 1.0),
        ("s6", "start", 1000, 0.75),
        missing={"pm2": "needs node and npm"},
    )
    assert row(text, "start all")[-1] == "0.75"
    assert "| s6 |" in text
    assert "| pm2" not in text
    assert "- pm2: not here, needs node and npm" in text


def test_what_failed_is_told() -> None:
    """A figure that is not there has a reason."""
    assert "- drains: TimeoutError" in page(failures=["drains: TimeoutError"])


def test_a_cold_start_is_judged_by_parsing_and_spawning() -> None:
    """The bare parser, and twice what spawning as many takes."""
    floors = (PARSE, "cold-start", 10_000, 1.0), (FLOOR, "cold-start", 10_000, 0.5)
    assert "| **no** |" in page((OURS, "cold-start", 10_000, 2.1), *floors)
    assert "parsing and twice the floor: 2 | yes |" in page(
        (OURS, "cold-start", 10_000, 1.9), *floors
    )


def test_the_ratio_of_pipelines_stands_in_the_text() -> None:
    """As a flow against in a shell."""
    text = page((OURS, "pipeline", 1, 3e9), (SHELL, "pipeline", 1, 2e9))
    assert "3.00 GB/s as a flow" in text
    assert "1.50 times as much" in text
