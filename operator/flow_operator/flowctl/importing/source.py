"""What is imported, and what an import has to tell about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from flow_operator.errors import Fault, InvalidError


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file; ``column`` is where a fault is told, else 1."""

    file: str
    line: int
    column: int = 1

    def refuse(self, detail: str) -> NoReturn:
        """Say that the file cannot be read as what it should be.

        Raises:
            InvalidError: always.
        """
        raise InvalidError([Fault(detail, "", self.line, self.column, self.file)])


@dataclass(frozen=True, slots=True)
class Remark:
    """What could not be carried over, or has another meaning now, and what to do about it."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place.file}:{self.place.line}: {self.text}"


class Remarks:
    """Collects remarks; the same one of the same line is told once."""

    def __init__(self) -> None:
        self._told: dict[Remark, None] = {}

    def add(self, place: Place, text: str) -> None:
        """Tell something of a line."""
        self._told[Remark(place, text)] = None

    def __iter__(self) -> Iterator[Remark]:
        """By file, in the order in which files were read; within each by line."""
        files = list(dict.fromkeys(remark.place.file for remark in self._told))
        return iter(sorted(self._told, key=lambda r: (files.index(r.place.file), r.place.line)))

    def __len__(self) -> int:
        return len(self._told)


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be imported, and what stands around it.

    Attributes:
        text: what is in it.
        file: its name in remarks and faults.
        folder: the absolute directory that its relative paths start from.
        environ: the variables that formats with variables replace.
        profile: of PM2's ``env_NAME`` the one to use; empty for none.
        remarks: where to tell what does not fit.
    """

    text: str
    file: str
    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    profile: str = ""
    remarks: Remarks = field(default_factory=Remarks)

    def place(self, line: int, column: int = 1) -> Place:
        """A line of it."""
        return Place(self.file, line, column)

    def path(self, name: str) -> str:
        """A path that is written in it, made absolute."""
        return str(absolute(self.folder, name))


def absolute(folder: Path, name: str) -> Path:
    """``name`` from ``folder`` on, without ``.`` and ``..`` and without following links."""
    parts: list[str] = []
    for part in (folder / name).parts[1:]:
        if part == "..":
            parts[-1:] = []
        else:
            parts.append(part)
    return Path("/", *parts)
