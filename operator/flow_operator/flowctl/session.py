"""What commands share: the operator's URL, the connection to it, and the names of flows."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from flow_operator.client import FlowClient, check_flow_id
from flow_operator.defaults import DEFAULT_URL
from flow_operator.errors import FlowError, InvalidError
from flow_operator.flowctl.contexts import Context, config_path, load
from flow_operator.flowctl.lazy import import_httpx

P = ParamSpec("P")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_COMPLETION_SECONDS = 1.0
_NAME_IT = "name another file: --token-file, FLOWCTL_TOKEN_FILE"


@dataclass(slots=True)
class Session:
    """One run of the command line; stands in the click context.

    Attributes:
        context: the name of a known operator, as an option; goes before the environment's URL.
        token_file: of the token to be sent; else it is that of ``FLOWCTL_TOKEN``, if any.
        ca: the certificates that are trusted, in a file; None trusts those of the machine.
    """

    url: str | None = None
    environment_url: str | None = None
    context: str | None = None
    environment_context: str | None = None
    token_file: str | None = None
    ca: str | None = None

    def connect(self, timeout: float = 30.0, retry_for: float = 1.0) -> FlowClient:
        """A client of the operator; nothing is sent yet.

        Args:
            timeout: seconds that the operator may stay silent.
            retry_for: seconds within which calls may be repeated; a person waits no longer to be
                told that nobody answers.

        Raises:
            InvalidError: the context, the token or the certificates cannot be used.
        """
        import_httpx()
        target = self.target()
        return FlowClient(
            target.url,
            timeout=timeout,
            retry_for=retry_for,
            token=self._token(target.token_file),
            ca=self.ca or target.ca,
        )

    def target(self) -> Context:
        """Where the operator is. A context's token and certificates go to its own URL alone.

        Raises:
            InvalidError: there is no such context.
        """
        if self.url and self.context:
            raise InvalidError("--url and --context both say where the operator is; leave one out")
        given = self.url or (None if self.context else self.environment_url)
        if given:
            return Context(given)
        known = load(config_path())
        name = self.context or self.environment_context or known.current
        return known.get(name) if name else Context(DEFAULT_URL)

    def _token(self, of_context: str | None) -> str | None:
        given = os.environ.get(TOKEN_VARIABLE, "").strip() or None
        file = self.token_file or (None if given else of_context)
        if file is None:
            return given
        try:
            text = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise InvalidError(f"cannot read the token in {file}: {why}; {_NAME_IT}") from None
        if not text:
            raise InvalidError(f"there is no token in {file}: write it there, or {_NAME_IT}")
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

    default = {"show_default": DEFAULT_URL} if first else {}
    options = (
        option(
            "--url",
            ["app_url", "APP_URL"],
            metavar="URL",
            help="Where the operator is: http://HOST:PORT, https://HOST:PORT or unix:PATH.",
            **default,
        ),
        option(
            "--context",
            ["FLOWCTL_CONTEXT"],
            metavar="NAME",
            help="An operator that is known by name: see `config`.",
            type=ContextName(),
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
    if not value or not parameter.name:
        return
    name = parameter.name
    from_environment = ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT
    if from_environment and name in ("url", "context"):
        name = f"environment_{name}"
    setattr(ctx.ensure_object(Session), name, value)


def connected(
    command: Callable[Concatenate[FlowClient, P], None],
) -> Callable[P, None]:
    """Give a command a client as its first argument, and its options."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with present_session().connect() as client:
            command(client, *args, **kwargs)

    return connection_options(first=False)(run)


class ContextName(click.ParamType[str]):
    """The name of a context; completes from the file of contexts."""

    name = "context"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Those that are known; none if the file cannot be read."""
        del ctx, param
        try:
            names = load(config_path()).by_name
        except FlowError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


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
            with ctx.ensure_object(Session).connect(_COMPLETION_SECONDS, retry_for=0) as client:
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
