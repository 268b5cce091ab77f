"""compose.yaml, docker-compose.yaml: services with an image, and those that need none.

What has a ``build`` and no ``image`` is remarked and not imported. Source: the Compose
specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow_operator.errors import clipped
from flow_operator.flowctl.importing import compose_service, dotenv
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.interpolate import Interpolation
from flow_operator.flowctl.importing.section import Section
from flow_operator.flowctl.importing.source import Source
from flow_operator.flowctl.importing.yaml_file import load, replaced

_OTHERS = "are not carried over: make them with the engine, where a service needs them"

LEFT = {
    **dict.fromkeys(("networks", "secrets", "configs", "models"), _OTHERS),
    "volumes": "are made by the engine when a service needs them; options are not carried over",
    "include": "is not read: import that file as well",
}
SILENT = ("version", "name")
"""What says nothing of a service."""

MOST_BASES = 32
"""How long a chain of ``extends`` may be."""


def read(source: Source) -> list[Draft]:
    """A flow for each service that somebody need not build first.

    Raises:
        InvalidError: the file is no YAML, or has no services.
    """
    top = replaced(load(source), Interpolation(source, dotenv.variables(source.folder)))
    services = top.below("services")
    if not services.values:
        top.place.refuse("there are no services")
    drafts = []
    for name in services.values:
        keys = services.below(name)
        whole = keys.like(_extended(keys, services.values))
        whole.raw("extends")
        draft = None if _needs_build(name, whole) else compose_service.read(source, name, whole)
        drafts += [draft] if draft is not None else []
    top.leave(LEFT, (*SILENT, *_extensions(top)))
    return drafts


def _extensions(keys: Section) -> list[str]:
    return [key for key in keys.values if key.startswith("x-")]


def _needs_build(name: str, keys: Section) -> bool:
    for key, what in (("build", "a build"), ("provider", "a provider")):
        if keys.raw(key) is None:
            continue
        if key == "build" and keys.raw("image") is not None:
            keys.say(key, "is not done by flowd: build the image first")
            return False
        keys.ignore()
        said = f"'{name}' has {what} and was not imported: flowd builds no images; build it, and"
        keys.say(key, f"{said} give the service its image, or a command that is installed here")
        return True
    return False


def _extended(keys: Section, services: Mapping[str, Any]) -> dict[str, Any]:
    """The service with what it extends in this file: mappings are merged, lists joined."""
    chain = [dict(keys.values)]
    while (extends := chain[-1].get("extends")) is not None and len(chain) < MOST_BASES:
        inner = extends if isinstance(extends, dict) else {"service": extends}
        base = services.get(str(inner.get("service")))
        if inner.get("file") is not None or not isinstance(base, dict):
            said = "is not found in this file, and was left out; write out what it has"
            keys.say("extends", f"{clipped(inner.get('service'))} {said}")
            break
        chain.append(base)
    if len(chain) == MOST_BASES:
        keys.place_of("extends").refuse("services extend each other")
    merged: dict[str, Any] = {}
    for one in reversed(chain):
        merged = _merged(merged, one)
    return merged


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    made = dict(base)
    for key, value in own.items():
        old = made.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            made[key] = _merged(old, value)
        elif isinstance(old, list) and isinstance(value, list) and key not in _REPLACED:
            made[key] = [*old, *value]
        else:
            made[key] = value
    return made


_REPLACED = ("command", "entrypoint", "test")
"""Lists of which the later one counts alone (Compose specification, "Merge")."""
