"""One service of a compose file."""

from __future__ import annotations

import re
from typing import Any

from flow_operator.errors import clipped
from flow_operator.flowctl.importing import dotenv
from flow_operator.flowctl.importing.compose_image import carry_image
from flow_operator.flowctl.importing.compose_limits import set_limits
from flow_operator.flowctl.importing.draft import Condition, Draft
from flow_operator.flowctl.importing.section import Section
from flow_operator.flowctl.importing.source import Place, Source
from flow_operator.flowctl.importing.values import seconds, set_signal, set_user, words_of
from flow_operator.flowctl.importing.yaml_file import assignments

_CONTAINER = "is not carried over: flows have nothing like it"
_HOOK = "is not run: have a script do it"

LEFT = {
    "container_name": "is not carried over: the flow has the service's name",
    "ports": "are not carried over without an image: the program listens where it says itself",
    "expose": "is not carried over: the program listens where it says itself",
    "volumes": "are not carried over without an image: give the program its files' paths",
    "secrets": "are not carried over: use env with valueFrom: {file: ...}",
    "configs": "are not carried over: give the program the files' paths",
    "develop": "is not carried over: nothing restarts a flow when files change; flowctl restart",
    "post_start": _HOOK,
    "pre_stop": _HOOK,
    "label_file": "is not read: write the labels out",
    "tty": "is not carried over: a step has no terminal",
    "stdin_open": "is not carried over: the first step of a flow reads /dev/null",
    "attach": "is not carried over: logs are told by flowctl logs",
    "oom_score_adj": "is not carried over: begin the command with choom",
    "group_add": "is not carried over: a step has the groups of its user",
    "cpu_shares": "is not carried over: of resources only cpus, memory, pids and ulimits are",
    "mem_reservation": "is not carried over: of resources only cpus, memory, pids and ulimits are",
}

CONTAINER = (
    *("annotations", "blkio_config", "cap_add", "cap_drop", "cgroup", "cgroup_parent"),
    *("cpu_count", "cpu_percent", "cpu_quota", "cpu_period", "cpu_rt_period", "cpu_rt_runtime"),
    *("cpuset", "credential_spec", "device_cgroup_rules", "devices", "dns", "dns_opt"),
    *("dns_search", "domainname", "external_links", "extra_hosts", "gpus", "hostname", "init"),
    *("ipc", "isolation", "links", "mac_address", "mem_swappiness", "memswap_limit", "models"),
    *("network_mode", "networks", "oom_kill_disable", "pid", "platform", "privileged"),
    *("pull_policy", "pull_refresh_after", "read_only", "runtime", "security_opt", "shm_size"),
    *("storage_opt", "sysctls", "tmpfs", "use_api_socket", "userns_mode", "uts", "volumes_from"),
)

STARTED: dict[str, Condition] = {
    "service_started": "Started",
    "service_healthy": "Ready",
    "service_completed_successfully": "Completed",
}

_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(us|ms|s|m|h)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

_GRACE = 10.0
_CHECK = 30.0
_RETRIES = 3
"""compose's defaults; seconds but for the retries."""


def read(source: Source, name: str, keys: Section) -> Draft | None:
    """The flow of a service; None, with a remark, if it has no command.

    Raises:
        InvalidError: its command cannot be taken apart.
    """
    draft = Draft(name, keys.place)
    image = keys.text("image")
    if image is not None:
        carry_image(draft, keys, image)
    elif not _command(draft, source, keys):
        keys.ignore()
        keys.note("has neither image nor command, and was not imported")
        return None
    _environment(draft, source, keys)
    _labels(draft, keys)
    _user(draft, keys)
    _dependencies(draft, keys)
    _restart(draft, keys)
    set_signal(draft, keys, "stop_signal")
    grace = span(keys, "stop_grace_period")
    draft.part("stop")["timeout"] = seconds(_GRACE if grace is None else grace)
    _health(draft, keys.below("healthcheck"))
    set_limits(draft, keys)
    _profiles(draft, keys)
    _logs(draft, keys)
    extensions = [key for key in keys.values if key.startswith("x-")]
    keys.leave({**LEFT, **dict.fromkeys(CONTAINER, _CONTAINER)}, extensions)
    return draft


def _command(draft: Draft, source: Source, keys: Section) -> bool:
    """What runs on the machine itself; False if nothing does."""
    command = [*words_of(keys, "entrypoint"), *words_of(keys, "command")]
    if not command or not command[0]:
        return False
    draft.step["command"] = command
    draft.step["workingDir"] = source.path(keys.text("working_dir") or ".")
    return True


def _environment(draft: Draft, source: Source, keys: Section) -> None:
    for name, value, place in assignments(keys, "environment"):
        if value is not None:
            draft.env[name] = value, place
        else:
            source.remarks.add(place, f"{clipped(name)} is what flowd has in its environment")
    files: list[tuple[str, Place]] = []
    value = keys.raw("env_file")
    for index, one in enumerate(value if isinstance(value, list) else [value] if value else []):
        place = keys.place_of("env_file", index)
        inner = one if isinstance(one, dict) else {"path": one}
        if "format" in inner:
            keys.say("env_file", "is read as flowd reads files, whatever format says", index)
        if inner.get("required") is False:
            keys.say("env_file", "must exist when the flow starts, in spite of required", index)
        if isinstance(inner.get("path"), str):
            files.append((source.path(inner["path"]), place))
        else:
            keys.say("env_file", "must be a path; it was left out", index)
    dotenv.carry(draft, files, source.remarks)


def _labels(draft: Draft, keys: Section) -> None:
    for name, value, _ in assignments(keys, "labels"):
        draft.labels[name] = value or ""


def _user(draft: Draft, keys: Section) -> None:
    written = keys.text("user")
    if written is None:
        return
    name, colon, _ = written.partition(":")
    if colon:
        keys.say("user", "a step has the groups of its user")
    set_user(draft, keys, "user", name)


def _dependencies(draft: Draft, keys: Section) -> None:
    value = keys.raw("depends_on")
    if not isinstance(value, dict):
        draft.needs += [(name, "Started", place) for name, place in keys.items("depends_on")]
        return
    others = keys.below("depends_on")
    for name in value:
        inner = others.below(name)
        condition = inner.text("condition") or "service_started"
        if condition not in STARTED:
            inner.say("condition", f"{clipped(condition)} is no condition; its start is waited for")
        if inner.flag("restart"):
            inner.say("restart", "is not carried over: a flow is not restarted with another one")
        if inner.flag("required") is False:
            inner.say("required", "is not carried over: what is in dependsOn is waited for")
        inner.leave({})
        draft.needs.append((name, STARTED.get(condition, "Started"), others.place_of(name)))


def _restart(draft: Draft, keys: Section) -> None:
    """``restart``, and what ``deploy.restart_policy`` says, which compose prefers."""
    restart = draft.part("restart")
    written, _, most = (keys.text("restart") or "no").partition(":")
    policies = {"no": "Never", "always": "Always", "unless-stopped": "Always"}
    policies |= {"on-failure": "OnFailure", "false": "Never"}
    if written not in policies:
        keys.say("restart", f"{clipped(written)} is no policy; it is not restarted")
    restart["policy"] = policies.get(written, "Never")
    if re.fullmatch("[0-9]{1,6}", most):
        restart["maxRestarts"] = int(most)
    elif most:
        keys.say("restart", f"{clipped(most)} is no number; it is restarted without a limit")
    deploy = keys.below("deploy")
    policy = deploy.below("restart_policy")
    if not policy.values:
        return
    condition = policy.text("condition") or "any"
    named = {"none": "Never", "any": "Always", "on-failure": "OnFailure"}
    if condition not in named:
        policy.say("condition", f"{clipped(condition)} is no condition; it is always restarted")
    restart["policy"] = named.get(condition, "Always")
    attempts = policy.whole("max_attempts")
    if attempts is not None:
        restart["maxRestarts"] = attempts
    delay = span(policy, "delay")
    if delay:
        wait = seconds(delay)
        restart["backoff"] = {"initial": wait, "max": wait, "factor": 1, "jitter": 0}
    window = span(policy, "window")
    if window:
        restart["resetAfter"] = seconds(window)
    policy.leave({})


def _health(draft: Draft, keys: Section) -> None:
    test = keys.raw("test")
    interval, timeout = span(keys, "interval"), span(keys, "timeout")
    retries = keys.whole("retries")
    off = keys.flag("disable")
    for key in ("start_period", "start_interval"):
        if keys.raw(key) is not None:
            said = "is not carried over: until it is ready it is checked every interval, unharmed"
            keys.say(key, said)
    command = _check(keys, test)
    if command and not off:
        draft.step["readinessProbe"] = {
            "exec": {"command": command},
            "period": seconds(interval or _CHECK),
            "timeout": seconds(timeout or _CHECK),
            "failureThreshold": min(retries or _RETRIES, 10_000),
        }
    elif keys.values and test is None and not off:
        keys.note("has no test, and was left out")
    keys.leave({})


def _check(keys: Section, test: Any) -> list[str]:
    if isinstance(test, str):
        return ["/bin/sh", "-c", test]
    words = [word for word, _ in keys.items("test")]
    if not words or words[0] == "NONE":
        return []
    if words[0] == "CMD":
        return words[1:]
    if words[0] != "CMD-SHELL":
        keys.say("test", "must begin with CMD, CMD-SHELL or NONE; it was left out")
        return []
    return ["/bin/sh", "-c", words[1]] if len(words) > 1 else []


def span(keys: Section, key: str) -> float | None:
    """Seconds of ``1m30s``."""
    written = keys.text(key)
    if written is None:
        return None
    if not re.fullmatch(rf"(?:{_SPAN.pattern})+", written):
        keys.say(key, f"{clipped(repr(written))} is no time; it was left out")
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _SPAN.findall(written))


def _profiles(draft: Draft, keys: Section) -> None:
    names = [name for name, _ in keys.items("profiles")]
    if names:
        draft.stop_at_first()
        keys.say("profiles", "are not known here: it is imported stopped; flowctl start starts it")


def _logs(draft: Draft, keys: Section) -> None:
    logging = keys.below("logging")
    options = logging.below("options")
    written = options.text("max-size")
    match = re.fullmatch(r"([1-9][0-9]{0,8})([kmg])", written or "", re.IGNORECASE)
    if match and not (match[2] in "kK" and int(match[1]) < 4):  # noqa: PLR2004 - the least is 4Ki
        draft.part("logs")["maxSize"] = f"{match[1]}{match[2].upper()}i"
    elif written is not None:
        options.say("max-size", "must be a size of 4k or more, as 10m; it was left out")
    files = options.whole("max-file")
    if files:
        draft.part("logs")["maxFiles"] = min(files, 1000)
    said = "is not carried over: what it prints is in DATA/logs and told by flowctl logs"
    options.leave({"*": said})
    logging.leave({"*": said})
