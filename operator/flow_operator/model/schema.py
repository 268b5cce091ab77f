"""The JSON Schema of the Flow document, generated from the Structs."""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any

import msgspec

from flow_operator.model import flow
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
    schema = msgspec.json.schema(flow.Flow, schema_hook=_unit_schema)
    definitions = schema["$defs"]
    for name, definition in definitions.items():
        _complete(getattr(flow, name), definition)
    _exactly_one(definitions["Step"], ("command", "script"))
    _exactly_one(definitions["EnvVar"], ("value", "valueFrom"))
    _exactly_one(definitions["Probe"], ("exec", "httpGet", "tcpSocket", "logLine"))
    return {"$schema": DIALECT, "title": "Flow", **schema}


def _unit_schema(kind: type) -> dict[str, Any]:
    if kind is Duration:
        return {
            "description": "A duration: 500ms, 30s, 10m, 1h30m, or a number of seconds.",
            "type": ["string", "number"],
            "pattern": DURATION_PATTERN,
            "minimum": 0,
        }
    if kind is Size:
        return {
            "description": "A size: 512Ki, 256Mi, 1.5Gi, 10M, or a number of bytes.",
            "type": ["string", "integer"],
            "pattern": SIZE_PATTERN,
            "minimum": 0,
        }
    if kind is Cpu:
        return {
            "description": "CPUs: 500m, 1, 1.5.",
            "type": ["string", "number"],
            "pattern": CPU_PATTERN,
            "minimum": 0.01,
        }
    raise NotImplementedError(kind)


def _complete(struct: type[msgspec.Struct], definition: dict[str, Any]) -> None:
    """Add the defaults that come from factories, and the extension keys."""
    for field in msgspec.structs.fields(struct):
        if field.default_factory in (msgspec.NODEFAULT, dict, list):
            continue
        default = msgspec.to_builtins(field.default_factory(), enc_hook=flow.encode_unit)
        definition["properties"][field.encode_name]["default"] = default
    definition["patternProperties"] = {"^x-": {}}


def _exactly_one(definition: dict[str, Any], names: tuple[str, ...]) -> None:
    definition["oneOf"] = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in names
    ]


def main() -> None:
    """Print the schema; ``make schema`` writes it to docs/."""
    json.dump(flow_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
