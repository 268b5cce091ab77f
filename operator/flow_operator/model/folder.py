"""What is told of the manifest folder."""

from __future__ import annotations

from typing import Literal, TypedDict

from flow_operator.errors import FaultView


class WatchView(TypedDict):
    """How changes are found, how many seconds apart it is looked without one, and why so."""

    mode: Literal["inotify", "poll"]
    every: float
    why: str | None


class FileView(TypedDict):
    """A manifest file: its flows, what is wrong with it, and since when that is so."""

    file: str
    sha256: str
    flows: list[str]
    error: str | None
    errors: list[FaultView]
    since: str | None


class FolderView(TypedDict):
    """The watched folder; ``held`` tells why flows whose file has ``vanished`` are not removed."""

    folder: str | None
    watch: WatchView | None
    held: str | None
    vanished: list[str]
    files: list[FileView]


def no_folder() -> FolderView:
    """What is told where none is watched."""
    return {"folder": None, "watch": None, "held": None, "vanished": [], "files": []}
