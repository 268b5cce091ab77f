"""What an error prints, and the exit code that it becomes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar, runtime_checkable

import click

from flow_operator.client import ApiError, FlowClient, UnreachableError
from flow_operator.errors import FlowError, InvalidError

T = TypeVar("T")

_SPOKEN = (
    ("?force=true", "--force"),
    ("GET /flows lists", "`flowctl get` lists"),
    (
        "send it as 'Authorization: Bearer TOKEN' (flowctl: --token-file FILE)",
        "name its file with --token-file or FLOWCTL_TOKEN_FILE, or set FLOWCTL_TOKEN",
    ),
)
"""What the operator's sentences call by the API's words, in those of the command line."""

_MOMENT = 2.0
"""Seconds that an error waits for what would make it better."""


@runtime_checkable
class Connects(Protocol):
    """What stands in the click context."""

    def connect(self, timeout: float = ..., retry_for: float = ...) -> FlowClient:
        """A client of the operator."""


FAILED = 1
INVALID = 2
UNREACHABLE = 3


def report(error: FlowError) -> int:
    """Print an error on stderr; returns the exit code."""
    faults = error.faults if isinstance(error, (InvalidError, ApiError)) else ()
    # An operator's summary often only repeats the faults.
    if not faults or faults[0].detail not in str(error):
        said = str(error)
        for of_api, of_ours in _SPOKEN:
            said = said.replace(of_api, of_ours)
        click.echo(f"Error: {said}{_nearest(said)}", err=True)
    for fault in faults:
        # A fault with a place reads as a compiler's; without, it needs an introduction.
        placed = fault.file or fault.line is not None
        click.echo(fault if placed else f"Error: {fault}", err=True)
    if isinstance(error, InvalidError):
        return INVALID
    return UNREACHABLE if isinstance(error, UnreachableError) else FAILED


def _nearest(said: str) -> str:
    """What a flow that there is not was most likely meant to be."""
    unknown = re.match(r"There is no flow '([^']+)'", said)
    ctx = click.get_current_context(silent=True)
    if not unknown or ctx is None or not isinstance(ctx.obj, Connects):
        return ""
    import difflib  # noqa: PLC0415 - help must not wait for it

    try:
        with ctx.obj.connect(_MOMENT, retry_for=0) as client:
            near = difflib.get_close_matches(unknown[1], client.statuses(), n=1)
    except FlowError:
        return ""
    return f" Did you mean '{near[0]}'?" if near else ""


def each(names: Iterable[str], action: Callable[[str], T]) -> tuple[dict[str, T], list[FlowError]]:
    """Do something for every name, also after the operator said no to one.

    Returns:
        What the action returned, by name, and the refusals.

    Raises:
        UnreachableError: at once; nobody else would answer either.
    """
    done: dict[str, T] = {}
    refused: list[FlowError] = []
    for name in names:
        try:
            done[name] = action(name)
        except ApiError as error:
            refused.append(error)
    return done, refused


def fail_if(refused: Iterable[FlowError]) -> None:
    """Print the refusals.

    Raises:
        click.exceptions.Exit: if there are any.
    """
    codes = [report(error) for error in refused]
    if codes:
        raise click.exceptions.Exit(FAILED)
