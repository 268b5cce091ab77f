"""PM2's ecosystem file, as JSON or YAML.

Sources: "Ecosystem file" and "Configuration file" of PM2's manual, and its ``lib/API/schema.json``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from flow_operator.errors import InvalidError
from flow_operator.flowctl.importing import pm2_app
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.section import Section, tree
from flow_operator.flowctl.importing.source import Source
from flow_operator.flowctl.importing.yaml_file import load
from flow_operator.manifest import Document, SourceText, parse_json, parse_yaml
from flow_operator.manifest.document import Places

_PROGRAM = re.compile(r"\.[cm]?[jt]s$")


def read(source: Source) -> list[Draft]:
    """A flow for each app, or one for each of its instances.

    Raises:
        InvalidError: the file is a program, or no JSON, or has no apps.
    """
    if _PROGRAM.search(source.file) or source.text.lstrip().startswith(("module.", "export ")):
        _refuse_program(source)
    top = _load(source)
    apps = _apps(top)
    if not apps:
        top.place.refuse("there are no apps")
    drafts = [draft for index, app in enumerate(apps) for draft in _app(source, app, index)]
    top.leave({"deploy": "is not carried over: flowctl does not copy programs to machines"})
    return drafts


def _apps(top: Section) -> list[Section]:
    """The apps of a list, the only app, or the file as one."""
    key = next((key for key in ("apps", "pm2") if key in top.values), None)
    if key is None:
        top.ignore()
        return [top.like(top.values)]
    value = top.raw(key)
    if isinstance(value, list):
        listed = top.at(key, {str(index): app for index, app in enumerate(value)})
        return [listed.below(str(index)) for index in range(len(value))]
    return [top.below(key)] if isinstance(value, dict) else []


def _app(source: Source, keys: Section, index: int) -> list[Draft]:
    keys.title = f"apps[{index}]."
    return pm2_app.read(source, keys, index)


def _refuse_program(source: Source) -> None:
    name = Path(source.file).name
    made = f"{name.partition('.')[0]}.json"
    source.place(1).refuse(
        "is a program, which is not run here; print it as JSON: "
        f"node -p 'JSON.stringify(require(\"./{name}\"), null, 2)' > {made}, then import {made}"
    )


def _load(source: Source) -> Section:
    """The file as one mapping; a list of apps is put under ``apps``."""
    if not source.text.lstrip().startswith(("{", "[")):
        return load(source)
    try:
        data = parse_json(source.text.encode())
    except InvalidError as error:
        hint = "; PM2 takes JavaScript in .json files, such as comments, and JSON has none"
        faults = [
            replace(
                fault,
                detail=fault.detail + (hint if "not valid JSON" in fault.detail else ""),
                line=fault.line or 1,
                column=fault.column or 1,
                file=source.file,
            )
            for fault in error.faults
        ]
        raise InvalidError(faults) from None
    places = _places(source)
    if isinstance(data, list):
        inner = {f"/apps{pointer}": place for pointer, place in places.items()}
        return tree(Document({"apps": data}, None, lambda: inner), source.file, source.remarks)
    return tree(Document(data, None, lambda: places), source.file, source.remarks)


def _places(source: Source) -> Places:
    """JSON is YAML, nearly: where it is not, remarks stand at the first line."""
    try:
        found: Any = parse_yaml(SourceText(source.text))
    except InvalidError:
        return {}
    return dict(found[0].places()) if found else {}
