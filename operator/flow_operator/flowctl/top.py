"""``top``: what flows and their steps use now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from flow_operator.client import ApiError, FlowClient, JsonObject, UnreachableError
from flow_operator.flowctl.choice import Choice, choosing
from flow_operator.flowctl.failure import fail_if
from flow_operator.flowctl.output import Table, on_terminal, print_table
from flow_operator.flowctl.session import connected
from flow_operator.flowctl.text import NOTHING, size
from flow_operator.flowctl.values import Seconds

INTERVAL = 3.0
"""Seconds between two looks. The operator's figures are up to 2 s old: it measures anew only then,
and of two looks at one measurement no CPU time could be told."""

KINDS = ("flows", "steps")
HEADERS = ("NAME", "STATUS", "CPU", "MEMORY", "IN-FLIGHT", "FILES", "RESTARTS")
STEP_HEADERS = ("NAME", "STEP", "REPLICA", *HEADERS[1:])

Statuses = dict[str, JsonObject]


@dataclass(frozen=True, slots=True)
class Use:
    """What one flow or step uses.

    Attributes:
        names: what it is called: the flow, or flow, step and replica.
        cpu: percent of one CPU; None as long as there was one look only.
        memory: bytes.
        flight: unread bytes in the pipes before it.
    """

    names: tuple[object, ...]
    status: str
    cpu: float | None
    memory: int
    flight: int
    files: int
    restarts: int

    @property
    def row(self) -> tuple[object, ...]:
        """As the table shows it."""
        percent = NOTHING if self.cpu is None else f"{self.cpu:.1f}%"
        figures = (percent, size(self.memory), size(self.flight), self.files, self.restarts)
        return (*self.names, self.status, *figures)


_KEYS: dict[str, Callable[[Use], float]] = {
    "cpu": lambda use: -(use.cpu or 0.0),
    "memory": lambda use: -use.memory,
    "in-flight": lambda use: -use.flight,
    "files": lambda use: -use.files,
    "restarts": lambda use: -use.restarts,
    "name": lambda _: 0,
}


class _Top(click.Command):
    """Takes names without the word ``flows`` before them, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the word there."""
        return super().parse_args(ctx, args if {*KINDS} & {*args} else ["flows", *args])


@click.command("top", cls=_Top)
@click.argument("kind", type=click.Choice(KINDS), metavar="[flows|steps]")
@choosing()
@click.option(
    *("-k", "--sort", "key"),
    type=click.Choice(list(_KEYS)),
    default="cpu",
    show_default=True,
    help="What comes first; the most of it.",
)
@click.option("--once", is_flag=True, help="Print once; so it does where there is no terminal.")
@click.option(
    "--interval",
    type=Seconds(),
    default=INTERVAL,
    metavar="TIME",
    help=f"Between two looks; {INTERVAL:g}s by default, as the operator's figures are 2s old.",
)
@connected
def top(
    client: FlowClient, kind: str, choice: Choice, *, key: str, once: bool, interval: float
) -> None:
    """Show what flows use, or what their steps do, until Ctrl-C.

    CPU is in percent of one CPU, between two looks. MEMORY is resident. IN-FLIGHT is what waits in
    the pipes.
    """
    before, missing = choice.statuses(client)
    fail_if(missing)
    how = _How(key, steps=kind == "steps")
    samples = _samples(client, choice, before, interval)
    if once or not on_terminal():
        earlier, now, passed, _ = next(samples)
        table = how.table(earlier, now, passed)
        if table.rows:
            print_table(table)
        else:
            click.echo("No flows.", err=True)
        return
    from flow_operator.flowctl.terminal import screen  # noqa: PLC0415 - imports rich

    with screen() as shown:
        shown.show(how.table({}, before, 0.0), "measuring")
        for earlier, now, passed, trouble in samples:
            shown.show(how.table(earlier, now, passed), trouble)


def _samples(
    client: FlowClient, choice: Choice, before: Statuses, interval: float
) -> Iterator[tuple[Statuses, Statuses, float, str]]:
    """What was seen before and after, the seconds between, and why it is not newer; endless."""
    at = time.monotonic()
    after, passed = before, 0.0
    while True:
        time.sleep(interval)
        trouble = ""
        try:
            seen, now = choice.statuses(client)[0], time.monotonic()
        except (UnreachableError, ApiError) as error:
            trouble = str(error)
        else:
            before, after, passed, at = after, seen, now - at, now
        yield before, after, passed, trouble


@dataclass(frozen=True, slots=True)
class _How:
    """What is shown, and in which order."""

    key: str
    steps: bool

    def table(self, before: Statuses, after: Statuses, passed: float) -> Table:
        """As it is printed."""
        uses = used(before, after, passed, steps=self.steps)
        ordered = sorted(sorted(uses, key=lambda use: use.names), key=_KEYS[self.key])
        return Table(STEP_HEADERS if self.steps else HEADERS, [use.row for use in ordered])


def used(before: Statuses, after: Statuses, passed: float, *, steps: bool) -> list[Use]:
    """What flows or steps use.

    Args:
        before: statuses, some time ago; empty if there were none.
        after: statuses now.
        passed: seconds between them.
        steps: of each step instead of each flow.
    """
    found: list[Use] = []
    for name, status in after.items():
        known = {_identity(step): step for step in _steps(before.get(name, {}))}
        each = [_of_step(name, step, known.get(_identity(step)), passed) for step in _steps(status)]
        found += each if steps else [_of_flow(name, status, each)]
    return found


def _of_flow(name: str, status: JsonObject, steps: list[Use]) -> Use:
    known = [step.cpu for step in steps if step.cpu is not None]
    return Use(
        (name,),
        str(status.get("status")),
        sum(known) if known else None,
        sum(step.memory for step in steps),
        sum(step.flight for step in steps),
        sum(step.files for step in steps),
        status.get("restarts") or 0,
    )


def _of_step(name: str, step: JsonObject, before: JsonObject | None, passed: float) -> Use:
    cpu = None
    if passed and step.get("cpuSeconds") is not None:
        # A process that was not there before has used all of its time since.
        spent = step["cpuSeconds"] - ((before or {}).get("cpuSeconds") or 0.0)
        cpu = 100 * max(0.0, spent) / passed
    return Use(
        (name, step.get("name"), step.get("replica", 0)),
        str(step.get("state")),
        cpu,
        step.get("memoryBytes") or 0,
        step.get("inFlightBytes") or 0,
        step.get("openFiles") or 0,
        step.get("restarts") or 0,
    )


def _steps(status: JsonObject) -> list[JsonObject]:
    return status.get("steps") or []


def _identity(step: JsonObject) -> tuple[object, ...]:
    return tuple(step.get(key) for key in ("run", "name", "replica", "pid"))
