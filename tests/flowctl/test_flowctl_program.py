"""The program as a whole: where the operator is, exit codes, signals, pipes, watching."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading

import pytest
from stub_operator import StubOperator, serving, status

from flow_operator.flowctl.main import cli
from flow_operator.flowctl.watch import Changes


def test_nobody_there_is_exit_code_3_and_one_line(flowctl, nobody):
    """It names the URL and what to look at."""
    for command in (["get"], ["stop", "a"], ["logs", "a"], ["apply", "-f", "-"], ["version"]):
        result = flowctl(
            "--url",
            nobody,
            *command,
            input='{"flow_id": "a", "spec": {"steps": [{"name": "a", "script": "true"}]}}',
        )
        assert result.exit_code == 3
        assert len(result.stderr.splitlines()) == 1
        assert nobody in result.stderr
        assert "Is flowd running? Is app_url (or --url) right?" in result.stderr


def test_the_url_comes_from_the_option_then_the_environment(operator, flowctl, nobody):
    """``--url`` may stand before or after the command; app_url goes before APP_URL."""
    operator.add("a")
    url = operator.url
    assert flowctl("--url", url, "status", env={"app_url": nobody}).exit_code == 0
    assert flowctl("status", "--url", url, env={"app_url": nobody}).exit_code == 0
    assert flowctl("status", env={"app_url": "", "APP_URL": url}).exit_code == 0
    assert flowctl("status", env={"app_url": url, "APP_URL": nobody}).exit_code == 0
    assert flowctl("status", env={"app_url": nobody, "APP_URL": url}).exit_code == 3


def test_a_path_in_the_url_is_kept(operator, flowctl):
    """An operator may be served below a prefix."""
    operator.answers["GET /below/flows/status"] = (200, {"a": status("a")})
    assert "a " in flowctl("--url", f"{operator.url}/below/", "status").stdout


def test_a_unix_socket_is_spoken_to(flowctl, spawn, tmp_path):
    """``unix:PATH`` instead of a host."""
    stub = StubOperator()
    stub.add("a")
    with serving(stub, tmp_path / "s") as url:
        assert "running" in flowctl("--url", url, "status").stdout
    # Not in this process: httpcore leaves a socket that could not be connected unclosed.
    process = spawn("--url", url, "status")
    assert process.wait(timeout=30) == 3
    assert process.stderr.read().startswith(f"Error: Cannot reach the operator at {url}".encode())


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8710", "http://", "unix:", "http://x:y"])
def test_a_url_that_cannot_be_one_is_a_usage_error(flowctl, url):
    """Exit code 2, with what it should look like."""
    result = flowctl("--url", url, "get")
    assert result.exit_code == 2
    assert "must look like http://127.0.0.1:8710" in result.stderr


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"text"'])
def test_another_server_on_that_port_is_told_from_an_operator(operator, flowctl, body):
    """A wrong port must not end in a traceback."""
    operator.answers["GET /flows/status"] = (200, body)
    result = flowctl("status")
    assert result.exit_code == 1
    assert "not what a flow operator sends" in result.stderr
    operator.answers["GET /flows/status"] = (502, body)
    assert "HTTP 502" in flowctl("status").stderr


def test_usage_errors_are_exit_code_2(flowctl):
    """Unknown commands and options, and missing arguments."""
    for args in (["frobnicate"], ["get", "--nope"], ["describe"], ["apply"], ["get", "-o", "xml"]):
        result = flowctl(*args)
        assert result.exit_code == 2
        assert "Error: " in result.stderr


def test_every_command_has_help(flowctl):
    """A sentence each, without asking the operator."""
    for name in cli.commands:
        result = flowctl(name, "--help")
        assert result.exit_code == 0
        assert len(result.stdout.splitlines()) > 3


def test_help_does_not_wait_for_heavy_imports():
    """Neither httpx nor rich nor jsonschema is loaded to print help."""
    program = (
        "import sys, flow_operator.flowctl.main as m\n"
        "heavy = {'httpx', 'rich', 'jsonschema', 'yaml'} & set(sys.modules)\n"
        "sys.exit(f'{heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_names_complete_from_the_operator(operator, flowctl, nobody):
    """And silently do not, where there is none."""
    operator.add("orders")
    operator.add("other")
    operator.add("audit")
    env = {
        "_FLOWCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "flowctl status o",
        "COMP_CWORD": "2",
    }
    assert flowctl(env={**env, "app_url": operator.url}).stdout == "plain,orders\nplain,other\n"
    assert flowctl(env={**env, "app_url": nobody}).stdout.strip() == ""


# --- logs ------------------------------------------------------------------------------------


def test_logs_pass_bytes_on_as_they_are(operator, flowctl):
    """What is not UTF-8 is the reader's business; every option reaches the API."""
    operator.logs = [b"caf\xe9\n", b"no end"]
    result = flowctl(*["logs", "a", "--step", "read", "--replica", "1", "--tail", "5"])
    assert result.stdout_bytes == b"caf\xe9\nno end"
    assert operator.asked("GET") == [
        ["/flows/a/logs", {"step": "read", "replica": "1", "tail": "5"}, None]
    ]


def test_logs_of_an_unknown_flow_fail(operator, flowctl):
    """With the operator's words."""
    operator.answers["GET /flows/a/logs"] = operator.problem(404, "There is no flow 'a'.")
    result = flowctl("logs", "a")
    assert (result.exit_code, result.stderr) == (1, "Error: There is no flow 'a'.\n")


def test_followed_logs_arrive_at_once_and_end_with_ctrl_c(operator, spawn):
    """Lines are not held back; an interrupt is exit code 130 without a word."""
    operator.log_gate = threading.Event()
    process = spawn("logs", "a", "-f")
    assert process.stdout.readline() == b"one\n"
    assert process.stdout.readline() == b"two\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr.strip()) == (130, b"")
    assert operator.asked("GET") == [["/flows/a/logs", {"follow": "1"}, None]]


def test_a_reader_that_goes_is_no_error(operator, spawn):
    """As with ``flowctl logs a | head``: not a word on stderr."""
    operator.logs = [b"line\n" * 1000] * 200
    process = spawn("logs", "a")
    assert process.stdout.readline() == b"line\n"
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert process.stderr.read() == b""


def test_a_reader_that_goes_before_a_table_is_no_error(operator, spawn):
    """Also where the output was still in a buffer."""
    operator.add("a")
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "flow_operator.flowctl.main", "status"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "app_url": operator.url},
    )
    os.close(writer)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (141, b"")


# --- watching --------------------------------------------------------------------------------


def test_watching_prints_changes_as_lines(operator, spawn):
    """Off a terminal: headers and all flows once, then a row whenever one changes."""
    operator.add("a", "starting")
    process = spawn("status", "-w", "--interval", "0.05")
    assert process.stdout.readline().split()[0] == b"NAME"
    assert process.stdout.readline().split()[:2] == [b"a", b"starting"]
    operator.add("a", "running")
    assert process.stdout.readline().split()[:2] == [b"a", b"running"]
    operator.flows.clear()
    operator.statuses.clear()
    assert process.stdout.readline().split()[:2] == [b"a", b"deleted"]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr.strip()) == (130, b"")


def test_watching_outlasts_an_operator_that_is_away(operator, spawn):
    """It says so once, and goes on when it is back."""
    operator.add("a", "starting")
    process = spawn("status", "-w", "--interval", "0.05")
    process.stdout.readline()
    process.stdout.readline()
    operator.answers["GET /flows/status"] = operator.problem(503, "taking back its flows")
    assert process.stderr.readline() == b"taking back its flows\n"
    operator.add("a", "running")
    operator.answers.clear()
    assert process.stdout.readline().split()[:2] == [b"a", b"running"]


def test_watching_a_flow_that_there_is_not_fails(flowctl):
    """A name is most likely mistyped, so it is not waited for."""
    assert flowctl("status", "-w", "nope").exit_code == 1


def test_uptime_alone_is_no_change():
    """Else every flow would be printed every second."""
    changes = Changes()
    first = changes.lines({"a": status("a", startedAt="2024-05-01T10:00:00Z")})
    assert len(first) == 2
    assert changes.lines({"a": status("a", startedAt="2023-05-01T10:00:00Z")}) == []
    assert len(changes.lines({"a": status("a", restarts=1)})) == 1


def on_a_terminal(args, url, *, until, **env):
    """What the program writes to a terminal until that text was seen; then interrupts it."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flow_operator.flowctl.main", *args],
        stdout=follower,
        stderr=follower,
        env={**os.environ, "app_url": url, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", **env},
    )
    os.close(follower)
    seen = b""
    try:
        while until not in seen:
            ready, _, _ = select.select([leader], [], [], 30)
            assert ready, seen
            seen += os.read(leader, 65536)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    return seen


def test_a_terminal_gets_colours_unless_asked_not_to(operator):
    """``NO_COLOR`` takes the colours and leaves the table."""
    operator.add("a", message="the-end")
    env = {"NO_COLOR": ""}
    assert b"\x1b[32mrunning" in on_a_terminal(["status"], operator.url, until=b"the-end", **env)
    plain = on_a_terminal(["status"], operator.url, until=b"the-end", NO_COLOR="1")
    assert b"\x1b[32m" not in plain


def test_a_terminal_is_redrawn_in_place(operator):
    """The second look moves the cursor up instead of adding lines."""
    operator.add("a", "starting")
    operator.looked.clear()
    shown = on_a_terminal(["status", "-w", "--interval", "0.05"], operator.url, until=b"\x1b[1A")
    assert shown.count(b"\x1b[?25l") == 1
