"""Changes are found whatever becomes of the watcher; and it is told how they are found."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_support import opening
from watchdog.observers.api import BaseObserver

from flow_operator.board import Board
from flow_operator.clock import SystemClock
from flow_operator.settings import Layout
from flow_operator.sources import FolderSource, folder, watch
from flow_operator.sources.watch import RETRY, Watcher, WatchMode
from flow_operator.store import Store
from support import FakeClock, always_for, eventually

NEVER = 1e6


@pytest.fixture
def manifests(root: Path) -> Path:
    path = root / "manifests"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    (root / "data").mkdir()
    with opening(root / "data") as opened:
        yield opened


@pytest.fixture
def watching(
    root: Path, manifests: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FolderSource]:
    """A started source whose looks without a hint come soon."""
    monkeypatch.setattr(watch, "RESCAN", 0.2)
    monkeypatch.setattr(folder, "DOUBT", 0.2)
    clock = SystemClock()
    source = FolderSource(
        folder=manifests,
        store=store,
        board=Board(clock),
        state=Layout(root / "data").folder_state,
        prune="auto",
        foresee=lambda _before, _after: "none",
        clock=clock,
    )
    source.start()
    yield source
    source.close()


def drop(path: Path, name: str) -> None:
    """A manifest of a flow, in place at once."""
    temporary = path / f".{name}"
    temporary.write_text(f"flow_id: {name}\nspec: {{steps: [{{name: s, script: x}}]}}\n")
    temporary.rename(path / f"{name}.yaml")


def await_flow(store: Store, name: str) -> None:
    def there() -> None:
        assert store.get(name) is not None

    eventually(there)


def rely_on_hints(source: FolderSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the next look on nothing is found without a hint."""
    monkeypatch.setattr(watch, "RESCAN", NEVER)
    source._hint.set()
    await_quiet(source)


def await_quiet(source: FolderSource) -> None:
    """Until all hints have been followed."""
    eventually(lambda: _equal(source._hint.is_set(), second=False))


def observer_of(source: FolderSource) -> BaseObserver:
    observer = source._watcher._observer
    assert observer is not None
    return observer


def deafen() -> None:
    """Put inotify instances without watches in the place of those that have some.

    A thread that reads meanwhile still hears once what it waited for.
    """
    libc = ctypes.CDLL(None)
    for name in os.listdir("/proc/self/fd"):
        link = Path(f"/proc/self/fd/{name}")
        if link.is_symlink() and os.readlink(link) == "anon_inode:inotify":
            fresh = libc.inotify_init()
            os.dup2(fresh, int(name))
            os.close(fresh)


@pytest.mark.parametrize("part", ["dispatcher", "emitter"])
def test_a_dead_watcher_is_replaced(
    watching: FolderSource,
    manifests: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    """Whichever of its threads has ended; what came meanwhile is found, and what comes is heard."""
    dead = observer_of(watching)
    if part == "dispatcher":
        dead.stop()
        dead.join()
    else:
        for emitter in dead.emitters:
            emitter.stop()
            emitter.join()
    drop(manifests, "missed")
    await_flow(store, "missed")
    eventually(lambda: _equal(observer_of(watching) is dead, second=False))
    always_for(0.6, lambda: _equal(watching._watcher._misses, 0))
    rely_on_hints(watching, monkeypatch)
    drop(manifests, "heard")
    await_flow(store, "heard")


def test_a_deaf_watcher_is_replaced(
    watching: FolderSource,
    manifests: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is alive; that a look has found what it did not tell gives it away."""
    deaf = observer_of(watching)
    deafen()
    drop(manifests, "missed")
    await_flow(store, "missed")
    eventually(lambda: _equal(observer_of(watching) is deaf, second=False))
    rely_on_hints(watching, monkeypatch)
    drop(manifests, "heard")
    await_flow(store, "heard")
    assert watching.describe()["watch"] == {"mode": "inotify", "every": NEVER, "why": None}


def test_a_watcher_that_stays_deaf_is_given_up(
    watching: FolderSource, manifests: Path, store: Store
) -> None:
    """Then the folder is looked at every second, and that is told."""
    deaf = observer_of(watching)
    deafen()
    for name in ("one", "one-more"):
        drop(manifests, name)
        await_flow(store, name)
    eventually(lambda: _equal(observer_of(watching) is deaf, second=False))
    await_quiet(watching)
    deafen()
    for name in ("two", "two-more"):
        drop(manifests, name)
        await_flow(store, name)
    eventually(lambda: _equal(watching.describe()["watch"]["mode"], "poll"))
    assert watching.describe()["watch"]["why"] == "changes came without an event"
    drop(manifests, "three")
    await_flow(store, "three")


def test_a_watcher_that_hears_is_left_alone(
    watching: FolderSource, manifests: Path, store: Store
) -> None:
    """However often something changes between looks that find things by themselves."""
    observer = observer_of(watching)
    for number in range(20):
        drop(manifests, f"f{number}")
        await_flow(store, f"f{number}")
    assert observer_of(watching) is observer


def test_a_folder_that_was_replaced_is_watched(
    watching: FolderSource, manifests: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one would be watched for ever otherwise, wherever it has gone."""
    drop(manifests, "before")
    await_flow(store, "before")
    old = observer_of(watching)
    manifests.rename(manifests.with_name("old"))
    manifests.mkdir()
    drop(manifests, "new")
    await_flow(store, "new")
    eventually(lambda: _equal(observer_of(watching) is old, second=False))
    always_for(0.6, lambda: _equal(watching._watcher._misses, 0))
    rely_on_hints(watching, monkeypatch)
    drop(manifests, "heard")
    await_flow(store, "heard")


# --- the watcher alone -----------------------------------------------------------------------


@pytest.fixture
def make_watcher(manifests: Path) -> Iterator[Callable[[WatchMode, FakeClock], Watcher]]:
    made: list[Watcher] = []

    def make(mode: WatchMode, clock: FakeClock) -> Watcher:
        made.append(Watcher(manifests, threading.Event(), mode, clock))
        return made[-1]

    yield make
    for watcher in made:
        watcher.close()


def test_poll_never_asks_the_kernel(make_watcher: Callable[..., Watcher]) -> None:
    """And says that it was told so."""
    watcher = make_watcher("poll", FakeClock())
    watcher.ensure()
    assert watcher.describe() == {"mode": "poll", "every": 1.0, "why": "as told by --watch"}
    assert watcher.pause == 1.0


def test_what_the_kernel_refuses_is_told_and_tried_again_later(
    make_watcher: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at every look: somebody else has what there is."""
    tried: list[int] = []

    def refuse(*_given: object, **_named: object) -> None:
        tried.append(1)
        raise OSError(28, "inotify watch limit reached")

    clock = FakeClock()
    watcher = make_watcher("auto", clock)
    with monkeypatch.context() as patch:
        patch.setattr(BaseObserver, "schedule", refuse)
        for _ in range(5):
            watcher.ensure()
    assert (len(tried), watcher.pause) == (1, 1.0)
    assert watcher.describe()["why"] == "inotify watch limit reached"
    watcher.ensure()
    assert not watcher.watching
    clock.advance(RETRY)
    watcher.ensure()
    assert watcher.describe() == {"mode": "inotify", "every": 15.0, "why": None}


@pytest.mark.parametrize(
    ("kind", "remote"),
    [("ext4", ""), ("tmpfs", ""), ("nfs4", "nfs4"), ("fuse.sshfs", "fuse.sshfs"), ("9p", "9p")],
)
def test_a_file_system_that_others_write_is_not_watched(
    make_watcher: Callable[..., Watcher],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    remote: str,
) -> None:
    """The kernel here does not hear what they do."""
    device = root.stat().st_dev
    mounts = root / "mountinfo"
    mounts.write_text(
        "1 0 999:1 / / rw shared:1 - nfs other rw\n"
        f"2 1 {os.major(device)}:{os.minor(device)} / /x\\040y rw master:1 shared:2 - {kind} s rw\n"
    )
    kind_of = watch._remote
    assert kind_of(device, mounts) == remote
    monkeypatch.setattr(watch, "_remote", lambda device: kind_of(device, mounts))
    watcher = make_watcher("auto", FakeClock())
    watcher.ensure()
    assert watcher.watching is not bool(remote)
    assert (f"file system ({remote})" in (watcher.describe()["why"] or "")) is bool(remote)


def _equal(first: object, second: object) -> None:
    assert first == second
