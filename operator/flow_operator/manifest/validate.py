"""From plain data to a checked Manifest, with every fault at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from flow_operator.errors import MAX_FAULTS, Fault, InvalidError, clipped
from flow_operator.manifest.document import Document, Manifest, SourceText, escape
from flow_operator.manifest.yaml_text import MAX_DEPTH, MAX_NODES, parse_yaml
from flow_operator.model.flow import (
    API_VERSION,
    RESERVED_KEY,
    Flow,
    Probe,
    Step,
    convert,
)
from flow_operator.model.names import RESERVED_NAMES
from flow_operator.model.schema import flow_schema

if TYPE_CHECKING:
    # Imported by whoever has something wrong to tell: good documents need not wait for it.
    import jsonschema
    from jsonschema.exceptions import ValidationError

LEAST_LOG = 4096
"""Bytes of a log's file, at least: what is taken away from one goes in whole blocks."""


def load_manifests(source: SourceText) -> list[Manifest]:
    """Read every Flow of a YAML text.

    Raises:
        InvalidError: listing everything that is wrong, with file, line and column.
    """
    return load_documents(parse_yaml(source))


def load_documents(documents: Sequence[Document]) -> list[Manifest]:
    """Check documents that belong together: each one, and that no name stands twice."""
    faults: list[Fault] = []
    manifests: list[Manifest] = []
    names: set[str] = set()
    for document in documents:
        try:
            manifest = load_manifest(document)
        except InvalidError as error:
            faults += error.faults
            continue
        if manifest.flow.flow_id in names:
            faults.append(
                document.fault(
                    "/metadata/name",
                    f"the flow '{manifest.flow.flow_id}' stands twice: leave one out",
                )
            )
        names.add(manifest.flow.flow_id)
        manifests.append(manifest)
    if faults:
        raise InvalidError(faults)
    return manifests


def load_manifest(document: Document) -> Manifest:
    """Check one document.

    Raises:
        InvalidError: listing everything that is wrong with it.
    """
    if not isinstance(document.data, dict):
        kind = _kind(document.data)
        raise InvalidError(
            [document.fault("", f"a Flow must be an object (a mapping), not {kind}")]
        )
    _check_size(document)
    data, faults = _normalise(document)
    plain = _without_extensions(data)
    try:
        flow = convert(plain)
    except msgspec.ValidationError as error:
        listed = [document.fault(p, d) for p, d in _schema_faults(plain)]
        first = _msgspec_fault(document, error)
        if not any(fault.pointer.startswith(first.pointer) for fault in listed):
            listed.append(first)  # What a schema cannot say: a duration that is too long.
        raise InvalidError([*faults, *listed]) from None
    faults += [document.fault(pointer, detail) for pointer, detail in _check(flow)]
    if faults:
        raise InvalidError(faults)
    return Manifest(flow, data)


def _check_size(document: Document) -> None:
    """The guard for what did not come as YAML text; the same limits.

    Raises:
        InvalidError: the document is too deep or has too many nodes.
    """
    nodes, level = 0, [document.data]
    for _ in range(MAX_DEPTH + 1):
        nodes += len(level)
        if nodes > MAX_NODES:
            raise InvalidError(
                [document.fault("", f"it has more than {MAX_NODES} nodes: make several of it")]
            )
        level = [inner for value in level for inner in _inner(value)]
        if not level:
            return
    raise InvalidError(
        [document.fault("", f"nested deeper than {MAX_DEPTH} levels: make it flatter")]
    )


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value, *value.values())
    return value if isinstance(value, list) else ()


def _normalise(document: Document) -> tuple[dict[str, Any], list[Fault]]:
    """Fill in what may be left out; ``flow_id`` may stand for ``metadata.name``."""
    rest = dict(document.data)
    faults: list[Fault] = []
    if RESERVED_KEY in rest:
        said = f"'{RESERVED_KEY}' is the operator's own; choose another name"
        faults.append(document.fault(f"/{RESERVED_KEY}", said))
    head = {
        "apiVersion": rest.pop("apiVersion", API_VERSION),
        "kind": rest.pop("kind", "Flow"),
        "metadata": rest.pop("metadata", {}),
    }
    if "flow_id" in rest:
        flow_id = rest.pop("flow_id")
        metadata = head["metadata"]
        if not isinstance(flow_id, str):
            faults.append(document.fault("/flow_id", f"must be text, not {_kind(flow_id)}"))
        elif isinstance(metadata, dict):
            head["metadata"] = {"name": flow_id, **metadata}
            if head["metadata"]["name"] != flow_id:
                said = f"'{flow_id}' and metadata.name '{metadata['name']}' disagree; leave one out"
                faults.append(document.fault("/flow_id", said))
    return {**head, **rest}, faults


def _without_extensions(value: Any) -> Any:
    """A copy without keys that begin with ``x-``; labels and annotations stay whole."""
    if isinstance(value, dict):
        return {
            key: inner if key in ("annotations", "labels") else _without_extensions(inner)
            for key, inner in value.items()
            if not key.startswith("x-")
        }
    if isinstance(value, list):
        return [_without_extensions(inner) for inner in value]
    return value


def _msgspec_fault(document: Document, error: msgspec.ValidationError) -> Fault:
    pointer, detail = taken_apart(error)
    return document.fault(pointer, detail)


def taken_apart(error: msgspec.ValidationError) -> tuple[str, str]:
    """The JSON pointer that msgspec speaks of, and what is wrong there."""
    detail, _, path = str(error).partition(" - at `$")
    return path.rstrip("`").replace(".", "/").replace("[", "/").replace("]", ""), detail


# --- what the schema says --------------------------------------------------------------------


@cache
def _validator() -> jsonschema.Draft202012Validator:
    import jsonschema  # noqa: PLC0415

    return jsonschema.Draft202012Validator(flow_schema())


def _schema_faults(data: Any) -> list[tuple[str, str]]:
    """Every fault, as (pointer, detail). Slow: only for data that is known to be wrong."""
    found: list[tuple[str, str]] = []
    for error in _validator().iter_errors(data):
        found += _explain(error)
    return sorted(set(found))[:MAX_FAULTS]


def _explain(  # noqa: C901 - one case for each keyword of the schema
    error: ValidationError,
) -> Iterator[tuple[str, str]]:
    pointer = "".join(f"/{escape(str(token))}" for token in error.absolute_path)
    value: Any = error.instance
    rule: Any = error.validator_value
    schema: Any = error.schema
    match error.validator:
        case "anyOf":
            for inner in _likely_branch(error):
                yield from _explain(inner)
        case "additionalProperties":
            yield from _unknown_keys(pointer, value, schema)
        case "required":
            missing = [name for name in rule if name not in value]
            yield from ((pointer, f"'{name}' is missing: give it") for name in missing)
        case "type":
            yield pointer, f"must be {_either(_names(rule))}, not {_kind(value)}"
        case "enum":
            yield pointer, f"must be one of {', '.join(map(str, rule))}; not {clipped(repr(value))}"
        case "oneOf":
            names = [branch["required"][0] for branch in rule]
            yield pointer, f"must have exactly one of {', '.join(names)}"
        case "not":
            yield pointer, f"must not have more than one of {', '.join(rule['required'])}"
        case "pattern":
            hint = schema.get("$comment") or schema.get("description", f"must match {rule}")
            yield pointer, f"{clipped(repr(value))} does not fit: {hint}"
        case "minItems" | "minLength":
            yield pointer, "must not be empty"
        case "minimum" | "maximum":
            bound = "at least" if error.validator == "minimum" else "at most"
            yield pointer, f"must be {bound} {rule}, not {value}"
        case _:
            yield pointer, clipped(error.message)


def _likely_branch(error: ValidationError) -> Iterable[ValidationError]:
    """Of an ``anyOf`` with null, what the other branch says."""
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        if inner.validator == "type" and inner.validator_value == "null":
            continue
        branches.setdefault(inner.schema_path[0], []).append(inner)
    return next(iter(branches.values()), [])


def _unknown_keys(pointer: str, value: dict[str, Any], schema: Any) -> Iterator[tuple[str, str]]:
    known = list(schema.get("properties", {}))
    for key in value:
        if key in known or key.startswith("x-"):
            continue
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
        yield f"{pointer}/{escape(key)}", f"unknown key '{clipped(key)}'; {hint}"


_KIND_NAMES = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def _names(rule: str | list[str]) -> list[str]:
    return [_KIND_NAMES[name] for name in ([rule] if isinstance(rule, str) else rule)]


def _either(names: list[str]) -> str:
    return " or ".join(names)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"{value}".lower()
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return f"the text {value[:40]!r}"
        case _:
            return f"the number {value}"


# --- what a schema cannot say ----------------------------------------------------------------


def _check(flow: Flow) -> Iterator[tuple[str, str]]:
    """What only the whole tells, as (pointer, detail)."""
    if flow.flow_id in RESERVED_NAMES:
        yield "/metadata/name", f"'{flow.flow_id}' is a route of the API; choose another name"
    seen: set[str] = set()
    for index, step in enumerate(flow.spec.steps):
        pointer = f"/spec/steps/{index}"
        if step.name in seen:
            yield f"{pointer}/name", f"a second step is named '{step.name}': name it otherwise"
        seen.add(step.name)
        yield from _check_command(pointer, step, flow.spec.runner)
        yield from _check_step(pointer, step)
    for index, dependency in enumerate(flow.spec.depends_on):
        if dependency.name == flow.flow_id:
            yield f"/spec/dependsOn/{index}", "a flow cannot depend on itself: leave this out"
    silence = flow.spec.progress.silence_timeout
    if silence is not None and silence.seconds <= 0:
        said = "must be longer than 0s; leave it out, or null, to have nobody look"
        yield "/spec/progress/silenceTimeout", said
    if flow.spec.logs.max_size.bytes < LEAST_LOG:
        yield "/spec/logs/maxSize", f"must be at least {LEAST_LOG // 1024}Ki"
    if flow.spec.runner == "container":
        yield from _check_containers(flow)
    backoff = flow.spec.restart.backoff
    if backoff.initial.seconds > backoff.max.seconds:
        yield "/spec/restart/backoff", "initial must not be longer than max"


def _check_containers(flow: Flow) -> Iterator[tuple[str, str]]:
    container = flow.spec.contained
    for index, step in enumerate(flow.spec.steps):
        pointer = f"/spec/steps/{index}"
        if step.image is None and container.image is None:
            yield pointer, "has no image: give it one, or all of them in spec.container.image"
        if step.umask is not None:
            yield f"{pointer}/umask", "cannot be set in a container: leave it out"
        if step.working_dir is not None and not step.working_dir.startswith("/"):
            said = "must be an absolute path in the container, or left out for the image's own"
            yield f"{pointer}/workingDir", said
    names = {step.name for step in flow.spec.steps}
    for index, port in enumerate(container.ports):
        if port.step is not None and port.step not in names:
            said = f"there is no step '{port.step}'; use one of {', '.join(sorted(names))}"
            yield f"/spec/container/ports/{index}/step", said
    if container.ports and flow.spec.replicas > 1:
        yield "/spec/container/ports", "can be published by one replica only: leave replicas at 1"
    for index, volume in enumerate(container.volumes):
        if (volume.name is None) == (volume.host_path is None):
            yield f"/spec/container/volumes/{index}", "must have exactly one of name, hostPath"


def _check_command(pointer: str, step: Step, runner: str) -> Iterator[tuple[str, str]]:
    given = (step.command is not None) + (step.script is not None)
    if given > 1 or (given == 0 and runner != "container"):
        yield pointer, "must have exactly one of command, script"


def _check_step(pointer: str, step: Step) -> Iterator[tuple[str, str]]:
    if step.command and not step.command[0]:
        yield f"{pointer}/command/0", "the program's name must not be empty"
    names: set[str] = set()
    for index, variable in enumerate(step.env):
        at = f"{pointer}/env/{index}"
        if (variable.value is None) == (variable.value_from is None):
            yield at, "must have exactly one of value, valueFrom"
        if variable.name in names:
            yield f"{at}/name", f"the variable '{variable.name}' stands twice: leave one out"
        names.add(variable.name)
    for kind, probe in step.probes.items():
        yield from _check_probe(f"{pointer}/{kind}Probe", probe)
    if step.liveness_probe is not None and step.liveness_probe.log_line is not None:
        said = (
            "a line that was printed once does not tell that the step still works; use logLine in "
            "startupProbe or readinessProbe, and spec.progress for a step that falls silent"
        )
        yield f"{pointer}/livenessProbe/logLine", said


def _check_probe(pointer: str, probe: Probe) -> Iterator[tuple[str, str]]:
    checks = [probe.exec, probe.http_get, probe.tcp_socket, probe.log_line]
    if sum(check is not None for check in checks) != 1:
        yield pointer, "must have exactly one of exec, httpGet, tcpSocket, logLine"
    if probe.log_line is not None:
        yield from _check_pattern(f"{pointer}/logLine/pattern", probe.log_line.pattern)
    if probe.period.seconds <= 0 or probe.timeout.seconds <= 0:
        yield pointer, "period and timeout must be longer than 0s"


def _check_pattern(pointer: str, pattern: str) -> Iterator[tuple[str, str]]:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        yield pointer, f"{clipped(repr(pattern))} is no regular expression: {error}"
