"""The container runner keeps the contract on a real engine; what only containers do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from flow_operator.clock import SystemClock
from flow_operator.logs import Keeper
from flow_operator.runners.base import Runner
from flow_operator.runners.container import ContainerRunner
from flow_operator.runners.engine import Engine
from flow_operator.runners.process import ProcessRunner
from flow_operator.settings import Layout
from runners.boxes import box_image, engine_url
from runners.contract import RunnerContract
from support import eventually


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """Of every step."""
    with box_image(engine_url()) as name:
        yield name


class TestContainerRunner(RunnerContract):
    runner_class = ContainerRunner

    @pytest.fixture(autouse=True)
    def _data(self, root: Path, image: str) -> Iterator[None]:
        self.image = image
        self.layout = Layout(root)
        self.logs = Keeper(self.layout, SystemClock(), 0, lambda _flow_id, _count: None)
        self.heard: list[str] = []
        self.local = ProcessRunner(self.layout, self.logs, cgroups=False)
        self.local.start(lambda _flow_id: None)
        self.api = docker.APIClient(base_url=engine_url(), version="auto")
        yield
        with self.connect() as last:
            for flow_id in last.flow_ids():
                for instance in last.observe(flow_id):
                    last.sweep(instance.run, "SIGKILL")
                    self.await_gone(last, instance.run, flow_id)
                    last.forget(instance.run)
            eventually(lambda: _assert(self.containers() == []), within=60)
        self.api.close()
        self.local.close(final=True)
        self.logs.close()

    def containers(self) -> list[dict[str, Any]]:
        owner = self.layout.operator_id.read_text().strip()
        label = f"flow-operator.dev/operator-id={owner}"
        return self.api.containers(all=True, filters={"label": label})

    def spec(self) -> dict[str, Any]:
        return {"runner": "container", "container": {"image": self.image, "network": "none"}}

    @contextmanager
    def connect(self) -> Iterator[Runner]:
        runner = ContainerRunner(
            Engine(engine_url()), self.layout, self.logs, self.local.held, SystemClock()
        )
        runner.start(self.heard.append)
        runner.recover(())
        try:
            yield runner
        finally:
            runner.close(final=False)

    @pytest.mark.parametrize("known", [True, False], ids=["same-operator", "next-operator"])
    def test_an_attempt_that_somebody_starts_again_is_ended(self, *, known: bool) -> None:
        """As `docker restart` does: its pipes are those of the attempt that runs instead."""
        with self.connect() as runner:
            # It is not removed meanwhile, as if its log were still being copied.
            runner._copies.copied = lambda _container: False
            launch = self.launch("r1", "exec sleep 1000")
            runner.launch(launch)
            [first] = self.containers()
            self.api.kill(first["Id"])
            self.await_exit(runner)
            runner.start_step(launch, 0, 2)
            if known:
                self.api.start(first["Id"])
                eventually(lambda: _assert(self.running() == 1))
        if not known:
            self.api.start(first["Id"])
            with self.connect() as runner:
                eventually(lambda: _assert(self.running() == 1))
                assert self.one(runner).steps[0].attempt == 2

    def running(self) -> int:
        """How many of our containers run, the one that was started last among them."""
        states = {
            row["Labels"]["flow-operator.dev/attempt"]: row["State"] for row in self.containers()
        }
        assert states["2"] == "running"
        return list(states.values()).count("running")


def _assert(condition: bool) -> None:
    assert condition
