"""However a manifest is written, nobody acts on half of it."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import Flowd, always_for, eventually

NAMES = ("a", "b", "c")
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def document(name: str, edition: int) -> str:
    return f"""\
flow_id: {name}
spec:
  description: edition {edition}
  steps:
  - name: main
    script: exec sleep 1000
"""


def text(edition: int) -> str:
    return "---\n".join(document(name, edition) for name in NAMES)


# --- ways to save a file ---------------------------------------------------------------------


def truncate(path: Path, content: str) -> None:
    """As ``cat >`` and most programs."""
    path.write_text(content)


def truncate_in_pieces(path: Path, content: str) -> None:
    """A slow writer, who rests longer than a file has to be still; each piece looks complete."""
    with path.open("w") as file:
        for piece in content.split("---\n"):
            file.write(("---\n" if file.tell() else "") + piece)
            file.flush()
            always_for(0.25, lambda: None)


def append_in_pieces(path: Path, content: str) -> None:
    """A slow writer who closes the file between pieces; what is there is half a manifest."""
    path.write_text("")
    for line in content.splitlines(keepends=True):
        with path.open("a") as file:
            file.write(line[:7])
        always_for(0.01, lambda: None)
        with path.open("a") as file:
            file.write(line[7:])


def rename_over(path: Path, content: str) -> None:
    """As careful programs, configuration management and ``sed -i`` do."""
    temporary = path.with_name("new")
    temporary.write_text(content)
    temporary.rename(path)


def hard_link_over(path: Path, content: str) -> None:
    """As those that keep the old file under another name."""
    temporary, link = path.with_name("new"), path.with_name("link")
    temporary.write_text(content)
    os.link(temporary, link)
    link.rename(path)
    temporary.unlink()


def exchange(path: Path, content: str) -> None:
    """renameat2(2) with RENAME_EXCHANGE."""
    temporary = path.with_name("new")
    temporary.write_text(content)
    libc = ctypes.CDLL(None)
    done = libc.renameat2(
        AT_FDCWD, os.fsencode(temporary), AT_FDCWD, os.fsencode(path), RENAME_EXCHANGE
    )
    assert done == 0
    temporary.unlink()


def remove_and_write(path: Path, content: str) -> None:
    """As git does; nothing is there for a while."""
    path.unlink()
    always_for(0.2, lambda: None)
    path.write_text(content)


def by_mapping(path: Path, content: str) -> None:
    """Through memory, without a descriptor, in pieces."""
    data = content.encode()
    with path.open("r+b") as file:
        file.truncate(len(data))
        mapped = mmap.mmap(file.fileno(), len(data))
    with mapped:
        for start in range(0, len(data), 60):
            mapped[start : start + 60] = data[start : start + 60]
            always_for(0.05, lambda: None)


def like_vim(path: Path, content: str) -> None:
    """What strace(1) shows of vim: probe, swap file, backup, write, remove."""
    probe, swap = path.with_name("4913"), path.with_name(f".{path.name}.swp")
    backup = path.with_name(f"{path.name}~")
    swap.write_bytes(b"b0VIM 9.0")
    probe.touch()
    probe.unlink()
    path.rename(backup)
    with path.open("w") as file:
        file.write(content)
        os.fsync(file.fileno())
    backup.unlink()
    swap.unlink()


def vim(path: Path, content: str) -> None:
    """The real one."""
    new = path.parent.parent / "wanted"
    new.write_text(content)
    options = "set backup writebackup backupcopy=no"
    commands = [options, "%d", f"silent 0r {new}", "g/^$/d", "w", "sleep 50m"]
    subprocess.run(
        ["vim", "-u", "NONE", "-N", "-es", *(f"+{c}" for c in commands), "+q", str(path)],
        check=False,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    assert path.read_text() == content
    path.with_name(f"{path.name}~").unlink()


WAYS: list[Callable[[Path, str], None]] = [
    truncate,
    truncate_in_pieces,
    append_in_pieces,
    rename_over,
    hard_link_over,
    exchange,
    remove_and_write,
    by_mapping,
    like_vim,
    *([vim] if shutil.which("vim") else []),
]


def seen(flowd: Flowd) -> dict[str, tuple[str, int]]:
    """Each flow's edition, and how often it was changed."""
    statuses = flowd.statuses()
    return {
        flow["flow_id"]: (flow["spec"]["description"], statuses[flow["flow_id"]]["generation"])
        for flow in flowd.client.get("/flows").json()
        if flow["flow_id"] in statuses
    }


def test_no_way_of_saving_a_file_is_acted_on_half(flowd: Flowd) -> None:
    """Three flows in one file, saved in every way there is, twice each.

    Each edition changes each flow once, none is removed or restarted.
    """
    path = flowd.manifests / "flows.yaml"
    rename_over(path, text(0))
    (flowd.manifests / "company.yaml").write_text(document("company", 0))
    for name in (*NAMES, "company"):
        eventually(lambda name=name: _equal(flowd.statuses()[name]["status"], "running"))
    pids = {name: flowd.pids(name) for name in NAMES}
    for edition, save in enumerate([way for way in WAYS for _ in range(2)], start=1):
        save(path, text(edition))

        def arrived(save: Any = save, edition: int = edition) -> None:
            for name in NAMES:
                assert seen(flowd)[name] == (f"edition {edition}", edition + 1), save

        eventually(arrived)
        assert {name: flowd.pids(name) for name in NAMES} == pids, save
    assert set(flowd.statuses()) == {*NAMES, "company"}


def test_half_a_manifest_that_is_left_lying_keeps_the_last_good(flowd: Flowd) -> None:
    """Its writer has died; what is told is where it ends."""
    path = flowd.manifests / "flows.yaml"
    rename_over(path, text(0))
    for name in NAMES:
        eventually(lambda name=name: _equal(flowd.statuses()[name]["status"], "running"))
    pids = {name: flowd.pids(name) for name in NAMES}
    half = text(1)[: text(1).rindex("script")]
    path.write_text(half)

    def told() -> None:
        [entry] = flowd.client.get("/manifests").json()["files"]
        assert entry["flows"] == list(NAMES)
        assert [error["line"] for error in entry["errors"]] == [half.count("\n")]

    eventually(told)
    assert {name: flowd.pids(name) for name in NAMES} == pids
    assert {edition for edition, _ in seen(flowd).values()} == {"edition 0"}


def _equal(first: object, second: object) -> None:
    assert first == second
