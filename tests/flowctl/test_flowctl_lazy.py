"""What is imported, and when: a command must not wait for what only others need."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from flow_operator import flowctl as package
from flow_operator.flowctl.main import COMMANDS, cli

SLOW = ("httpx", "tenacity", "msgspec", "jsonschema", "yaml", "rich", "pygments", "structlog")


def loaded(*args, **environment):
    """Which of the slow modules are there when the program has ended well."""
    code = (
        "import sys\n"
        "from flow_operator.flowctl.main import main\n"
        f"sys.argv = ['flowctl', *{args!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        f"print(*(name for name in {SLOW!r} if name in sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1].split()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_where_it_is_said_to_be(name):
    """Under its own name."""
    command = cli.commands[name]
    assert isinstance(command, click.Command)
    assert command.name == name


def test_no_command_is_forgotten():
    """Whatever a module defines can be called."""
    defined = set()
    for path in Path(package.__path__[0]).glob("*.py"):
        module = importlib.import_module(f"{package.__name__}.{path.stem}")
        defined |= {value for value in vars(module).values() if isinstance(value, click.Command)}
    groups = [command for command in defined if isinstance(command, click.Group)]
    within = {inner for group in groups if group is not cli for inner in group.commands.values()}
    assert {command.name for command in defined - within - {cli}} == set(COMMANDS)


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("apply", "--help"), ("get", "-h")])
def test_help_loads_nothing_that_takes_long(args):
    """Also that of all commands."""
    assert loaded(*args) == []


def test_a_call_loads_httpx_and_not_its_command_line(operator):
    """Which would load rich and pygments, only to be never called."""
    assert loaded("status", app_url=operator.url) == ["httpx"]


def test_httpx_is_whole_afterwards():
    """Whoever wants its command line later finds it."""
    code = (
        "from flow_operator.flowctl.lazy import import_httpx\n"
        "import_httpx()\n"
        "import httpx, httpx._main\n"
        "assert httpx.Client and httpx._main.main\n"
        "import_httpx()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_command_that_does_not_exist_is_told_with_those_that_are_like_it(flowctl):
    """For which no command has to be loaded."""
    result = flowctl("stauts")
    assert result.exit_code == 2
    assert "'status'" in result.stderr


def test_the_help_of_all_imports_no_command():
    """Only what tells where to connect, and what an error becomes."""
    code = (
        "import sys\n"
        "from flow_operator.flowctl.main import main\n"
        "sys.argv = ['flowctl', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {f"flow_operator.flowctl.{place.split(':')[0]}" for place in COMMANDS.values()}
    assert not modules & set(done.stderr.split())
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
