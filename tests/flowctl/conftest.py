from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from import_support import Imported
from stub_operator import StubOperator, serving

from flow_operator.flowctl.main import cli


@pytest.fixture
def operator():
    """A stub with a ``url``, served on loopback."""
    stub = StubOperator()
    with serving(stub) as url:
        stub.url = url
        yield stub


@pytest.fixture
def flowctl(operator):
    """Runs a command in this process against the stub; the result has stdout, stderr, exit_code."""

    def run(*args, **options):
        options.setdefault("env", {"app_url": operator.url, "APP_URL": None})
        result = CliRunner().invoke(cli, args, prog_name="flowctl", **options)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        return result

    return run


@pytest.fixture
def spawn(operator):
    """Starts the real program against the stub; all that are left are killed at the end."""
    started = []

    def start(*args, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "flow_operator.flowctl.main", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "app_url": operator.url},
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def nobody():
    """A URL where nobody listens."""
    with serving(StubOperator()) as url:
        pass
    return url


@pytest.fixture
def imported(tmp_path):
    """Imports a text that stands in a file of that name; other files may stand beside it."""

    def run(name, text, *options, beside=None, env=None, expect=0):
        for path, content in {**(beside or {}), name: text}.items():
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        command = ["import", str(tmp_path / name), *options]
        result = CliRunner().invoke(cli, command, prog_name="flowctl", env=env)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        assert result.exit_code == expect, result.stderr
        return Imported(result)

    return run
