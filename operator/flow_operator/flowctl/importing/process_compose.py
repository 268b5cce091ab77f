"""process-compose.yaml.

Sources: the manual of process-compose (launcher, health, configuration) and its ``src/types``.
"""

from __future__ import annotations

import json
from math import log10
from pathlib import Path
from typing import Any

from flow_operator.flowctl.importing import dotenv, process_compose_process
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.go_template import Expander
from flow_operator.flowctl.importing.process_compose_process import Project
from flow_operator.flowctl.importing.section import Section, scalar
from flow_operator.flowctl.importing.source import Source
from flow_operator.flowctl.importing.yaml_file import assignments, load, replaced

_LOG = "is not carried over: what processes print is in DATA/logs and told by flowctl logs"
_OWN = "is process-compose's own and means nothing here"

LEFT = {
    "log_location": _LOG,
    "log_level": _OWN,
    "log_length": _OWN,
    "log_format": _OWN,
    "log_configuration": _LOG,
    "is_tui_disabled": _OWN,
    "extends": "is not read: import that file as well",
    "env_cmds": "are not run: have a script set the variable and exec the command",
    "ordered_shutdown": "is not carried over: flows that depend on others stop before them "
    "when flowd ends, and at no other time",
    "mcp_server": _OWN,
}
SILENT = ("version", "name", "is_strict")
"""What says nothing of a process."""

MOST_REPLICAS = 1000


def read(source: Source) -> list[Draft]:
    """A flow for each process.

    Raises:
        InvalidError: the file is no YAML, or has no processes.
    """
    top = load(source)
    if not top.flag("disable_env_expansion"):
        top = replaced(top, Expander(source, dotenv.variables(source.folder)))
        top.flag("disable_env_expansion")
    shell = top.below("shell")
    project = Project(
        source,
        [shell.text("shell_command") or "bash", shell.text("shell_argument") or "-c"],
        _texts(top.raw("vars")),
        [one for one in assignments(top, "environment") if one[1] is not None],
        dotenv=Path(source.folder, ".env").is_file(),
    )
    shell.leave({"elevated_shell_*": "is not carried over: flows run as the user they name"})
    processes = top.below("processes")
    if not processes.values:
        top.place.refuse("there are no processes")
    drafts = [
        draft for name in processes.values for draft in _flows(project, name, processes.below(name))
    ]
    top.leave(LEFT, SILENT)
    return drafts


def _flows(project: Project, name: str, keys: Section) -> list[Draft]:
    """One flow, of replicas if need be; one each where they are told apart by their number."""
    if not keys.values:
        keys.note("has neither command nor entrypoint, and was not imported")
        return []
    count = keys.whole("replicas") or 1
    if count > MOST_REPLICAS:
        keys.place_of("replicas").refuse(f"more than {MOST_REPLICAS} cannot be imported")
    mentioned = json.dumps(keys.values)
    numbered = "PC_REPLICA_NUM" in mentioned
    named = "PC_PROC_NAME" in mentioned
    numbers = range(count) if numbered else range(1)
    found = []
    for number in numbers:
        variables = {
            **project.variables,
            **_texts(keys.values.get("vars")),
            "PC_REPLICA_NUM": str(number),
        }
        draft = process_compose_process.read(project, name, keys.like(keys.values), variables)
        if draft is None:
            return []
        if numbered:
            draft.env.setdefault("PC_REPLICA_NUM", (str(number), keys.place))
        if named:
            draft.env.setdefault("PC_PROC_NAME", (name, keys.place))
        if count > 1 and numbered:
            draft.name = f"{name}-{number:0{1 + int(log10(count))}d}"
            draft.aliases = (name, draft.name)
        elif count > 1:
            draft.spec["replicas"] = count
            keys.say("replicas", "are told apart by FLOW_REPLICA; PC_REPLICA_NUM is not set")
        found.append(draft)
    return found


def _texts(values: Any) -> dict[str, str]:
    """The scalars of a mapping of variables."""
    inner = values if isinstance(values, dict) else {}
    return {name: shown for name, value in inner.items() if (shown := scalar(value)) is not None}
