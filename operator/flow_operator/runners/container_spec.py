"""What a step's container is made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from flow_operator.errors import TerminalError
from flow_operator.model.container import Container
from flow_operator.model.flow import Step, template_hash
from flow_operator.runners.base import Launch
from flow_operator.runners.container_logs import LOG_OPTIONS
from flow_operator.runners.environment import step_environment
from flow_operator.runners.held_pipes import MOUNT, on_pipes
from flow_operator.runners.limits import limits_of
from flow_operator.settings import DANGERS

OWNER = "flow-operator.dev/operator-id"
FLOW = "flow-operator.dev/flow"
RUN = "flow-operator.dev/run"
REPLICA = "flow-operator.dev/replica"
STEP = "flow-operator.dev/step"
STEPS = "flow-operator.dev/steps"
INDEX = "flow-operator.dev/index"
ATTEMPT = "flow-operator.dev/attempt"
HASH = "flow-operator.dev/spec-hash"

WORK = "/run/flow-data"
"""Where a container finds the flow's own directory, which FLOW_DATA names."""

PRIVILEGED, HOST_MOUNTS, HOST_NETWORK = DANGERS

_CPU_PERIOD = 10**9
"""CPU time is given in billionths of a core."""


class Places(Struct, frozen=True):
    """Directories of the operator, as the engine sees them; None for what is not needed."""

    pipes: str | None
    work: str | None


def container_name(launch: Launch, index: int, attempt: int, owner: str) -> str:
    """Of an attempt's container: the second that wants it finds the first."""
    step = launch.flow.spec.steps[index].name
    # A run is named after its flow.
    return f"flow-{launch.run}-{step}-{attempt}-{owner[:6]}"


def image_of(launch: Launch, index: int) -> str:
    """The image of a step."""
    image = launch.flow.spec.steps[index].image or launch.flow.spec.contained.image
    if image is None:  # Refused with the manifest; a flow of an older operator may be another.
        raise TerminalError(f"step {index} has no image: give spec.container.image")
    return image


def refuse_dangers(launch: Launch, allowed: frozenset[str]) -> None:
    """Have nobody get the engine's machine by a manifest.

    Raises:
        TerminalError: the flow asks for what is not allowed here.
    """
    for field, danger in _dangers(launch.flow.spec.contained):
        if danger not in allowed:
            raise TerminalError(
                f"spec.container.{field} is not allowed here, as it gives the machine of the "
                f"engine away: leave it out, or start flowd with --engine-allow {danger}"
            )


def _dangers(container: Container) -> Iterator[tuple[str, str]]:
    if container.privileged:
        yield "privileged", PRIVILEGED
    if container.network == "host":
        yield "network: host", HOST_NETWORK
    for index, volume in enumerate(container.volumes):
        if volume.host_path is not None:
            yield f"volumes[{index}].hostPath", HOST_MOUNTS


def labels_of(launch: Launch, index: int, attempt: int, owner: str) -> dict[str, str]:
    """What the container is known by."""
    steps = launch.flow.spec.steps
    return {
        OWNER: owner,
        FLOW: launch.flow.flow_id,
        RUN: launch.run,
        REPLICA: str(launch.replica),
        STEP: steps[index].name,
        STEPS: json.dumps([step.name for step in steps]),
        INDEX: str(index),
        ATTEMPT: str(attempt),
        HASH: template_hash(launch.flow, launch.base),
    }


def config_of(
    launch: Launch, index: int, attempt: int, owner: str, argv: Sequence[str]
) -> dict[str, Any]:
    """As the SDK's ``create_container`` takes it.

    Args:
        launch: of the run.
        index: of the step.
        attempt: of the step.
        owner: the operator's id.
        argv: what is executed.

    Raises:
        TerminalError: a file of the environment cannot be read.
    """
    steps = launch.flow.spec.steps
    step = steps[index]
    environment = {
        **step_environment(step, launch.base or "."),
        "FLOW_ID": launch.flow.flow_id,
        "FLOW_RUN": launch.run,
        "FLOW_STEP": step.name,
        "FLOW_ATTEMPT": str(attempt),
        "FLOW_REPLICA": str(launch.replica),
        "FLOW_DATA": WORK,
        # Of docker-init: a signal reaches all that the step has started, as for local steps.
        "TINI_KILL_PROCESS_GROUP": "1",
    }
    return {
        "image": image_of(launch, index),
        # Not the image's own entrypoint: what the manifest says is what runs.
        "entrypoint": [],
        "command": on_pipes(argv, index, len(steps)),
        "environment": environment,
        "labels": labels_of(launch, index, attempt, owner),
        "working_dir": step.working_dir,
        "user": step.user,
        "ports": [(p.container_port, p.protocol) for p in _ports(launch, step)],
    }


def host_of(launch: Launch, index: int, places: Places) -> dict[str, Any]:
    """As the SDK's ``create_host_config`` takes it."""
    step, container = launch.flow.spec.steps[index], launch.flow.spec.contained
    limits = limits_of(step)
    together: Mapping[str, Any] = limits["limits"]
    cpu = together.get("cpu")
    return {
        "init": True,
        "binds": [*_own_binds(places), *_binds(container)],
        "network_mode": container.network,
        "port_bindings": {
            f"{port.container_port}/{port.protocol}": (
                port.host_ip,
                port.host_port or port.container_port,
            )
            for port in _ports(launch, step)
        },
        "privileged": container.privileged,
        "read_only": container.read_only,
        "mem_limit": together.get("memory"),
        "memswap_limit": together.get("memory"),
        "nano_cpus": None if cpu is None else int(cpu * _CPU_PERIOD),
        "pids_limit": together.get("pids"),
        "ulimits": [
            {"Name": name.lower(), "Soft": value, "Hard": value}
            for name, value in limits["rlimits"].items()
        ],
        "log_config": {"Type": "json-file", "Config": LOG_OPTIONS},
    }


def _ports(launch: Launch, step: Step) -> list[Any]:
    first = launch.flow.spec.steps[0].name
    return [port for port in launch.flow.spec.contained.ports if (port.step or first) == step.name]


def _own_binds(places: Places) -> Iterator[str]:
    if places.pipes is not None:
        yield f"{places.pipes}:{MOUNT}:ro"
    if places.work is not None:
        yield f"{places.work}:{WORK}:rw"


def _binds(container: Container) -> Iterator[str]:
    for volume in container.volumes:
        mode = "ro" if volume.read_only else "rw"
        yield f"{volume.name or volume.host_path}:{volume.mount_path}:{mode}"
