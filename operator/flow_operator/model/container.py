"""What the containers of a flow are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from flow_operator.model.part import Name, Part, Port

Image = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][-A-Za-z0-9._:/@]*$(?!\n)",
        max_length=512,
        description="As [REGISTRY/]NAME[:TAG] or NAME@DIGEST.",
    ),
]
_ABSOLUTE = Annotated[str, Meta(pattern=r"^/[^\u0000\n:]*$(?!\n)", description="A whole path.")]


class VolumeMount(Part, frozen=True):
    """A directory in every container of the flow: exactly one of ``name`` and ``hostPath``.

    Attributes:
        mount_path: where the containers see it.
        name: of a volume of the engine, which is made when it is not there, and kept.
        host_path: a directory of the engine's machine; only where flowd allows host-mounts.
        read_only: whether nobody may write there.
    """

    mount_path: _ABSOLUTE
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]+$(?!\n)")] | None = None
    host_path: _ABSOLUTE | None = None
    read_only: bool = False


class PublishedPort(Part, frozen=True):
    """A port of a step's container that can be reached on the engine's machine.

    Attributes:
        container_port: on which the step listens.
        host_port: where it is reached; the same if left out.
        host_ip: at which address; this machine only if left out.
        step: whose port it is; the first step's if left out.
        protocol: of the port.
    """

    container_port: Port
    host_port: Port | None = None
    host_ip: Annotated[str, Meta(pattern=r"^[0-9A-Fa-f.:]+$(?!\n)")] = field(
        default="127.0.0.1", name="hostIP"
    )
    step: Name | None = None
    protocol: Literal["tcp", "udp"] = "tcp"


class Container(Part, frozen=True):
    """What the containers of a flow are made of, with ``runner: container``.

    Attributes:
        image: of each step that names none itself.
        pull_policy: whether the image is fetched from its registry when it is not there, before
            each start, or never.
        network: one of the engine's, or `none`; `host` only where flowd allows host-network.
        volumes: what is mounted into each container.
        ports: what can be reached from outside.
        privileged: whether the containers are kept from nothing; only where flowd allows it.
        read_only: whether the containers' own file system cannot be written.
    """

    image: Image | None = None
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    network: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$(?!\n)")] | None = None
    volumes: tuple[VolumeMount, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    privileged: bool = False
    read_only: bool = False
