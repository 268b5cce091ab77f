"""Procfiles, as foreman, honcho and Heroku read them: ``name: command`` lines.

Sources: the Procfile sections of foreman's and honcho's manuals.
"""

from __future__ import annotations

import re
from pathlib import Path

from flow_operator.flowctl.importing import dotenv
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.source import Source

LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(.*\S)\s*")

FIRST_PORT = 5000
PORT_STEP = 100
"""foreman's: the first process type gets PORT 5000, the next 5100 and so on."""


def read(source: Source) -> list[Draft]:
    """A flow for each process type.

    Raises:
        InvalidError: a type stands twice.
    """
    drafts: list[Draft] = []
    lines = source.text.split("\n")
    for number, line in enumerate(lines, 1):
        match = LINE.fullmatch(line)
        if match is None:
            if line.strip() and not line.lstrip().startswith("#"):
                said = "is no 'name: command' and was left out; foreman passes over it, too"
                source.remarks.add(source.place(number), said)
            continue
        if any(match[1] == draft.name for draft in drafts):
            source.place(number).refuse(f"the process type '{match[1]}' stands twice")
        drafts.append(_draft(source, number, match[1], match[2], len(drafts)))
    return drafts


def _draft(source: Source, number: int, name: str, command: str, index: int) -> Draft:
    place = source.place(number)
    draft = Draft(name, place)
    draft.step = {"script": command, "workingDir": str(source.folder)}
    local = dotenv.variables(source.folder)
    first = int(local["PORT"]) if re.fullmatch("[0-9]{1,5}", local.get("PORT", "")) else FIRST_PORT
    draft.env["PORT"] = (str(first + index * PORT_STEP), place)
    if Path(source.folder, ".env").exists():
        dotenv.carry(draft, [(source.path(".env"), place)], source.remarks)
    if name == "release":
        draft.spec["restart"] = {"policy": "Never"}
        said = "'release' runs once, when the flow is started; make the others depend on it"
        source.remarks.add(place, f"{said} (dependsOn, condition: Completed)")
    return draft
