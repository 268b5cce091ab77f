"""A thousand files at once: few transactions, nothing half, and nobody else waits."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flow_operator.sources.scan import PATIENCE
from support import Flowd, eventually, make_document

COUNT = 1000


def manifest(name: str, edition: int) -> str:
    return f"""\
flow_id: {name}
spec:
  state: stopped
  description: edition {edition}
  steps:
  - name: main
    script: exec sleep 1000
"""


def git(folder: Path, *arguments: str) -> None:
    whose = [f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    identity = dict.fromkeys(whose, "x@example.org")
    subprocess.run(
        ["git", "-c", "advice.detachedHead=false", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        env={**os.environ, **identity, "GIT_CONFIG_GLOBAL": "/dev/null"},
    )


def branches(folder: Path) -> None:
    """One branch with nothing, two with a thousand manifests each that all differ."""
    git(folder, "init", "--initial-branch=empty")
    (folder / "README").write_text("flows\n")
    (folder / "company.yaml").write_text(manifest("company", 0))
    git(folder, "add", ".")
    git(folder, "commit", "-m", "empty")
    for edition in (1, 2):
        git(folder, "checkout", "-b", f"edition{edition}", "empty")
        for number in range(COUNT):
            path = folder / f"team{number % 10}" / f"f{number}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(manifest(f"f{number}", edition))
        git(folder, "add", ".")
        git(folder, "commit", "-m", f"edition {edition}")
    git(folder, "checkout", "empty")


@contextmanager
def journals(flowd: Flowd) -> Iterator[set[str]]:
    """The names of the journals that are written meanwhile: one for each transaction.

    One from before may still be there, as its flows' files are written in the background.
    """
    seen: set[str] = set()
    done = threading.Event()

    def there() -> set[str]:
        return {name for name in os.listdir(flowd.data / "flows") if name.startswith("txn-")}

    before = there()

    def look() -> None:
        while not done.wait(0.002):
            seen.update(there() - before)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        done.set()
        looking.join()


def folder(flowd: Flowd) -> dict[str, Any]:
    return flowd.client.get("/manifests").json()


def editions(flowd: Flowd) -> dict[str, str]:
    flows = flowd.client.get("/flows").json()
    return {flow["flow_id"]: flow["spec"]["description"] for flow in flows}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_checkout_of_a_thousand_files_is_a_transaction_or_two(
    make_flowd: Callable[..., Flowd],
) -> None:
    """To and fro; a branch without them is held, and the way back lets everything be.

    Only a checkout that takes longer than anybody waits for what is being written is cut.
    """
    flowd = make_flowd()
    branches(flowd.manifests)
    flowd.start()
    eventually(lambda: _equal(editions(flowd), {"company": "edition 0"}))
    for edition in (1, 2, 1):
        with journals(flowd) as written:
            begun = time.monotonic()
            git(flowd.manifests, "checkout", f"edition{edition}")
            took = time.monotonic() - begun
            wanted = {f"f{number}": f"edition {edition}" for number in range(COUNT)}
            wanted["company"] = "edition 0"
            eventually(lambda wanted=wanted: _equal(editions(flowd), wanted), 60, 0.1)
        assert 1 <= len(written) <= 2 + took / PATIENCE, (written, took)
    before = {flow["metadata"]["name"]: flow for flow in flowd.client.get("/flows").json()}
    git(flowd.manifests, "checkout", "empty")

    def held() -> None:
        told = folder(flowd)
        assert f"{COUNT} of {COUNT + 1} flows have vanished at once" in (told["held"] or "")
        assert len(told["vanished"]) == COUNT

    eventually(held, 60, 0.1)
    with journals(flowd) as written:
        git(flowd.manifests, "checkout", "edition1")
        eventually(lambda: _equal(folder(flowd)["vanished"], []), 60, 0.1)
    assert written == set()
    assert {f["metadata"]["name"]: f for f in flowd.client.get("/flows").json()} == before


def test_writes_by_the_api_do_not_wait_for_a_folder_of_files(flowd: Flowd) -> None:
    """Parsing and merging take seconds; the lock is only held for the write itself."""
    flowd.create(make_document("mine", state="stopped"))
    many = flowd.manifests.parent / "many"
    many.mkdir()
    for number in range(3000):
        (many / f"f{number}.yaml").write_text(manifest(f"f{number}", 1))
    many.rename(flowd.manifests / "many")
    begun = time.monotonic()
    took = []
    while "f2999" not in flowd.statuses() and time.monotonic() - begun < 60:
        at = time.monotonic()
        body = make_document("mine", state="stopped", description=f"at {at}")
        assert flowd.client.put("/flows/mine", json=body).status_code == 200
        took.append(time.monotonic() - at)
    assert len(took) > 10
    assert max(took) < 1, sorted(took)[-5:]
    assert len(flowd.client.get("/flows").json()) == 3001


def _equal(first: object, second: object) -> None:
    assert first == second
