"""What benchmarks make of their samples."""

from __future__ import annotations

import pytest

from speed.figures import Figure, Figures, Sample, percentile, slope


def samples(who: str, *rounds: float) -> list[Sample]:
    return [Sample(who, "start", 10, number, value) for number, value in enumerate(rounds)]


def test_a_ratio_is_taken_within_each_round() -> None:
    """A machine that is slow for one round slows both down, and changes no ratio."""
    figures = Figures([*samples("ours", 2, 20, 3), *samples("floor", 1, 4, 3)])
    assert figures.ratio("ours", "start", 10, "floor") == Figure(2, 1, 5)  # of medians it were 1


def test_only_rounds_of_both_have_a_ratio() -> None:
    """Where one of the two was not measured there is nothing to compare."""
    figures = Figures([*samples("ours", 3), *samples("floor", 1, 5)])
    assert figures.ratio("ours", "start", 10, "floor") == Figure(3, 3, 3)
    assert figures.ratio("ours", "start", 10, "nobody") is None
    assert figures.figure("nobody", "start", 10) is None


def test_a_figure_is_the_median_of_the_medians_of_rounds() -> None:
    """A round with many samples counts as one."""
    many = [Sample("ours", "start", 10, 0, value) for value in (1, 1, 1, 9)]
    figures = Figures([*many, Sample("ours", "start", 10, 1, 4), Sample("ours", "start", 10, 2, 5)])
    assert figures.figure("ours", "start", 10) == Figure(4, 1, 5)


def test_the_spread_is_a_part_of_the_median() -> None:
    """Rounds from 8 to 12 about 10 are 40 % apart."""
    assert Figure.of([8, 10, 12]).spread == pytest.approx(0.4)
    assert Figure.of([0]).spread == 0
    assert Figure.of([]) is None


def test_a_percentile_is_one_of_the_values() -> None:
    """Of a hundred values the 99th percentile is the largest; of one value it is that one."""
    assert percentile(range(100), 0.5) == 50
    assert percentile(range(100), 0.99) == 99
    assert percentile([7], 0.99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_the_slope_is_that_of_the_nearest_line() -> None:
    """3 more for each."""
    assert slope([(0, 1), (1, 4), (2, 7)]) == pytest.approx(3)


def test_sizes_are_told_in_order() -> None:
    """However they were measured."""
    found = [Sample("ours", "start", flows, 0, 1) for flows in (5000, 100, 1000)]
    assert Figures(found).sizes("ours", "start") == [100, 1000, 5000]
