"""Files of variables (``.env``): carried over as ``envFrom`` where flowd reads them alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from flow_operator.errors import TerminalError
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.source import Place, Remarks
from flow_operator.model.flow import FileReference, Step
from flow_operator.runners.environment import step_environment

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*[=:]\s*(.*?)\s*")
_QUOTED = re.compile(r"""'([^']*)'\s*(?:#.*)?|"((?:[^"\\]|\\.)*)"\s*(?:#.*)?""", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse(text: str) -> dict[str, tuple[str, int]]:
    """Variables as foreman, compose and godotenv agree on: quotes, escapes, ``# comments``.

    Returns:
        Value and line by name.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = None if line.lstrip().startswith("#") else _LINE.fullmatch(line)
        if match:
            found[match[1]] = _value(match[2]), number
    return found


def _value(written: str) -> str:
    quoted = _QUOTED.fullmatch(written)
    if quoted is None:
        return re.sub(r"(^|\s+)#.*", "", written)
    if quoted[1] is not None:
        return quoted[1]
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), quoted[2])


def variables(folder: Path, name: str = ".env") -> dict[str, str]:
    """What stands in a file; nothing if it cannot be read."""
    try:
        found = parse((folder / name).read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}
    return {variable: value for variable, (value, _) in found.items()}


def carry(draft: Draft, files: Sequence[tuple[str, Place]], remarks: Remarks) -> None:
    """Have the step read ``files``, absolute paths, each start; later ones win.

    Where flowd would read one differently, or not at all, the variables are copied. Variables
    that the draft sets itself go before those.
    """
    kept: list[str] = []
    copied: dict[str, tuple[str, Place]] = {}
    alike = True
    for path, place in files:
        try:
            theirs = parse(Path(path).read_text("utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            remarks.add(place, f"{path} cannot be read ({reason}); its variables were left out")
            continue
        kept.append(path)
        copied |= {name: (value, Place(path, line)) for name, (value, line) in theirs.items()}
        if _as_flowd(path) != {name: value for name, (value, _) in theirs.items()}:
            alike = False
            remarks.add(
                Place(path, 1),
                "flowd takes NAME=value literally, and more than that stands here; all of it was "
                "copied into env: simplify the file and name it in envFrom instead",
            )
    if alike:
        draft.env_from += kept
    else:
        draft.env = {**copied, **draft.env}


def _as_flowd(path: str) -> dict[str, str] | None:
    try:
        return step_environment(Step(name="x", env_from=(FileReference(file=path),)), "/")
    except TerminalError:
        return None
