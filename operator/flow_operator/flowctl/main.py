"""``flowctl``: the group of all commands, and what becomes of errors.

Exit codes: 0 done, 1 the operator said no or something failed, 2 wrong usage or an invalid
manifest, 3 no operator answered, 130 interrupted, 141 whoever read the output has gone.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import click

from flow_operator import __version__
from flow_operator.errors import FlowError
from flow_operator.flowctl.failure import report
from flow_operator.flowctl.lazy import LazyCommands
from flow_operator.flowctl.session import connection_options
from flow_operator.flowctl.summaries import SUMMARIES

INTERRUPTED = 130
BROKEN_PIPE = 141


COMMANDS = {
    "apply": "apply:apply",
    "diff": "difference:diff",
    "validate": "validate:validate",
    "explain": "explain:explain",
    "get": "read:get",
    "status": "status:status",
    "top": "top:top",
    "describe": "describe:describe",
    "events": "events:events",
    "logs": "logs:logs",
    "start": "command:start",
    "stop": "command:stop",
    "pause": "command:pause",
    "resume": "command:resume",
    "restart": "command:restart",
    "wait": "wait:wait",
    "scale": "scale:scale",
    "edit": "edit:edit",
    "history": "history:history",
    "rollback": "history:rollback",
    "delete": "remove:delete",
    "manifests": "read:manifests",
    "prune": "remove:prune",
    "import": "importer:import_",
    "config": "config:config",
    "completion": "completion:completion",
    "version": "version:version",
}
"""Where each command is (``MODULE:ATTRIBUTE``), in the order in which one comes to need them."""


ALIASES = {"ps": "status", "ls": "status", "rm": "delete", "log": "logs"}
"""Names that hands know from elsewhere; help does not list them."""


class FlowctlGroup(click.Group):
    """Turns errors into a few lines on stderr and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one comes to need them, not by name."""
        del ctx
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Also by an alias."""
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """All commands with a sentence each, for which none is imported."""
        del ctx
        limit = formatter.width - 6 - max(map(len, SUMMARIES))
        with formatter.section("Commands"):
            stand_ins = [click.Command(name, help=said) for name, said in SUMMARIES.items()]
            formatter.write_dl(
                [(str(one.name), one.get_short_help_str(limit)) for one in stand_ins]
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            click.exceptions.Exit: with the exit code.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except FlowError as error:
            ctx.exit(report(error))
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _discard_stdout()
            ctx.exit(BROKEN_PIPE)
        return result


@click.group(
    cls=FlowctlGroup,
    commands=LazyCommands({name: f"{__package__}.{place}" for name, place in COMMANDS.items()}),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@connection_options(first=True)
@click.version_option(__version__, "--version", prog_name="flowctl")
def cli() -> None:
    """Control flows: long-running steps joined by pipes.

    A flow is described by a manifest; `apply` makes the operator hold it, `status` tells what is
    observed, and `start`, `stop`, `pause` and `resume` change what is wanted.
    """


def main() -> None:
    """Entry point of the console script; does not return."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a letter is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="flowctl")


def _discard_stdout() -> None:
    """Keep the interpreter from complaining, at its end, about what it could not write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
