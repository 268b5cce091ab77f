"""The manifests that a command is given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click


def manifests_named(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``names``: files, directories and ``-``, with ``-f`` or without."""

    @click.argument("more", nargs=-1, metavar="[FILE|DIR|-]...")
    @click.option(
        *("-f", "--filename", "files"),
        multiple=True,
        metavar="FILE|DIR|-",
        help="A manifest, a directory of manifests, or - for stdin; may be given more than once.",
    )
    @functools.wraps(command)
    def run(*args: Any, more: tuple[str, ...], files: tuple[str, ...], **kwargs: Any) -> None:
        names = (*files, *more)
        if not names:
            raise click.UsageError("Which manifests? Name files, directories, or - for stdin.")
        command(*args, names=names, **kwargs)

    return run
