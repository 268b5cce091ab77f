"""``describe``: everything about one flow, for people."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator

import click

from flow_operator.client import NOT_FOUND, ApiError, FlowClient, JsonObject
from flow_operator.flowctl.output import Table, print_table
from flow_operator.flowctl.read import source_of
from flow_operator.flowctl.session import FlowName, connected
from flow_operator.flowctl.text import NOTHING, age, clean, cpu, size

CONDITION_HEADERS = ("TYPE", "STATUS", "REASON", "FOR", "MESSAGE")
STEP_HEADERS = (
    "NAME",
    "REPLICA",
    "STATE",
    "PID",
    "RESTARTS",
    "CPU",
    "MEMORY",
    "IN-FLIGHT",
    "FILES",
    "LAST-EXIT",
)
PROBE_HEADERS = ("STEP", "REPLICA", "PROBE", "OK", "IN-A-ROW", "AGE", "MESSAGE")
EVENT_HEADERS = ("AGE", "TYPE", "REASON", "COUNT", "MESSAGE")

_INDENT = 2
_LABEL_WIDTH = 14


@click.command("describe")
@click.argument("name", type=FlowName())
@connected
def describe(client: FlowClient, name: str) -> None:
    """Tell everything about one flow.

    What is wanted and observed, its conditions, its steps, and what happened to it.
    """
    status = client.status(name)
    try:
        configuration, _ = client.flow(name)
        events = client.events(name)
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        # Deleted, and its processes are still draining.
        configuration, events = {}, []
    for label, value in _facts(name, configuration, status):
        click.echo(f"{label + ':':<{_LABEL_WIDTH}}{clean(value)}")
    _section("Conditions", CONDITION_HEADERS, map(_condition, status.get("conditions") or ()))
    _section("Steps", STEP_HEADERS, map(_step, status.get("steps") or ()))
    if probes := [row for step in status.get("steps") or () for row in _probes(step)]:
        _section("Probes", PROBE_HEADERS, probes)
    _section("Events", EVENT_HEADERS, map(_event, events))


def _facts(
    name: str, configuration: JsonObject, status: JsonObject
) -> Iterator[tuple[str, object]]:
    """The lines at the top; those that would say nothing are left out."""
    spec = configuration.get("spec") or {}
    metadata = configuration.get("metadata") or {}
    started = status.get("startedAt")
    yield "Name", name
    if labels := metadata.get("labels"):
        yield "Labels", ", ".join(f"{key}={value}" for key, value in labels.items())
    if description := spec.get("description"):
        yield "Description", description
    yield "Status", status.get("status")
    yield "Desired", status.get("desired")
    if message := status.get("message"):
        yield "Message", message
    yield "Ready", f"{status.get('readyReplicas', 0)} of {status.get('replicas', 1)} replicas"
    yield "Restarts", status.get("restarts", 0)
    yield "Started", f"{started} ({age(started)} ago)" if started else NOTHING
    if limits := _limits(status):
        yield "Limits", limits
    yield "Generation", _generation(status)
    yield "Source", source_of(status)
    if trouble := (status.get("source") or {}).get("error"):
        yield "Source error", trouble


def _generation(status: JsonObject) -> str:
    """Two numbers only while they differ: the operator has yet to act upon the newer one."""
    wanted, observed = status.get("generation"), status.get("observedGeneration")
    return f"{wanted}" if wanted == observed else f"{wanted} (observed: {observed})"


def _limits(status: JsonObject) -> str | None:
    """Whether they hold; those that do not, by step. None where none is asked for."""
    enforced = status.get("limitsEnforced")
    if enforced is None or enforced:
        return "enforced" if enforced else None
    missing = (
        f"{step.get('name')} ({', '.join(names)})"
        for step in status.get("steps") or ()
        if (names := [name for name, held in (step.get("limits") or {}).items() if not held])
    )
    return f"not enforced: {', '.join(dict.fromkeys(missing))}"


def _section(title: str, headers: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    table = Table(headers, list(rows), indent=_INDENT)
    click.echo(f"\n{title}:{'' if table.rows else ' none'}")
    if table.rows:
        print_table(table)


def _condition(condition: JsonObject) -> tuple[object, ...]:
    return (
        condition.get("type"),
        condition.get("status"),
        condition.get("reason"),
        age(condition.get("lastTransitionTime")),
        condition.get("message") or "",
    )


def _step(step: JsonObject) -> tuple[object, ...]:
    return (
        step.get("name"),
        step.get("replica", 0),
        step.get("state"),
        step.get("pid"),
        step.get("restarts", 0),
        cpu(step.get("cpuSeconds")),
        size(step.get("memoryBytes")),
        size(step.get("inFlightBytes")),
        step.get("openFiles"),
        _last_exit(step.get("lastExit")),
    )


def _probes(step: JsonObject) -> Iterator[tuple[object, ...]]:
    """One row for each; how often in a row it has gone as it went last."""
    for probe in step.get("probes") or ():
        ok = probe.get("ok")
        yield (
            step.get("name"),
            step.get("replica", 0),
            probe.get("kind"),
            NOTHING if ok is None else ("yes" if ok else "no"),
            probe.get("successes" if ok else "failures", 0),
            age(probe.get("checkedAt")),
            probe.get("message") or "",
        )


def _last_exit(ended: JsonObject | None) -> str:
    """As in ``Error, code 3, 12s ago: cannot open the database``."""
    if not ended:
        return NOTHING
    parts = [ended.get("reason") or "ExitUnknown"]
    if ended.get("signal") is not None:
        parts.append(_signal_name(ended["signal"]))
    elif ended.get("code") is not None:
        parts.append(f"code {ended['code']}")
    if at := ended.get("at"):
        parts.append(f"{age(at)} ago")
    detail = ended.get("detail")
    return ", ".join(parts) + (f": {detail}" if detail else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _event(event: JsonObject) -> tuple[object, ...]:
    return (
        age(event.get("at")),
        event.get("type"),
        event.get("reason"),
        event.get("count", 1),
        event.get("message") or "",
    )
