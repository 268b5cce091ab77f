"""Which program a file was written for."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from flow_operator.errors import Fault, InvalidError
from flow_operator.flowctl.importing import FORMATS
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.source import Source

_BY_NAME = (
    (r"Procfile(\..*)?", "procfile"),
    (r".*\.service", "systemd"),
    (r".*\.[cm]?[jt]s", "pm2"),
)
_BY_CONTENT = (
    (r"^\[(Service|Unit)\]\s*$", "systemd"),
    (r"^\[(program|group|supervisord|eventlistener|fcgi-program|include)\b.*\]", "supervisord"),
    (r"""^(processes|"processes"|\s*\{?\s*"processes")\s*:""", "process-compose"),
    (r"""^(services|"services")\s*:""", "compose"),
    (r"""^\s*[\[{]|^["']?(apps|pm2)["']?\s*:""", "pm2"),
    (r"^(?!(version|name|x-[^:]*):)[A-Za-z0-9_-]+:[ \t]*[^\s#>|&].*$", "procfile"),
)


class _Module(Protocol):
    read: Callable[[Source], list[Draft]]


def reader(form: str) -> Callable[[Source], list[Draft]]:
    """The function that reads a format; nothing of the others is loaded."""
    name = f"flow_operator.flowctl.importing.{form.replace('-', '_')}"
    return cast("_Module", import_module(name)).read


def detect(source: Source) -> str:
    """The format, by the file's name, else by what is in it.

    Raises:
        InvalidError: it cannot be told.
    """
    name = Path(source.file).name
    for pattern, form in _BY_NAME:
        if re.fullmatch(pattern, name):
            return form
    for pattern, form in _BY_CONTENT:
        if re.search(pattern, source.text, re.MULTILINE):
            return form
    said = f"whose file this is cannot be told; say so with --from {'|'.join(FORMATS)}"
    raise InvalidError([Fault(said, "", 1, 1, source.file)])
