"""Counters and histograms."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from flow_operator.metrics.instruments import Counter, Histogram, Level


def _told(instrument):
    return {(s.name, *sorted(s.labels.values())): s.value for s in instrument.family().samples}


class Word(str):
    """A text in whose hash another thread may take its turn."""

    __slots__ = ()

    def __hash__(self) -> int:
        return super().__hash__()


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_what_is_known_is_told_from_the_start():
    """A rate needs a zero to rise from."""
    counter = Counter("x_total", "X.", ("kind",), [("a",), ("b",)])
    counter.add("a")
    counter.add("c", by=2)
    assert _told(counter) == {("x_total", "a"): 1, ("x_total", "b"): 0, ("x_total", "c"): 2}
    assert _told(Counter("x_total", "X.")) == {("x_total",): 0}


def test_buckets_hold_what_is_at_most_their_bound():
    """Each counts what is in those below, too; the last has no bound."""
    histogram = Histogram("x_seconds", "X.", (0.1, 1, 10))
    for value in (0.05, 0.1, 0.5, 10, 11):
        histogram.observe(value)
    assert _told(histogram) == {
        ("x_seconds_bucket", "0.1"): 2,
        ("x_seconds_bucket", "1.0"): 3,
        ("x_seconds_bucket", "10.0"): 4,
        ("x_seconds_bucket", "+Inf"): 5,
        ("x_seconds_count",): 5,
        ("x_seconds_sum",): 21.65,
    }


def test_histograms_have_cells_by_their_labels():
    """Those that are known are empty at first."""
    histogram = Histogram("x_seconds", "X.", (1,), ("kind",), [("a",)])
    assert _told(histogram)["x_seconds_count", "a"] == 0
    histogram.observe(0.5, "b")
    assert _told(histogram)["x_seconds_count", "b"] == 1


def test_nothing_is_lost_between_threads(hasty):
    """Each instrument has a lock."""
    counter, level = Counter("x_total", "X.", ("kind",)), Level("y", "Y.")
    histogram = Histogram("z_seconds", "Z.", (1,))

    def work():
        for _ in range(20_000):
            counter.add(Word("a"))
            histogram.observe(0.5)
            level.change(1)
            level.change(-1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _told(counter) == {("x_total", "a"): 80_000}
    assert _told(histogram)["z_seconds_count",] == 80_000
    assert _told(level) == {("y",): 0}
