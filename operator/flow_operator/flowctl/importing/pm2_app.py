"""One app of PM2's ecosystem file."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path, PurePath
from typing import Any

from flow_operator.errors import clipped
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.section import Section, scalar
from flow_operator.flowctl.importing.source import Source, absolute
from flow_operator.flowctl.importing.values import seconds, set_user, words_of

_LOG = "is not carried over: what it prints is in DATA/logs and told by flowctl logs"
_OWN = "is PM2's own and means nothing here"
_WATCH = "is not carried over: nothing restarts a flow when files change; flowctl restart does"
_READY = "is not carried over: there is no channel to the process; use readinessProbe"
_MONITOR = "is not carried over: flowd tells about flows at /metrics and in their status"

ALIASES = {
    "exec": "script",
    "interpreter": "exec_interpreter",
    **dict.fromkeys(("interpreterArgs", "interpreter_args"), "node_args"),
    **dict.fromkeys(("out", "output", "out_log"), "out_file"),
    **dict.fromkeys(("error", "err", "err_file", "err_log"), "error_file"),
    "log": "log_file",
    "pid": "pid_file",
    "cron": "cron_restart",
    "combine_logs": "merge_logs",
    "user": "uid",
}
"""PM2's other names of keys."""

LEFT = {
    **dict.fromkeys(("out_file", "error_file", "log_file", "disable_logs", "merge_logs"), _LOG),
    **dict.fromkeys(("log_type", "log_date_format", "time"), _LOG),
    **dict.fromkeys(("watch_delay", "ignore_watch", "watch_options"), _WATCH),
    **dict.fromkeys(("trace", "disable_trace", "v8", "event_loop_inspector"), _MONITOR),
    **dict.fromkeys(("deep_monitoring", "pmx", "automation", "io"), _MONITOR),
    **dict.fromkeys(("vizion", "force", "post_update", "install_url", "write", "username"), _OWN),
    **dict.fromkeys(("windowsHide", "kill_retry_time", "execute_command", "pid_file"), _OWN),
    "append_env_to_name": "is not carried over: give the flow the name that it shall have",
    "listen_timeout": _READY,
    "shutdown_with_message": "is not carried over: the step is sent stop.signal",
    "gid": "is not carried over: a step has the groups of its user",
    "filter_env": "is not carried over: a step has all of flowd's environment; use env -u NAME",
    "cron_restart": "is not carried over: have cron run flowctl restart",
    "source_map_support": "is not carried over: write --enable-source-maps into node_args",
    "disable_source_map_support": _OWN,
    "env_*": "is not used; flowctl import --env NAME uses env_NAME, as pm2 --env does",
}

INTERPRETERS = {
    **dict.fromkeys((".js", ".cjs", ".mjs"), "node"),
    ".sh": "bash",
    ".py": "python3",
    ".rb": "ruby",
    ".pl": "perl",
    ".php": "php",
    ".ts": "ts-node",
    ".tsx": "ts-node",
    ".coffee": "coffee",
    ".ls": "lsc",
}
"""What PM2 runs a script with, by its suffix (``lib/API/interpreter.json``)."""

MOST_INSTANCES = 1000

_MEMORY = re.compile(r"([0-9]{1,15})\s*([KMG]?)B?", re.IGNORECASE)
_SUFFIXES = {"": "", "K": "Ki", "M": "Mi", "G": "Gi"}
_UPTIME = re.compile(r"([0-9]{1,12})\s*([hms]?)")
_MS = {"h": 3_600_000, "m": 60_000, "s": 1000, "": 1}

_MAX_BACKOFF = 15_000
_MAX_RESTARTS = 16
_MIN_UPTIME = 1000
_KILL_TIMEOUT = 1600
"""PM2's defaults and limits; milliseconds but for the restarts."""


def read(source: Source, raw: Section, index: int) -> list[Draft]:
    """The flows of an app.

    Raises:
        InvalidError: it has no script.
    """
    keys = _by_main_names(raw)
    script = keys.text("script")
    if not script:
        raw.place.refuse(f"apps[{index}] has no script")
    name = keys.text("name") or PurePath(script).stem
    draft = Draft((keys.text("name_prefix") or "") + name, raw.place, (name,))
    if namespace := keys.text("namespace"):
        draft.labels["namespace"] = namespace
    folder = keys.text("cwd") or "."
    if folder.startswith("~"):
        folder = source.environ.get("HOME", "/") + folder[1:]
    folder = source.path(folder)
    draft.step["workingDir"] = folder
    _command(draft, keys, script, folder)
    _environment(draft, source, keys)
    _restart(draft, keys)
    _stop(draft, keys)
    _memory(draft, keys)
    if user := keys.text("uid"):
        set_user(draft, keys, "uid", user)
    if keys.raw("watch"):
        keys.say("watch", _WATCH)
    if keys.flag("wait_ready"):
        keys.say("wait_ready", _READY)
    if keys.flag("treekill") is False:
        keys.say("treekill", "a stop always signals the whole process group")
    drafts = _instances(draft, keys)
    keys.leave(LEFT)
    return drafts


def _by_main_names(raw: Section) -> Section:
    """The same keys under their main names; remarks name them as they stand."""
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    for key, value in raw.values.items():
        main = ALIASES.get(key, key)
        if main in values:
            raw.say(key, f"is another name of {names[main]}, and was left out")
        else:
            values[main], names[main] = value, key

    return raw.renamed(values, names)


def _command(draft: Draft, keys: Section, script: str, folder: str) -> None:
    interpreter = keys.text("exec_interpreter") or _interpreter(keys, script, folder)
    arguments = words_of(keys, "args")
    options = words_of(keys, "node_args")
    if interpreter == "none":
        program = str(absolute(Path(folder), script))
        there = "/" in script or Path(program).is_file()
        draft.step["command"] = [program if there else script, *arguments]
        if options:
            keys.say("node_args", "were left out: there is no interpreter to give them to")
        return
    if "@" in interpreter:
        keys.say("exec_interpreter", f"{clipped(interpreter)}: node is taken, as it is on PATH")
        interpreter = "node"
    path = str(absolute(Path(folder), script))
    draft.step["command"] = [interpreter, *options, path, *arguments]
    if "python" in interpreter:
        draft.env["PYTHONUNBUFFERED"] = "1", keys.place_of("script")


def _interpreter(keys: Section, script: str, folder: str) -> str:
    """By the suffix; ``none`` for programs."""
    made = INTERPRETERS.get(PurePath(script).suffix)
    path = Path(folder, script)
    if made is not None:
        return made
    if not path.is_file():
        if "/" in script or shutil.which(script) is None:
            keys.say("script", f"{clipped(script)} is not there now; it is run as a program")
        return "none"
    with path.open("rb") as file:
        begin = file.read(512)
    if b"\0" in begin or (begin.startswith(b"#!") and os.access(path, os.X_OK)):
        return "none"
    keys.say("script", "has no suffix that is known and is no program; PM2 has node run it")
    return "node"


def _environment(draft: Draft, source: Source, keys: Section) -> None:
    profile = f"env_{source.profile}"
    for key in ("env", *([profile] if source.profile else [])):
        if not isinstance(keys.raw(key), dict):
            if keys.raw(key) is not None:
                keys.say(key, "must be a mapping; it was left out")
            continue
        inner = keys.below(key)
        for name, value in inner.values.items():
            shown = scalar(value)
            if shown is None:
                shown = json.dumps(value, separators=(",", ":"))
                inner.say(name, "is given as JSON, as it is no text")
            draft.env[name] = shown, inner.place_of(name)
    port = keys.whole("port")
    if port is not None:
        draft.env["PORT"] = str(port), keys.place_of("port")


def _restart(draft: Draft, keys: Section) -> None:
    """``max_restarts`` counts ends within ``min_uptime``, in a row; maxRestarts, what follows."""
    restart = draft.part("restart")
    codes = [text for text, _ in keys.items("stop_exit_codes")]
    valid = [int(code) for code in codes if re.fullmatch("[0-9]{1,3}", code) and int(code) < 256]  # noqa: PLR2004 - a byte
    if len(valid) < len(codes):
        keys.say("stop_exit_codes", "must be numbers of 0 to 255")
    restart["policy"] = "Always"
    if valid:
        restart["policy"] = "OnFailure"
        draft.step["successExitCodes"] = valid
    if keys.flag("autorestart") is False:
        restart["policy"] = "Never"
    uptime = _milliseconds(keys, "min_uptime", _MIN_UPTIME)
    most = keys.whole("max_restarts")
    delay = keys.number("restart_delay") or 0
    growing = keys.number("exp_backoff_restart_delay") or 0
    if restart["policy"] == "Never":
        return
    restart |= {
        "resetAfter": seconds(uptime / 1000),
        "maxRestarts": max(0, (_MAX_RESTARTS if most is None else most) - 1),
    }
    if growing:
        _delays(restart, min(growing, _MAX_BACKOFF), 1.5, _MAX_BACKOFF)
    else:
        _delays(restart, delay, 1, delay)


def _delays(restart: dict[str, Any], initial: float, factor: float, most: float) -> None:
    wait = {"initial": seconds(initial / 1000), "max": seconds(most / 1000)}
    restart["backoff"] = {**wait, "factor": factor, "jitter": 0}


def _milliseconds(keys: Section, key: str, default: int) -> float:
    written = keys.text(key)
    if written is None:
        return default
    match = _UPTIME.fullmatch(written)
    if match is None:
        keys.say(key, f"{clipped(repr(written))} is no time; it was left out")
        return default
    return int(match[1]) * _MS[match[2]]


def _stop(draft: Draft, keys: Section) -> None:
    timeout = keys.number("kill_timeout")
    stop = draft.part("stop")
    stop["signal"] = "SIGINT"
    stop["timeout"] = seconds((_KILL_TIMEOUT if timeout is None else timeout) / 1000)


def _memory(draft: Draft, keys: Section) -> None:
    key = "max_memory_restart"
    written = keys.text(key)
    if written is None:
        return
    match = _MEMORY.fullmatch(written.strip())
    if match is None or (not 0 < int(match[1]) <= 10**6 and match[2]):
        keys.say(key, f"{clipped(repr(written))} is no size; it was left out")
        return
    draft.limits()["memory"] = match[1] + _SUFFIXES[match[2].upper()]
    said = "PM2 ends it at some time after; here it is killed as soon as all its processes need"
    keys.say(key, f"{said} more, where cgroups can be written (docs/manifest.md, Limits)")


def _instances(draft: Draft, keys: Section) -> list[Draft]:
    """Replicas; flows of their own where a variable is to count them."""
    count = _count(keys)
    mode = keys.text("exec_mode") or "fork"
    if mode.startswith("cluster") and count > 1:
        said = "they do not share a port: each listens for itself (SO_REUSEPORT, or a port each)"
        keys.say("exec_mode", said)
    variable = keys.text("increment_var")
    number = keys.text("instance_var") or "NODE_APP_INSTANCE"
    if count == 1:
        if variable is not None and variable not in draft.env:
            keys.say("increment_var", f"{clipped(variable)} is not in env")
        draft.env.setdefault(number, ("0", draft.place))
        return [draft]
    if variable is None and "instance_var" not in keys.values:
        draft.spec["replicas"] = count
        keys.say("instances", "are told apart by FLOW_REPLICA; NODE_APP_INSTANCE is not set")
        return [draft]
    return [_numbered(draft, keys, index, variable, number) for index in range(count)]


def _numbered(draft: Draft, keys: Section, index: int, variable: str | None, number: str) -> Draft:
    one = Draft(f"{draft.name}-{index}", draft.place, draft.aliases)
    one.labels, one.step, one.spec = draft.labels, draft.step, draft.spec
    one.env = dict(draft.env)
    one.env[number] = str(index), draft.place
    if variable is not None:
        begin, place = draft.env.get(variable, ("0", keys.place_of("increment_var")))
        value = int(begin) + index if re.fullmatch("-?[0-9]{1,18}", begin) else index
        one.env[variable] = str(value), place
    return one


def _count(keys: Section) -> int:
    """``instances``; ``max`` and what is 0 or less count from this machine's CPUs."""
    written = (keys.text("instances") or "1").strip()
    if re.fullmatch("[1-9][0-9]{0,5}", written):
        count = int(written)
    elif written == "max" or re.fullmatch("-[0-9]{1,4}|0", written):
        count = max(1, (os.cpu_count() or 1) + (0 if written == "max" else int(written)))
        keys.say("instances", f"{written} is fixed at {count}, by this machine's CPUs")
    else:
        keys.say("instances", f"{clipped(repr(written))} is no number; there is one")
        return 1
    if count > MOST_INSTANCES:
        keys.place_of("instances").refuse(f"more than {MOST_INSTANCES} cannot be imported")
    return count
