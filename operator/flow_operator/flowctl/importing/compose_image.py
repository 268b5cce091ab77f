"""What the image of a compose service becomes: a flow whose step is a container."""

from __future__ import annotations

import re

from flow_operator.errors import clipped
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.section import Section
from flow_operator.flowctl.importing.values import words_of

_PULL = {"missing": "IfNotPresent", "if_not_present": "IfNotPresent", "always": "Always"}
_PULL |= {"never": "Never"}

_PORT = re.compile(
    r"(?:(?P<ip>[0-9]+(?:\.[0-9]+){3}):)?(?:(?P<host>[0-9]+):)?(?P<inner>[0-9]+)(?:/(?P<kind>tcp|udp))?"
)
_NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")


def carry_image(draft: Draft, keys: Section, image: str) -> None:
    """Have the flow run in a container of that image."""
    draft.spec["runner"] = "container"
    container = draft.part("container")
    container["image"] = image
    _command(draft, keys)
    directory = keys.text("working_dir")
    if directory is not None:
        draft.step["workingDir"] = directory
    _pull(draft, keys)
    network = keys.text("network_mode")
    if network is not None:
        container["network"] = network
        if network == "host":
            keys.say("network_mode", "needs flowd --engine-allow host-network")
    for key, field, danger in (
        ("privileged", "privileged", True),
        ("read_only", "readOnly", False),
    ):
        if keys.flag(key):
            container[field] = True
            if danger:
                keys.say(key, f"needs flowd --engine-allow {key}")
    for field, found in (("volumes", _volumes(keys)), ("ports", _ports(keys))):
        if found:
            container[field] = found


def _command(draft: Draft, keys: Section) -> None:
    """An image's own entrypoint stays before a command there, but not here."""
    entrypoint, command = words_of(keys, "entrypoint"), words_of(keys, "command")
    if entrypoint or command:
        draft.step["command"] = [*entrypoint, *command]
    if command and not entrypoint:
        keys.say("command", "is all that runs: if the image has an entrypoint, write it before it")


def _pull(draft: Draft, keys: Section) -> None:
    written = keys.text("pull_policy")
    if written in _PULL:
        draft.part("container")["pullPolicy"] = _PULL[written]
    elif written is not None:
        keys.say("pull_policy", f"{clipped(written)} is not known here; it is IfNotPresent")


def _volumes(keys: Section) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    value = keys.raw("volumes")
    for index, one in enumerate(value if isinstance(value, list) else []):
        mount = _mount(one)
        if mount is None:
            said = "must be NAME:PATH or an absolute HOSTPATH:PATH; it was left out"
            keys.say("volumes", said, index)
            continue
        found.append(mount)
        if "hostPath" in mount:
            keys.say("volumes", "needs flowd --engine-allow host-mounts", index)
    return found


def _mount(one: object) -> dict[str, object] | None:
    """One volume, in either form."""
    if isinstance(one, str):
        source, _, rest = one.partition(":")
        target, _, mode = rest.partition(":")
        given: dict[str, object] = {"source": source, "target": target, "read_only": mode == "ro"}
    elif isinstance(one, dict) and one.get("type", "volume") in ("volume", "bind"):
        given = one
    else:
        return None
    source, target = str(given.get("source") or ""), str(given.get("target") or "")
    if not target.startswith("/"):
        return None
    if source.startswith("/"):
        mount: dict[str, object] = {"hostPath": source}
    elif _NAMED.fullmatch(source):
        mount = {"name": source}
    else:
        return None
    mount["mountPath"] = target
    return {**mount, "readOnly": True} if given.get("read_only") else mount


def _ports(keys: Section) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    value = keys.raw("ports")
    for index, one in enumerate(value if isinstance(value, list) else []):
        match = _PORT.fullmatch(str(one)) if isinstance(one, (str, int)) else None
        if match is None or match["host"] is None:
            said = "must be HOST:CONTAINER or IP:HOST:CONTAINER, one of each; it was left out"
            keys.say("ports", said, index)
            continue
        port: dict[str, object] = {
            "containerPort": int(match["inner"]),
            "hostPort": int(match["host"]),
            # There a port is open to all machines unless it says otherwise.
            "hostIP": match["ip"] or "0.0.0.0",  # noqa: S104
        }
        found.append({**port, "protocol": "udp"} if match["kind"] == "udp" else port)
    return found
