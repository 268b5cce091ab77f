"""Writes docs/cli.md, and summaries.py, from the commands themselves: ``make manual``.

The comparison with other tools stands in docs/tasks.yaml, whose path is the argument; without one
summaries.py is written.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from flow_operator.flowctl.main import ALIASES, cli
from flow_operator.manifest import SourceText, parse_yaml

TOOLS = ("kubectl", "supervisorctl", "pm2", "process-compose", "flowctl")

Row = tuple[str, ...]

_HEAD = """\
# flowctl's commands

Written by `make manual` from the commands themselves and from `docs/tasks.yaml`. How they work
together is told in [flowctl](flowctl.md).
"""

_SUMMARIES = '''\
"""What `flowctl --help` says of each command, without importing them; written by `make manual`."""

'''

_TASKS = """\
## The same ten tasks elsewhere

`orders` stands for what runs, and a file or directory of configurations has the name `flows`. The
numbers are keystrokes: the commands as they are written below, with Enter after each, and without
what is typed in an editor. A dash means that there is no command for it. Where PM2 is shorter it is
by the four letters that its name is. The commands of supervisor 4 and PM2 6 were run; those of
kubectl were checked with its own help, those of process-compose with its documentation.
"""


def manual(tasks: list[dict[str, Any]]) -> str:
    """The whole page."""
    parts = [_HEAD, _summary(), _TASKS, _keys(tasks), *map(_task, tasks), "## Commands\n"]
    parts += [_command(("flowctl",), cli), *_commands()]
    return "\n".join(parts)


def keystrokes(typed: str) -> int:
    """The characters of a command, and Enter after each of several."""
    commands = typed.split(" && ")
    return sum(len(command) + 1 for command in commands)


# --- the other tools ---------------------------------------------------------------------------


def _keys(tasks: list[dict[str, Any]]) -> str:
    rows: list[Row] = [("task", *TOOLS)]
    for task in tasks:
        typed = [task[tool].get("type") for tool in TOOLS]
        numbers = [str(keystrokes(command)) if command else "-" for command in typed]
        least = min(int(number) for number in numbers if number != "-")
        bold = [f"**{number}**" if number == str(least) else number for number in numbers]
        rows.append((task["task"], *bold))
    return _table(rows)


def _task(task: dict[str, Any]) -> str:
    rows: list[Row] = [("", "typed", "seen")]
    for tool in TOOLS:
        told = task[tool]
        rows.append((tool, _code(told["type"]) if told else "-", told.get("see", "")))
    return f"### {task['task']}\n\n{_table(rows)}"


# --- the commands ------------------------------------------------------------------------------


def _summary() -> str:
    rows: list[Row] = [("command", "what it does")]
    for name in cli.commands:
        command = cli.commands[name]
        also = [alias for alias, meant in ALIASES.items() if meant == name]
        names = f"[`{name}`](#{_anchor(f'flowctl {name}')})"
        names += "".join(f", `{alias}`" for alias in also)
        rows.append((names, _plain(command.get_short_help_str(200))))
    return _table(rows)


def _commands() -> Iterator[str]:
    for name in cli.commands:
        command = cli.commands[name]
        yield _command(("flowctl", name), command)
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                yield _command(("flowctl", name, inner.name or ""), inner)


def _command(path: tuple[str, ...], command: click.Command) -> str:
    ctx = click.Context(command, info_name=" ".join(path))
    usage = " ".join([*path, *command.collect_usage_pieces(ctx)])
    parts = [f"### {' '.join(path)}\n", f"```\n{usage}\n```\n", f"{_plain(command.help or '')}\n"]
    options = [
        param
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden and param.help
    ]
    if options:
        parts.append(_table([("option", "what it does"), *map(_option, options)]))
    return "\n".join(parts)


def _option(option: click.Option) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    takes = "" if option.is_flag else f" {_code(_takes(option))}"
    told = _plain(option.help or "")
    if isinstance(option.show_default, str):
        told += f" Default: `{option.show_default}`."
    elif option.show_default and option.default is not None:
        told += f" Default: `{option.default}`."
    if option.envvar and option.show_envvar:
        variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar
        told += f" Environment: {', '.join(f'`{name}`' for name in variables)}."
    return f"{names}{takes}", told


def _takes(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.type.name.upper()


def _plain(text: str) -> str:
    """A help text as Markdown, one line for each paragraph."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in paragraphs)


def _table(rows: Sequence[Row]) -> str:
    head, *rest = rows
    lines = [head, tuple("---" for _ in head), *rest]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _code(text: str) -> str:
    """Code within a table, where a bar would end the cell."""
    return "`" + text.replace("|", "\\|") + "`"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9-]", "", title.lower().replace(" ", "-"))


def summaries() -> str:
    """The module that has what `flowctl --help` says of each command."""
    lines = (
        f"    {json.dumps(name)}: {json.dumps(_first(command))},\n"
        for name, command in cli.commands.items()
    )
    return f"{_SUMMARIES}SUMMARIES = {{\n{''.join(lines)}}}\n"


def _first(command: click.Command) -> str:
    """The first paragraph of its help."""
    return " ".join((command.help or "").split("\n\n")[0].split())


def main() -> None:
    """Print the page, or the module."""
    if len(sys.argv) == 1:
        sys.stdout.write(summaries())
        return
    path = Path(sys.argv[1])
    [document] = parse_yaml(SourceText(path.read_text(encoding="utf-8"), str(path)))
    sys.stdout.write(manual(document.data))


if __name__ == "__main__":
    main()
