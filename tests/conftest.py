"""Fixtures, and the watch over what tests leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flow_operator.shim import cgroups
from support import Flowd, eventually, memory_directory, processes_of


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="also run the long tests")


def pytest_configure() -> None:
    """Have programs begin with the signals that a terminal gives them.

    Whoever runs the tests in the background has SIGINT ignored, which is inherited.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--soak"):
        return
    skip = pytest.mark.skip(reason="a long run; --soak includes it")
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests have recorded."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]
    figures = [(r.nodeid, *told) for r in reports if r.when == "call" for told in r.user_properties]
    if figures:
        terminalreporter.section("figures")
    for test, name, figure in figures:
        terminalreporter.write_line(f"{figure:>10} {name}: {test}")


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """A test that leaks a thread or a descriptor fails, and one that leaves signals otherwise.

    What is blocked or ignored here would be so in every program that a later test starts.
    """
    threads = set(threading.enumerate())
    descriptors = set(os.listdir("/proc/self/fd"))
    signals = _signals()
    yield
    assert _signals() == signals

    def clean() -> None:
        left = [thread.name for thread in threading.enumerate() if thread not in threads]
        assert not left, f"threads left behind: {left}"
        opened = len(os.listdir("/proc/self/fd")) - len(descriptors)
        assert opened <= 0, f"{opened} descriptors left open: {_what(descriptors)}"

    eventually(clean, within=5)


def _what(known: set[str]) -> str:
    """What the descriptors are that have come since."""
    links = []
    for name in set(os.listdir("/proc/self/fd")) - known:
        with contextlib.suppress(OSError):  # That of the listing itself.
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return ", ".join(links)


def _signals() -> tuple[set[signal.Signals], list[Any]]:
    """What is blocked, and who handles what; SIGALRM is pytest's, for timeouts."""
    handled = signal.valid_signals() - {signal.SIGALRM}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return blocked, [signal.getsignal(number) for number in sorted(handled)]


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory in memory, also for data; a shim that is killed leaves its cgroups behind."""
    with memory_directory() as path:
        yield path
        for data in (path, *path.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # Where no cgroup v2 is mounted.
                if group := cgroups.root_of(str(data)):
                    cgroups.remove(group)


@pytest.fixture
def flowd(root: Path) -> Iterator[Flowd]:
    """A running operator; no process of its data directory may outlive a passing test's end."""
    operator = Flowd(root)
    try:
        yield operator.start()
    finally:
        operator.destroy()
        eventually(lambda: _assert_none(processes_of(operator.data)))


@pytest.fixture
def make_flowd(root: Path) -> Iterator[Callable[..., Flowd]]:
    """Operators that the test configures and starts itself."""
    made: list[Flowd] = []

    def make(*arguments: str, **conditions: Any) -> Flowd:
        made.append(Flowd(root, *arguments, **conditions))
        return made[-1]

    yield make
    for operator in made:
        operator.destroy()
        eventually(lambda: _assert_none(processes_of(made[0].data)))


def _assert_none(pids: list[int]) -> None:
    assert not pids
