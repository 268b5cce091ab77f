"""Which flows a command speaks of: names, selectors or all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import click
from click.shell_completion import CompletionItem

from flow_operator.client import FlowClient, JsonObject
from flow_operator.errors import FlowError
from flow_operator.flowctl.failure import each
from flow_operator.flowctl.session import Decorator, names_argument

FIELDS = (
    *("status", "desired", "ready", "stalled", "reconciling"),
    *("flow_id", "metadata.name", "source.kind", "source.file"),
)
"""What --field may name; the operator has the last word."""


class Selectors(TypedDict):
    """Arguments of the client."""

    label_selector: str | None
    field_selector: str | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Names, or selectors, or neither, which is all flows.

    Attributes:
        names: each once, in the order given.
        labels: a label selector: ``team=payments``.
        fields: a field selector: ``status=failed``.
    """

    names: tuple[str, ...] = ()
    labels: str | None = None
    fields: str | None = None

    @property
    def selectors(self) -> Selectors:
        """As the client takes them."""
        return {"label_selector": self.labels, "field_selector": self.fields}

    @property
    def selects(self) -> bool:
        """Whether there is a selector."""
        return self.labels is not None or self.fields is not None

    def statuses(self, client: FlowClient) -> tuple[dict[str, JsonObject], list[FlowError]]:
        """The statuses of the chosen flows; and the refusals for names that there are not."""
        if self.names:
            return each(self.names, client.status)
        return client.statuses(**self.selectors), []

    def flows(self, client: FlowClient) -> tuple[list[JsonObject], list[FlowError]]:
        """The configurations of the chosen flows; and the refusals."""
        if self.names:
            found, missing = each(self.names, lambda name: client.flow(name)[0])
            return list(found.values()), missing
        return client.flows(**self.selectors), []

    def named(self, client: FlowClient) -> tuple[str, ...]:
        """The names; those of the configurations that a selector chooses now."""
        return self.names or tuple(flow["flow_id"] for flow in client.flows(**self.selectors))


def choosing(*, required: bool = False, everything: bool = False) -> Decorator:
    """Give a command ``choice``: what its names and selectors say.

    Args:
        required: that nothing is named is an error, and no word for all flows.
        everything: with ``--all``, so that nothing happens to all flows by accident.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(
            *args: Any,
            names: tuple[str, ...],
            labels: str | None,
            fields: str | None,
            every: bool = False,
            **options: Any,
        ) -> Any:
            ways = [bool(names), labels is not None or fields is not None, every]
            if sum(ways) > 1:
                raise click.UsageError(f"Say one of: {_ways(everything=everything)}.")
            if required and not any(ways):
                raise click.UsageError(f"Which flows? Say {_ways(everything=everything)}.")
            return command(*args, choice=Choice(names, labels, fields), **options)

        chosen = _selector_options(run)
        if everything:
            chosen = click.option("-a", "--all", "every", is_flag=True, help="Every flow.")(chosen)
        return names_argument()(chosen)

    return decorate


def _ways(*, everything: bool) -> str:
    return "names, -l or --field" + (", or --all" if everything else "")


def _selector_options(command: Callable[..., Any]) -> Callable[..., Any]:
    labels = click.option(
        "-l",
        "--selector",
        "labels",
        metavar="LABELS",
        help="Flows with such labels: team=payments, 'tier in (a,b)', !legacy.",
    )
    fields = click.option(
        "--field",
        "--field-selector",
        "fields",
        metavar="FIELDS",
        shell_complete=_complete_field,
        help="Flows of such a status: status=failed, ready!=True, source.file=a.yaml.",
    )
    return labels(fields(command))


def _complete_field(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    del ctx, param
    return [CompletionItem(f"{name}=") for name in FIELDS if name.startswith(incomplete)]
