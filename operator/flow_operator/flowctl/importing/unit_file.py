"""systemd's unit files: lines, sections, lists, drop-ins.

Source: systemd.syntax(7), and systemd.unit(5) for drop-ins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from flow_operator.errors import clipped
from flow_operator.flowctl.importing.section import Section
from flow_operator.flowctl.importing.source import Place, Remarks, Source


@dataclass(frozen=True, slots=True)
class Line:
    """A value and where its key stands."""

    value: str
    place: Place


Units = dict[str, dict[str, list[Line]]]
"""Section -> key -> its lines, without those before the last empty one."""


class UnitSection(Section):
    """A section of a unit; as text a key is its last line."""

    def __init__(
        self, name: str, lines: Mapping[str, list[Line]], at: Place, remarks: Remarks
    ) -> None:
        self._lines = lines
        last = {key: found[-1] for key, found in lines.items() if found}
        super().__init__(
            f"[{name}] ",
            {key: line.value for key, line in last.items()},
            lambda key: last[key].place if key in last else at,
            remarks,
        )
        self._told = remarks

    def all(self, key: str) -> list[Line]:
        """Every line of a key that makes a list."""
        self.raw(key)
        return self._lines.get(key, [])

    def tell(self, key: str, line: Line, text: str) -> None:
        """Remark on one line of a key."""
        self._told.add(line.place, f"{self.title}{key}: {text}")

    def leave_all(self, reasons: Mapping[str, str]) -> None:
        """``leave``, for each line of each key."""
        for key in list(self.values):
            if not self.asked(key):
                for line in self._lines[key]:
                    self.tell(key, line, self.reason(key, reasons))


def load(source: Source, name: str) -> Units:
    """A unit with its drop-ins: ``NAME.d/*.conf`` beside it, and those of its template.

    Raises:
        InvalidError: a drop-in cannot be read.
    """
    units: Units = {}
    _read(source, units)
    template = name.partition("@")[0] + "@.service" if "@" in name else name
    folders = [source.folder / f"{one}.d" for one in dict.fromkeys((template, name))]
    found = {path.name: path for folder in folders for path in folder.glob("*.conf")}
    for _, path in sorted(found.items()):
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            Place(str(path), 1).refuse(f"cannot be read: {error}")
        _read(replace(source, text=text, file=str(path)), units)
    return units


def _read(source: Source, units: Units) -> None:
    section: dict[str, list[Line]] | None = None
    for place, text in _logical_lines(source):
        if text.startswith("[") and text.endswith("]"):
            section = units.setdefault(text[1:-1], {})
            continue
        key, equals, value = text.partition("=")
        if not equals or section is None:
            where = "is no key=value" if section is not None else "stands before any [section]"
            source.remarks.add(place, f"{clipped(text)}: {where}; systemd passes over it, too")
        elif value.strip():
            section.setdefault(key.strip(), []).append(Line(value.strip(), place))
        else:
            section[key.strip()] = []


def _logical_lines(source: Source) -> Iterator[tuple[Place, str]]:
    """Lines that end with a backslash go on; comments between do not end them."""
    begun: list[str] = []
    start = 1
    for number, line in enumerate(source.text.split("\n"), 1):
        stripped = line.strip()
        if stripped.startswith(("#", ";")) or (not stripped and not begun):
            continue
        start = start if begun else number
        if stripped.endswith("\\"):
            begun.append(stripped[:-1])
            continue
        text = " ".join([*begun, stripped]).strip()
        begun = []
        if text:
            yield source.place(start), text
    if text := " ".join(begun).strip():
        yield source.place(start), text
