"""Durations, sizes and CPUs: parsed once, kept as they were written."""

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
            raise ValueError(f"{value!r} is out of range: it must be from 0s to 3650d")
        return cls(text, seconds)


_HELP = "{!r} is no duration: write it like 500ms, 30s, 10m or 1h30m"


def duration(text: str) -> Any:
    """A Struct field whose default is the duration ``text``.

    A factory, since msgspec cannot write a value of ours into the schema as a default.
    """
    value = Duration.parse(text)
    return msgspec.field(default_factory=lambda: value)


def size(text: str) -> Any:
    """A Struct field whose default is the size ``text``."""
    value = Size.parse(text)
    return msgspec.field(default_factory=lambda: value)


SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$(?!\n)"
CPU_PATTERN = r"^([0-9]+m|[0-9]+(\.[0-9]+)?)$(?!\n)"

_FACTORS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_SIZE = re.compile(SIZE_PATTERN)
_CPU = re.compile(CPU_PATTERN)
_MAX_SIZE = 2**50
_MAX_CPU = 10_000.0


class Size:
    """A number of bytes, written as Kubernetes writes quantities; immutable.

    Attributes:
        text: as the user wrote it; what is given back.
        bytes: how many.
    """

    __slots__ = ("bytes", "text")
    text: str
    bytes: int

    def __init__(self, text: str, number: int) -> None:
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "bytes", number)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Size is immutable: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and other.bytes == self.bytes

    def __hash__(self) -> int:
        return hash(self.bytes)

    def __repr__(self) -> str:
        return f"Size({self.text!r})"

    @classmethod
    def parse(cls, value: Any) -> Size:
        """Parse ``"256Mi"``, ``"1.5Gi"``, ``"10M"`` or a plain number of bytes.

        Raises:
            ValueError: the text is no size, or is larger than 1024 Ti.
        """
        text = str(value) if _whole(value) else value
        match = _SIZE.match(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"{value!r} is no size: write it like 512Ki, 256Mi, 1.5Gi or 10M")
        unit = match[2] or ""
        number = float(text.removesuffix(unit)) * _FACTORS[unit]
        if number > _MAX_SIZE or number != int(number):
            raise ValueError(f"{value!r} is out of range: it must be whole bytes, up to 1024Ti")
        return cls(text, int(number))


class Cpu:
    """A number of CPU cores, written as Kubernetes writes quantities; immutable.

    Attributes:
        text: as the user wrote it; what is given back.
        cores: how many, at least 0.01.
    """

    __slots__ = ("cores", "text")
    text: str
    cores: float

    def __init__(self, text: str, cores: float) -> None:
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "cores", cores)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Cpu is immutable: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cpu) and other.cores == self.cores

    def __hash__(self) -> int:
        return hash(self.cores)

    def __repr__(self) -> str:
        return f"Cpu({self.text!r})"

    @classmethod
    def parse(cls, value: Any) -> Cpu:
        """Parse ``"500m"``, ``"1.5"`` or a plain number of cores.

        Raises:
            ValueError: the text is no number of cores, or out of range.
        """
        plain = isinstance(value, float) or _whole(value)
        text = f"{value:.3f}".rstrip("0").rstrip(".") if plain else value
        if not isinstance(text, str) or not _CPU.match(text):
            raise ValueError(f"{value!r} is no number of CPUs: write it like 500m, 1 or 1.5")
        milli = text.endswith("m")
        cores = float(text.removesuffix("m")) / (1000 if milli else 1)
        if not _LEAST_CPU <= cores <= _MAX_CPU:
            raise ValueError(f"{value!r} is out of range: it must be from 10m to 10000")
        return cls(text, cores)


_LEAST_CPU = 0.01
"""Cores; the least quota that cgroup v2 takes is 1 ms of each 100 ms."""


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
