"""``top``, and ``logs`` of several flows."""

from __future__ import annotations

import signal
import threading

import pytest
from stub_operator import status

from flow_operator.flowctl.tails import Printer
from flow_operator.flowctl.top import used


def step(name="read", cpu=0.0, **fields):
    return {
        "name": name,
        "replica": 0,
        "run": "r1",
        "pid": 7,
        "state": "running",
        "cpuSeconds": cpu,
        "memoryBytes": 1024,
        "inFlightBytes": 10,
        "openFiles": 3,
        "restarts": 1,
    } | fields


def flows(*steps, name="a"):
    return {name: status(name, steps=list(steps), restarts=4)}


def test_cpu_is_the_share_of_the_time_between_two_looks():
    """1.5 s of CPU within 3 s are half of one; a flow's is the sum of its steps'."""
    before, after = flows(step(cpu=10.0), step("w", 1.0)), flows(step(cpu=11.5), step("w", 1.3))
    read, write = used(before, after, 3.0, steps=True)
    assert (read.names, round(read.cpu or 0), round(write.cpu or 0)) == (("a", "read", 0), 50, 10)
    [flow] = used(before, after, 3.0, steps=False)
    assert round(flow.cpu or 0) == 60
    assert (flow.memory, flow.flight, flow.files, flow.restarts) == (2048, 20, 6, 4)


def test_a_process_that_was_not_there_before_has_used_all_of_its_time_since():
    """A restarted step begins anew; it is no negative share."""
    [use] = used(flows(step(cpu=100.0)), flows(step(cpu=0.3, pid=8)), 3.0, steps=True)
    assert round(use.cpu or 0) == 10


def test_after_one_look_no_share_is_known():
    """Nothing is invented."""
    [use] = used({}, flows(step(cpu=100.0)), 0.0, steps=True)
    assert use.cpu is None
    assert use.row[4] == "-"


def test_top_prints_once_where_there_is_no_terminal(operator, flowctl):
    """Sorted by what is asked for, the most first."""
    operator.add("a", steps=[step()])
    operator.add("b", steps=[step(memoryBytes=4096)])
    rows = flowctl("top", "-k", "memory", "--interval", "0.01").stdout.splitlines()
    assert rows[0].split() == ["NAME", "STATUS", "CPU", "MEMORY", "IN-FLIGHT", "FILES", "RESTARTS"]
    assert [row.split()[0] for row in rows[1:]] == ["b", "a"]
    assert rows[1].split() == ["b", "running", "0.0%", "4.0Ki", "10", "3", "0"]
    rows = flowctl("top", "steps", "a", "--interval", "0").stdout.splitlines()
    assert rows[1].split()[:4] == ["a", "read", "0", "running"]


def test_top_takes_names_without_a_word_before_them(operator, flowctl):
    """``top orders`` is what one types."""
    operator.add("a", steps=[step()])
    operator.add("b", labels={"team": "x"}, steps=[step()])
    for args in (("b",), ("flows", "b"), ("-l", "team=x"), ("-l", "team=x", "flows")):
        rows = flowctl("top", *args, "--interval", "0").stdout.splitlines()[1:]
        assert [row.split()[0] for row in rows] == ["b"], args


def test_top_of_nothing_says_so(flowctl):
    """It is no error."""
    result = flowctl("top", "--interval", "0")
    assert (result.exit_code, result.stderr) == (0, "No flows.\n")


# --- logs --------------------------------------------------------------------------------------


def test_logs_of_several_flows_begin_with_their_names(operator, flowctl):
    """Padded, so that the lines stand below each other; one flow after the other."""
    operator.add("a", labels={"team": "x"})
    operator.add("long", labels={"team": "x"})
    operator.logs = [b"one\ntw", b"o\nno end"]
    expected = [*(f"a    | {line}" for line in ("one", "two", "no end"))]
    expected += [*(f"long | {line}" for line in ("one", "two", "no end"))]
    assert flowctl("logs", "a", "long").stdout.splitlines() == expected
    assert flowctl("logs", "-l", "team=x").stdout.splitlines() == expected
    assert flowctl("logs", "--all").stdout.splitlines() == expected


def test_several_flows_are_followed_at_once(operator, spawn):
    """Lines of both arrive while both go on; Ctrl-C ends it without a word."""
    operator.add("a")
    operator.add("b")
    operator.log_gate = threading.Event()
    process = spawn("logs", "a", "b", "-f")
    lines = sorted(process.stdout.readline() for _ in range(4))
    assert lines == [b"a | one\n", b"a | two\n", b"b | one\n", b"b | two\n"]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr.strip()) == (130, b"")


def test_followed_streams_that_all_end_are_no_success(operator, spawn):
    """Exit code 3, as with one."""
    operator.add("a")
    operator.add("b")
    process = spawn("logs", "a", "b", "-f")
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 3
    assert b"it has ended the stream" in stderr


def test_a_mistyped_name_among_several_is_told_before_anything_is_followed(operator, flowctl):
    """Else it would be lost among the lines."""
    operator.add("a")
    result = flowctl("logs", "-f", "a", "nope")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no flow 'nope'" in result.stderr


@pytest.fixture
def terminal(monkeypatch, capfdbinary):
    """What a printer writes where stdout is a terminal."""
    monkeypatch.setattr("flow_operator.flowctl.tails.on_terminal", lambda: True)

    def shown(*names, pieces):
        printer = Printer(names)
        for name, piece in pieces:
            printer.write(name, piece)
        for name in names:
            printer.end(name)
        return capfdbinary.readouterr().out

    monkeypatch.delenv("NO_COLOR", raising=False)
    return shown


def test_flows_and_steps_have_colours_on_a_terminal(terminal, monkeypatch):
    """The same step always has the same; ``NO_COLOR`` takes them."""
    pieces = [("a", b"[read] x\n"), ("b", b"[read] y\n"), ("a", b"z\n")]
    shown = terminal("a", "b", pieces=pieces)
    tag = shown.split(b"[read]")[0].rpartition(b"\x1b")[2]
    assert shown.count(b"\x1b" + tag + b"[read]\x1b[0m") == 2
    assert shown.count(b"\x1b[36ma | \x1b[0m") == 2
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal("a", "b", pieces=pieces[:2]) == b"a | [read] x\nb | [read] y\n"


def test_a_single_flow_on_a_terminal_has_no_name_before_its_lines(terminal):
    """And no newline that it has not written."""
    shown = terminal("a", pieces=[("a", b"plain\n"), ("a", b"no end")])
    assert shown == b"plain\nno end"


def test_a_line_without_an_end_is_not_kept_for_ever(capfdbinary):
    """What writes no newline must not fill the memory: a mebibyte is printed as it is."""
    printer = Printer(["a", "b"])
    printer.write("a", b"x" * 1000)
    assert capfdbinary.readouterr().out == b""
    printer.write("a", b"x" * (1 << 20))
    assert len(capfdbinary.readouterr().out) > 1 << 20
