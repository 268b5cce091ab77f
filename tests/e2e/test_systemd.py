"""manifests/flowd.service, under a systemd of the test's own that is PID 1 of its namespaces."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import ROOT, eventually, make_document, require

SYSTEMD = next(filter(os.path.exists, ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")), "")
NAMESPACES = ("--pid", "--mount", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc")

# A group of its own is its top one.
PREPARE = """
set -eu
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/{group}
echo $$ > /sys/fs/cgroup/{group}/cgroup.procs
umount /sys/fs/cgroup
exec unshare --cgroup sh {place}/boot
"""

# Its directories are on file systems that only this systemd sees.
BOOT = """
set -eu
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for place in /run /var/lib; do mount -t tmpfs tmpfs $place; done
mkdir -p /run/systemd/system
mount --bind /etc /etc
mount --bind {place}/group /etc/group
mount -o remount,bind,ro /etc
export SYSTEMD_UNIT_PATH={place}/units container=other
exec {systemd} --unit=test.target
"""

CLEAR = """
mount -t cgroup2 cgroup2 /sys/fs/cgroup
test ! -d /sys/fs/cgroup/{group} || find /sys/fs/cgroup/{group} -depth -type d -exec rmdir {{}} +
"""

# None of this machine's own services is to be found, so those that each service needs are empty.
EMPTY = ("sysinit", "basic", "shutdown", "network-online", "multi-user", "test")

DROP_IN = """
[Service]
# It need not be able to read the project.
User=
StandardOutput=append:{place}/log
StandardError=append:{place}/log
"""


def unavailable() -> str | None:
    """Why none can be started here."""
    if os.geteuid() != 0 or not SYSTEMD or shutil.which("nsenter") is None:
        return "needs root, systemd and util-linux"
    script = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && test -w /sys/fs/cgroup/cgroup.procs"
    tried = subprocess.run(["unshare", *NAMESPACES, "sh", "-c", script], check=False)
    return None if tried.returncode == 0 else "cgroup v2 may not be mounted"


class Systemd:
    """A service manager with one unit."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.units = place / "units"
        self.drop_ins = self.units / "flowd.service.d"
        self.drop_ins.mkdir(parents=True)
        for name in EMPTY:
            (self.units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        unit = (ROOT / "manifests" / "flowd.service").read_text()
        unit = unit.replace("/opt/flow-operator/bin/flowd", str(place / "flowd"))
        (self.units / "flowd.service").write_text(unit)
        (self.drop_ins / "test.conf").write_text(DROP_IN.format(place=place))
        (place / "flowd").write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m flow_operator.flowd "$@"\n'
        )
        (place / "flowd").chmod(0o755)
        (place / "group").write_text("root:x:0:\nflowd:x:999:\n")
        (place / "boot").write_text(BOOT.format(place=place, systemd=SYSTEMD))
        self._group = f"test-systemd-{os.getpid()}"
        prepare = PREPARE.format(place=place, group=self._group)
        with (place / "boot.log").open("w") as boot_log:
            self._process = subprocess.Popen(
                ["unshare", *NAMESPACES, "sh", "-c", prepare],
                stdin=subprocess.DEVNULL,
                stdout=boot_log,
                stderr=subprocess.STDOUT,
            )
        self._init = 0

    def boot(self) -> None:
        """Wait until it has come up."""
        eventually(self._await_boot)

    def _await_boot(self) -> None:
        pid = self._process.pid
        self._init = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        told = self.ask("is-active", "test.target").stdout
        assert told == "active\n", told + (self.place / "boot.log").read_text()

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", f"--target={self._init}", "--mount", "--pid", "--cgroup"]
        return subprocess.run(
            [*command, "systemctl", *arguments], capture_output=True, text=True, check=False
        )

    def __call__(self, *arguments: str) -> None:
        done = self.ask(*arguments)
        assert done.returncode == 0, f"{done.stderr}{self.told()}"

    def show(self, name: str) -> str:
        return self.ask("show", "flowd", "--value", f"--property={name}").stdout.strip()

    def told(self) -> str:
        return (self.place / "log").read_text()

    def path(self, name: str) -> Path:
        """A file as this systemd sees it."""
        return Path(f"/proc/{self._init}/root{name}")

    def client(self) -> httpx.Client:
        socket = str(self.path("/run/flowd/api.sock"))
        return httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://localhost")

    def status(self, flow_id: str) -> dict[str, Any]:
        with self.client() as client:
            return client.get(f"/flows/status/{flow_id}").raise_for_status().json()

    def pids(self, *flow_ids: str) -> list[int]:
        return [step["pid"] for name in flow_ids for step in self.status(name)["steps"]]

    def left(self) -> list[str]:
        """The processes of the service."""
        top = self.path("/sys/fs/cgroup/system.slice/flowd.service")
        found = []
        for file in top.glob("**/cgroup.procs"):
            with contextlib.suppress(OSError):  # It is removed when nobody is left.
                found += file.read_text().split()
        return found

    def close(self) -> None:
        """All of its processes end with the first of them."""
        self._process.kill()
        self._process.wait()
        eventually(self._clear)

    def _clear(self) -> None:
        clear = ["unshare", "--mount", "sh", "-c", CLEAR.format(group=self._group)]
        done = subprocess.run(clear, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    require(unavailable())
    made = Systemd(tmp_path)
    try:
        made.boot()
        yield made
    finally:
        made.close()


def test_a_restart_leaves_flows_alone_and_a_stop_drains_them(systemd: Systemd) -> None:
    """So do a crash, and an option that is wrong; it has started once all is taken back."""
    systemd("start", "flowd")
    with systemd.client() as client:
        counts = "trap 'echo drained > $FLOW_DATA/out; exit' TERM; while :; do sleep 0.05; done"
        flows = [make_document("a", counts, "cat >/dev/null"), make_document("b")]
        client.post("/flows", json=flows).raise_for_status()
    for name in ("a", "b"):
        eventually(lambda name=name: _assert(systemd.status(name)["status"] == "running"))
    pids = systemd.pids("a", "b")
    first = systemd.show("MainPID")

    systemd("restart", "flowd")
    assert systemd.pids("a", "b") == pids
    assert "ending; flows go on" in systemd.told()
    assert systemd.show("StatusText").endswith("2 flows, 2 running instances taken back")
    second = systemd.show("MainPID")
    assert second != first

    systemd("kill", "--kill-who=main", "--signal=KILL", "flowd")
    eventually(lambda: _assert(systemd.show("NRestarts") == "1"))
    eventually(lambda: _assert(systemd.show("ActiveState") == "active"))
    assert systemd.pids("a", "b") == pids

    broken = systemd.drop_ins / "wrong.conf"
    broken.write_text(f"[Service]\nExecStart=\nExecStart={systemd.place}/flowd --wrong\n")
    systemd("daemon-reload")
    assert systemd.ask("restart", "flowd").returncode != 0
    assert "unrecognized arguments: --wrong" in systemd.told()
    broken.unlink()
    systemd("daemon-reload")
    systemd("restart", "flowd")
    assert systemd.pids("a", "b") == pids

    systemd("stop", "flowd")
    assert systemd.show("Result") == "success"
    assert systemd.path("/var/lib/flowd/work/a/out").read_text() == "drained\n"
    assert systemd.left() == []


def _assert(condition: object) -> None:
    assert condition
