"""``explain``: what the fields of a manifest mean, from the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from flow_operator.errors import InvalidError

Schema = dict[str, Any]

_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the manifest.

    Attributes:
        path: dotted, as in ``spec.stop.timeout``.
        schema: of its value, null left out.
        description: of the field itself.
        required: whether it must be given.
        inner: the schema of the object that it holds, or holds a list of, if any.
    """

    path: str
    schema: Schema
    description: str
    required: bool
    inner: Schema | None

    @property
    def type(self) -> str:
        """As in ``<text>`` or ``<list of Step>``."""
        return _type(self.schema, self.inner)


class _FieldPath(click.ParamType[str]):
    name = "path"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Every field below what is written."""
        del ctx, param
        paths = [field.path for field in _below(_root(), deep=True)]
        depth = incomplete.count(".")
        return [
            CompletionItem(path)
            for path in paths
            if path.startswith(incomplete) and path.count(".") == depth
        ]


@click.command("explain")
@click.argument("path", default="", type=_FieldPath())
@click.option("-r", "--recursive", is_flag=True, help="Also what is below, as a tree.")
def explain(path: str, *, recursive: bool) -> None:
    """Tell what a field of the manifest means, as in `explain spec.stop`.

    Its type, default, what it may be, and the fields within it.
    """
    field = find(path)
    click.echo(f"FIELD:    {field.path or 'Flow'} {field.type}")
    for line in _facts(field):
        click.echo(line)
    for text in dict.fromkeys((field.description, (field.inner or {}).get("about", ""))):
        if text:
            click.echo(f"\n{click.wrap_text(text, _WIDTH, '  ', '  ', preserve_paragraphs=True)}")
    if field.inner is None:
        return
    click.echo("\nFIELDS:")
    for inner in _below(field, deep=recursive):
        depth = inner.path.count(".") - (field.path.count(".") + 1 if field.path else 0)
        _print_line(inner, depth, short=recursive)


def find(path: str) -> Field:
    """The field of a dotted path; ``steps[0].env`` and ``/spec/steps`` are understood.

    Raises:
        InvalidError: there is none; tells the nearest.
    """
    field = _root()
    for name in _names(path):
        fields = {inner.path.rpartition(".")[2]: inner for inner in _below(field, deep=False)}
        if name not in fields:
            raise InvalidError(_unknown(field, name, list(fields)))
        field = fields[name]
    return field


def _names(path: str) -> list[str]:
    words = [word.split("[")[0] for word in path.replace("/", ".").split(".")]
    named = [word for word in words if word and not word.isdecimal()]
    return named[1:] if named[:1] in (["flow"], ["flows"], ["Flow"]) else named


def _unknown(field: Field, name: str, known: list[str]) -> str:
    where = field.path or "a Flow"
    if not known:
        return f"{where} has no fields; flowctl explain {where} tells what it is"
    import difflib  # noqa: PLC0415 - help must not wait for it

    near = difflib.get_close_matches(name, known, n=1) or _elsewhere(name)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
    return f"{where} has no field '{name}'; {hint}"


def _elsewhere(name: str) -> list[str]:
    """Where a field of that name is."""
    return [f.path for f in _below(_root(), deep=True) if f.path.rpartition(".")[2] == name][:1]


def _root() -> Field:
    from flow_operator.model.schema import flow_schema  # noqa: PLC0415 - takes 10 ms to make

    schema = flow_schema()
    flow = {**schema["$defs"]["Flow"], "$defs": schema["$defs"]}
    return Field("", flow, "", required=True, inner=flow)


def _below(field: Field, *, deep: bool) -> Iterator[Field]:
    definitions = _root().schema["$defs"]
    schema = field.inner or {}
    for name, described in schema.get("properties", {}).items():
        path = f"{field.path}.{name}" if field.path else name
        required = name in schema.get("required", ())
        inner = _field(path, described, definitions, required=required)
        yield inner
        if deep:
            yield from _below(inner, deep=True)


def _field(path: str, described: Schema, definitions: Schema, *, required: bool) -> Field:
    value = _resolved(described, definitions)
    item = _resolved(value.get("items", {}), definitions) if value.get("type") == "array" else value
    holds = item if "properties" in item else None
    return Field(path, value, described.get("description", ""), required, holds)


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """Without null and without references; what stands beside a reference goes before it."""
    if "anyOf" in schema:
        given = [one for one in schema["anyOf"] if one.get("type") != "null"]
        schema = {**given[0], **{k: v for k, v in schema.items() if k != "anyOf"}}
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    beside = {k: v for k, v in schema.items() if k != "$ref"}
    if not name:
        return schema
    about = definitions[name].get("description", "")
    return {**definitions[name], "kind": name, "about": about, **beside}


def _type(schema: Schema, inner: Schema | None) -> str:
    if schema.get("type") == "array":
        item = schema.get("items", {})
        kind = str(item.get("$ref", "")).rpartition("/")[2] or _plain(item)
        return f"<list of {kind}>"
    if inner is not None:
        return f"<{schema.get('kind', 'Flow')}>"
    return f"<{schema.get('kind') or schema.get('title', '').lower() or _plain(schema)}>"


_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "map",
}


def _plain(schema: Schema) -> str:
    kinds = schema.get("type", "string" if "enum" in schema or "const" in schema else "any")
    listed = kinds if isinstance(kinds, list) else [kinds]
    return " or ".join(_KINDS.get(kind) or str(kind) for kind in listed)


def _facts(field: Field) -> Iterator[str]:
    schema = field.schema
    if field.required:
        yield "REQUIRED: yes"
    elif "default" in schema and schema["default"] not in ({}, []) and not field.inner:
        yield f"DEFAULT:  {_value(schema['default'])}"
    if allowed := _allowed(schema):
        yield f"ALLOWED:  {allowed}"


def _allowed(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(map(_value, schema["enum"]))
    if "const" in schema:
        return _value(schema["const"])
    if schema.get("type") == "array":
        least, most = schema.get("minItems"), schema.get("maxItems")
        return f"{least or 0} to {most} of them" if most else "at least one" if least else ""
    least, most = schema.get("minimum"), schema.get("maximum")
    if "title" in schema or (least is None and most is None):
        return ""
    return f"{least} to {most}" if most is not None else f"{least} or more"


def _value(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _print_line(field: Field, depth: int, *, short: bool) -> None:
    name = f"{'  ' * (depth + 1)}{field.path.rpartition('.')[2]}"
    words = ["required"] if field.required else []
    words += [fact.split(":", 1)[1].strip() for fact in _facts(field) if "ALLOWED" in fact]
    words += [
        f"default {fact.split(':', 1)[1].strip()}" for fact in _facts(field) if "DEFAULT" in fact
    ]
    click.echo(f"{name:<24} {field.type}{'  ' if words else ''}{'; '.join(words)}")
    text = field.description
    if text and not short:
        click.echo(click.wrap_text(text.split("\n\n")[0], _WIDTH, " " * 6, " " * 6))
