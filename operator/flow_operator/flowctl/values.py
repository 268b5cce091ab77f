"""What options take, beyond what click knows."""

from __future__ import annotations

import click


class Seconds(click.ParamType[float]):
    """A span of time: ``30``, ``30s`` or ``2m``, in seconds.

    Args:
        most: the longest that is taken.
    """

    name = "time"

    def __init__(self, most: float = float("inf")) -> None:
        self._most = most

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """In seconds."""
        try:
            seconds = _seconds(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time: write it like 30, 30s or 2m.", param, ctx)
        if not 0 <= seconds <= self._most:
            self.fail(f"{value!r} is not between 0 and {self._most:g} seconds.", param, ctx)
        return seconds


def _seconds(text: str) -> float:
    """A plain number is one of seconds.

    Raises:
        ValueError: it is no time.
    """
    try:
        return float(text)
    except ValueError:
        from flow_operator.model.units import Duration  # noqa: PLC0415 - help must not wait for it

        return Duration.parse(text).seconds
