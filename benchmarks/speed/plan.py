"""What a run of the benchmarks measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from speed.measures import PEERS
from speed.session import Effort


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often.

    Attributes:
        sizes: numbers of flows; idling and commands are measured with the first of them.
        rounds: how often each is measured; contenders take turns within a round. Peers are measured
            in each round with the first number of flows only, with other numbers in the first one.
        peers: names of those that are compared.
        many: from so many flows on, of the peers only s6 is compared: others take minutes, or fail.
        folder: how many manifests stand in the folder of the cold start.
        pipeline: bytes that go through a pipeline.
        drains: bytes that are written before a soft stop.
        effort: how much is measured of each.
        idle: seconds of idling of this operator, and of each other contender; in one round.
        budget: seconds after which nothing more is begun.
    """

    sizes: tuple[int, ...] = (1000, 100, 5000)
    rounds: int = 3
    peers: tuple[str, ...] = PEERS
    many: int = 2000
    folder: int = 10_000
    pipeline: int = 2**31
    drains: tuple[int, ...] = (2**12, 2**13, 2**14, 2**15, 3 * 2**14, 2**16)
    effort: Effort = field(default_factory=Effort)
    idle: tuple[float, float] = (30.0, 10.0)
    budget: float = 20 * 60.0

    @property
    def main(self) -> int:
        """The number of flows that most is measured with."""
        return self.sizes[0]

    @classmethod
    def quick(cls) -> Self:
        """The least that touches everything: for trying the benchmarks, not for figures."""
        return cls(
            sizes=(20,),
            rounds=1,
            peers=(),
            folder=30,
            pipeline=2**26,
            drains=(2**12, 2**13),
            effort=Effort(kills=10, alone=2, adds=2, load=0.2, settle=0.1),
            idle=(0.5, 0.5),
            budget=100.0,
        )
