"""docs/cli.md: written from the commands, and what it says of them and of other tools."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from stub_operator import manifest

from flow_operator.flowctl import manual, summaries
from flow_operator.flowctl.main import COMMANDS
from support import ROOT

PAGE = ROOT / "docs" / "cli.md"
TOOLS = ("kubectl", "supervisorctl", "pm2", "process-compose", "flowctl")

_ROW = re.compile(r"^\| ([-a-z0-9]+) \| (?:`(.+)`|-) \| .*\|$", re.MULTILINE)


def tables():
    """By task: what is typed for each tool, as it stands on the page; None where a dash stands."""
    section = PAGE.read_text().partition("## The same ten tasks")[2].partition("\n## ")[0]
    found = {}
    for part in section.split("\n### ")[1:]:
        title, _, rest = part.partition("\n")
        found[title] = {
            tool: typed.replace("\\|", "|") or None for tool, typed in _ROW.findall(rest)
        }
    return found


def told():
    """By task: the number of keystrokes of each tool, as the first table tells it."""
    lines = PAGE.read_text().partition("| task | ")[2].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(TOOLS, row[1:], strict=True)) for row in rows}


def test_the_page_is_that_of_the_commands():
    """Whoever changes a command runs ``make manual``."""
    printed = subprocess.run(
        [sys.executable, "-m", "flow_operator.flowctl.manual", str(ROOT / "docs" / "tasks.yaml")],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert PAGE.read_text() == printed, "docs/cli.md is old: run `make manual`"


def test_help_says_of_each_command_what_it_says_itself():
    """``make manual`` writes that, too."""
    assert Path(summaries.__file__).read_text() == manual.summaries()


def test_every_command_is_on_the_page():
    """With its own heading."""
    text = PAGE.read_text()
    for name in COMMANDS:
        assert f"\n### flowctl {name}\n" in text


def test_keystrokes_are_those_of_the_commands_on_the_page():
    """Each character, and Enter after each command."""
    assert len(tables()) == 10
    assert set(told()) == set(tables())
    for task, tools in tables().items():
        assert tuple(tools) == TOOLS
        for tool, typed in tools.items():
            count = "-" if typed is None else str(len(typed.replace(" && ", "\n")) + 1)
            assert told()[task][tool] == count, (task, tool)


def test_ours_is_never_the_longest_and_mostly_the_shortest():
    """And there is one for every task."""
    shortest = 0
    for task, counts in told().items():
        ours = int(counts.pop("flowctl"))
        others = [int(count) for count in counts.values() if count != "-"]
        assert ours < max(others), task
        shortest += ours < min(others)
    assert shortest > len(told()) / 2


@pytest.mark.parametrize("task", tables())
def test_what_is_typed_for_ours_works(operator, flowctl, tmp_path, monkeypatch, task):
    """Each command is run as it stands on the page."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows").mkdir()
    text = "metadata: {name: orders}\nspec: {steps: [{name: read, command: [cat]}]}\n"
    (tmp_path / "flows" / "orders.yaml").write_text(text)
    operator.add("orders", "failed" if "failed" in task else "running")
    operator.flows["orders"] = manifest("orders")
    rolled = {"flow_id": "orders", "to": 1, "generation": 3, "change": "restart"}
    operator.answers["POST /flows/orders/rollback"] = (200, rolled)
    program, *args = shlex.split(tables()[task]["flowctl"])
    env = {"app_url": operator.url, "VISUAL": "true"}
    result = flowctl(*args, env=env)
    # What is followed ends with the operator, and a difference is told by the exit code.
    expected = {"logs": 3, "diff": 1}.get(args[0], 0)
    assert (program, result.exit_code) == ("flowctl", expected), result.output
