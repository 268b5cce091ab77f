"""What commands share: the operator's URL, the connection to it, and the names of flows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

import click
from click.shell_completion import CompletionItem

from flow_operator.client import FlowClient, check_flow_id
from flow_operator.errors import FlowError
from flow_operator.settings import DEFAULT_URL

P = ParamSpec("P")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_COMPLETION_SECONDS = 1.0


@dataclass(slots=True)
class Session:
    """One run of the command line; stands in the click context."""

    url: str = DEFAULT_URL

    def connect(self, timeout: float = 30.0) -> FlowClient:
        """A client of the operator; nothing is sent yet."""
        return FlowClient(self.url, timeout=timeout)


def url_option(**attributes: Any) -> Decorator:
    """``--url``, which may stand before and after the command's name."""
    return click.option(
        "--url",
        envvar=["app_url", "APP_URL"] if "default" in attributes else None,
        show_envvar=True,
        metavar="URL",
        help="Where the operator is: http://HOST:PORT or unix:PATH.",
        callback=_remember_url,
        expose_value=False,
        **attributes,
    )


def _remember_url(ctx: click.Context, _: click.Parameter, url: str | None) -> None:
    if url:
        ctx.ensure_object(Session).url = url


def connected(
    command: Callable[Concatenate[FlowClient, P], None],
) -> Callable[P, None]:
    """Give a command a client as its first argument, and the option ``--url``."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        session = click.get_current_context().ensure_object(Session)
        with session.connect() as client:
            command(client, *args, **kwargs)

    return url_option(hidden=True)(run)


class FlowName(click.ParamType[str]):
    """A flow's name, also as it is printed: ``flow/NAME``. Completes from the operator."""

    name = "name"

    def convert(self, value: str, *_: object) -> str:
        """Without the kind, and checked before a command does anything."""
        return check_flow_id(value.removeprefix("flow/"))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin so; none if the operator does not answer at once."""
        del param
        try:
            with ctx.ensure_object(Session).connect(_COMPLETION_SECONDS) as client:
                names = sorted(client.statuses())
        except FlowError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def names_argument(*, required: bool = False) -> Decorator:
    """``NAME...``; each name once, in the order given."""
    return click.argument(
        "names",
        nargs=-1,
        required=required,
        type=FlowName(),
        metavar="NAME..." if required else "[NAME]...",
        callback=lambda _ctx, _param, names: tuple(dict.fromkeys(names)),
    )
