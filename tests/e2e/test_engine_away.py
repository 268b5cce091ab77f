"""What becomes of containers while their engine is away, and what comes from a registry."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

from flow_operator.controller import WORKERS
from runners.boxes import box_image, engine_url, file_system
from runners.dockerd import Dockerd, Registry, dockerd, registry
from support import Flowd, always_for, eventually, make_document, processes_of

COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"
STORE = 'exec cat >>"$FLOW_DATA/stored"'


@pytest.fixture
def engine() -> Iterator[Dockerd]:
    """An engine that a test may end."""
    engine_url()  # Skipped where nobody wants tests of engines.
    with dockerd() as made:
        yield made


@pytest.fixture
def image(engine: Dockerd) -> Iterator[str]:
    with box_image(engine.url) as name:
        yield name


@pytest.fixture
def flowd(make_flowd: Callable[..., Flowd], engine: Dockerd) -> Iterator[Flowd]:
    """An operator with that engine."""
    made = make_flowd("--engine", engine.url)
    made.start()
    yield made
    made.destroy()


def contained(image: str, name: str, *steps: str | dict[str, Any], **spec: Any) -> dict[str, Any]:
    container = {"image": image, "network": "none", **spec.pop("container", {})}
    return make_document(name, *steps, runner="container", container=container, **spec)


def running(engine: Dockerd) -> dict[str, tuple[str, str]]:
    """The containers that run: when each was started, by id."""
    api = docker.APIClient(base_url=engine.url, timeout=60)
    try:
        told = (api.inspect_container(one["Id"]) for one in api.containers())
        return {one["Id"]: (one["Name"], one["State"]["StartedAt"]) for one in told}
    finally:
        api.close()


def test_an_engine_that_is_away_makes_the_status_unknown_and_nothing_twice(
    flowd: Flowd, engine: Dockerd, image: str
) -> None:
    """Unreachable is not ended: once it is back the very same containers are seen to run."""
    flowd.create(contained(image, "pair", COUNT, STORE))
    flowd.await_status("pair", "running", within=60)
    before = running(engine)
    assert len(before) == 2
    engine.end()

    def unknown() -> None:
        status = flowd.status("pair")
        assert status["status"] == "unknown", status
        assert "does not answer" in status["message"], status
        assert [c["status"] for c in status["conditions"] if c["type"] == "Ready"] == ["Unknown"]

    eventually(unknown)
    always_for(1, unknown)
    size = (flowd.work("pair") / "stored").stat().st_size
    eventually(lambda: _assert((flowd.work("pair") / "stored").stat().st_size > size))
    engine.start()
    flowd.await_status("pair", "running", within=60)
    assert running(engine) == before
    assert flowd.status("pair")["restarts"] == 0
    assert flowd.command("stop", "pair") == {"pair": "stopped"}
    stored = (flowd.work("pair") / "stored").read_text().splitlines()
    assert stored == [str(number) for number in range(len(stored))]


def test_an_operator_may_start_before_its_engine(flowd: Flowd, engine: Dockerd, image: str) -> None:
    """It takes its containers back when it comes."""
    flowd.create(contained(image, "late", "exec sleep 1000"))
    flowd.await_status("late", "running", within=60)
    before = running(engine)
    flowd.kill()
    engine.end()
    flowd.start()
    eventually(lambda: _assert(flowd.status("late")["status"] == "unknown"))
    engine.start()
    flowd.await_status("late", "running", within=60)
    assert running(engine) == before
    assert flowd.status("late")["restarts"] == 0


def test_an_engine_that_hangs_holds_up_nobody_who_does_not_need_it(
    flowd: Flowd, engine: Dockerd, image: str
) -> None:
    """A call takes a minute: other flows are looked after, also by an operator that starts."""
    boxes = [f"box-{number}" for number in range(2 * WORKERS)]
    flowd.create(make_document("local", restart={"backoff": {"initial": "10ms"}}))
    flowd.create(*(contained(image, name, "exec sleep 1000") for name in boxes))
    for name in ("local", *boxes):
        flowd.await_status(name, "running", within=60)
    with engine.hanging():
        flowd.command("stop", *boxes, timeout=0)
        for _ in range(3):
            flowd.crash("local")
        pids = flowd.pids("local")
        assert flowd.end(signal.SIGQUIT, within=30) == 0
        assert "ending without those who still wait" in flowd.log.read_text()
        flowd.start()
        flowd.await_ready()
        assert "the container engine has not answered yet" in flowd.log.read_text()
        assert flowd.pids("local") == pids
        flowd.crash("local")
    for name in boxes:
        flowd.await_status(name, "stopped", within=60)


def test_the_time_to_stop_in_holds_while_an_engine_hangs(
    make_flowd: Callable[..., Flowd], engine: Dockerd, image: str
) -> None:
    """What is not seen to end within it is left to the next operator, as nothing else can be."""
    first = make_flowd("--engine", engine.url, "--stop-grace", "4s").start()
    first.create(make_document("local"), contained(image, "box", "exec sleep 1000"))
    for name in ("local", "box"):
        first.await_status(name, "running", within=60)
    with engine.hanging():
        assert first.end(signal.SIGTERM, within=30) == 0
    assert "the time to stop in runs out" in first.log.read_text()
    assert not processes_of(first.data)
    first.start()
    first.await_status("box", "running", within=60)
    # Signals that the engine had been asked for may have come by now.
    eventually(lambda: _assert(len(running(engine)) == 1), within=60)


@pytest.fixture
def served() -> Iterator[tuple[Registry, str]]:
    with registry(file_system()) as made:
        yield made


def test_an_image_is_fetched_and_its_progress_told(
    flowd: Flowd, engine: Dockerd, image: str, served: tuple[Registry, str]
) -> None:
    """Nobody else waits for it meanwhile, and who needs it starts as soon as it is there."""
    store, address = served
    flowd.create(*(contained(f"{address}/box:1", f"far-{n}", "exec sleep 1000") for n in range(6)))

    def fetching() -> None:
        for n in range(6):
            status = flowd.status(f"far-{n}")
            assert f"fetching the image {address}/box:1" in status["message"], status

    eventually(fetching, within=60)
    flowd.create(contained(image, "near", "exec sleep 1000"))
    flowd.await_status("near", "running", within=60)
    fetching()
    store.release.set()
    for n in range(6):
        flowd.await_status(f"far-{n}", "running", within=60)
    assert store.asked == 1, "fetched once for all who wait"


def test_what_a_registry_refuses_is_told_with_what_to_do(
    flowd: Flowd, served: tuple[Registry, str]
) -> None:
    """No such image; no access to it."""
    store, address = served
    once = {"restart": {"policy": "Never"}}
    flowd.create(contained(f"{address}/box:2", "unknown-tag", **once))
    eventually(
        lambda: _assert("no such image or tag" in flowd.status("unknown-tag")["message"]),
        within=60,
    )
    store.denied = True
    flowd.create(contained(f"{address}/box:1", "denied", **once))
    eventually(lambda: _assert("docker login" in flowd.status("denied")["message"]), within=60)


def _assert(condition: bool) -> None:
    assert condition
