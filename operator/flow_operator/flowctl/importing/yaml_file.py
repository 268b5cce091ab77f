"""YAML of other programs: anchors and merge keys resolved, places kept, variables replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flow_operator.flowctl.importing.section import Section, tree
from flow_operator.flowctl.importing.source import Place, Source
from flow_operator.manifest import SourceText, parse_yaml

Replace = Callable[[str, Place], str]
"""A text and where it stands -> the text with its variables replaced."""


def load(source: Source) -> Section:
    """The first document of a file.

    Raises:
        InvalidError: it is no YAML, or no mapping.
    """
    documents = parse_yaml(SourceText(source.text, source.file), merge=True)
    if not documents:
        source.place(1).refuse("the file is empty")
    if len(documents) > 1:
        source.remarks.add(source.place(1), "only the first document of the file was read")
    return tree(documents[0], source.file, source.remarks)


def replaced(section: Section, replace: Replace) -> Section:
    """The same with every text replaced; keys stay."""

    def walk(value: Any, pointer: tuple[str, ...]) -> Any:
        if isinstance(value, str):
            return replace(value, section.place_of(*pointer)) if "$" in value else value
        if isinstance(value, dict):
            return {key: walk(inner, (*pointer, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, (*pointer, str(index))) for index, inner in enumerate(value)]
        return value

    return section.like({key: walk(value, (key,)) for key, value in section.values.items()})


def assignments(keys: Section, key: str) -> list[tuple[str, str | None, Place]]:
    """Variables, written as a mapping or as a list of NAME=value; None is: without a value."""
    value = keys.raw(key)
    if isinstance(value, dict):
        inner = keys.at(key, value)
        return [(name, inner.text(name), inner.place_of(name)) for name in value]
    found = []
    for text, place in keys.items(key):
        name, equals, written = text.partition("=")
        found.append((name, written if equals else None, place))
    return found
