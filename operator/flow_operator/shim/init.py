"""PID 1 of a container: a shim that starts the operator too, and another one when that dies.

What it decides is only this, since everything else is the operator's:

============================ ======================================================================
the operator ends by itself  the container ends with its exit code, unless a step still runs
it is killed, or steps run   another one is started: at once, then after 1, 2, 4, ... 30 s
SIGTERM, SIGINT              handed on to the operator, which drains; a second one stops at once
no end near the deadline     everything is killed; the container ends with 137
============================ ======================================================================

So a mistake in the configuration ends the container with its message, and the engine's restart
policy decides what then happens; but nothing that runs is ended for it. Where the operator dies
before it has ever reached us, and nothing runs, that counts as a mistake too.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from flow_operator.shim import server
from flow_operator.shim.connections import Client
from flow_operator.shim.runs import exit_of
from flow_operator.shim.server import Shim
from flow_operator.shim.spawn import DEFAULT_SIGNALS, inside, soft_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STOPS = (signal.SIGTERM, signal.SIGINT)

_LONGEST = 30.0
"""Seconds between two starts of an operator that does not live."""

_LONGEST_STOPPING = 1.0
"""The same once the container is to end: it must not wait for what would end it well."""

_WELL = 60.0
"""Seconds of life after which the death of an operator counts as its first."""

_LAST = 0.99
"""Share of the grace after which PID 1 does not trust the operator to end in time."""

Say = Callable[..., None]


class Init(Shim):
    """The shim that is PID 1; the operator is a child like others, but no step.

    Args:
        data: the data directory.
        lock: the descriptor whose flock makes this the only shim of it.
        listener: where the operator connects.
        command: what runs the operator.
        say: tells in the container's log what happens: level, event, keys.

    Attributes:
        code: what the container is to exit with.
    """

    def __init__(
        self, data: str, lock: int, listener: socket.socket, command: Sequence[str], say: Say
    ) -> None:
        self._own_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        super().__init__(data, lock, listener)
        self.code = 0
        self._command = command
        self._say = say
        self._home = os.getcwd()
        self._operator = 0
        self._met = False
        self._begun = 0.0
        self._deaths = 0
        self._start_at: float | None = time.monotonic()
        self._grace: float | None = None
        self._stop_at: float | None = None
        self._killed = False

    # --- signals -------------------------------------------------------------------------

    def _catch_signals(self) -> int:
        descriptor = super()._catch_signals()
        for number in _STOPS:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        return descriptor

    def _signalled(self, number: int) -> None:
        if number not in _STOPS:
            super()._signalled(number)
            return
        if self._stop_at is None:
            self._stop_at = time.monotonic()
        if self._operator:
            os.kill(self._operator, number)
        elif self._lives:
            self._start_operator()  # It is away, and nobody else can drain.
        else:
            self._running = False

    # --- time ----------------------------------------------------------------------------

    @property
    def _kill_at(self) -> float | None:
        if self._stop_at is None or self._grace is None or self._killed:
            return None
        return self._stop_at + _LAST * self._grace

    def _timeout(self) -> float | None:
        now = time.monotonic()
        due = [max(at - now, 0) for at in (self._start_at, self._kill_at) if at is not None]
        return min([*due, *self._looks_in()], default=None)

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        if self._start_at is not None and self._start_at <= now:
            self._start_operator()
        if self._kill_at is not None and self._kill_at <= now:
            self._kill()

    # --- the operator --------------------------------------------------------------------

    @property
    def _lives(self) -> bool:
        """Whether something would end with us: a step, or the pipes between containers."""
        return bool(self._held) or any(run.alive for run in self._runs.values())

    def _start_operator(self) -> None:
        self._start_at, self._met, self._begun = None, False, time.monotonic()
        command = [*self._command]
        if self._stop_at is not None and self._grace is not None:
            left = max(self._stop_at + self._grace - self._begun, 0.1)
            command += ["--stop-grace", f"{left:.3f}s"]
        try:
            # A session of its own: what a terminal sends comes by us, and once. Signals wait
            # until it can handle them.
            with inside(self._home), soft_limit(self._own_limit):
                self._operator = os.posix_spawn(
                    command[0],
                    command,
                    os.environ,
                    setsid=True,
                    setsigmask=_STOPS,
                    setsigdef=DEFAULT_SIGNALS,
                )
        except OSError as error:
            self._operator_away(f"cannot be started: {error}", 1, number=None)
            return
        if self._stop_at is not None:
            os.kill(self._operator, signal.SIGTERM)

    def _reaped(self, pid: int, status: int) -> None:
        if pid != self._operator:
            super()._reaped(pid, status)
            return
        self._operator = 0
        _, code, number = exit_of(status)
        if number is None:
            self._operator_away(f"ended with code {code}", code or 0, number)
        else:
            self._operator_away(f"was killed by signal {number}", 128 + number, number)

    def _operator_away(self, what: str, code: int, number: int | None) -> None:
        stopping = self._stop_at is not None
        over = stopping or number is None or not self._met
        if self._killed or (over and not self._lives):
            self.code, self._running = code, False
            if code:
                self._say("error", f"the operator {what}; so ends the container", code=code)
            return
        now = time.monotonic()
        if now - self._begun >= _WELL:
            self._deaths = 0
        delay = min(2.0 ** (self._deaths - 1), _LONGEST) if self._deaths else 0.0
        self._start_at = now + (min(delay, _LONGEST_STOPPING) if stopping else delay)
        self._deaths += 1
        self._say("warning", f"the operator {what}; flows go on, another follows", delay=delay)

    def _kill(self) -> None:
        """End everything at once: the container's engine would do it next."""
        self._killed, self._start_at = True, None
        self._say("error", "the time to stop in is over; everything is killed", grace=self._grace)
        if os.getpid() == 1:
            os.kill(-1, signal.SIGKILL)
        else:  # An init of the engine's, or of a pod, is PID 1.
            for run in self._runs.values():
                run.signal([*range(len(run.steps))], signal.SIGKILL)
            if self._operator:
                os.kill(self._operator, signal.SIGKILL)
        if not self._operator:
            self.code, self._running = 128 + signal.SIGKILL, False

    # --- requests ------------------------------------------------------------------------

    def _hello(self, message: dict[str, Any], client: Client) -> dict[str, Any]:
        self._met = True
        if self._stop_at is None:
            self._grace = message.get("grace")
        return super()._hello(message, client)

    def _shutdown(self, _message: dict[str, Any], _: Client) -> bool:
        """The operator needs us no more: we end when it has."""
        return not self._lives

    def _upgrade(self, _message: dict[str, Any], _: Client) -> None:
        raise RuntimeError("it is PID 1 of a container; start one of the new image")


def option(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """What an option of the operator was given, as far as PID 1 must know; None if nothing."""
    value = environment.get("FLOWD_" + name.upper().replace("-", "_")) or None
    for index, argument in enumerate(arguments):
        word, equals, given = argument.partition("=")
        if word == f"--{name}":
            value = given if equals else "".join(arguments[index + 1 : index + 2])
    return value


def _say_text(level: str, event: str, **keys: Any) -> None:
    rest = "".join(f" {key}={value}" for key, value in keys.items())
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{now} [{level:<9}] {event}{rest}", file=sys.stderr, flush=True)  # noqa: T201 - its log


def _say_json(level: str, event: str, **keys: Any) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({**keys, "event": event, "level": level, "timestamp": now})
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - its log


def main() -> None:
    """Entry point of ``flowd-init``: takes the options of ``flowd``.

    Raises:
        SystemExit: with the exit code of the operator, or 1 if the data directory cannot be used.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    arguments = sys.argv[1:]
    data = os.path.abspath(option("data", arguments, os.environ) or ".flowd")
    json_lines = option("log-format", arguments, os.environ) == "json"
    say = _say_json if json_lines else _say_text
    try:
        os.makedirs(data, mode=0o700, exist_ok=True)
        claimed = server.claim(data)
    except OSError as error:
        sys.exit(
            f"flowd-init: cannot use the data directory {data}: {error.strerror or error}; mount a "
            f"volume there that user {os.geteuid()} may write"
        )
    if claimed is None:
        sys.exit(f"flowd-init: {data} is in use by another container or flowd: stop that one first")
    flowd = os.path.join(os.path.dirname(sys.executable), "flowd")
    # The last one counts: whatever was said, it is the directory that we serve.
    command = [flowd, *arguments, "--data", data]
    shim = Init(data, *claimed, command, say)
    if option("cgroups", arguments, os.environ) != "off":
        # While nobody else is in our group: one that others live in hands no controllers down.
        shim.find_groups()
    server.settle(claimed[0], ignored=("SIGHUP", "SIGPIPE", "SIGQUIT"))
    shim.serve()
    sys.exit(shim.code)
