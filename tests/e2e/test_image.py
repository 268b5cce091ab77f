"""The operator's own image, on the engine that FLOW_TEST_ENGINE names."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runners.boxes import engine_url
from support import ROOT, eventually, make_document

pytestmark = pytest.mark.timeout(900)  # The first of them waits until the image is built.

COUNTS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.005; done"
STORES = "while read n; do echo $n >> $FLOW_DATA/out; done"
DEAF = "trap '' TERM; echo up > $FLOW_DATA/out; while :; do sleep 0.1; done"


class Docker:
    """The command, on the engine under test."""

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", "--host", self._engine, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def __call__(self, *arguments: str) -> str:
        done = self.ask(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout.strip()


class Box:
    """A container of the image with a volume and a folder of its own."""

    def __init__(self, docker: Docker, image: str, manifests: Path) -> None:
        self.name = f"flow-image-test-{uuid.uuid4().hex[:12]}"
        self.manifests = manifests
        self._docker, self._image = docker, image

    def start(self, *flows: dict[str, Any], options: tuple[str, ...] = ()) -> None:
        """As the README tells, but on no network and with nothing that may be written."""
        for flow in flows:
            (self.manifests / f"{flow['flow_id']}.yaml").write_text(yaml.safe_dump(flow))
        self._docker(
            *("run", "--detach", "--name", self.name, "--network", "none"),
            *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--health-interval", "1s"),
            *("--volume", f"{self.name}:/data", "--volume", f"{self.manifests}:/manifests:ro"),
            *options,
            *(self._image, "--insecure"),
        )

    def run(self, *command: str) -> str:
        return self._docker("exec", self.name, *command)

    def sh(self, script: str) -> str:
        return self.run("sh", "-c", script)

    def stop(self, grace: int = 10) -> int:
        self._docker("stop", "--time", str(grace), self.name)
        return int(self.state["ExitCode"])

    def again(self) -> None:
        self._docker("start", self.name)

    @property
    def state(self) -> dict[str, Any]:
        return json.loads(self._docker("inspect", self.name, "--format", "{{json .State}}"))

    def status(self, flow_id: str) -> dict[str, Any]:
        done = self._docker.ask("exec", self.name, "flowctl", "status", flow_id, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def await_running(self, flow_id: str) -> dict[str, Any]:
        def check() -> dict[str, Any]:
            status = self.status(flow_id)
            assert status["status"] == "running", status
            assert status["readyReplicas"] == 1, status
            return status

        return eventually(check, within=60, every=0.2)

    def pids(self, flow_id: str) -> list[int]:
        return [step["pid"] for step in self.await_running(flow_id)["steps"]]

    def numbers(self, flow_id: str = "piped") -> list[int]:
        return [int(line) for line in self.sh(f"cat /data/work/{flow_id}/out").split()]

    def await_output(self, flow_id: str = "piped") -> None:
        def check() -> None:
            assert self._docker.ask("exec", self.name, "test", "-s", place).returncode == 0

        place = f"/data/work/{flow_id}/out"
        eventually(check, within=60, every=0.1)

    def log(self) -> str:
        done = self._docker.ask("logs", self.name)
        return done.stdout + done.stderr

    def destroy(self) -> None:
        self._docker.ask("rm", "--force", "--volumes", self.name)
        self._docker.ask("volume", "rm", self.name)


@pytest.fixture(scope="session")
def docker() -> Docker:
    return Docker(engine_url())


@pytest.fixture(scope="session")
def image(docker: Docker) -> Iterator[str]:
    """The image, built from these sources."""
    base = next(
        line.split()[1]
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("FROM ")
    )
    there = docker.ask("image", "inspect", base).returncode == 0
    assert there, f"the engine has no {base}: docker pull it, or bash .ci/base-image"
    name = f"flow-image-test-{uuid.uuid4().hex[:12]}"
    docker("build", "--network", "host", "--tag", name, str(ROOT))
    yield name
    docker("image", "rm", name)


@pytest.fixture
def box(docker: Docker, image: str, tmp_path: Path) -> Iterator[Box]:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)  # Of root's, and for everybody to read: as a checkout's are.
    made = Box(docker, image, tmp_path)
    yield made
    made.destroy()


FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).status)"


def _unbroken(numbers: list[int]) -> None:
    """None is missing of the first start; the second one counts anew."""
    second = numbers.index(1, 1) if 1 in numbers[1:] else len(numbers)
    assert numbers[:second] == list(range(1, second + 1))


def test_a_flow_comes_back_with_its_volume(box: Box) -> None:
    """Stopped and started again: as it was, with what it had written; nothing is lost."""
    box.start(make_document("piped", COUNTS, "while read n; do echo $n; done", STORES))
    box.await_running("piped")
    box.await_output()
    assert box.stop() == 0
    assert "Drained" in box.log()
    box.again()
    box.await_running("piped")
    _unbroken(box.numbers())


def test_the_quickstart_runs_in_it_and_comes_back(docker: Docker, image: str) -> None:
    """Its programs need no more than the image has, nor do the operator's pages."""
    box = Box(docker, image, ROOT / "manifests/quickstart")
    names = [path.stem for path in box.manifests.glob("*.yaml")]
    try:
        box.start()
        for name in names:
            box.await_running(name)
        for path in ("/ui/", "/ui/main.js", "/ui/style.css", "/docs/start.js"):
            assert box.run("python3", "-c", FETCH, f"http://127.0.0.1:8710{path}") == "200"
        assert box.stop() == 0
        box.again()
        for name in names:
            box.await_running(name)
    finally:
        box.destroy()


def test_it_runs_with_as_little_as_can_be(box: Box) -> None:
    """User 65532, nothing writable, no capability; no pip, no compiler; and it is healthy."""
    box.start(make_document("one", "exec sleep 1000"))
    box.await_running("one")
    assert box.run("id", "-u") == "65532"
    assert box.sh("touch /opt/x 2> /dev/null || echo no") == "no"
    assert box.sh("for p in pip pip3 cc gcc make; do command -v $p; done; true") == ""
    pythons = box.sh(
        "ls /usr/bin/python3* /usr/local/bin/python3* /opt/*/bin/python3 2> /dev/null || :"
    )
    for python in pythons.split():
        assert box.sh(f"{python} -c 'import pip' 2> /dev/null || echo no") == "no", python

    def healthy() -> None:
        assert box.state["Health"]["Status"] == "healthy"

    eventually(healthy, within=60, every=0.2)


def test_any_user_may_run_it(box: Box) -> None:
    """With a number that has no name there, a new volume is its own all the same."""
    box.start(make_document("one", "exec sleep 1000"), options=("--user", "12345"))
    box.await_running("one")
    assert box.run("id", "-u") == "12345"
    assert box.stop() == 0


@pytest.mark.parametrize(
    ("options", "tests"),
    [
        (("--security-opt", "seccomp=unconfined"), "born_there or (InCgroups and _group)"),
        ((), "InCgroups and _group"),
    ],
)
def test_steps_get_into_their_cgroups(
    options: tuple[str, ...], tests: str, docker: Docker, image: str, tmp_path: Path
) -> None:
    """The tests of it, none skipped: with its C library, which can spawn into one, and its Python.

    What a container seldom gets is cgroups that it may write. The engine's own filter of system
    calls refuses clone3(2): there the shim moves.
    """
    fork = "import os; from flow_operator.shim.fork import *; fork_into('/sys') or os._exit(0)"
    refused = docker.ask("run", "--rm", *options, "--entrypoint", "python", image, "-c", fork)
    # Not a group, or no such call.
    assert refused.stderr.splitlines()[-1].endswith(
        "Bad file descriptor" if options else "Function not implemented"
    )
    for name in ("pytest", "pluggy", "iniconfig", "packaging", "pygments", "pytest-timeout"):
        for file in importlib.metadata.files(name) or ():
            if file.parts[0] != "..":
                (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), tmp_path / file)
    done = docker.ask(
        *("run", "--rm", "--network", "none", "--user", "0", *options),
        *("--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup"),
        *("--volume", f"{ROOT}:/src:ro", "--volume", f"{tmp_path}:/pytest:ro"),
        *("--env", "PYTHONPATH=/pytest", "--workdir", "/src", "--entrypoint", "python", image),
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--override-ini", "addopts="),
        *("tests/runners/test_born_there.py", "tests/runners/test_process.py", "-k", tests),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_manifests_of_another_user_are_refused_with_what_to_do(box: Box) -> None:
    """Which is to run as that user."""
    flow = make_document("one", "exec sleep 1000")
    (box.manifests / "one.yaml").write_text(yaml.safe_dump(flow))
    os.chown(box.manifests / "one.yaml", 1000, 1000)
    box.start()

    def told() -> None:
        done = box._docker.ask("exec", box.name, "flowctl", "manifests")
        assert "--user 1000" in done.stdout + done.stderr

    eventually(told, within=60, every=0.2)


def test_without_tokens_or_a_word_it_does_not_start(docker: Docker, image: str) -> None:
    """Its port is open to whoever reaches the container."""
    done = docker.ask("run", "--rm", "--network", "none", image)
    assert done.returncode == 2
    assert "--tokens" in done.stderr
    assert "--insecure" in done.stderr


def test_the_operator_may_be_killed_inside(box: Box) -> None:
    """It is back by itself, over the same processes, and no number is missing."""
    box.start(make_document("piped", COUNTS, STORES))
    pids = box.pids("piped")
    box.sh("kill -9 $(cat /proc/1/task/1/children | cut -d' ' -f1)")
    eventually(lambda: _has(box, "was killed by signal 9"), every=0.1)
    assert box.pids("piped") == pids
    assert box.stop() == 0
    box.again()
    box.await_running("piped")
    _unbroken(box.numbers())


def _has(box: Box, text: str) -> None:
    assert text in box.log()


def test_orphans_leave_no_zombie(box: Box) -> None:
    """Fifty of them."""
    orphans = (
        "for i in $(seq 50); do (sleep 0.2 &); done; echo up > $FLOW_DATA/out; exec sleep 1000"
    )
    box.start(make_document("orphans", orphans))
    box.await_running("orphans")
    box.await_output("orphans")

    def all_reaped() -> None:
        states = box.sh("for p in /proc/[0-9]*; do cut -d' ' -f2,3 $p/stat; done 2> /dev/null")
        assert " Z" not in states
        assert states.count("(sleep)") == 1, states

    eventually(all_reaped, within=60, every=0.2)


def test_a_flow_that_does_not_end_is_killed_within_the_grace(box: Box) -> None:
    """Before the engine kills the container: what happened is written down, and the code is 0."""
    box.start(make_document("deaf", DEAF, stop={"timeout": "10m"}))
    box.await_running("deaf")
    box.await_output("deaf")
    assert box.stop() == 0
    assert "DrainTimedOut" in box.log()
    assert "Forced" in box.log()
