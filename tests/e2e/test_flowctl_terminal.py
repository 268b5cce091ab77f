"""What ``flowctl`` shows on a real terminal, of a real operator."""

from __future__ import annotations

import re

import pytest
from flowctl_runs import Terminal, flowctl

from support import Flowd, eventually, make_document

SLOW = "while read x; do sleep 0.1; done"
"""Works off a record in 100 ms, so that a drain takes a while."""


def backlog(name: str, records: int) -> dict[str, object]:
    """A flow of which so many records are in the pipe at once."""
    source = f"i=0; while [ $i -lt {records} ]; do i=$((i+1)); echo x; done; exec sleep 1000"
    return make_document(name, source, SLOW)


@pytest.fixture
def draining(flowd: Flowd) -> Flowd:
    """An operator of a flow whose stop takes about three seconds."""
    flowd.create(backlog("orders", 30))

    def filled() -> None:
        assert flowd.status("orders")["steps"][1]["inFlightBytes"] > 0

    eventually(filled)
    return flowd


def test_a_stop_shows_what_still_drains_and_takes_it_away_at_the_end(draining: Flowd) -> None:
    """The step that still runs and the bytes before it, redrawn; then the answer alone."""
    with Terminal(draining, "stop", "orders") as shown:
        shown.until(lambda seen: "0 of 1 stopped after" in seen)
        assert shown.end() == 0
    table = shown.seen.partition("IN-FLIGHT")[2]
    assert re.search(r"orders +\x1b\[33mstopping\x1b\[0m +s1 +\d+ ", table)
    assert shown.seen.rstrip().endswith("flow/orders stopped")
    assert shown.seen.count("\x1b[?25l") == shown.seen.count("\x1b[?25h") == 1


@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_is_wider_than_the_terminal(draining: Flowd, columns: int) -> None:
    """One that the terminal wrapped would spoil what is redrawn."""
    with Terminal(draining, "stop", "orders", columns=columns, NO_COLOR="1") as shown:
        assert shown.end() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.seen)
    assert "IN-FLIGHT" in plain
    assert max(map(len, re.split(r"[\r\n]+", plain))) <= columns


def test_no_color_leaves_the_table_and_takes_the_colours(draining: Flowd) -> None:
    """No escape sequence that sets a colour is left."""
    with Terminal(draining, "stop", "orders", NO_COLOR="1") as shown:
        assert shown.end() == 0
    assert "0 of 1 stopped" in shown.seen
    assert not re.search(r"\x1b\[3[0-7]m", shown.seen)


def test_a_dumb_terminal_gets_lines(draining: Flowd) -> None:
    """Without a single escape sequence."""
    with Terminal(draining, "stop", "orders", TERM="dumb") as shown:
        assert shown.end() == 0
    assert re.search(r"flow/orders stopping: s1 still runs, \d+ bytes in flight", shown.seen)
    assert "\x1b" not in shown.seen


def test_ctrl_c_while_it_waits_gives_the_terminal_back(draining: Flowd) -> None:
    """The cursor is shown again, and the flow stops all the same."""
    with Terminal(draining, "stop", "orders") as shown:
        shown.until(lambda seen: "0 of 1 stopped after" in seen)
        assert shown.interrupt() == 130
    assert shown.seen.count("\x1b[?25h") == 1
    draining.await_status("orders", "stopped")


def test_top_shows_who_computes(flowd: Flowd) -> None:
    """A loop that computes stands above one that sleeps; redrawn until Ctrl-C."""
    flowd.create(make_document("idle"), make_document("busy", "while :; do :; done"))
    flowd.await_status("busy", "running")
    with Terminal(flowd, "top", columns=120) as shown:
        shown.until(lambda seen: seen.count("CPU") > 1)
        shown.until(lambda seen: re.search(r"busy .*%", seen) is not None)
        assert shown.interrupt() == 130
    busy, idle = (shown.seen.rindex(name) for name in ("busy", "idle"))
    assert busy < idle
    [percent] = re.findall(r"busy +\S+ +([0-9.]+)%", flowctl(flowd, "top", "--once").stdout)
    assert float(percent) > 1


def test_followed_flows_have_colours_each(flowd: Flowd) -> None:
    """On a terminal; the names stand below each other."""
    flowd.create(make_document("a", "echo one; exec sleep 1000"))
    flowd.create(make_document("long", "echo two; exec sleep 1000"))
    with Terminal(flowd, "logs", "-f", "a", "long") as shown:
        shown.until(lambda seen: "one" in seen and "two" in seen)
        assert shown.interrupt() == 130
    assert "\x1b[36ma    | \x1b[0mone" in shown.seen
    assert "\x1b[33mlong | \x1b[0mtwo" in shown.seen
