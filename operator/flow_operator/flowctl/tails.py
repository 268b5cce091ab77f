"""Lines of several flows' logs, each with the name of its flow."""

from __future__ import annotations

import os
import queue
import re
import sys
import threading
from collections.abc import Sequence
from typing import Any

import click

from flow_operator.errors import FlowError
from flow_operator.flowctl.output import on_terminal
from flow_operator.flowctl.session import Session, present_session

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_red")
_STEP = re.compile(rb"\[[a-z0-9][-a-z0-9]*(/\d+)?\]")
"""What the operator writes before lines where there are several steps or replicas."""

_LONGEST = 1 << 20
"""Bytes of a line that is printed before its end has come."""

Message = tuple[str, bytes | FlowError | None]


class Printer:
    """Writes pieces of logs on stdout.

    Those of a single flow are passed on byte for byte, unless it is a terminal with colours. Else
    they are written in whole lines, so that flows do not mix within one.

    Args:
        names: of the flows.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._coloured = on_terminal() and not os.environ.get("NO_COLOR")
        self._several = len(names) > 1
        self._rest = dict.fromkeys(names, b"")
        width = max(map(len, names))
        self._prefixes = {
            name: self._colour(f"{name:<{width}} | ", _COLOURS[index % len(_COLOURS)])
            for index, name in enumerate(names)
        }

    def write(self, name: str, piece: bytes) -> None:
        """What has come of one flow."""
        if not (self._several or self._coloured):
            self._print(piece)
            return
        *lines, rest = (self._rest[name] + piece).split(b"\n")
        if len(rest) > _LONGEST:
            lines, rest = [*lines, rest], b""
        self._rest[name] = rest
        self._print(b"".join(self._line(name, line) for line in lines))

    def end(self, name: str) -> None:
        """No more comes of this flow."""
        rest, self._rest[name] = self._rest[name], b""
        if rest:
            line = self._line(name, rest)
            # Of a single flow, what has no end gets none.
            self._print(line if self._several else line[:-1])

    def _line(self, name: str, line: bytes) -> bytes:
        prefix = self._prefixes[name] if self._several else b""
        step = _STEP.match(line) if self._coloured else None
        if step:
            colour = _COLOURS[sum(step[0]) % len(_COLOURS)]
            line = self._colour(step[0].decode(), colour) + line[step.end() :]
        return prefix + line + b"\n"

    def _colour(self, text: str, colour: str) -> bytes:
        return (click.style(text, fg=colour) if self._coloured else text).encode()

    def _print(self, text: bytes) -> None:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


def follow_all(names: Sequence[str], printer: Printer, chosen: dict[str, Any]) -> None:
    """Print what flows print until the operator ends all of the streams.

    Raises:
        FlowError: what was wrong with the last of them.
    """
    session = present_session()
    messages: queue.Queue[Message] = queue.Queue(maxsize=1000)
    for name in names:
        # Daemons: they wait for the operator, and must not keep the program after Ctrl-C.
        arguments = (session, name, messages, chosen)
        threading.Thread(target=_follow, args=arguments, name=name, daemon=True).start()
    left, trouble = len(names), None
    while left:
        name, told = messages.get()
        if isinstance(told, bytes):
            printer.write(name, told)
            continue
        left -= 1
        printer.end(name)
        trouble = told or trouble
        if told is not None:
            click.echo(f"flow/{name}: {told}", err=True)
    if trouble is not None:
        raise trouble


def _follow(
    session: Session, name: str, messages: queue.Queue[Message], chosen: dict[str, Any]
) -> None:
    try:
        with session.connect() as client:
            for piece in client.logs(name, follow=True, **chosen):
                messages.put((name, piece))
    except FlowError as error:
        messages.put((name, error))
    else:
        messages.put((name, None))
