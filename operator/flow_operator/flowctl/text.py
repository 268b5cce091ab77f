"""How values are written for people."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_SIZES = ("Ki", "Mi", "Gi", "Ti")
_KIBI = 1024
_SHORT = 10
"""From this many of a unit on, the next smaller one no longer matters."""

NOTHING = "-"


def clean(value: object) -> str:
    """One line of printable text: what flows say must not steer a terminal."""
    text = NOTHING if value is None else str(value)
    return "".join(ch if ch.isprintable() else _escaped(ch) for ch in text.strip())


def _escaped(ch: str) -> str:
    return " " if ch.isspace() else ch.encode("unicode_escape").decode()


def span(seconds: float) -> str:
    """A length of time, in at most two units: ``7s``, ``3m12s``, ``5h``, ``2d4h``."""
    left = max(0, int(seconds))
    for index, (unit, size) in enumerate(_UNITS):
        if left < size:
            continue
        count, rest = divmod(left, size)
        if index + 1 < len(_UNITS) and (count < _SHORT or unit == "m"):
            smaller, smaller_size = _UNITS[index + 1]
            if rest := rest // smaller_size:
                return f"{count}{unit}{rest}{smaller}"
        return f"{count}{unit}"
    return "0s"


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, by this machine's clock."""
    if not moment:
        return NOTHING
    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return span(((now or datetime.now(UTC)) - then).total_seconds())


def size(count: int | None) -> str:
    """Bytes: ``512``, ``4.0Ki``, ``12Mi``."""
    if count is None:
        return NOTHING
    amount, unit = float(count), ""
    for larger in _SIZES:
        if amount < _KIBI:
            break
        amount, unit = amount / _KIBI, larger
    return f"{amount:.1f}{unit}" if unit and amount < _SHORT else f"{amount:.0f}{unit}"


def cpu(seconds: float | None) -> str:
    """Processor time: ``0.42s`` while it is short."""
    if seconds is None:
        return NOTHING
    return f"{seconds:.2f}s" if seconds < _SHORT else span(seconds)
