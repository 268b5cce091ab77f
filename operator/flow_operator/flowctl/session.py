"""What commands share: the operator's URL, the connection to it, and the names of flows."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click
from click.shell_completion import CompletionItem

from flow_operator.client import FlowClient, check_flow_id
from flow_operator.errors import FlowError, InvalidError
from flow_operator.flowctl.lazy import import_httpx
from flow_operator.settings import DEFAULT_URL

P = ParamSpec("P")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_COMPLETION_SECONDS = 1.0


@dataclass(slots=True)
class Session:
    """One run of the command line; stands in the click context.

    Attributes:
        token_file: of the token to be sent; else it is that of ``FLOWCTL_TOKEN``, if any.
        ca: the certificates that are trusted, in a file; None trusts those of the machine.
    """

    url: str = DEFAULT_URL
    token_file: str | None = None
    ca: str | None = None

    def connect(self, timeout: float = 30.0) -> FlowClient:
        """A client of the operator; nothing is sent yet.

        Raises:
            InvalidError: the token or the certificates cannot be used.
        """
        import_httpx()
        return FlowClient(self.url, timeout=timeout, token=self._token(), ca=self.ca)

    def _token(self) -> str | None:
        if self.token_file is None:
            return os.environ.get(TOKEN_VARIABLE, "").strip() or None
        try:
            text = Path(self.token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise InvalidError(f"cannot read the token in {self.token_file}: {why}") from None
        if not text:
            raise InvalidError(f"there is no token in {self.token_file}")
        return text


TOKEN_VARIABLE = "FLOWCTL_TOKEN"  # noqa: S105 - the name of one
"""There is no option for the token itself: a command line is seen by everybody on the machine."""


def present_session() -> Session:
    """That of the command which runs."""
    return click.get_current_context().ensure_object(Session)


def connection_options(*, first: bool) -> Decorator:
    """Where the operator is and what it asks for; may stand before and after the command's name.

    Args:
        first: whether they stand before it: defaults and environment count there, and help.
    """

    def option(name: str, variables: list[str], **attributes: Any) -> Decorator:
        return click.option(
            name,
            envvar=variables if first else None,
            show_envvar=True,
            hidden=not first,
            callback=_remember,
            expose_value=False,
            **attributes,
        )

    default = {"default": DEFAULT_URL, "show_default": True} if first else {}
    options = (
        option(
            "--url",
            ["app_url", "APP_URL"],
            metavar="URL",
            help="Where the operator is: http://HOST:PORT, https://HOST:PORT or unix:PATH.",
            **default,
        ),
        option(
            "--token-file",
            ["FLOWCTL_TOKEN_FILE"],
            metavar="FILE",
            help=f"Holds the token that the operator asks for; else {TOKEN_VARIABLE} may.",
        ),
        option(
            "--ca",
            ["FLOWCTL_CA"],
            metavar="FILE",
            help="Certificates (PEM) to trust instead of the machine's.",
        ),
    )

    def apply(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorate in reversed(options):
            command = decorate(command)
        return command

    return apply


def _remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value and parameter.name:
        setattr(ctx.ensure_object(Session), parameter.name, value)


def connected(
    command: Callable[Concatenate[FlowClient, P], None],
) -> Callable[P, None]:
    """Give a command a client as its first argument, and its options."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with present_session().connect() as client:
            command(client, *args, **kwargs)

    return connection_options(first=False)(run)


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
