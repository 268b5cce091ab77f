"""Durations and quantities: parsed once, kept as they were written."""

from __future__ import annotations

import re
from typing import Any

import msgspec

DURATION_PATTERN = (
    r"^(?=.)([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?"
    r"([0-9]+(\.[0-9]+)?s)?([0-9]+ms)?$(?!\n)"
)
"""Parts from large to small, as in ``1h30m`` or ``500ms``."""

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|d|h|m|s)")
_DURATION = re.compile(DURATION_PATTERN)
_MAX_SECONDS = 10 * 365 * 86400.0


class Duration:
    """A span of time; immutable.

    A plain class rather than a dataclass: msgspec would read the latter as an object of fields.

    Attributes:
        text: as the user wrote it; what is given back.
        seconds: its length in seconds, never negative.
    """

    __slots__ = ("seconds", "text")
    text: str
    seconds: float

    def __init__(self, text: str, seconds: float) -> None:
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "seconds", seconds)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Duration is immutable: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and other.seconds == self.seconds

    def __hash__(self) -> int:
        return hash(self.seconds)

    def __repr__(self) -> str:
        return f"Duration({self.text!r})"

    @classmethod
    def parse(cls, value: Any) -> Duration:
        """Parse ``"1h30m"``, ``"500ms"`` or a plain number of seconds.

        Raises:
            ValueError: the text is no duration, or is longer than ten years.
        """
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(_HELP.format(value))  # noqa: TRY004 - msgspec turns ValueError into its own
        if isinstance(value, str):
            if not _DURATION.match(value):
                raise ValueError(_HELP.format(value))
            seconds = sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(value))
            text = value
        else:
            seconds = round(float(value), 3) + 0.0 if 0 <= value < 2 * _MAX_SECONDS else -1.0
            text = f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
        if not 0 <= seconds <= _MAX_SECONDS:
            raise ValueError(f"{value!r} is out of range: 0s to 3650d")
        return cls(text, seconds)


_HELP = "{!r} is no duration: write it like 500ms, 30s, 10m or 1h30m"


def duration(text: str) -> Any:
    """A Struct field whose default is the duration ``text``.

    A factory, since msgspec cannot write a value of ours into the schema as a default.
    """
    return msgspec.field(default_factory=lambda: Duration.parse(text))
