"""No runner without its contract."""

from __future__ import annotations

import typing

from flow_operator.model.flow import Spec
from flow_operator.runners.container import ContainerRunner
from flow_operator.runners.process import ProcessRunner
from runners import test_container, test_fake, test_process
from runners.contract import RunnerContract


def test_every_runner_that_a_manifest_can_name_keeps_the_contract() -> None:
    """``spec.runner`` offers a name only if its runner's tests subclass the contract."""
    tests = (
        test_fake.TestFakeRunner,
        test_process.TestProcessRunner,
        test_container.TestContainerRunner,
    )
    assert all(issubclass(test, RunnerContract) for test in tests)
    kept = {test.runner_class for test in tests}
    names = typing.get_args(typing.get_type_hints(Spec)["runner"])
    offered = {"process": ProcessRunner, "container": ContainerRunner}
    assert set(names) == set(offered)
    assert set(offered.values()) <= kept
