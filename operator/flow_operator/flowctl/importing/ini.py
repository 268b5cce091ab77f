"""INI files as supervisord reads them: Python's RawConfigParser, but with the lines of all keys.

``;`` and ``#`` begin a comment at the begin of a line or after a blank; an indented line goes on
with the value before it; of a key that stands twice the last one counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from flow_operator.errors import Fault, InvalidError, clipped
from flow_operator.flowctl.importing.source import Place, Source

_HEADER = re.compile(r"\[(.+)\]")
_OPTION = re.compile(r"(.*?)\s*[=:]\s*(.*)", re.DOTALL)
_COMMENT = re.compile(r"(?:^|(?<=\s))[;#]")

DEFAULT = "DEFAULT"
"""The section whose keys all others have, too."""


@dataclass(slots=True)
class Entry:
    """A value in the making, and where its key stands."""

    lines: list[str]
    place: Place

    @property
    def value(self) -> str:
        """Its lines, without the empty ones at its end."""
        return "\n".join(self.lines).rstrip()


@dataclass(slots=True)
class IniSection:
    """A section: its keys in lower case, in order."""

    name: str
    place: Place
    entries: dict[str, Entry] = field(default_factory=dict)


class _Reader:
    def __init__(self, source: Source, sections: dict[str, IniSection]) -> None:
        self._source = source
        self._sections = sections
        self._section: IniSection | None = None
        self._entry: Entry | None = None
        self._indent = 0
        self.faults: list[Fault] = []

    def feed(self, number: int, line: str) -> None:
        comment = _COMMENT.search(line)
        if line.strip().startswith(("#", ";")):
            return
        text = (line[: comment.start()] if comment else line).strip()
        if not text:
            if comment is None and self._entry is not None:
                self._entry.lines.append("")
            return
        indent = len(line) - len(line.lstrip())
        if self._entry is not None and indent > self._indent:
            self._entry.lines.append(text)
            return
        self._indent = indent
        if header := _HEADER.match(text):
            self._open(header[1], number)
        else:
            self._option(text, number)

    def _open(self, name: str, number: int) -> None:
        place = self._source.place(number)
        self._section = self._sections.setdefault(name, IniSection(name, place))
        self._entry = None

    def _option(self, text: str, number: int) -> None:
        option = _OPTION.fullmatch(text)
        if self._section is None:
            self._fault(number, "stands before the first [section]")
        elif option is None or not option[1]:
            self._fault(number, f"{clipped(repr(text))} is neither [section] nor key=value")
        else:
            self._entry = Entry([option[2].strip()], self._source.place(number))
            self._section.entries[option[1].rstrip().lower()] = self._entry

    def _fault(self, number: int, said: str) -> None:
        self.faults.append(Fault(said, "", number, 1, self._source.file))


def parse(source: Source, sections: dict[str, IniSection]) -> None:
    """Add the sections of a file to ``sections``; those of one name are one section.

    Raises:
        InvalidError: listing the lines that are no INI.
    """
    reader = _Reader(source, sections)
    for number, line in enumerate(source.text.split("\n"), 1):
        reader.feed(number, line)
    if reader.faults:
        raise InvalidError(reader.faults)
