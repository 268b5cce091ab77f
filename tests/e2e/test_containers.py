"""Flows of containers under a real operator and a real engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from runners.boxes import box_image, engine_url
from support import Flowd, always_for, eventually, make_document

OWNER = "flow-operator.dev/operator-id"

COUNT = """
stop=
trap 'stop=1' TERM
i=0
while [ -z "$stop" ]; do echo $i && i=$((i+1)); done
echo $i >"$FLOW_DATA/emitted"
"""
"""Numbered lines until SIGTERM; then how many there were."""

TALK = 'seq 1 2000; touch "$FLOW_DATA/said"; exec sleep 1000'

COPY = "while read -r line; do echo $line; done"
STORE = 'exec cat >>"$FLOW_DATA/stored"'


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """Of every step."""
    with box_image(engine_url()) as name:
        yield name


@pytest.fixture
def engine() -> Iterator[docker.APIClient]:
    """The engine itself, to see what the operator has it do."""
    api = docker.APIClient(base_url=engine_url(), version="auto", timeout=60)
    yield api
    api.close()


class Boxes:
    """What an engine runs for one operator."""

    def __init__(self, api: docker.APIClient, flowd: Flowd) -> None:
        self.api = api
        self._owner = flowd.data / "operator-id"

    def all(self) -> list[dict[str, Any]]:
        label = f"{OWNER}={self._owner.read_text().strip()}"
        return self.api.containers(all=True, filters={"label": label})

    def of(self, flow_id: str) -> dict[str, str]:
        """The ids of the running containers of a flow, by step."""
        return {
            one["Labels"]["flow-operator.dev/step"]: one["Id"]
            for one in self.all()
            if one["Labels"]["flow-operator.dev/flow"] == flow_id and one["State"] == "running"
        }

    def clear(self) -> None:
        for one in self.all():
            with contextlib.suppress(docker.errors.APIError):  # The operator is at it, too.
                self.api.remove_container(one["Id"], force=True, v=True)


@pytest.fixture
def flowd(make_flowd: Callable[..., Flowd], engine: docker.APIClient) -> Iterator[Flowd]:
    """An operator with an engine; none of its containers outlives the test."""
    made = make_flowd("--engine", engine_url())
    made.start()
    yield made
    made.destroy()
    Boxes(engine, made).clear()


@pytest.fixture
def boxes(flowd: Flowd, engine: docker.APIClient) -> Boxes:
    """What the engine runs for that operator."""
    return Boxes(engine, flowd)


def contained(image: str, name: str, *steps: str | dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A flow of containers."""
    container = {"image": image, "network": "none", **spec.pop("container", {})}
    return make_document(name, *steps, runner="container", container=container, **spec)


def stored(flowd: Flowd, flow_id: str) -> list[int]:
    return [int(line) for line in (flowd.work(flow_id) / "stored").read_text().splitlines()]


def ready(flowd: Flowd, flow_id: str) -> dict[str, Any]:
    return [c for c in flowd.status(flow_id)["conditions"] if c["type"] == "Ready"][0]  # noqa: RUF015 - a LookupError is waited out


def await_stored(flowd: Flowd, flow_id: str, more_than: int) -> int:
    """Wait until a sink has stored more bytes; returns how many."""
    path = flowd.work(flow_id) / "stored"

    def grown() -> int:
        size = path.stat().st_size
        assert size > more_than
        return size

    return eventually(grown)


def test_one_pipeline_gives_the_same_as_processes_and_as_containers(
    flowd: Flowd, image: str
) -> None:
    """Only ``runner`` differs: both complete, with the same output."""
    steps = ("exec seq 1 30000", COPY, STORE)
    ended: dict[str, Any] = {"restart": {"policy": "Never"}}
    flowd.create(make_document("local", *steps, **ended))
    flowd.create(contained(image, "boxed", *steps, **ended))
    for name in ("local", "boxed"):
        flowd.await_status(name, "completed", within=60)
    assert stored(flowd, "boxed") == stored(flowd, "local") == list(range(1, 30001))


def test_a_soft_stop_of_a_pipeline_of_containers_loses_nothing(flowd: Flowd, image: str) -> None:
    """Only the source is told to end; all that it wrote reaches the sink."""
    flowd.create(contained(image, "drain", COUNT, COPY, STORE))
    flowd.await_status("drain", "running", within=60)
    await_stored(flowd, "drain", 50_000)
    assert flowd.command("stop", "drain") == {"drain": "stopped"}
    count = int((flowd.work("drain") / "emitted").read_text())
    assert stored(flowd, "drain") == list(range(count))
    assert ready(flowd, "drain")["reason"] == "Drained"


def test_a_container_that_crashes_is_replaced_alone_on_its_old_pipes(
    flowd: Flowd, boxes: Boxes, image: str
) -> None:
    """Its neighbours keep theirs, and what it had not read is not lost."""
    flowd.create(contained(image, "crash", COUNT, "exec cat", STORE))
    flowd.await_status("crash", "running", within=60)
    await_stored(flowd, "crash", 10_000)
    before = boxes.of("crash")
    boxes.api.kill(before["s1"], signal="SIGKILL")

    def replaced() -> dict[str, str]:
        after = boxes.of("crash")
        assert after["s1"] != before["s1"]
        return after

    after = eventually(replaced)
    assert {name: after[name] for name in ("s0", "s2")} == {
        name: before[name] for name in ("s0", "s2")
    }
    await_stored(flowd, "crash", (flowd.work("crash") / "stored").stat().st_size)

    def told() -> None:
        step = flowd.status("crash")["steps"][1]
        assert step["lastExit"] is not None
        assert (step["restarts"], step["lastExit"]["signal"]) == (1, 9)

    eventually(told)
    assert flowd.command("stop", "crash") == {"crash": "stopped"}
    # What cat had read and not yet written went with it; the source saw no broken pipe.
    count = int((flowd.work("crash") / "emitted").read_text())
    numbers = (flowd.work("crash") / "stored").read_text().splitlines()
    assert numbers[-1] == str(count - 1)


def test_an_operator_that_was_killed_takes_its_containers_back(
    flowd: Flowd, boxes: Boxes, image: str
) -> None:
    """Five kills: the same container ids, no second copy, a stream without a gap."""
    flowd.create(contained(image, "kept", COUNT, COPY, STORE))
    flowd.await_status("kept", "running", within=60)
    before = boxes.of("kept")
    assert len(before) == 3
    for _ in range(5):
        size = await_stored(flowd, "kept", 0)
        flowd.kill()
        await_stored(flowd, "kept", size)  # with no operator there
        flowd.start()
        flowd.await_status("kept", "running", within=60)
        assert boxes.of("kept") == before
    assert len(boxes.all()) == 3
    assert flowd.command("stop", "kept") == {"kept": "stopped"}
    assert stored(flowd, "kept") == list(range(int((flowd.work("kept") / "emitted").read_text())))
    eventually(lambda: _assert(boxes.of("kept") == {}))


def test_a_kill_between_start_and_record_makes_no_second_container(
    flowd: Flowd, boxes: Boxes, image: str
) -> None:
    """However far a launch had come, there is one container for each step."""
    names = [f"start-{number}" for number in range(4)]
    flowd.create(*(contained(image, name, "exec sleep 1000", "exec cat") for name in names))
    eventually(lambda: _assert(len(boxes.all()) >= 1), within=60)
    flowd.kill()
    flowd.start()
    for name in names:
        flowd.await_status(name, "running", within=60)
    steps = sorted(
        (one["Labels"]["flow-operator.dev/flow"], one["Labels"]["flow-operator.dev/step"])
        for one in boxes.all()
    )
    assert steps == [(name, step) for name in names for step in ("s0", "s1")]


def test_containers_of_others_are_left_alone(
    flowd: Flowd, boxes: Boxes, engine: docker.APIClient, image: str
) -> None:
    """Those of another operator, and those that bear no label of ours."""
    labels = [{OWNER: "another", "flow-operator.dev/flow": "mine"}, {}]
    others = [
        engine.create_container(
            image,
            ["sleep", "1000"],
            labels=label,
            host_config=engine.create_host_config(network_mode="none"),
        )["Id"]
        for label in labels
    ]
    try:
        for other in others:
            engine.start(other)
        flowd.create(contained(image, "mine", "exec sleep 1000"))
        flowd.await_status("mine", "running", within=60)
        flowd.kill()
        flowd.start()
        flowd.await_status("mine", "running", within=60)
        assert flowd.client.delete("/flows/mine?type=1").status_code < 300
        flowd.await_gone("mine")
        eventually(lambda: _assert(boxes.all() == []))
        for other in others:
            assert engine.inspect_container(other)["State"]["Running"]
    finally:
        for other in others:
            engine.remove_container(other, force=True)


def test_an_operator_that_ends_leaves_no_container_behind(
    flowd: Flowd, boxes: Boxes, image: str
) -> None:
    """All are drained, and what they printed is in the log before they are removed."""
    flowd.create(contained(image, "ends", COUNT, STORE), contained(image, "talks", TALK))
    for name in ("ends", "talks"):
        flowd.await_status(name, "running", within=60)
    await_stored(flowd, "ends", 1000)
    eventually(lambda: _assert((flowd.work("talks") / "said").exists()))
    assert flowd.end() == 0
    assert boxes.all() == []
    assert flowd.logs("talks", "s0").splitlines() == [str(number) for number in range(1, 2001)]


def test_a_pause_holds_every_container_and_a_stop_thaws_them(
    flowd: Flowd, boxes: Boxes, image: str
) -> None:
    """What is in the pipes is drained after it."""
    flowd.create(contained(image, "held", COUNT, COPY, STORE))
    flowd.await_status("held", "running", within=60)
    await_stored(flowd, "held", 1000)
    assert flowd.command("pause", "held") == {"held": "paused"}
    assert [one["State"] for one in boxes.all()] == ["paused"] * 3
    size = (flowd.work("held") / "stored").stat().st_size
    always_for(0.3, lambda: _assert((flowd.work("held") / "stored").stat().st_size == size))
    assert flowd.command("stop", "held") == {"held": "stopped"}
    assert stored(flowd, "held") == list(range(int((flowd.work("held") / "emitted").read_text())))


def test_a_container_out_of_memory_says_so(flowd: Flowd, image: str) -> None:
    """With the limit of its step."""
    eats = 'x=xxxxxxxx; while :; do x="$x$x"; done'
    step = {"name": "eat", "script": eats, "resources": {"limits": {"memory": "16Mi"}}}
    flowd.create(contained(image, "hungry", step))

    def ended() -> None:
        last = flowd.status("hungry")["steps"][0]["lastExit"]
        assert last is not None
        assert last["reason"] == "OOMKilled", last
        assert "resources.limits.memory" in flowd.status("hungry")["message"]

    eventually(ended, within=60)


def test_another_runner_takes_over_a_flow_once_the_old_one_has_drained_it(
    flowd: Flowd, boxes: Boxes, image: str
) -> None:
    """From processes to containers and back, with nothing lost."""
    steps = (COUNT, COPY, STORE)
    flowd.create(make_document("moved", *steps))
    flowd.await_status("moved", "running")
    await_stored(flowd, "moved", 1000)
    pids = flowd.pids("moved")
    answer = flowd.client.put("/flows/moved", json=contained(image, "moved", *steps))
    assert answer.status_code < 300, answer.text
    eventually(lambda: _assert(len(boxes.of("moved")) == 3), within=60)
    flowd.await_status("moved", "running", within=60)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    first = int((flowd.work("moved") / "emitted").read_text())
    assert stored(flowd, "moved")[:first] == list(range(first))
    answer = flowd.client.put("/flows/moved", json=make_document("moved", *steps))
    assert answer.status_code < 300, answer.text
    eventually(lambda: _assert(boxes.all() == []), within=60)
    flowd.await_status("moved", "running", within=60)


def test_what_containers_print_is_in_the_flows_log(flowd: Flowd, image: str) -> None:
    """Also of one that has ended long before anybody looked, and over a kill."""
    flowd.create(
        contained(image, "words", "for n in 1 2 3; do echo word $n; sleep 1; done; exec sleep 1000")
    )
    eventually(lambda: _assert("word 1" in flowd.logs("words", "s0")), within=60)
    flowd.kill()
    flowd.start()
    lines = ["word 1", "word 2", "word 3"]
    eventually(lambda: _assert(flowd.logs("words", "s0").splitlines() == lines))


def test_dangers_are_refused_with_the_setting_that_allows_them(flowd: Flowd, image: str) -> None:
    """And nothing is started."""
    asked: list[dict[str, Any]] = [
        {"privileged": True},
        {"network": "host"},
        {"volumes": [{"hostPath": "/", "mountPath": "/host"}]},
    ]
    for number, container in enumerate(asked):
        name = f"danger-{number}"
        document = make_document(
            name,
            "exec sleep 1000",
            runner="container",
            container={"image": image, **container},
            restart={"policy": "Never"},
        )
        flowd.create(document)

    def refused() -> None:
        messages = [flowd.status(f"danger-{number}")["message"] for number in range(3)]
        assert all("--engine-allow" in message for message in messages), messages

    eventually(refused)


def test_an_operator_without_an_engine_says_how_to_get_one(
    make_flowd: Callable[..., Flowd],
) -> None:
    """The manifest is accepted: it is the same on every machine."""
    flowd = make_flowd()
    flowd.start()
    flowd.create(contained("any/image", "boxed"))
    eventually(
        lambda: _assert("--engine unix:///run/docker.sock" in flowd.status("boxed")["message"])
    )


def test_an_image_that_is_not_there_says_so(flowd: Flowd) -> None:
    """With what to do about it."""
    flowd.create(
        contained("none.invalid/no-such", "never", container={"pullPolicy": "Never"}),
        contained("127.0.0.1:9/no-such", "absent"),
    )
    eventually(lambda: _assert("pullPolicy" in flowd.status("never")["message"]))
    eventually(lambda: _assert("registry" in flowd.status("absent")["message"]), within=60)


def test_a_check_in_a_container_makes_it_ready_or_not(flowd: Flowd, image: str) -> None:
    """``exec`` runs in the container itself."""
    step = {
        "name": "main",
        "script": "touch /tmp/up; exec sleep 1000",
        "readinessProbe": {"exec": {"command": ["cat", "/tmp/up"]}, "period": "1s"},
    }
    failing = {**step, "readinessProbe": {"exec": {"command": ["false"]}, "period": "1s"}}
    flowd.create(contained(image, "checked", step), contained(image, "unready", failing))

    def checked() -> None:
        assert ready(flowd, "checked")["status"] == "True"
        told = ready(flowd, "unready")
        assert (told["status"], "exit code 1" in told["message"]) == ("False", True)

    eventually(checked, within=60)


def test_figures_of_containers_are_told(flowd: Flowd, image: str) -> None:
    """CPU and memory of each step."""
    flowd.create(contained(image, "busy", "while :; do :; done"))
    flowd.await_status("busy", "running", within=60)

    def told() -> None:
        step = flowd.status("busy")["steps"][0]
        assert step["cpuSeconds"] > 0.1
        assert step["memoryBytes"] > 0

    eventually(told)


def test_a_step_without_a_command_runs_what_its_image_says(
    flowd: Flowd, engine: docker.APIClient, image: str
) -> None:
    """Alone, and behind another one; an image that says nothing is refused."""
    made = engine.create_container(image, ["true"])["Id"]
    said = f"{image}-says"
    engine.commit(made, said, conf={"Cmd": ["cat"], "Entrypoint": ["/bin/busybox"]})
    engine.remove_container(made)
    try:
        source = {"name": "source", "script": "echo one; echo two"}
        alone = {"name": "main", "image": said}
        once = {"restart": {"policy": "Never"}}
        flows = (
            contained(image, "piped", source, {**alone, "name": "last"}, **once),
            contained(image, "alone", alone, **once),
            contained(image, "silent", {"name": "main"}),
        )
        flowd.create(*flows)

        def told() -> None:
            assert {flowd.status(name)["status"] for name in ("piped", "alone")} == {"completed"}
            assert "give the step a command" in flowd.status("silent")["message"]

        eventually(told, within=60)
        assert flowd.client.get("/flows/piped/logs?step=last").text == "one\ntwo\n"
    finally:
        engine.remove_image(said, force=True)


def _assert(condition: bool) -> None:
    assert condition
