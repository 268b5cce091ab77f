"""JSON Schemas, generated from the Structs: of the Flow document, and of whatever the API tells."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from flow_operator.model import flow, part
from flow_operator.model.described import descriptions, plain, summary
from flow_operator.model.units import (
    CPU_PATTERN,
    DURATION_PATTERN,
    SIZE_PATTERN,
    Cpu,
    Duration,
    Size,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def flow_schema() -> dict[str, Any]:
    """The schema of one Flow document, as plain data; treat it as read-only."""
    definitions = definitions_of([flow.Flow], "#/$defs/{name}")
    return {"$schema": DIALECT, "title": "Flow", "$ref": "#/$defs/Flow", "$defs": definitions}


def definitions_of(kinds: Iterable[Any], ref_template: str) -> dict[str, dict[str, Any]]:
    """The schemas of types and of whatever they hold, by name.

    Args:
        kinds: types that msgspec knows.
        ref_template: how they refer to each other, with ``{name}`` in it.
    """
    kinds = list(kinds)
    _, definitions = msgspec.json.schema_components(
        kinds, schema_hook=_unit_schema, ref_template=ref_template
    )
    for definition in definitions.values():
        definition["description"] = plain(definition.get("description", ""))
    for struct in _structs(kinds):
        _complete(struct, definitions[struct.__name__])
    for name, keys in _EXACTLY_ONE.items():
        if name in definitions:
            _exactly_one(definitions[name], keys)
    if "Spec" in definitions:
        definitions["Spec"] |= _commands()
    return definitions


def _structs(kinds: Iterable[Any]) -> set[type[msgspec.Struct]]:
    """Every Struct that types hold."""
    found: set[type[msgspec.Struct]] = set()
    left = [msgspec.inspect.type_info(kind) for kind in kinds]
    while left:
        info = left.pop()
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in found:
                continue
            found.add(info.cls)
        for inner in _parts(info):
            left += [part for part in inner if isinstance(part, msgspec.inspect.Type)]
    return found


def _parts(info: msgspec.inspect.Type) -> Iterable[tuple[Any, ...]]:
    """The parts of a type, in groups."""
    for name in info.__struct_fields__:
        value = getattr(info, name)
        if isinstance(value, msgspec.inspect.Type):
            yield (value,)
        elif isinstance(value, tuple):
            yield tuple(
                part.type if isinstance(part, msgspec.inspect.Field) else part for part in value
            )


def _unit_schema(kind: type) -> dict[str, Any]:
    if kind is Duration:
        return {
            "title": "Duration",
            "description": "A duration: 500ms, 30s, 10m, 1h30m, or a number of seconds.",
            "type": ["string", "number"],
            "pattern": DURATION_PATTERN,
            "minimum": 0,
        }
    if kind is Size:
        return {
            "title": "Size",
            "description": "A size: 512Ki, 256Mi, 1.5Gi, 10M, or a number of bytes.",
            "type": ["string", "integer"],
            "pattern": SIZE_PATTERN,
            "minimum": 0,
        }
    if kind is Cpu:
        return {
            "title": "CPUs",
            "description": "CPUs: 500m, 1, 1.5.",
            "type": ["string", "number"],
            "pattern": CPU_PATTERN,
            "minimum": 0.01,
        }
    raise NotImplementedError(kind)


def _complete(struct: type[msgspec.Struct], definition: dict[str, Any]) -> None:
    """Add what msgspec leaves out: what fields mean, defaults of factories, extension keys."""
    definition["description"] = summary(struct)
    told = descriptions(struct)
    for field in msgspec.structs.fields(struct):
        schema = definition["properties"][field.encode_name]
        if field.name in told:
            _describe(schema, told[field.name])
        if field.default_factory not in (msgspec.NODEFAULT, dict, list):
            default = msgspec.to_builtins(field.default_factory(), enc_hook=flow.encode_unit)
            schema["default"] = default
    if issubclass(struct, part.Part):
        definition["patternProperties"] = {"^x-": {}}
    elif not struct.__struct_config__.omit_defaults and not _is_read(struct):
        definition["required"] = [f.encode_name for f in msgspec.structs.fields(struct)]


def _describe(schema: dict[str, Any], told: str) -> None:
    """Tell what a field means, and after that how its type is written.

    How it is written stays alone in ``$comment``: that is the hint for what does not fit.
    """
    values = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    written = values[0].get("description", "")
    schema["description"] = f"{told} {written}" if written not in ("", part.TEXT) else told
    if "pattern" in schema and written:
        schema["$comment"] = written


def _is_read(struct: type[msgspec.Struct]) -> bool:
    """Whether it is a body that is sent to us; else every field of it is always told."""
    return struct.__struct_config__.forbid_unknown_fields


_EXACTLY_ONE = {
    "EnvVar": ("value", "valueFrom"),
    "VolumeMount": ("name", "hostPath"),
    "Probe": ("exec", "httpGet", "tcpSocket", "logLine"),
}


def _exactly_one(definition: dict[str, Any], names: tuple[str, ...]) -> None:
    definition["oneOf"] = [_given(name) for name in names]


def _commands() -> dict[str, Any]:
    """A step has a command or a script, and may only leave both to an image."""
    kinds = ("command", "script")
    both: dict[str, Any] = {"not": _given(*kinds)}
    one: dict[str, Any] = {"oneOf": [_given(kind) for kind in kinds]}
    return {
        "if": {"required": ["runner"], "properties": {"runner": {"const": "container"}}},
        "then": {"properties": {"steps": {"items": both}}},
        "else": {"properties": {"steps": {"items": one}}},
    }


def _given(*names: str) -> dict[str, Any]:
    """Fields that are there, and not null."""
    given = {name: {"not": {"type": "null"}} for name in names}
    return {"required": list(names), "properties": given}


def main() -> None:
    """Print the schema; ``make schema`` writes it to docs/."""
    json.dump(flow_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
