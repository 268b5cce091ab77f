"""Values that several formats have, as a manifest writes them."""

from __future__ import annotations

import re
import shlex
from typing import get_args

from flow_operator.errors import clipped
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.section import Section
from flow_operator.flowctl.importing.source import Place
from flow_operator.model.flow import Signal

_LONGEST = 3650 * 86400.0
"""Seconds; no duration of a manifest may be longer."""

FOREVER = "3650d"

SIGNALS: tuple[str, ...] = get_args(Signal)

_USER = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.]*")
_NUMBERS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 9: "SIGKILL", 10: "SIGUSR1", 12: "SIGUSR2"}
_NUMBERS |= {15: "SIGTERM"}


def seconds(value: float) -> str:
    """A duration; what is too long for one is cut."""
    return f"{min(value, _LONGEST):.3f}".rstrip("0").rstrip(".") + "s"


def size(number: int) -> str:
    """A number of bytes, in the largest unit that it is whole in."""
    for unit, factor in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)


def signal_name(written: str) -> str | None:
    """``SIGTERM`` for ``term``, ``SIGTERM`` or ``15``; None if a flow cannot be stopped by it."""
    word = written.strip().upper()
    if word.isascii() and word.isdecimal() and len(word) < 4:  # noqa: PLR2004 - no longer number
        return _NUMBERS.get(int(word))
    name = word if word.startswith("SIG") else f"SIG{word}"
    return name if name in SIGNALS else None


def set_signal(draft: Draft, keys: Section, key: str) -> None:
    """Carry the signal over that ends a process."""
    written = keys.text(key)
    if written is None:
        return
    name = signal_name(written)
    if name is None:
        known = ", ".join(SIGNALS)
        keys.say(key, f"{clipped(written)} cannot end a flow, SIGTERM will; it may be {known}")
    elif name != "SIGTERM":
        draft.part("stop")["signal"] = name


def set_user(draft: Draft, keys: Section, key: str, name: str) -> None:
    """Carry a user's name or uid over."""
    if not _USER.fullmatch(name):
        keys.say(key, f"{clipped(repr(name))} is no user's name or uid; it was left out")
        return
    draft.step["user"] = name
    keys.say(key, f"flowd must be root and be started with --allow-users {name}")


def set_umask(draft: Draft, keys: Section, key: str) -> None:
    """Carry an octal umask over."""
    written = keys.text(key)
    if written is None:
        return
    if not re.fullmatch(r"0*[0-7]{1,3}", written):
        keys.say(key, f"{clipped(repr(written))} is no umask; it was left out")
        return
    draft.step["umask"] = written[-3:].rjust(3, "0")


def split(command: str, place: Place) -> list[str]:
    """A command line's words by the rules of sh, without its substitutions.

    Raises:
        InvalidError: a quote is not closed, or there is no word.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        place.refuse(f"the command cannot be split into words: {str(error).lower()}")
    if not words or not words[0]:
        place.refuse("the command is empty")
    return words


def words_of(keys: Section, key: str) -> list[str]:
    """A command line as one text, or as a list of its words; empty if there is none."""
    value = keys.raw(key)
    if isinstance(value, str):
        return split(value, keys.place_of(key)) if value.strip() else []
    return [word for word, _ in keys.items(key)]
