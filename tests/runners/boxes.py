"""A small image with a shell for tests of containers, made from this machine's busybox."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator

import docker
import pytest

APPLETS = ("sh", "cat", "echo", "sleep", "true", "false", "seq", "wc", "id", "touch", "kill", "yes")
DIRECTORIES = ("bin", "tmp", "proc", "sys", "dev", "etc", "run")


def engine_url() -> str:
    """The engine that tests use.

    A test is skipped where none is named; one that is named and does not answer fails it.
    """
    url = os.environ.get("FLOW_TEST_ENGINE")
    if not url:
        pytest.skip("FLOW_TEST_ENGINE names no engine (unix:///run/docker.sock)")
    return url


def file_system() -> bytes:
    """A static busybox as a file system."""
    path = shutil.which("busybox")
    if path is None or b"not a dynamic" not in _ldd(path):
        pytest.skip("there is no static busybox (on Debian: apt install busybox-static)")
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        for name in DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(path, "bin/busybox")
        for name in APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return memory.getvalue()


def _ldd(path: str) -> bytes:
    told = subprocess.run(["ldd", path], capture_output=True, check=False)
    return told.stdout + told.stderr


@contextlib.contextmanager
def box_image(url: str) -> Iterator[str]:
    """The name of such an image in an engine."""
    api = docker.APIClient(base_url=url, version="auto", timeout=60)
    name = f"flow-test-box-{uuid.uuid4().hex[:12]}"
    try:
        body = file_system()
        changes = "CMD []"
        api.import_image_from_data(body, repository=name, changes=changes)
        yield name
        api.remove_image(name, force=True)
    finally:
        api.close()
