"""supervisord.conf.

Source: "Configuration File" of supervisor's manual (4.2), and what its ``options.py`` does.
"""

from __future__ import annotations

import platform
from dataclasses import replace
from glob import glob
from pathlib import Path

from flow_operator.flowctl.importing import ini, supervisord_program
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.ini import IniSection
from flow_operator.flowctl.importing.section import Section
from flow_operator.flowctl.importing.source import Remarks, Source, absolute
from flow_operator.flowctl.importing.supervisord_program import Daemon

_OWN = "is supervisord's own; flowd has options of its own (README)"
_HTTP = "is not carried over: flowd serves its own API, where --listen, --tokens and app_url say"

SECTIONS = {
    "supervisorctl": "is not carried over: flowctl finds flowd by --url, or app_url",
    "unix_http_server": _HTTP,
    "inet_http_server": _HTTP,
    "rpcinterface:*": "is not carried over: flowd has no plug-ins, its API is in docs/rest-api.md",
    "ctlplugin:*": "is not carried over: flowctl has no plug-ins",
    "eventlistener:*": "is not imported: nothing speaks supervisord's event protocol; what it "
    "reacts to is told by the flow's events and status (docs/rest-api.md)",
    "fcgi-program:*": "is not imported: no socket is opened for a flow; have the program listen "
    "by itself (as with spawn-fcgi, or php-fpm) and import it as a [program:x]",
}

_HERE = "%(here)s"


def read(source: Source) -> list[Draft]:
    """A flow for each process of each program.

    Raises:
        InvalidError: the file is no INI, or what supervisord would refuse.
    """
    sections = _sections(source)
    for default in sections.pop(ini.DEFAULT, IniSection("", source.place(1))).entries.items():
        for section in sections.values():
            section.entries.setdefault(*default)
    daemon = _daemon(source, sections.pop("supervisord", None))
    groups = _groups(sections, source.remarks)
    drafts: list[Draft] = []
    for name, section in sections.items():
        kind, colon, program = name.partition(":")
        if colon and kind == "program":
            group = groups.get(program.strip(), program.strip())
            drafts += supervisord_program.read(daemon, program.strip(), group, section)
        elif kind not in ("group", "include"):
            _other(name, section, source.remarks)
    return drafts


def as_section(section: IniSection, remarks: Remarks) -> Section:
    """The keys of a section, to be asked for."""
    places = {key: entry.place for key, entry in section.entries.items()}
    values = {key: entry.value for key, entry in section.entries.items()}
    return Section(
        f"[{section.name}] ", values, lambda key: places.get(key, section.place), remarks
    )


def _sections(source: Source) -> dict[str, IniSection]:
    """Those of the file and of those that it includes; ``%(here)s`` is each file's own folder."""
    sections: dict[str, IniSection] = {}
    ini.parse(_here(source), sections)
    include = sections.get("include")
    if include is not None:
        keys = as_section(include, source.remarks)
        place = keys.place_of("files")
        for pattern in (keys.text("files") or "").split():
            found = sorted(glob(source.path(pattern)))  # noqa: PTH207 - patterns may be absolute
            if not found:
                keys.say("files", f"there is no file {pattern}")
            for name in found:
                try:
                    text = Path(name).read_text("utf-8")
                except (OSError, UnicodeDecodeError) as error:
                    place.refuse(f"cannot read {name}: {error}")
                folder = absolute(Path.cwd(), name).parent
                ini.parse(_here(replace(source, text=text, file=name, folder=folder)), sections)
        keys.leave({})
    return sections


def _here(source: Source) -> Source:
    return replace(source, text=source.text.replace(_HERE, str(source.folder)))


def _daemon(source: Source, section: IniSection | None) -> Daemon:
    """What all programs have from [supervisord]."""
    keys = as_section(section or IniSection("supervisord", source.place(1)), source.remarks)
    expansions: dict[str, str | int] = {"host_node_name": platform.node()}
    daemon = Daemon(source, keys, expansions)
    daemon.directory()
    daemon.environment()
    for key in ("user", "umask"):
        keys.raw(key)
    keys.leave({"*": _OWN})
    return daemon


def _groups(sections: dict[str, IniSection], remarks: Remarks) -> dict[str, str]:
    """Program -> group; each program's flows get it as a label."""
    groups: dict[str, str] = {}
    for name, section in sections.items():
        if not name.startswith("group:"):
            continue
        keys = as_section(section, remarks)
        for program in filter(None, map(str.strip, (keys.text("programs") or "").split(","))):
            if f"program:{program}" not in sections and f"fcgi-program:{program}" not in sections:
                keys.place_of("programs").refuse(f"there is no [program:{program}]")
            groups[program] = name.removeprefix("group:").strip()
        keys.leave({"priority": supervisord_program.PRIORITY})
        said = "is the label 'group' of its flows; name them one by one, or select by the label"
        keys.note(f"{said} (docs/rest-api.md)")
    return groups


def _other(name: str, section: IniSection, remarks: Remarks) -> None:
    keys = as_section(section, remarks)
    for known, reason in SECTIONS.items():
        if name == known or (known.endswith("*") and name.startswith(known[:-1])):
            keys.note(reason)
            return
    keys.note("is no section that is known here; it was left out")
