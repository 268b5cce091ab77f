"""Paths as an engine sees them: on its machine, and from within one of its containers."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from flow_operator.errors import TerminalError
from flow_operator.runners import engine_paths
from flow_operator.runners.engine_paths import EnginePaths, engine_pid, own_names, translated
from runners.engines import Engine, engine

ID = "0a" * 32
OTHER = "1b" * 32
INSIDE = """
import sys
from pathlib import Path
import docker, docker.errors
from flow_operator.errors import TerminalError
from flow_operator.runners.engine_paths import EnginePaths

api = docker.APIClient(base_url="unix:///run/engine.sock")

def inspect(name):
    try:
        return api.inspect_container(name)
    except docker.errors.NotFound:
        return None

paths = EnginePaths(Path("/run/engine.sock"), inspect)
for path in sys.argv[1:]:
    try:
        print(paths.of(Path(path)))
    except TerminalError as error:
        print(f"refused: {error}")
"""
PROGRAM = (sys.executable, "-c", INSIDE)


@pytest.fixture
def real() -> Iterator[Engine]:
    with engine() as made:
        yield made


def test_on_the_engines_machine_a_path_is_what_it_is(real: Engine, root: Path) -> None:
    """The engine's own process sees the same there; links are resolved."""
    (root / "data").mkdir()
    (root / "link").symlink_to("data")
    paths = EnginePaths(real.socket, real.inspect)
    assert paths.of(root / "data") == str(root / "data")
    assert paths.of(root / "link") == str(root / "data")


@pytest.mark.parametrize("conditions", [{}, {"hostname": "renamed"}, {"pid_mode": "host"}])
def test_within_a_container_a_path_is_that_of_its_mount(
    real: Engine, root: Path, conditions: dict[str, str]
) -> None:
    """Of a directory and of a volume, also below them; another container finds the same there."""
    (root / "pipes" / "r1").mkdir(parents=True)
    volume = real.volume()
    inside = real.run(
        *PROGRAM,
        *("/data", "/data/pipes/r1", "/kept", "/tmp"),
        binds=(f"{root}:/data", f"{volume}:/kept", f"{real.socket}:/run/engine.sock"),
        environment={"PYTHONPATH": os.pathsep.join(sys.path[1:])},
        **conditions,
    )
    code, told = real.wait(inside)
    assert code == 0, told
    data, below, kept, own = told.splitlines()
    assert data == str(root)
    assert below == str(root / "pipes" / "r1")
    assert own.startswith("refused: the engine cannot mount /tmp")
    writer = real.run("sh", "-c", "echo here > /kept/mark", binds=(f"{volume}:/kept",))
    assert real.wait(writer)[0] == 0
    reader = real.run("cat", "/seen/mark", binds=(f"{kept}:/seen",))
    assert real.wait(reader) == (0, "here\n")


def test_a_container_of_another_engine_is_told_what_to_do(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine knows none of our names, and does not see what we see."""
    monkeypatch.setattr(engine_paths, "_MARKS", (str(root),))
    paths = EnginePaths(None, lambda _name: None)
    with pytest.raises(TerminalError, match="give it the socket of the engine that runs it"):
        paths.of(root)


def test_without_any_sign_of_a_container_a_path_is_what_it_is(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator that may not look at the engine's process cannot know better."""
    monkeypatch.setattr(engine_paths, "_MARKS", ())
    assert EnginePaths(None, lambda _name: None).of(root) == str(root)


def test_who_listens_on_a_socket_is_seen_unless_nobody_does(root: Path) -> None:
    """By the kernel's word; a path that is no socket has nobody."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "engine.sock"))
        listener.listen()
        assert engine_pid(root / "engine.sock") == os.getpid()
    assert engine_pid(root / "missing.sock") == 0


DOCKER = f"""\
22 1 0:5 / / rw - overlay overlay rw
1 22 254:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw
2 22 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda rw
3 22 254:1 /var/lib/docker/volumes/{OTHER}/_data /data rw - ext4 /dev/vda rw
"""
PODMAN = f"""\
1 22 0:9 /containers/storage/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("mountinfo", "cgroup", "hostname", "names"),
    [
        (DOCKER, "0::/\n", "renamed", [ID]),
        (PODMAN, "0::/\n", "renamed", [ID]),
        (DOCKER, f"0::/docker/{ID}\n", ID[:12], [ID, ID[:12]]),
        ("", f"0::/machine.slice/libpod-{ID}.scope/container\n", "renamed", [ID]),
        ("", f"4:memory:/docker/{ID}\n0::/\n", "renamed", [ID]),
        ("", "0::/\n", ID[:12], [ID[:12]]),
        ("", "0::/init.scope\n", "my-laptop", []),
        ("broken", "", "", []),
    ],
)
def test_the_own_container_is_named_by_what_the_engine_has_left(
    mountinfo: str, cgroup: str, hostname: str, names: list[str]
) -> None:
    """By its mounts, its group, its host's name; a volume of that form is none of its names."""
    assert own_names(mountinfo, cgroup, hostname) == names


MOUNTS = {
    "Mounts": [
        {"Type": "bind", "Source": "/srv", "Destination": "/"},
        {"Type": "bind", "Source": "/srv/data", "Destination": "/data"},
        {"Type": "volume", "Source": "/var/lib/v/_data", "Destination": "/data/pipes"},
        {"Type": "tmpfs", "Source": "", "Destination": "/data/memory"},
    ]
}


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/data", "/srv/data"),
        ("/data/logs/a", "/srv/data/logs/a"),
        ("/data/pipes/r1", "/var/lib/v/_data/r1"),
        ("/database", "/srv/database"),
    ],
)
def test_the_innermost_mount_counts(path: str, seen: str) -> None:
    """A mount hides what it lies on; a name that only begins alike is another one."""
    assert translated(PurePosixPath(path), MOUNTS) == seen


@pytest.mark.parametrize("container", [MOUNTS, {}, {"Mounts": None}])
def test_what_no_other_container_can_have_is_refused(container: dict[str, object]) -> None:
    """Memory of our own container, and its own layer."""
    with pytest.raises(TerminalError, match="mount a volume or a directory"):
        translated(PurePosixPath("/data/memory/x"), container)
