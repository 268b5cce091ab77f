"""ExecStart= and ExecStartPre= as a command, or as a script where systemd does what sh can do.

Source: systemd.service(5), "Command lines".
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

from flow_operator.flowctl.importing.unit_file import Line, UnitSection
from flow_operator.flowctl.importing.unit_words import Specifiers, words

_PREFIXES = "@-:+!|"
_ALONE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_WITHIN = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Command:
    """One command line.

    Attributes:
        prefix: of ``@-:+!|`` those that stood before it.
        words: the program and its arguments, variables not yet replaced.
    """

    prefix: str
    words: list[str]

    @property
    def replaces(self) -> bool:
        """Whether systemd replaces variables in it."""
        return ":" not in self.prefix and any("$" in word for word in self.words)

    def shell(self) -> str:
        """The command for sh, where variables have the same values."""
        if ":" in self.prefix:
            return shlex.join(self.words)
        return " ".join(_quoted(word) for word in self.words)


def _quoted(word: str) -> str:
    """``$A`` as a word of its own is split at blanks, ``${A}`` is not; ``$$`` is a ``$``."""
    if "$" not in word:
        return shlex.quote(word)
    if _ALONE.fullmatch(word):
        return word
    made, at = "", 0
    for match in _WITHIN.finditer(word):
        made += _literal(word[at : match.start()])
        made += f"${{{match[1]}}}" if match[1] else "\\$"
        at = match.end()
    return f'"{made}{_literal(word[at:])}"'


def _literal(text: str) -> str:
    return re.sub(r'(["\\$`])', r"\\\1", text)


def set_command(step: dict[str, Any], keys: UnitSection, specifiers: Specifiers) -> bool:
    """Give the step its command or script; returns whether there is one."""
    before = _commands("ExecStartPre", keys, specifiers)
    commands = _commands("ExecStart", keys, specifiers)
    if not commands:
        return False
    if before:
        keys.say("ExecStartPre", "is run by the step's script, at each start of the step")
    last = commands[-1]
    if not before and len(commands) == 1 and not last.replaces:
        step["command"] = last.words
        return True
    lines = [f"{one.shell()} || {_failed(one)}" for one in (*before, *commands[:-1])]
    whole = [*before, *commands]
    if any(_ALONE.fullmatch(word) for one in whole if one.replaces for word in one.words):
        lines.insert(0, "set -f")
    step["script"] = "\n".join([*lines, f"exec {last.shell()}"]) + "\n"
    return True


def _failed(command: Command) -> str:
    return ":" if "-" in command.prefix else "exit"


def _commands(key: str, keys: UnitSection, specifiers: Specifiers) -> list[Command]:
    found = []
    for line in keys.all(key):
        prefix = line.value[: len(line.value) - len(line.value.lstrip(_PREFIXES))]
        for number, listed in enumerate(_separated(words(line.value[len(prefix) :], line.place))):
            own = prefix
            if number:  # Each of several commands has prefixes of its own.
                stripped = listed[0].lstrip(_PREFIXES)
                own = listed[0][: len(listed[0]) - len(stripped)]
                listed[0] = stripped
            made = [specifiers(word, line.place) for word in listed]
            _tell(key, line, own, keys)
            if "@" in own:
                del made[1:2]
            if not made or not made[0]:
                line.place.refuse(f"{key} names no program")
            found.append(Command(own, made))
    return found


def _separated(listed: list[str]) -> list[list[str]]:
    """Commands stand apart by a ``;`` of its own; one with a backslash before it is a word."""
    found: list[list[str]] = [[]]
    for word in listed:
        if word == ";":
            found.append([])
        else:
            found[-1].append(";" if word == "\\;" else word)
    return [one for one in found if one]


def _tell(key: str, line: Line, prefix: str, keys: UnitSection) -> None:
    if "@" in prefix:
        keys.tell(key, line, "the name of @ that it would be called by is left out")
    if "-" in prefix and key == "ExecStart":
        said = "a failure counts in spite of the -; list codes in successExitCodes that are none"
        keys.tell(key, line, said)
    if "+" in prefix or "!" in prefix:
        keys.tell(key, line, "all of a step runs as its user, in spite of + or !")
    if "|" in prefix:
        keys.tell(key, line, "is not run by the user's shell, in spite of |")
