"""Every error of flowctl, made by running it: each says what to do next."""

from __future__ import annotations

import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from stub_operator import status

import flow_operator
from flow_operator.flowctl.keeping import MARK
from messages import Message, says_what_next, walked

PACKAGE = Path(flow_operator.__file__).parent
MANIFEST = "metadata: {name: %s}\nspec:\n  steps:\n  - {name: read, command: [cat]}\n"


class Lines:
    """The lines of flowctl and of its client that were run, as (file, line)."""

    def __init__(self) -> None:
        self.run: set[tuple[str, int]] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While the block runs, in this thread."""
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        path = frame.f_code.co_filename
        ours = path.startswith((f"{PACKAGE}/flowctl/", f"{PACKAGE}/client/"))
        return self._line if ours else None

    def _line(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        file = Path(frame.f_code.co_filename).relative_to(PACKAGE).as_posix()
        self.run.add((file, frame.f_lineno))
        return self._line


# Each case: what is typed. ``{name}`` is a file of the fixture ``files``; a dictionary sets
# variables of the environment.
USAGE: list[tuple[Any, ...]] = [
    ("get", "--no-such-option"),
    ("no-such-command",),
    ("history",),
    ("apply",),
    ("diff",),
    ("validate",),
    ("apply", "-f", "{good}", "--prune"),
    ("apply", "-f", "{good}", "--set", "not/one"),
    ("stop",),
    ("stop", "a", "--all"),
    ("completion", "cmd.exe"),
    ("completion", {"SHELL": "/bin/tcsh"}),
    ("config", "set-context", "new"),
    ("config", "use-context", "nobody"),
    ("config", "use-context", "hom", {"FLOWCTL_CONFIG": "{contexts}"}),
    ("events", "-w", "-o", "json"),
    ("history", "a", "--diff", "1", "--show", "1"),
    ("history", "a", "--diff", "7"),
    ("history", "a", "--diff", "1"),
    ("scale", "a=0"),
    ("scale", "a"),
    ("status", "-w", "-o", "json"),
    ("explain", "spec.stpe"),
    ("wait", "a", "--for", "nonsense"),
    ("stop", "Not_A_Name"),
    ("stop", "a", "--timeout", "soon"),
]
CONNECTION: list[tuple[Any, ...]] = [
    ("--url", "gopher://x", "get"),
    ("--url", "{nobody}", "get"),
    ("--url", "{nobody}", "--context", "x", "get"),
    ("--context", "nobody", "get"),
    ("--token-file", "{missing}", "get"),
    ("--token-file", "{empty}", "get"),
    ("get", {"FLOWCTL_TOKEN": "two words"}),
    ("--url", "https://127.0.0.1:1", "--ca", "{good}", "get"),
    ("--context", "x", "get", {"FLOWCTL_CONFIG": "{folder}"}),
    ("--context", "x", "get", {"FLOWCTL_CONFIG": "{no_url}"}),
    ("--context", "x", "get", {"FLOWCTL_CONFIG": "{no_text}"}),
    ("config", "set-context", "x", "--url", "http://x", {"FLOWCTL_CONFIG": "/proc/none/config"}),
    ("config", "current-context"),
]
MANIFESTS: list[tuple[Any, ...]] = [
    ("validate", "{missing}"),
    ("validate", "{empty}"),
    ("validate", "{latin}"),
    ("validate", "{unknown}"),
    ("validate", "{broken}"),
    ("apply", "-f", "{refused}"),
    ("apply", "-f", "{good}", "--prune", "--set", "mine"),
    ("import", "{missing}"),
    ("import", "{latin}"),
    ("import", "{program}"),
    ("import", "{nul}"),
]
FLOWS: list[tuple[Any, ...]] = [
    ("describe", "nobody"),
    ("logs", "nobody"),
    ("stop", "nobody"),
    ("delete", "nobody"),
    ("wait", "nobody", "--for", "running"),
    ("wait", "-l", "team=none", "--for", "running"),
    ("wait", "late", "--for", "running", "--timeout", "0"),
    ("wait", "failed", "--for", "running"),
    ("stop", "late", "--timeout", "1"),
    ("edit", "owned"),
    ("edit", "a", {"VISUAL": "false"}),
    ("edit", "a", {"VISUAL": "/no/such/editor"}),
    ("edit", "a", {"VISUAL": "{renames}"}),
    ("edit", "a", {"VISUAL": "{doubles}"}),
    ("edit", "a", {"VISUAL": "{spoils}"}),
]
CASES = USAGE + CONNECTION + MANIFESTS + FLOWS


@pytest.fixture
def files(tmp_path: Path, nobody: str) -> dict[str, str]:
    """Good and bad files, by name."""

    def text(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def editor(name: str, change: str) -> str:
        """A program that changes a text once, and then leaves it."""
        path = text(name, f"#!/bin/sh\ntest -e $0.done || {change}\ntouch $0.done\n")
        Path(path).chmod(stat.S_IRWXU)
        return path

    folder = tmp_path / "folder"
    folder.mkdir()
    return {
        "nobody": nobody,
        "missing": str(tmp_path / "missing"),
        "folder": str(folder),
        "empty": text("empty.yaml", ""),
        "good": text("good.yaml", MANIFEST % "b"),
        "refused": text("refused.yaml", MANIFEST % "refused"),
        "unknown": text("unknown.yaml", MANIFEST % "b" + "  step: []\n"),
        "broken": text("broken.yaml", "a: [\n"),
        "latin": text("latin.yaml", b"a: \xe4\n"),
        "program": text("ecosystem.config.js", "module.exports = {apps: []}\n"),
        "nul": text("Procfile", b"a: \0\n"),
        "contexts": text("contexts", "contexts: {home: {url: 'http://x'}}\n"),
        "no_url": text("no_url", "contexts: {x: {}}\n"),
        "no_text": text("no_text", "contexts: {x: {url: 5}}\n"),
        "renames": editor("renames", "sed -i 's/name: a/name: b/' \"$1\""),
        "doubles": editor("doubles", "printf -- '---\\na: b\\n' >> \"$1\""),
        "spoils": editor("spoils", "sed -i 's/steps:/stps:/' \"$1\""),
    }


@pytest.fixture
def world(operator: Any) -> Any:
    """An operator with flows that give cause for errors."""
    operator.add("a")
    operator.add("b")
    operator.add("late", "stopping")
    operator.after["stop"] = "stopping"
    operator.add("owned", source={"kind": "file", "file": "owned.yaml"})
    operator.statuses["failed"] = status("failed", "failed", message="exit code 1")
    operator.flows["failed"] = operator.flows["a"]
    operator.add("pruned")
    operator.flows["pruned"]["metadata"]["annotations"] = {MARK: "mine/pruned"}
    kept = [{"generation": 1, "diff": None}]
    operator.answers["GET /flows/a/history"] = (200, {"generations": kept, "history": kept})
    operator.answers["GET /flows/nobody/logs"] = operator._unknown(404, "nobody")
    said = [{"pointer": "/0/spec/state", "detail": "must be one of running, stopped; not 'x'"}]
    operator.answers["POST /flows"] = operator.problem(400, "the flow is refused", said)
    return operator


def _filled(part: Any, files: dict[str, str]) -> Any:
    if isinstance(part, dict):
        return {key: _filled(value, files) for key, value in part.items()}
    for name, path in files.items():
        part = part.replace(f"{{{name}}}", path)
    return part


@pytest.fixture
def run(
    flowctl: Any,
    world: Any,
    files: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Types a case."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # What was edited is kept.

    def typed(case: tuple[Any, ...]) -> Any:
        parts = [_filled(part, files) for part in case]
        given = parts.pop() if isinstance(parts[-1], dict) else {}
        env = {"app_url": world.url, "FLOWCTL_CONFIG": str(tmp_path / "none"), **given}
        if "--context" in parts or "--url" in parts:
            del env["app_url"]
        return flowctl(*parts, env={"APP_URL": None, "VISUAL": None, **env})

    return typed


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
def test_it_says_what_to_do_next(run: Any, case: tuple[Any, ...]) -> None:
    """Not zero, on stderr, and the reader knows what to do."""
    result = run(case)
    assert result.exit_code in (1, 2, 3), result.output
    assert says_what_next(result.stderr), result.stderr
    assert "Traceback" not in result.output


ELSEWHERE = {
    ("client/__init__.py", "AttributeError"),  # not of the command line
    ("client/aio/parts.py", "InvalidError"),
    ("client/waited.py", "LateError"),
    ("client/errors.py", "UntrustedError"),  # needs a certificate: test_flowctl_auth.py
    (
        "flowctl/logs.py",
        "UnreachableError",
    ),  # needs an operator that goes away: test_flowctl_read.py
}


def test_every_error_of_flowctl_is_among_the_cases(run: Any) -> None:
    """Whoever adds one adds a case, and so has it read."""
    lines = Lines()
    with lines.watched():
        for case in CASES:
            run(case)
    unmet = [
        f"{message.file}:{message.line}: {message.text}"
        for message in walked()
        if _ours(message) and (message.file, message.line) not in lines.run
    ]
    assert not unmet, "\n".join(unmet)


def _ours(message: Message) -> bool:
    if (message.file, message.kind) in ELSEWHERE or "/importing/" in message.file:
        return False
    return message.file.startswith(("flowctl/", "client/"))
