"""The fake runner keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flow_operator.errors import RetryableError
from flow_operator.runners.base import Runner
from flow_operator.runners.fake import FakeRunner, FakeWorld
from runners.contract import RunnerContract


class TestFakeRunner(RunnerContract):
    runner_class = FakeRunner

    @pytest.fixture(autouse=True)
    def _world(self) -> None:
        self.world = FakeWorld()
        self.heard: list[str] = []

    @contextmanager
    def connect(self) -> Iterator[Runner]:
        runner = FakeRunner(self.world)
        runner.start(self.heard.append)
        yield runner
        runner.close(final=False)

    def test_a_backend_that_is_away_is_retryable(self) -> None:
        """And observing goes on."""
        with self.connect() as runner:
            self.world.away = True
            with pytest.raises(RetryableError):
                runner.launch(self.launch("r1", "x"))
            assert runner.observe("demo") == ()
