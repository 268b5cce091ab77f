"""One process of a process-compose.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flow_operator.errors import clipped
from flow_operator.flowctl.importing import dotenv, probes
from flow_operator.flowctl.importing.draft import Condition, Draft
from flow_operator.flowctl.importing.go_template import render
from flow_operator.flowctl.importing.section import Section
from flow_operator.flowctl.importing.source import Place, Source
from flow_operator.flowctl.importing.values import FOREVER, seconds, set_signal
from flow_operator.flowctl.importing.yaml_file import assignments

_LOG = "is not carried over: what it prints is in DATA/logs and told by flowctl logs"
_TERMINAL = "is not carried over: a step has no terminal"
_OWN = "is process-compose's own and means nothing here"

LEFT = {
    "log_location": _LOG,
    "truncate_log": _LOG,
    "disable_ansi_colors": "is not carried over: logs are kept as they are printed",
    "is_tty": _TERMINAL,
    "is_interactive": _TERMINAL,
    "is_elevated": "is not carried over: have flowd run as root and set the step's user",
    "launch_timeout_seconds": "is not carried over: a flow runs in the foreground",
    "watch": "is not carried over: nothing restarts a flow when files change; flowctl restart does",
    "mcp": "is not carried over: flows are no tools of a model; it is imported as a process",
    "extends": "is not read: write what it has from there out before the import",
    "name": _OWN,
}

STARTED: dict[str, Condition] = {
    "process_started": "Started",
    "process_healthy": "Ready",
    "process_log_ready": "Ready",
    "process_completed": "Completed",
    "process_completed_successfully": "Completed",
}

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Project:
    """The file, and what all of its processes have.

    Attributes:
        source: the file.
        shell: what a command is the last argument of.
        variables: for templates.
        environment: variables of every process.
        dotenv: whether there is a ``.env``, which every process has.
    """

    source: Source
    shell: list[str]
    variables: Mapping[str, str]
    environment: list[tuple[str, str | None, Place]]
    dotenv: bool


def read(project: Project, name: str, raw: Section, variables: Mapping[str, str]) -> Draft | None:
    """The flow of a process; None, with a remark, if it has no command."""
    draft = Draft(name, raw.place)
    keys = _rendered(draft, raw, variables)
    for key in ("replicas", "vars", "is_template_disabled"):
        keys.raw(key)
    if not _command(draft, project, keys):
        keys.ignore()
        keys.note("has neither command nor entrypoint, and was not imported")
        return None
    folder = keys.text("working_dir")
    draft.step["workingDir"] = project.source.path(folder or ".")
    if description := keys.text("description"):
        draft.spec["description"] = description
    for namespace, _ in keys.items("namespace"):
        draft.labels["namespace"] = namespace
    _environment(draft, project, keys)
    _state(draft, keys)
    _dependencies(draft, keys)
    _availability(draft, keys)
    _probes(draft, project, keys)
    _shutdown(draft, keys)
    _logs(draft, keys)
    _silence(draft, keys)
    keys.leave(LEFT)
    return draft


def _rendered(draft: Draft, keys: Section, variables: Mapping[str, str]) -> Section:
    """The same with its templates rendered; one that is not understood keeps it from starting."""
    if keys.values.get("is_template_disabled") in (True, "true"):
        return keys

    def walk(value: object, *pointer: str) -> object:
        if isinstance(value, dict):
            return {key: walk(inner, *pointer, key) for key, inner in value.items()}
        if not isinstance(value, str):
            return value
        made, unknown = render(value, variables)
        if unknown is not None:
            draft.stop_at_first()
            said = f"the template {clipped(unknown)} is not understood; write its value, then"
            keys.say(
                pointer[0], f"{said} flowctl start: the flow is imported stopped", *pointer[1:]
            )
        return made

    kept = ("command", "working_dir", "log_location", "description")
    return keys.like(
        {
            key: walk(value, key) if key in kept or key.endswith("_probe") else value
            for key, value in keys.values.items()
        }
    )


def _command(draft: Draft, project: Project, keys: Section) -> bool:
    command = keys.text("command")
    words = [word for word, _ in keys.items("entrypoint")]
    if command:
        draft.step["command"] = [*project.shell, command]
        if words:
            keys.say("entrypoint", "is not used, as process-compose prefers the command")
    elif words and words[0]:
        draft.step["command"] = words
    return "command" in draft.step


def _environment(draft: Draft, project: Project, keys: Section) -> None:
    for variable, value, place in (*project.environment, *assignments(keys, "environment")):
        if value is None:
            project.source.remarks.add(place, f"{clipped(variable)} has no value; it was left out")
        else:
            draft.env[variable] = value, place
    files = []
    if project.dotenv and not keys.flag("is_dotenv_disabled"):
        files.append((project.source.path(".env"), draft.place))
    keys.raw("is_dotenv_disabled")
    if own := keys.text("env_file"):
        files.append((project.source.path(own), keys.place_of("env_file")))
    dotenv.carry(draft, files, project.source.remarks)


def _state(draft: Draft, keys: Section) -> None:
    if keys.flag("disabled"):
        draft.stop_at_first()
    written = keys.text("is_disabled")
    if written is not None and written.lower() in ("true", "1", "yes"):
        draft.stop_at_first()
    if keys.flag("is_foreground"):
        draft.stop_at_first()
        keys.say("is_foreground", "a step has no terminal; it is imported stopped")
    if keys.flag("is_daemon"):
        draft.stop_at_first()
        said = "a flow runs in the foreground and ends what its step leaves behind"
        keys.say("is_daemon", f"{said}; drop the option that detaches it, then flowctl start")
    if keys.raw("schedule") is not None:
        draft.stop_at_first()
        keys.say("schedule", "is not carried over: it is imported stopped; have cron start it")


def _dependencies(draft: Draft, keys: Section) -> None:
    others = keys.below("depends_on")
    for name, value in others.values.items():
        if isinstance(value, str):
            condition: str | None = others.text(name)
        else:
            inner = others.below(name)
            condition = inner.text("condition")
            inner.leave({})
        known = STARTED.get(condition or "process_started")
        if known is None:
            others.say(name, f"{clipped(condition)} is no condition; it waits for its start")
        if condition == "process_completed":
            others.say(name, "a failure of it holds this one back: Completed is a good end")
        draft.needs.append((name, known or "Started", others.place_of(name)))


def _availability(draft: Draft, keys: Section) -> None:
    inner = keys.below("availability")
    policies = {"always": "Always", "on_failure": "OnFailure", "no": "Never", "false": "Never"}
    asked = (inner.text("restart") or "no").lower()
    if asked == "exit_on_failure":
        inner.say("restart", "other flows go on when this one fails; it is not restarted")
    elif asked not in policies:
        inner.say("restart", f"{clipped(asked)} is no policy; it is not restarted")
    restart = draft.part("restart")
    restart["policy"] = policies.get(asked, "Never")
    for key in ("exit_on_end", "exit_on_skipped"):
        if inner.flag(key):
            inner.say(key, "other flows go on when this one ends; flowctl stop --all ends them")
    delay = inner.number("backoff_seconds")
    most = inner.whole("max_restarts")
    if restart["policy"] != "Never":
        wait = seconds(delay or 1)
        restart["backoff"] = {"initial": wait, "factor": 1, "max": wait, "jitter": 0}
        if most:
            # All restarts count, however long it ran between them.
            restart |= {"resetAfter": FOREVER, "maxRestarts": most}
    elif delay is not None or most is not None:
        inner.note("it is not restarted, so that how often and how fast means nothing")
    inner.leave({})
    codes = [text for text, _ in keys.items("success_exit_codes")]
    numbers = [int(code) for code in codes if re.fullmatch("[0-9]{1,3}", code)]
    valid = [number for number in numbers if number < 256]  # noqa: PLR2004 - a byte
    if len(valid) < len(codes):
        keys.say("success_exit_codes", "must be numbers of 0 to 255")
    if set(valid) - {0}:
        draft.step["successExitCodes"] = sorted({0, *valid})


def _probes(draft: Draft, project: Project, keys: Section) -> None:
    ready = probes.read(keys.below("readiness_probe"), project.shell)
    alive = probes.read(keys.below("liveness_probe"), project.shell)
    for key in ("readiness_probe", "liveness_probe"):
        if keys.raw(key) == {}:
            keys.say(key, "is empty; it was left out")
    line = keys.text("ready_log_line")
    if ready is not None:
        draft.step["readinessProbe"] = ready
        said = "process-compose restarts what is not ready in time; here only livenessProbe does"
        keys.say("readiness_probe", said)
        if line is not None:
            keys.say("ready_log_line", "is left out, as there is a readiness_probe")
    elif line is not None:
        _log_line(draft, keys, line)
    if alive is not None:
        draft.step["livenessProbe"] = alive


def _log_line(draft: Draft, keys: Section, line: str) -> None:
    try:
        re.compile(line)
    except (re.error, OverflowError, RecursionError) as error:
        keys.say("ready_log_line", f"is no regular expression of Python's re: {error}; left out")
        return
    if not 0 < len(line) <= 1024:  # noqa: PLR2004 - what LogLineAction allows
        keys.say("ready_log_line", "must be a text of 1 to 1024 characters; left out")
        return
    draft.step["readinessProbe"] = {"logLine": {"pattern": line}, "period": "1s"}


def _shutdown(draft: Draft, keys: Section) -> None:
    inner = keys.below("shutdown")
    set_signal(draft, inner, "signal")
    timeout = inner.number("timeout_seconds")
    draft.part("stop")["timeout"] = seconds(timeout or 10)
    if inner.flag("parent_only"):
        inner.say("parent_only", "a stop always signals the whole process group")
    inner.leave(
        {
            "command": "is not run: the step is sent stop.signal; have a script trap it",
            "send_keys": _TERMINAL,
        }
    )


def _logs(draft: Draft, keys: Section) -> None:
    inner = keys.below("log_configuration")
    rotation = inner.below("rotation")
    if megabytes := rotation.whole("max_size_mb"):
        draft.part("logs")["maxSize"] = f"{min(megabytes, 10**6)}Mi"
    backups = rotation.whole("max_backups")
    if backups is not None:
        draft.part("logs")["maxFiles"] = min(backups + 1, 1000)
    rotation.leave({"*": _LOG})
    inner.leave({"*": _LOG})


def _silence(draft: Draft, keys: Section) -> None:
    watched = (keys.text("monitor_for") or "none").lower()
    written = keys.text("monitor_silence_threshold")
    match = _DURATION.fullmatch(written or "")
    if watched == "silence" and match and int(match[1]):
        draft.part("progress")["silenceTimeout"] = seconds(int(match[1]) * _UNITS[match[2]])
    elif watched != "none":
        keys.say("monitor_for", "only silence with monitor_silence_threshold: 30s is watched for")
    elif written is not None:
        keys.say("monitor_silence_threshold", "is not used, without monitor_for: silence")
