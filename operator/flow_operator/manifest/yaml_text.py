"""YAML in and out. The only module that knows PyYAML.

libyaml's parser yields a flat stream of events, which it makes without recursion. We build the
data from that stream ourselves instead of using PyYAML's constructor: the guard then stands before
every node (the constructor recurses in C and overflows the stack at a few hundred levels), YAML
1.2's core schema applies (``no`` stays text), and each value's place is at hand for errors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import yaml

from flow_operator.errors import Fault, InvalidError
from flow_operator.manifest.document import Document, Places, SourceText, escape
from flow_operator.manifest.plain_yaml import WIDTH, plain_yaml

MAX_DEPTH = 32
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels: make it flatter"
MAX_NODES = 20_000
"""Per document, with aliased parts counted each time they are used."""
MAX_ALIASES = 20

_CORE = "tag:yaml.org,2002:"
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_INT = 2**63 - 1
_SPECIAL = frozenset("0123456789+-.~nNtTfF")
"""What a plain scalar that is not text can begin with."""


class _Refusal(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, detail: str, mark: Any) -> None:
        self.detail = detail
        self.mark = mark


def parse_yaml(source: SourceText, *, trusted: bool = False, merge: bool = False) -> list[Document]:
    """Parse every document of a text; empty ones are left out.

    Args:
        source: the text.
        trusted: it was written by ourselves, from what had passed the guard before: sizes do
            not count.
        merge: resolve merge keys (``<<``), which other programs' files have; a manifest may not.

    Raises:
        InvalidError: with line and column of the first thing that is wrong.
    """
    try:
        bodies = list(_documents(source.text, None, guarded=not trusted, merge=merge))
    except _Refusal as refusal:
        line, column = _place(refusal.mark)
        raise InvalidError([Fault(refusal.detail, "", line, column, source.file)]) from None
    except yaml.YAMLError as error:
        raise InvalidError([_syntax_fault(error, source)]) from None

    def places_of(index: int) -> Places:
        tracked: list[Places] = []
        list(_documents(source.text, tracked, merge=merge))
        return tracked[index]

    return [
        Document(data, source.file, lambda index=index: places_of(index))  # type: ignore[misc]
        for index, data in enumerate(bodies)
        if data is not None
    ]


def _syntax_fault(error: yaml.YAMLError, source: SourceText) -> Fault:
    if isinstance(error, yaml.MarkedYAMLError):
        line, column = _place(error.problem_mark or error.context_mark)
        if "nesting depth" in (error.problem or ""):
            # libyaml's scanner reads ahead of its events, and has a limit of its own.
            return Fault(_TOO_DEEP, "", line, column, source.file)
        said = ", ".join(part for part in (error.context, error.problem) if part)
        return Fault(f"not valid YAML: {said}", "", line, column, source.file)
    if isinstance(error, yaml.reader.ReaderError):
        # libyaml counts bytes.
        before = source.text.encode()[: error.position].decode(errors="ignore")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        detail = f"not valid YAML: character {error.character!r}: {error.reason}"
        return Fault(detail, "", line, column, source.file)
    return Fault(f"not valid YAML: {error}", "", None, None, source.file)


def _place(mark: Any) -> tuple[int | None, int | None]:
    return (mark.line + 1, mark.column + 1) if mark else (None, None)


def _documents(
    text: str, tracked: list[Places] | None, *, guarded: bool = True, merge: bool = False
) -> Iterator[Any]:
    # A Loader's parser refuses what YAML may not contain as it reads; its errors carry marks.
    builder: _Builder | None = None
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.DocumentStartEvent):
            places: Places | None = None
            if tracked is not None:
                places = {}
                tracked.append(places)
            builder = _Builder(places, guarded=guarded, merge=merge)
        elif isinstance(event, yaml.DocumentEndEvent):
            assert builder is not None  # noqa: S101 - the parser balances its events
            yield builder.result
        elif builder is not None:
            builder.feed(event)


_MERGE = "<<"


class _Frame:
    """A collection under construction; ``merged`` is what stands under its merge key."""

    __slots__ = ("anchor", "height", "key", "merged", "merging", "nodes_before", "pointer", "value")

    def __init__(self, value: Any, pointer: str, anchor: str | None, nodes_before: int) -> None:
        self.value = value
        self.pointer = pointer
        self.anchor = anchor
        self.nodes_before = nodes_before
        self.height = 1
        self.key: str | None = None
        self.merging = False
        self.merged: Any = None


class _Builder:
    """Builds one document's data from its events, within the guard's limits."""

    def __init__(self, places: Places | None, *, guarded: bool, merge: bool) -> None:
        self._guarded = guarded
        self._merge = merge
        self.result: Any = None
        self._places = places
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._nodes = 0
        self._aliases = 0

    def feed(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._count(1, event)
            frame = self._stack[-1] if self._stack else None
            if frame is not None and type(frame.value) is dict and frame.key is None:
                self._open_key(frame, event)
                return
            value = _scalar(event)
            self._attach(value, event)
            self._remember(event.anchor, value, 1, 0)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._count(1, event)
            self._open(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            frame = self._stack.pop()
            if frame.merged is not None:
                _merge(frame, event)
            self._raise(frame.height + 1)
            nodes = self._nodes - frame.nodes_before
            self._remember(frame.anchor, frame.value, nodes, frame.height)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)

    def _count(self, nodes: int, event: yaml.Event) -> None:
        self._nodes += nodes
        if self._guarded and self._nodes > MAX_NODES:
            raise _Refusal(
                f"the document has more than {MAX_NODES} nodes: make several of it",
                event.start_mark,
            )

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        if self._guarded and len(self._stack) >= MAX_DEPTH:
            raise _Refusal(_TOO_DEEP, event.start_mark)
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _CORE + ("map" if mapping else "seq")):
            raise _Refusal(f"the tag {event.tag} is not allowed: leave it out", event.start_mark)
        value: Any = {} if mapping else []
        pointer = self._attach(value, event)
        self._stack.append(_Frame(value, pointer, event.anchor, self._nodes - 1))

    def _open_key(self, frame: _Frame, event: yaml.ScalarEvent) -> None:
        key = _scalar(event)
        frame.merging = event.value == _MERGE and event.implicit[0]
        if frame.merging and not self._merge:
            raise _Refusal("merge keys (<<) are not allowed; write the keys out", event.start_mark)
        if frame.merging and frame.merged is not None:
            raise _Refusal(
                "the merge key (<<) stands twice: name both in one list", event.start_mark
            )
        if not isinstance(key, str):
            raise _Refusal(f"a key must be text: quote it, '{event.value}'", event.start_mark)
        if key in frame.value:
            raise _Refusal(f"the key '{key}' stands twice: leave one out", event.start_mark)
        if self._places is not None:
            self._places.setdefault(f"{frame.pointer}/{escape(key)}", _mark_place(event))
        frame.key = key

    def _attach(self, value: Any, event: yaml.Event) -> str:
        """Put a value where it belongs; returns its pointer (while places are tracked)."""
        if not self._stack:
            self.result = value
            if self._places is not None:
                self._places[""] = _mark_place(event)
            return ""
        frame = self._stack[-1]
        if type(frame.value) is list:
            token = str(len(frame.value))
            frame.value.append(value)
        elif frame.key is None:
            raise _Refusal("a key must be text, not a collection", event.start_mark)
        else:
            token = frame.key
            if frame.merging:
                frame.merged = [] if value is None else value
            else:
                frame.value[token] = value
            frame.key = None
        if self._places is None:
            return ""
        pointer = f"{frame.pointer}/{escape(token)}"
        self._places[pointer] = _mark_place(event)
        return pointer

    def _raise(self, height: int) -> None:
        """The collection under construction is at least so high."""
        if self._stack:
            self._stack[-1].height = max(self._stack[-1].height, height)

    def _remember(self, anchor: str | None, value: Any, nodes: int, height: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, nodes, height)

    def _alias(self, event: yaml.AliasEvent) -> None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise _Refusal(
                f"more than {MAX_ALIASES} aliases: write out what they stand for", event.start_mark
            )
        if event.anchor not in self._anchors:
            raise _Refusal(
                f"the alias *{event.anchor} must follow the whole of what &{event.anchor} names",
                event.start_mark,
            )
        value, nodes, height = self._anchors[event.anchor]
        self._count(nodes, event)
        if self._guarded and len(self._stack) + height > MAX_DEPTH:
            raise _Refusal(_TOO_DEEP, event.start_mark)
        self._raise(height + 1)
        self._attach(value, event)


def _merge(frame: _Frame, event: yaml.Event) -> None:
    """Add the keys of the merged mappings; own keys win, then those of earlier mappings.

    The nodes of the merged mappings were counted when they were used.
    """
    merged = frame.merged if isinstance(frame.merged, list) else [frame.merged]
    for mapping in merged:
        if not isinstance(mapping, dict):
            raise _Refusal("what is merged (<<) must be mappings", event.start_mark)
        for key, value in mapping.items():
            frame.value.setdefault(key, value)


def _mark_place(event: yaml.Event) -> tuple[int, int]:
    mark: Any = event.start_mark
    return mark.line + 1, mark.column + 1


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    tag = event.tag
    if tag is None or tag == "!":
        plain = event.implicit[0] and tag is None
        return _resolve(text, event) if plain else text
    if tag == _CORE + "str":
        return text
    kinds: dict[str, type | tuple[type, ...]] = {
        "int": int,
        "float": (float, int),
        "bool": bool,
        "null": type(None),
    }
    kind = kinds.get(tag.removeprefix(_CORE))
    if kind is None or not tag.startswith(_CORE):
        raise _Refusal(f"the tag {tag} is not allowed: leave it out", event.start_mark)
    value = _resolve(text, event)
    if not isinstance(value, kind):
        raise _Refusal(
            f"{text!r} is not of the kind its tag says: leave the tag out", event.start_mark
        )
    return value


def _resolve(text: str, event: yaml.ScalarEvent) -> Any:  # noqa: PLR0911 - one per rule
    """Resolve a plain scalar by YAML 1.2's core schema (section 10.3.2 of its text)."""
    if text == "":
        return None
    if text[0] not in _SPECIAL:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return _integer(text, event)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise _Refusal(f"the number {text} is too large: quote it", event.start_mark)
        return value
    if _NOT_FINITE.fullmatch(text):
        raise _Refusal(f"{text} is not a number that JSON knows: quote it", event.start_mark)
    return text


def _integer(text: str, event: yaml.ScalarEvent) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    # Python refuses to convert thousands of digits; so do we, long before.
    value = int(text[2:] if base != 10 else text, base) if len(text) < 32 else _MAX_INT + 1  # noqa: PLR2004
    if not -_MAX_INT - 1 <= value <= _MAX_INT:
        raise _Refusal(f"the number {text} does not fit 64 bits: quote it", event.start_mark)
    return value


class _Dumper(yaml.CSafeDumper):
    """Writes what both YAML 1.1 and 1.2 read back as the same data."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


# The dumper quotes a text that its own (YAML 1.1) resolver takes for something else. These are
# what only YAML 1.2 does.
_Dumper.add_implicit_resolver(_CORE + "float", _FLOAT, list("-+.0123456789"))
_Dumper.add_implicit_resolver(
    _CORE + "int", re.compile(r"[-+]?[0-9]+|0o[0-7]+"), list("-+0123456789")
)


def _represent_str(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and text.isprintable() is False and _block_safe(text) else None
    return dumper.represent_scalar(_CORE + "str", text, style=style)


def _block_safe(text: str) -> bool:
    """Whether a text survives as a literal block; libyaml refuses the rest by itself."""
    return all(ch.isprintable() or ch == "\n" for ch in text) and not text[0].isspace()


_Dumper.add_representer(str, _represent_str)


@lru_cache(maxsize=2048)
def _is_no_text(word: str) -> bool:
    """Whether a word that is not quoted is read as something else."""
    known = _Dumper.yaml_implicit_resolvers
    return any(pattern.match(word) for _, pattern in known.get(word[0], ()))


def dump_yaml(documents: Iterable[Any], *, explicit_start: bool = False) -> str:
    """Write plain data as YAML, keys in their given order."""
    listed = list(documents)
    if len(listed) == 1 and not explicit_start:
        plain = plain_yaml(listed[0], _is_no_text)
        if plain is not None:
            return plain
    text: str = yaml.dump_all(
        listed,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        explicit_start=explicit_start,
        width=WIDTH,
    )
    return text
