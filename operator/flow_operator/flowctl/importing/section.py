"""A group of keys of which each is carried over or remarked: none is forgotten."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flow_operator.errors import clipped
from flow_operator.flowctl.importing.source import Place, Remarks
from flow_operator.manifest import Document, escape

_YES = frozenset({"true", "yes", "on", "1", "y", "t"})
_NO = frozenset({"false", "no", "off", "0", "n", "f"})

UNKNOWN = "is not known here and was left out"


class Section:
    """Keys and values that are asked for by name; ``leave`` tells of those that nobody asked for.

    Attributes:
        title: what stands before a key in remarks, as ``[program:web] `` or ``services.web.``.
        values: what stands there.
    """

    def __init__(
        self,
        title: str,
        values: Mapping[str, Any],
        place_of: Callable[[str], Place],
        remarks: Remarks,
    ) -> None:
        """``place_of`` takes a JSON pointer without its first slash; empty is the group itself."""
        self.title = title
        self.values = values
        self._place_of = place_of
        self._remarks = remarks
        self._asked: set[str] = set()
        self._names: Mapping[str, str] = {}

    @property
    def place(self) -> Place:
        """Where the group stands."""
        return self._place_of("")

    def place_of(self, key: str, *inner: str | int) -> Place:
        """Where a key stands, or what is in its value."""
        tokens = (self._names.get(key, key), *inner)
        return self._place_of("/".join(escape(str(token)) for token in tokens))

    def say(self, key: str, text: str, *inner: str | int) -> None:
        """Remark on a key."""
        shown = ".".join(map(str, (self._names.get(key, key), *inner)))
        self._remarks.add(self.place_of(key, *inner), f"{self.title}{shown}: {text}")

    def note(self, text: str) -> None:
        """Remark on the whole group."""
        title = self.title.rstrip(" .")
        self._remarks.add(self.place, f"{title}: {text}" if title else text)

    def raw(self, key: str) -> Any:
        """A value as it is; None if it is not there."""
        self._asked.add(key)
        return self.values.get(key)

    def text(self, key: str) -> str | None:
        """A value as text; one that is a list or a mapping is remarked."""
        value = self.raw(key)
        if value is None or isinstance(value, str):
            return value
        shown = scalar(value)
        if shown is None:
            self.say(key, "must be text; it was left out")
        return shown

    def number(self, key: str) -> float | None:
        """A number that is not negative, also when it is written as text."""
        written = self.text(key)
        if written is None:
            return None
        if re.fullmatch(r"\s*[0-9]{1,15}(\.[0-9]{1,9})?\s*", written):
            return float(written)
        self.say(key, f"{clipped(repr(written))} is no number of 0 or more; it was left out")
        return None

    def whole(self, key: str) -> int | None:
        """A whole number that is not negative."""
        value = self.number(key)
        if value is not None and value != int(value):
            self.say(key, "must be a whole number; it was left out")
            return None
        return None if value is None else int(value)

    def flag(self, key: str) -> bool | None:
        """True or false, also when it is written as text."""
        written = self.text(key)
        if written is None:
            return None
        word = written.strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
        self.say(key, f"{clipped(repr(written))} is neither true nor false; it was left out")
        return None

    def items(self, key: str) -> list[tuple[str, Place]]:
        """The texts of a list, with their places; one text counts as a list of it."""
        value = self.raw(key)
        listed = value if isinstance(value, list) else [] if value is None else [value]
        found = []
        for index, item in enumerate(listed):
            shown = scalar(item)
            if shown is None:
                self.say(key, "must be text; it was left out", index)
            else:
                found.append((shown, self.place_of(key, index)))
        return found

    def below(self, key: str) -> Section:
        """The mapping under a key; an empty one if there is none."""
        value = self.raw(key)
        if value is not None and not isinstance(value, dict):
            self.say(key, "must be a mapping; it was left out")
        return self.at(key, value if isinstance(value, dict) else {})

    def at(self, key: str, values: Mapping[str, Any]) -> Section:
        """``values``, which stand under a key."""
        self._asked.add(key)

        name = self._names.get(key, key)

        def place_of(pointer: str) -> Place:
            return self._place_of(escape(name) + (f"/{pointer}" if pointer else ""))

        return Section(f"{self.title}{name}.", values, place_of, self._remarks)

    def like(self, values: Mapping[str, Any]) -> Section:
        """A group with other values that stand at the same places; nothing is asked for yet."""
        return Section(self.title, values, self._place_of, self._remarks)

    def renamed(self, values: Mapping[str, Any], names: Mapping[str, str]) -> Section:
        """The group with other keys; ``names`` are those that they have in the file."""
        made = self.like(values)
        made._names = names  # noqa: SLF001 - one of us
        return made

    def leave(self, reasons: Mapping[str, str], silent: Iterable[str] = ()) -> None:
        """Tell of every key that was not asked for.

        Args:
            reasons: by key or by the beginning of one (``Condition*``), what to say.
            silent: keys that mean nothing for a flow.
        """
        known = frozenset(silent)
        for key, value in self.values.items():
            if key in self._asked or key in known or value is None:
                continue
            self.say(key, self.reason(key, reasons))

    def asked(self, key: str) -> bool:
        """Whether somebody asked for a key."""
        return key in self._asked

    @staticmethod
    def reason(key: str, reasons: Mapping[str, str]) -> str:
        """Why a key is left out."""
        if key in reasons:
            return reasons[key]
        for begin, reason in reasons.items():
            if begin.endswith("*") and key.startswith(begin[:-1]):
                return reason
        return UNKNOWN

    def ignore(self) -> None:
        """Count every key as told of."""
        self._asked.update(self.values)


def scalar(value: Any) -> str | None:
    """A value as its file had it, more or less; None if it is no scalar."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return None


def tree(document: Document, file: str, remarks: Remarks) -> Section:
    """The whole of a YAML or JSON document.

    Raises:
        InvalidError: it is no mapping.
    """
    places = document.places()

    def place_of(pointer: str) -> Place:
        around = f"/{pointer}" if pointer else ""
        while around and around not in places:
            around = around.rpartition("/")[0]
        return Place(file, *places.get(around, (1, 1)))

    if not isinstance(document.data, dict):
        place_of("").refuse("the file must hold a mapping of keys")
    return Section("", document.data, place_of, remarks)
