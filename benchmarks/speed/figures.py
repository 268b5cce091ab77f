"""Samples, and what they tell: medians, ratios to the floor of the same round, spreads."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """One figure that was measured.

    Attributes:
        contender: who was measured, as ``flow-operator`` or ``floor-c``.
        measure: what, as named in ``measures.py``.
        flows: with how many flows.
        round: in which round; figures of one round were measured one after the other.
        value: in the measure's unit.
    """

    contender: str
    measure: str
    flows: int
    round: int
    value: float


@dataclass(frozen=True)
class Result:
    """One run of the benchmarks.

    Attributes:
        machine: what it ran on and what else ran there, by title.
        versions: of contenders and what they stand on, by name.
        missing: contenders that could not be measured, and why.
        failures: what failed or took too long, a sentence each.
        seconds: how long it took.
        samples: everything that was measured.
    """

    machine: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value that so large a part of an ordered sequence does not exceed."""
    if not ordered:
        raise ValueError("no values to take a percentile of")
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


@dataclass(frozen=True)
class Figure:
    """What the rounds of one measure of one contender say: middle, least, most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure | None:
        """The figure of some values; None if there are none."""
        ordered = sorted(values)
        if not ordered:
            return None
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    @property
    def spread(self) -> float:
        """How far apart the rounds are, as a part of their median."""
        return (self.most - self.least) / self.median if self.median else 0.0


class Figures:
    """Samples by what they are of."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._rounds: dict[tuple[str, str, int], dict[int, list[float]]] = defaultdict(dict)
        for sample in samples:
            key = sample.contender, sample.measure, sample.flows
            self._rounds[key].setdefault(sample.round, []).append(sample.value)

    def rounds(self, contender: str, measure: str, flows: int) -> dict[int, float]:
        """The median of each round."""
        found = self._rounds.get((contender, measure, flows), {})
        return {number: statistics.median(values) for number, values in found.items()}

    def figure(self, contender: str, measure: str, flows: int) -> Figure | None:
        """Over all rounds; None if it was not measured."""
        return Figure.of(self.rounds(contender, measure, flows).values())

    def ratio(self, contender: str, measure: str, flows: int, floor: str) -> Figure | None:
        """To another contender, round by round: what slowed both down cancels out."""
        ours, theirs = (self.rounds(name, measure, flows) for name in (contender, floor))
        both = sorted(ours.keys() & theirs.keys())
        return Figure.of(ours[number] / theirs[number] for number in both if theirs[number])

    def sizes(self, contender: str, measure: str) -> list[int]:
        """With how many flows it was measured."""
        return sorted(n for who, what, n in self._rounds if (who, what) == (contender, measure))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line through points (x, y) that is nearest to all (least squares)."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def summary(samples: Iterable[Sample]) -> str:
    """The median of each measure of each contender, for whoever watches the run."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for sample in samples:
        values[sample.contender, sample.measure].append(sample.value)
    several = len({who for who, _ in values}) > 1
    return ", ".join(
        f"{f'{who} ' if several else ''}{name} {statistics.median(found):.3g}"
        for (who, name), found in values.items()
    )
