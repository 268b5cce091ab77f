"""Values of unit files: words and their quotes, specifiers, times, sizes.

Sources: systemd.syntax(7), systemd.unit(5) "Specifiers", systemd.time(7).
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from flow_operator.flowctl.importing.source import Place, Source

_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "s": " ",
}
_CODED = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})")
_HIGHEST = 0x10FFFF

_UNITS = {
    **dict.fromkeys(("us", "usec", "µs"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
    **dict.fromkeys(("M", "month", "months"), 2629800.0),
    **dict.fromkeys(("y", "year", "years"), 31557600.0),
}
_TIME = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*([A-Za-zµ]*)")
_SIZE = re.compile(r"([0-9]{1,15})\s*([KMGTPE]?)")
_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50, "E": 2**60}

INFINITY = float("inf")


def words(text: str, place: Place) -> list[str]:
    """Take a value apart at blanks; quotes hold together, C escapes are replaced.

    Raises:
        InvalidError: a quote is not closed.
    """
    found: list[str] = []
    word: str | None = None
    quote, at = "", 0
    while at < len(text):
        ch = text[at]
        at += 1
        if ch == "\\" and at < len(text):
            made, at = _escaped(text, at)
            word = (word or "") + made
        elif quote and ch == quote:
            quote = ""
        elif not quote and ch in "'\"":
            quote, word = ch, word or ""
        elif not quote and ch.isspace():
            found += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + ch
    if quote:
        place.refuse(f"a {quote} is not closed")
    return found if word is None else [*found, word]


def _escaped(text: str, at: int) -> tuple[str, int]:
    if match := _CODED.match(text, at):
        digits = next(group for group in match.groups() if group)
        code = int(digits, 8 if match[4] else 16)
        if 0 < code <= _HIGHEST and not 0xD800 <= code < 0xE000:  # noqa: PLR2004 - surrogates
            return chr(code), match.end()
    ch = text[at]
    return _ESCAPES.get(ch, "\\" + ch), at + 1


def time(text: str) -> float | None:
    """Seconds of ``5min 20s``, ``90`` or ``infinity``; None if it is no time."""
    if text.strip() == "infinity":
        return INFINITY
    if not re.fullmatch(rf"(?:\s*{_TIME.pattern})+\s*", text):
        return None
    total = 0.0
    for number, unit in _TIME.findall(text):
        if unit not in _UNITS:
            return None
        total += float(number) * _UNITS[unit]
    return total


def size(text: str) -> float | None:
    """Bytes of ``512M`` or ``infinity``; None if it is neither, as a percentage."""
    if text.strip() == "infinity":
        return INFINITY
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) * _SIZES[match[2]] if match else None


def unescape(name: str) -> str:
    """The path that a unit's name stands for: ``-`` is ``/``, and what is escaped is itself."""
    plain = name.replace("-", "/")
    return re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), plain)


@dataclass(frozen=True, slots=True)
class Specifiers:
    """What ``%i`` and the like are replaced by.

    Attributes:
        source: the file.
        name: of the unit, ``web@8080.service``.
    """

    source: Source
    name: str

    @property
    def instance(self) -> str:
        """What stands after the ``@``."""
        return self.name.removesuffix(".service").partition("@")[2]

    def __call__(self, text: str, place: Place) -> str:
        """The text with its specifiers replaced; what this machine decides is remarked."""

        def one(match: re.Match[str]) -> str:
            letter = match[1]
            if letter == "%":
                return "%"
            if letter in known:
                return known[letter]
            if letter in fixed:
                said = f"%{letter} is fixed at what it is on this machine"
                self.source.remarks.add(place, said)
                return fixed[letter]()
            self.source.remarks.add(place, f"%{letter} is not known here and stands as it was")
            return match[0]

        known, fixed = self._known(), _FIXED
        return re.sub(r"%(.)", one, text)

    def _known(self) -> dict[str, str]:
        stem = self.name.removesuffix(".service")
        prefix = stem.partition("@")[0]
        path = unescape(self.instance or prefix)
        last = prefix.rpartition("-")[2]
        return {
            "n": self.name,
            "N": stem,
            "p": prefix,
            "P": unescape(prefix),
            "i": self.instance,
            "I": unescape(self.instance),
            "f": "/" + path.lstrip("/"),
            "j": last,
            "J": unescape(last),
            "T": "/tmp",  # noqa: S108 - what systemd has there
            "V": "/var/tmp",  # noqa: S108
            "y": str(self.source.folder / self.name),
            "Y": str(self.source.folder),
            **self._manager(),
        }

    @property
    def of_user(self) -> bool:
        """Whether it is a unit of a user's own manager."""
        return "systemd/user" in str(self.source.folder)

    def _manager(self) -> dict[str, str]:
        """Directories and user of the manager that the unit is for."""
        if not self.of_user:
            return {
                "t": "/run",
                "S": "/var/lib",
                "C": "/var/cache",
                "L": "/var/log",
                "E": "/etc",
                "h": "/root",
                "u": "root",
                "U": "0",
                "g": "root",
                "G": "0",
                "s": "/bin/sh",
            }
        home = PurePath(self.source.environ.get("HOME", "/"))
        runtime = self.source.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        return {
            "t": runtime,
            "S": str(home / ".local/state"),
            "C": str(home / ".cache"),
            "L": str(home / ".local/state/log"),
            "E": str(home / ".config"),
            "h": str(home),
            "u": self.source.environ.get("USER", str(os.getuid())),
            "U": str(os.getuid()),
            "G": str(os.getgid()),
        }


_FIXED: dict[str, Callable[[], str]] = {
    "H": platform.node,
    "l": lambda: platform.node().partition(".")[0],
    "q": platform.node,
    "v": platform.release,
    "a": lambda: platform.machine().replace("_", "-"),
}
