"""One ``[program:x]`` of a supervisord.conf."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.ini import IniSection
from flow_operator.flowctl.importing.section import Section
from flow_operator.flowctl.importing.source import Place, Source
from flow_operator.flowctl.importing.values import (
    seconds,
    set_signal,
    set_umask,
    set_user,
    size,
    split,
)

PRIORITY = "is not carried over: flows start at once; name in dependsOn what one has to wait for"
_EVENTS = "is not carried over: events tell of states, not of output; read the log (flowctl logs)"
_LOG = "is not carried over: what it prints is in DATA/logs and told by flowctl logs"

LEFT = {
    "priority": PRIORITY,
    "stdout_events_enabled": _EVENTS,
    "stderr_events_enabled": _EVENTS,
    "stdout_capture_maxbytes": _EVENTS,
    "stderr_capture_maxbytes": _EVENTS,
    "stdout_syslog": _LOG,
    "stderr_syslog": _LOG,
    "serverurl": "is not carried over: a step that asks the operator needs the URL of its API",
    "stderr_logfile_maxbytes": "is not carried over: stdout and stderr are one log here, which "
    "stdout_logfile_maxbytes limits",
    "stderr_logfile_backups": "is not carried over: stdout and stderr are one log here, which "
    "stdout_logfile_backups limits",
}

MOST_PROCESSES = 1000

_NEVER = ("false", "no", "off", "0")
_ALWAYS = ("unexpected", "true", "yes", "on", "1")

_FORMAT = re.compile(r"%(?:%|\(([^)]*)\)(0?[0-9]{0,2})([sd])|)")
_BYTES = re.compile(r"\s*([0-9]{1,12})\s*(kb|mb|gb|)\s*", re.IGNORECASE)
_FACTORS = {"": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30}

Expansions = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Daemon:
    """The file, and what its programs have from ``[supervisord]``."""

    source: Source
    keys: Section
    expansions: Expansions

    def directory(self) -> str | None:
        """Where supervisord is, absolute; None if the file does not say."""
        written = self.keys.text("directory")
        return None if written is None else self.source.path(self.expand(written, "directory"))

    def environment(self) -> dict[str, str]:
        """What it sets for itself, which programs inherit."""
        written = self.expand(self.keys.text("environment") or "", "environment")
        return variables(written, self.keys.place_of("environment"))

    def expand(self, written: str, key: str) -> str:
        """The text with its ``%(name)s`` replaced."""
        return expand(written, self.expansions, self.source, self.keys.place_of(key))


def expand(written: str, known: Expansions, source: Source, place: Place) -> str:
    """Replace ``%(name)s``; that of the environment is fixed, and remarked.

    Raises:
        InvalidError: there is no such name, or a ``%`` stands alone.
    """

    def one(match: re.Match[str]) -> str:
        name, width, kind = match[1], match[2], match[3]
        if match[0] == "%%":
            return "%"
        if name is None:
            place.refuse("a % that is meant as one is written %%")
        value: str | int | None = known.get(name)
        if value is None and name.startswith("ENV_"):
            value = source.environ.get(name[4:])
            if value is None:
                place.refuse(f"%({name})s: set the variable {name[4:]} for the import")
            source.remarks.add(place, f"%({name})s is fixed at its present value")
        if value is None:
            place.refuse(f"%({name}){kind} is not known; known are {', '.join(known)}, ENV_...")
        if kind == "d" and not isinstance(value, int):
            place.refuse(f"%({name})d is no number; write %({name})s")
        return f"{value:{width}d}" if isinstance(value, int) and kind == "d" else str(value)

    return _FORMAT.sub(one, written)


def variables(written: str, place: Place) -> dict[str, str]:
    """``A="b",C='d,e'``, as supervisord's lexer takes it apart.

    Raises:
        InvalidError: it is no list of that form.
    """
    lexer = shlex.shlex(written)
    lexer.wordchars += "/.+-():"
    try:
        words = list(lexer)
    except ValueError as error:
        place.refuse(f"environment cannot be read: {str(error).lower()}")
    found: dict[str, str] = {}
    for at in range(0, len(words), 4):
        name, equals, value = (*words[at : at + 3], "", "", "")[:3]
        if equals != "=" or not value:
            place.refuse('environment must be NAME="value",NAME2="value2"; quote what has others')
        found[name] = value.strip("'\"")
    return found


def read(daemon: Daemon, name: str, group: str, section: IniSection) -> list[Draft]:
    """A flow for each process; those that differ in nothing are replicas of one.

    Raises:
        InvalidError: what supervisord would refuse.
    """
    known: dict[str, str | int] = {**daemon.expansions, "program_name": name, "group_name": group}
    first = _number(section, "numprocs_start", 0)
    count = _number(section, "numprocs", 1)
    if count > MOST_PROCESSES:
        section.entries["numprocs"].place.refuse(f"more than {MOST_PROCESSES} cannot be imported")
    drafts = [
        _process(daemon, section, {**known, "process_num": number, "numprocs": count})
        for number in range(first, first + count)
    ]
    for draft in drafts:
        if group != name:
            draft.labels["group"] = group
    alike = len(drafts) > 1 and all(_same(draft, drafts[0]) for draft in drafts)
    if not alike:
        return drafts
    one = drafts[0]
    one.name = name
    one.spec["replicas"] = count
    said = f"its {count} processes are replicas of one flow, told apart by FLOW_REPLICA"
    daemon.source.remarks.add(section.entries["numprocs"].place, f"[{section.name}] {said}")
    return [one]


def _same(one: Draft, other: Draft) -> bool:
    return (one.step, one.spec, one.env) == (other.step, other.spec, other.env)


def _number(section: IniSection, key: str, default: int) -> int:
    entry = section.entries.get(key)
    if entry is None:
        return default
    if not re.fullmatch("[0-9]{1,6}", entry.value):
        entry.place.refuse(f"{key} must be a number")
    return int(entry.value)


def _process(daemon: Daemon, section: IniSection, known: dict[str, str | int]) -> Draft:
    source = daemon.source

    def expanded(key: str) -> str:
        return expand(section.entries[key].value, known, source, section.entries[key].place)

    own: dict[str, str] = {}
    if "environment" in section.entries:
        own = variables(expanded("environment"), section.entries["environment"].place)
        known |= {f"ENV_{name}": value for name, value in own.items()}
    values = {key: expanded(key) for key in section.entries}
    places = {key: entry.place for key, entry in section.entries.items()}
    keys = Section(
        f"[{section.name}] ",
        values,
        lambda key: places.get(key, section.place),
        source.remarks,
    )
    for key in ("numprocs", "numprocs_start", "environment"):
        keys.raw(key)
    draft = Draft(keys.text("process_name") or str(known["program_name"]), section.place)
    command = keys.text("command")
    if command is None:
        section.place.refuse(f"[{section.name}] has no command")
    draft.step["command"] = split(command, keys.place_of("command"))
    for name, value in {**daemon.environment(), **own}.items():
        at = keys.place_of("environment") if name in own else daemon.keys.place_of("environment")
        draft.env[name] = (value, at)
    _directory(draft, keys, daemon)
    _restart(draft, keys)
    _stop(draft, keys)
    _identity(draft, keys, daemon)
    _logs(draft, keys)
    keys.leave(LEFT)
    return draft


def _directory(draft: Draft, keys: Section, daemon: Daemon) -> None:
    written = keys.text("directory") or daemon.directory()
    if written is None:
        draft.step["workingDir"] = str(daemon.source.folder)
        said = "without 'directory' it ran where supervisord was started; here in the file's folder"
        keys.note(f"{said}, set workingDir if that matters")
    else:
        draft.step["workingDir"] = daemon.source.path(written)


def _restart(draft: Draft, keys: Section) -> None:
    """``startretries`` counts restarts of what ended within ``startsecs``: so does maxRestarts."""
    restart: dict[str, Any] = draft.part("restart")
    asked = (keys.text("autorestart") or "unexpected").lower()
    codes = _exit_codes(keys)
    startsecs = keys.number("startsecs")
    startsecs = 1.0 if startsecs is None else startsecs
    retries = keys.whole("startretries")
    retries = 3 if retries is None else retries
    if asked == "unexpected" and codes:
        restart["policy"] = "OnFailure"
        if codes != [0]:
            draft.step["successExitCodes"] = codes
    elif asked in _NEVER:
        restart["policy"] = "Never"
        if startsecs > 0 and retries > 0:
            said = f"supervisord tries {retries} times more if it ends within {startsecs:g} s"
            keys.say("autorestart", f"{said}; with policy Never it is started once")
    elif asked not in _ALWAYS:
        keys.say("autorestart", "must be true, false or unexpected; it is restarted always")
    if startsecs > 0:
        restart |= {"resetAfter": seconds(startsecs), "maxRestarts": retries}
    elif asked not in _NEVER:
        said = "0 has it restarted at once, for ever; here it is restarted with growing delays"
        keys.say("startsecs", f"{said} (restart.backoff)")
    if keys.flag("autostart") is False:
        draft.stop_at_first()


def _exit_codes(keys: Section) -> list[int]:
    written = keys.text("exitcodes")
    if written is None:
        return [0]
    words = [word.strip() for word in written.split(",")] if written else []
    if not all(re.fullmatch("[0-9]{1,3}", word) and int(word) < 256 for word in words):  # noqa: PLR2004 - a byte
        keys.say("exitcodes", "must be numbers of 0 to 255, with commas between; 0 is taken")
        return [0]
    return [int(word) for word in words]


def _stop(draft: Draft, keys: Section) -> None:
    set_signal(draft, keys, "stopsignal")
    timeout = keys.number("stopwaitsecs")
    draft.part("stop")["timeout"] = seconds(10 if timeout is None else timeout)
    for key in ("stopasgroup", "killasgroup"):
        if keys.flag(key) is False:
            keys.say(key, "a stop always signals the whole process group")


def _identity(draft: Draft, keys: Section, daemon: Daemon) -> None:
    for key in ("user", "umask"):
        at = keys if keys.raw(key) is not None else daemon.keys
        if key == "umask":
            set_umask(draft, at, key)
        elif (user := at.text(key)) is not None:
            set_user(draft, at, key, user)


def _logs(draft: Draft, keys: Section) -> None:
    merged = keys.flag("redirect_stderr")
    for key in ("stdout_logfile", "stderr_logfile"):
        file = (keys.text(key) or "auto").lower()
        if file in ("none", "off"):
            keys.say(key, "nothing is thrown away: what it prints is kept in its log")
        elif file != "auto" and not (merged and key == "stderr_logfile"):
            keys.say(key, _LOG)
    written = keys.text("stdout_logfile_maxbytes")
    if written is not None:
        match = _BYTES.fullmatch(written)
        number = int(match[1]) * _FACTORS[match[2].lower()] if match else 0
        if number >= 4096:  # noqa: PLR2004 - the least that a log may be limited to
            draft.part("logs")["maxSize"] = size(number)
        else:
            keys.say("stdout_logfile_maxbytes", "logs are always limited, to 4Ki at least; 10Mi")
    backups = keys.whole("stdout_logfile_backups")
    if backups is not None:
        draft.part("logs")["maxFiles"] = min(backups + 1, 1000)
