"""The programs of the quickstart flows, run as real pipelines without an operator."""

import importlib.util
import json
import os
import queue
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType, SimpleNamespace

import httpx
import pytest

from flow_operator.manifest import SourceText, load_manifests

MANIFESTS = Path(__file__).parent.parent / "manifests"
QUICKSTART = MANIFESTS / "quickstart"
READ = ["host_metrics/read.py", "--interval", "0.02"]
CONVERT = ["host_metrics/convert.py"]
LOAD = ["host_metrics/load.py"]
POLL = ["latency/poll.py", "--interval", "0.02"]
KEEP = ["latency/keep.py"]
SCHEDULED = ["host_metrics/read.py", "latency/poll.py"]

RAW = {"at": 1.0, "memory": {"MemTotal": 4096, "MemAvailable": 1024}, "load": [0.5, 0.4, 0.3]}


def eventually(holds, deadline=20.0):
    """Wait until ``holds()`` is true; a program that never gets there fails the test."""
    end = time.monotonic() + deadline
    while not (found := holds()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
    return found


class Bench:
    """Starts programs as the operator would: stderr, and the last one's stdout, go to a file."""

    def __init__(self, data: Path, stack: ExitStack) -> None:
        self.data = data
        self._stack = stack

    def start(self, *argv, run="run-1", stdin=subprocess.DEVNULL, stdout=None, **env):
        """One program; it is killed when the test ends, should it still run."""
        log = self.log(Path(argv[0]).stem).open("a")
        with log:
            process = subprocess.Popen(
                [sys.executable, *argv],
                cwd=QUICKSTART,
                env={**os.environ, "FLOW_DATA": str(self.data), "FLOW_RUN": run, **env},
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log,
            )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def pipeline(self, *commands, run="run-1"):
        """Programs joined by pipes that nobody else holds open."""
        processes, source = [], subprocess.DEVNULL
        for command in commands:
            last = command is commands[-1]
            sink = None if last else subprocess.PIPE
            processes.append(self.start(*command, run=run, stdin=source, stdout=sink))
            if source is not subprocess.DEVNULL:
                source.close()
            source = processes[-1].stdout
        return processes

    def log(self, program):
        """The file that a program writes to."""
        return self.data / f"{program}.log"

    def logged(self, program):
        """What it has written."""
        return self.log(program).read_text()

    def rows(self, database, query="SELECT * FROM readings ORDER BY id"):
        """What a query finds; nothing, while the database is being made."""
        try:
            with closing(sqlite3.connect(f"file:{self.data / database}?mode=ro", uri=True)) as db:
                return db.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    def web(self):
        """Start the web server on a free port; its process and URL."""
        server = self.start("web/serve.py", PORT="0")
        eventually(lambda: "serving on" in self.logged("serve"))
        return server, self.logged("serve").split()[2]


@pytest.fixture
def bench(tmp_path):
    """A bench on a directory of the test's own."""
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


def stop(process):
    """What a soft stop sends, and to whom: SIGTERM to one process."""
    process.send_signal(signal.SIGTERM)
    return process.wait(20)


def convert(*lines):
    """What the converter makes of lines, and what it complains about."""
    argv = [sys.executable, str(QUICKSTART / CONVERT[0])]
    ended = subprocess.run(
        argv, input="".join(lines), capture_output=True, text=True, check=True, timeout=20
    )
    return [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr


def raw(seq, *cpu):
    """A raw reading as a line."""
    return json.dumps({"seq": seq, "cpu": cpu, **RAW}) + "\n"


# --- host-metrics ----------------------------------------------------------------------------


def test_a_soft_stop_stores_every_reading_that_was_emitted(bench):
    """TERM to the source alone, and the end of file carries all that is in flight to the end."""
    steps = bench.pipeline(READ, CONVERT, LOAD)
    eventually(lambda: len(bench.rows("metrics.db")) >= 10)
    stop(steps[0])
    assert [step.wait(20) for step in steps] == [0, 0, 0]
    emitted = int(bench.logged("read").split()[1])
    stored = [row[0] for row in bench.rows("metrics.db", "SELECT seq FROM readings ORDER BY id")]
    assert stored == list(range(1, emitted + 1))
    assert bench.logged("read") == f"emitted {emitted} readings\n"
    assert bench.logged("load").splitlines()[-1] == f"stored {emitted} rows"


def test_only_the_first_reading_has_no_cpu_figure(bench):
    """The first reading is a row with a null; each later one tells what passed since the last."""
    steps = bench.pipeline([READ[0], "--interval", "0.1"], CONVERT, LOAD)
    query = "SELECT cpu_percent, memory_percent FROM readings ORDER BY id"
    eventually(lambda: len(bench.rows("metrics.db", query)) >= 4)
    stop(steps[0])
    steps[2].wait(20)
    (first, _), *later = bench.rows("metrics.db", query)
    assert first is None
    assert all(0 <= cpu <= 100 for cpu, _ in later)
    assert all(0 < memory < 100 for _, memory in [(first, _), *later])


def test_a_second_run_adds_to_the_first(bench):
    """Each run counts from 1 again and is told apart by FLOW_RUN; nothing is overwritten."""
    per_run = "SELECT run, count(*), min(seq), max(seq) FROM readings GROUP BY run ORDER BY run"
    for number, run in enumerate(["run-1", "run-2"], 1):
        steps = bench.pipeline(READ, CONVERT, LOAD, run=run)
        eventually(lambda n=number: len(bench.rows("metrics.db", per_run)) == n)
        stop(steps[0])
        steps[2].wait(20)
    assert [
        (run, low, count == high) for run, count, low, high in bench.rows("metrics.db", per_run)
    ] == [
        ("run-1", 1, True),
        ("run-2", 1, True),
    ]


def test_a_killed_sink_goes_on_with_the_pipe_where_it_stands(bench):
    """On a pipe that is held open, a new sink stores what comes next, to the last; none twice."""
    read_end, write_end = os.pipe()
    source = bench.start(*READ, stdout=subprocess.PIPE)
    converter = bench.start(*CONVERT, stdin=source.stdout, stdout=write_end)
    source.stdout.close()
    first = bench.start(*LOAD, stdin=read_end)
    seen = eventually(lambda: len(bench.rows("metrics.db")))
    first.kill()
    first.wait(20)
    second = bench.start(*LOAD, stdin=read_end)
    os.close(read_end)
    os.close(write_end)
    eventually(lambda: len(bench.rows("metrics.db")) > seen + 5)
    stop(source)
    assert converter.wait(20) == second.wait(20) == 0
    emitted = int(bench.logged("read").split()[1])
    stored = [row[0] for row in bench.rows("metrics.db", "SELECT seq FROM readings ORDER BY id")]
    assert stored == sorted(set(stored))
    assert stored[-1] == emitted


def test_cpu_use_is_the_share_of_ticks_that_were_not_idle():
    """Neither idle nor iowait is use; guest time counts once; counters at rest say nothing."""
    figures, complaints = convert(
        raw(1, 10, 0, 0, 100, 0, 0, 0, 0, 0, 0),
        raw(2, 20, 0, 5, 150, 35, 0, 0, 0, 90, 0),
        raw(3, 20, 0, 5, 150, 35, 0, 0, 0, 90, 0),
        raw(4, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0),
    )
    assert [line["cpu_percent"] for line in figures] == [None, 15.0, None, None]
    assert figures[1] == {
        "seq": 2,
        "at": 1.0,
        "cpu_percent": 15.0,
        "memory_percent": 75.0,
        "memory_used_mib": 3,
        "load_1m": 0.5,
    }
    assert complaints == ""


def test_a_torn_line_is_skipped_and_told():
    """What a killed predecessor left of a line harms neither the next line nor the program."""
    figures, complaints = convert("5, 0.4, 0.3]}\n", raw(8, 1, 0, 0, 1), raw(9, 2, 0, 0, 2))
    assert [(line["seq"], line["cpu_percent"]) for line in figures] == [(8, None), (9, 50.0)]
    assert complaints.startswith("skipped a torn line: '5, 0.4")


@pytest.mark.parametrize(("sink", "database"), [(LOAD, "metrics.db"), (KEEP, "latency.db")])
def test_a_sink_skips_a_torn_line_and_goes_on(bench, sink, database):
    """Nothing but whole lines become rows; an input that has none still ends well."""
    process = bench.start(*sink, stdin=subprocess.PIPE)
    process.communicate(b"40.2}\nhalf a", timeout=20)
    assert process.returncode == 0
    log = bench.logged(Path(sink[0]).stem)
    assert log.count("skipped a torn line") == 2
    assert "stored 0" in log


# --- schedules and pipes ---------------------------------------------------------------------


def module(program: str) -> ModuleType:
    """A program as a module, to look at one of its functions."""
    spec = importlib.util.spec_from_file_location("program", QUICKSTART / program)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("program", SCHEDULED)
def test_a_schedule_does_not_drift(program, monkeypatch):
    """However long the work, ticks stay at multiples of the interval; missed ones are gone."""
    clock, begun = SimpleNamespace(now=100.0), []

    class NoSignals:
        def get(self, timeout):
            clock.now += timeout
            raise queue.Empty

    loaded = module(program)
    monkeypatch.setattr(loaded, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(loaded, "SimpleQueue", NoSignals)
    monkeypatch.setattr(loaded.signal, "signal", lambda *_: None)
    work = [0.25, 0.5, 1.5, 0.25, 10.25, 0.25, 0.0]
    for took, _ in zip(work, loaded.ticks(1.0), strict=False):
        begun.append(clock.now - 100)
        clock.now += took
    assert begun == [0.0, 1.0, 2.0, 3.5, 4.5, 14.75, 15.75]


def freeze(process, seconds):
    """What pausing a flow does to its processes."""
    process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{process.pid}/stat")
    eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    time.sleep(seconds)  # not to wait for something: this is how long it lasts
    process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("program", [READ, [*POLL, "http://127.0.0.1:9/"]])
def test_a_source_goes_on_after_a_pause(bench, program):
    """A pause that outlasts many ticks is not taken for a signal to stop."""
    process = bench.start(*program, stdout=subprocess.PIPE)
    with process.stdout:
        process.stdout.readline()
        for _ in range(3):
            freeze(process, 0.2)
            before = time.time()
            at = 0.0
            while at < before:
                at = json.loads(process.stdout.readline())["at"]
        assert stop(process) == 0


@pytest.mark.parametrize("program", [READ, [*POLL, "http://127.0.0.1:9/"]])
def test_a_source_ends_quietly_when_nobody_reads(bench, program):
    """A broken pipe is no fault of the source: it ends, and prints no traceback."""
    process = bench.start(*program, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    process.wait(20)
    assert bench.logged(Path(program[0]).stem) == ""


def test_the_converter_ends_quietly_when_nobody_reads(bench):
    """The middle of a pipe ends as its ends do."""
    process = bench.start(*CONVERT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.close()
    process.stdin.write(raw(1, 1, 0, 0, 1).encode())
    process.stdin.close()
    process.wait(20)
    assert bench.logged("convert") == ""


# --- web and latency -------------------------------------------------------------------------


def test_the_web_server_answers_and_stops_promptly(bench):
    """Health and load as JSON, 404 for all else; TERM ends it well; probes are not logged."""
    server, url = bench.web()
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    assert len(httpx.get(url).json()["load"]) == 3
    assert httpx.get(f"{url}/nothing").status_code == 404
    assert stop(server) == 0
    log = bench.logged("serve")
    assert "GET / " in log
    assert "GET /nothing" in log
    assert "healthz" not in log


def test_the_web_server_goes_on_after_a_pause(bench):
    """Neither a pause nor its end is taken for a signal to stop."""
    server, url = bench.web()
    freeze(server, 0.1)
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert stop(server) == 0


def test_the_web_server_says_in_one_line_that_its_port_is_taken(bench):
    """The reason stands in the log without a traceback around it, and the exit code is 1."""
    _, url = bench.web()
    bench.log("serve").write_text("")
    second = bench.start("web/serve.py", PORT=url.rpartition(":")[2])
    assert second.wait(20) == 1
    host = url.removeprefix("http://")
    assert bench.logged("serve") == f"cannot listen on {host}: Address already in use\n"


def test_the_web_server_stops_although_a_client_is_silent(bench):
    """A connection on which nothing is asked holds the end up for two seconds at most."""
    server, url = bench.web()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))):
        assert stop(server) == 0


def test_latency_keeps_answers_and_failures(bench):
    """Each poll is a row, whether it was answered or not; ten of them make a line in the log."""
    server, url = bench.web()
    poll, keep = bench.pipeline([*POLL, f"{url}/healthz"], KEEP)
    by_status = "SELECT status, count(*), count(ms), count(error) FROM answers GROUP BY status"
    eventually(lambda: any(n >= 10 for _, n, _, _ in bench.rows("latency.db", by_status)))
    stop(server)
    eventually(lambda: len(bench.rows("latency.db", by_status)) == 2)
    assert stop(poll) == keep.wait(20) == 0
    (none, failed, no_time, errors), (status, good, timed, no_error) = bench.rows(
        "latency.db", by_status
    )
    assert (none, no_time, errors) == (None, 0, failed)
    assert (status, timed, no_error) == (200, good, 0)
    log = bench.logged("keep").splitlines()
    assert log[0].startswith("p50 ")
    assert ", p99 " in log[0]
    assert log[-1] == f"stored {good + failed} answers"


def test_percentiles_are_by_nearest_rank():
    """p99 of few values is the largest; p50 of two is the smaller."""
    percentile = module("latency/keep.py").percentile
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0], 50) == 1.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0


# --- the manifests ---------------------------------------------------------------------------


FLOWS = sorted(set(MANIFESTS.rglob("*.yaml")) - {MANIFESTS / "compose.yaml"})


@pytest.mark.parametrize("file", FLOWS, ids=lambda file: file.name)
def test_every_manifest_loads_and_names_programs_that_exist(file):
    """What people copy is valid, and a program beside it is where the manifest says."""
    for manifest in load_manifests(SourceText(file.read_text(), str(file))):
        for step in manifest.flow.spec.steps:
            for argument in step.command or ():
                assert not argument.endswith(".py") or (file.parent / argument).is_file()
