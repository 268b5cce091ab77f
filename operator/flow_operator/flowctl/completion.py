"""``completion``: what makes a shell complete commands, options and names."""

from __future__ import annotations

import os
from pathlib import PurePath

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", required=False, type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    """Print a script that has the shell complete what is typed.

    For this shell: `source <(flowctl completion bash)`, or zsh; with fish
    `flowctl completion fish | source`. In the shell's startup file it stays. Without SHELL it is
    that of $SHELL.
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - of use only here

    shell = shell or PurePath(os.environ.get("SHELL", "")).name
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise click.UsageError(f"Which shell? Say one of {', '.join(SHELLS)}.")
    script = kind(ctx.find_root().command, {}, "flowctl", "_FLOWCTL_COMPLETE")
    click.echo(script.source_template % script.source_vars())
