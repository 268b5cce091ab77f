"""One look at the folder: of one generation, of nothing half, and harmed by no file but its own."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flow_operator.sources import scan
from flow_operator.sources.scan import PATIENCE, SETTLE, Look, Scanner
from support import FakeClock

LONG_AGO = 1e9


def text(name: str, description: str = "") -> str:
    steps = "[{name: s, script: x}]"
    return f"flow_id: {name}\nspec: {{description: '{description}', steps: {steps}}}\n"


def write(path: Path, content: str | bytes) -> Path:
    """A file that nobody has touched for long."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def generation(root: Path, number: int) -> None:
    """Swap ``..data`` as Kubernetes does, which then removes the generation before."""
    directory = root / f"..gen{number}"
    directory.mkdir()
    for name in ("a", "b"):
        (directory / f"{name}.yaml").write_text(text(name, f"g{number}"))
    temporary = root / "..data_tmp"
    temporary.symlink_to(directory.name)
    temporary.rename(root / "..data")
    shutil.rmtree(root / f"..gen{number - 1}", ignore_errors=True)


def config_map(root: Path) -> None:
    generation(root, 0)
    for name in ("a", "b"):
        (root / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")


def descriptions(look: Look) -> list[str]:
    return [m.flow.spec.description for file in look.files.values() for m in file.manifests]


def faults(look: Look, name: str) -> str:
    return "; ".join(map(str, look.files[name].faults))


@pytest.fixture
def clock() -> FakeClock:
    """Of which every file is old."""
    return FakeClock(wall=4e9)


def test_a_swap_during_a_look_never_mixes_two_generations(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the old generation is removed while it is being read."""
    config_map(root)
    scanner = Scanner(root, clock)
    read = Scanner._file
    numbers = iter((1, 2))

    def swapping(self: Scanner, *arguments: object) -> object:
        file = read(self, *arguments)
        with contextlib.suppress(StopIteration):
            generation(root, next(numbers))
        return file

    monkeypatch.setattr(Scanner, "_file", swapping)
    assert descriptions(scanner.look()) == ["g2", "g2"]


def test_swaps_in_a_loop_are_never_mixed_and_never_look_like_deletes(
    root: Path, clock: FakeClock
) -> None:
    """Every look that may be applied is of one generation, and whole."""
    config_map(root)
    done = threading.Event()

    def swap() -> None:
        for number in itertools.count(1):
            if done.wait(0.0005):
                return
            generation(root, number)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        scanner = Scanner(root, clock)
        seen = [look for _ in range(400) if not (look := scanner.look()).unsettled]
    finally:
        done.set()
        swapping.join()
    told = [descriptions(look) for look in seen]
    assert all(len(said) == 2 and len(set(said)) == 1 for said in told)
    assert len({said[0] for said in told}) > 5


def test_what_has_not_changed_is_not_opened(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at an unchanged folder costs a stat(2) each, and is the same look."""
    for number in range(20):
        write(root / f"f{number}.yaml", text(f"f{number}"))
    write(root / "bad.yaml", "flow_id: bad\n")
    scanner = Scanner(root, clock)
    before = scanner.look()
    opened: list[object] = []
    monkeypatch.setattr(scan.os, "open", lambda *given: opened.append(given))
    assert scanner.look() is before
    assert opened == []


def test_an_edit_that_hides_behind_size_and_time_is_seen(root: Path, clock: FakeClock) -> None:
    """As many bytes, and the old time set again: the time of the change tells."""
    path = write(root / "a.yaml", text("a", "one"))
    scanner = Scanner(root, clock)
    assert descriptions(scanner.look()) == ["one"]
    write(path, text("a", "two"))
    assert descriptions(scanner.look()) == ["two"]


def test_a_mode_that_changes_after_the_file_was_read_is_seen(root: Path, clock: FakeClock) -> None:
    """Whoever may write it from now on may run commands as us."""
    path = write(root / "a.yaml", text("a"))
    scanner = Scanner(root, clock)
    assert not scanner.look().files["a.yaml"].faults
    path.chmod(0o646)
    assert "may be written by everybody" in faults(scanner.look(), "a.yaml")
    path.chmod(0o644)
    assert not scanner.look().files["a.yaml"].faults


def test_two_files_that_swap_their_names_are_read_anew(root: Path, clock: FakeClock) -> None:
    """By rename and by hard link; what counts is which file a name leads to."""
    one, two = write(root / "one.yaml", text("a")), write(root / "two.yaml", text("b"))
    scanner = Scanner(root, clock)
    scanner.look()
    one.rename(root / "x")
    two.rename(one)
    (root / "x").rename(two)

    def held(name: str) -> list[str]:
        return [m.flow.flow_id for m in scanner.look().files[name].manifests]

    assert (held("one.yaml"), held("two.yaml")) == (["b"], ["a"])
    os.link(two, root / "x")
    (root / "x").replace(one)
    assert (held("one.yaml"), held("two.yaml")) == (["a"], ["a"])


# --- what is being written -------------------------------------------------------------------


def test_a_fresh_file_is_read_once_it_has_been_still(root: Path) -> None:
    """Nothing is read of what looks different from one look to the next."""
    path = root / "a.yaml"
    clock = FakeClock()
    scanner = Scanner(root, clock)

    def touched(content: str) -> Look:
        path.write_text(content)
        os.utime(path, (clock.wall(), clock.wall()))
        return scanner.look()

    assert touched(text("a", "one")).unsettled
    clock.advance(SETTLE / 2)
    assert touched(text("a", "two")).unsettled
    clock.advance(SETTLE / 2)
    look = scanner.look()
    assert (look.unsettled, look.files) == (True, {})
    clock.advance(SETTLE)
    look = scanner.look()
    assert (look.unsettled, descriptions(look)) == (False, ["two"])


@pytest.mark.parametrize("mapped", [False, True], ids=["open", "mapped"])
def test_a_file_that_is_open_for_writing_waits(root: Path, clock: FakeClock, mapped: bool) -> None:
    """However old and complete it looks, and though only a mapping is left of the descriptor."""
    path = write(root / "a.yaml", text("a", "one"))
    scanner = Scanner(root, clock)
    scanner.look()
    write(path, text("a", "two"))
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("r+b"))
        if mapped:
            stack.enter_context(mmap.mmap(file.fileno(), 0))
            file.close()
        look = scanner.look()
        assert (look.unsettled, descriptions(look)) == (True, ["one"])
        clock.advance(SETTLE)
        assert scanner.look().unsettled
    assert descriptions(scanner.look()) == ["two"]


def test_one_who_writes_all_the_time_is_told_and_not_waited_for(
    root: Path, clock: FakeClock
) -> None:
    """The others are applied, and what the file held before stands."""
    path = write(root / "a.yaml", text("a", "one"))
    scanner = Scanner(root, clock)
    scanner.look()
    with path.open("a"):
        write(path, text("a", "two"))
        assert scanner.look().unsettled
        clock.advance(PATIENCE)
        look = scanner.look()
        assert (look.unsettled, look.busy) == (False, True)
        assert "written all the time" in faults(look, "a.yaml")
        assert descriptions(look) == ["one"]
    look = scanner.look()
    assert (look.busy, look.files["a.yaml"].faults, descriptions(look)) == (False, (), ["two"])


def test_a_file_that_comes_in_pieces_is_read_whole(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every file system gives all that is asked for at once."""
    write(root / "a.yaml", text("a", "one"))
    read = os.read
    monkeypatch.setattr(scan.os, "read", lambda descriptor, _most: read(descriptor, 7))
    assert descriptions(Scanner(root, clock).look()) == ["one"]


def test_a_file_without_an_end_is_given_up(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever size it has told."""
    write(root / "a.yaml", text("a"))
    monkeypatch.setattr(scan.os, "read", lambda _descriptor, _most: b"#" * 2**20)
    assert not Scanner(root, clock).look().files["a.yaml"].manifests


def test_nobody_begins_to_write_while_a_file_is_read(root: Path) -> None:
    """The kernel keeps them waiting, and refuses those who would not wait."""
    path = write(root / "a.yaml", "x")
    try_it = "import os, sys; os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)"

    def refused() -> bool:
        done = subprocess.run(
            [sys.executable, "-c", try_it, str(path)], capture_output=True, check=False
        )
        return b"BlockingIOError" in done.stderr

    descriptor = os.open(path, os.O_RDONLY)
    try:
        with scan._lease(descriptor):
            assert refused()
        assert not refused()
    finally:
        os.close(descriptor)


# --- what is no manifest ---------------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def endless(path: Path) -> None:
    """/dev/zero under another name."""
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")


def large(path: Path) -> None:
    write(path, "x: 1\n")
    os.truncate(path, scan.MAX_FILE + 1)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "named pipe": (pipe, "it is a named pipe"),
    "socket": (listening, "it is a socket"),
    "device": (endless, "it is a device"),
    "link to nothing": (lambda p: p.symlink_to("nowhere"), "it is a link to nothing"),
    "link to itself": (lambda p: p.symlink_to(p.name), "Too many levels"),
    "link to outside": (lambda p: p.symlink_to("/etc/hostname"), "outside of the folder"),
    "link to a folder": (lambda p: p.symlink_to("."), "a link to a folder"),
    "too large": (large, "larger than 8388608 bytes"),
    "not UTF-8": (
        lambda p: write(p, b"a: \xc3\xa4b\nb: \xc3\xa4b\xff\n"),
        "x.yaml:2:6: not valid UTF-8",
    ),
    "UTF-16": (lambda p: write(p, text("a").encode("utf-16")), "x.yaml:1:1: not valid UTF-8"),
    "NUL": (lambda p: write(p, "a: b\nc: d\0\n"), "x.yaml:2:5"),
    "tab": (lambda p: write(p, "a:\n\tb: c\n"), "x.yaml:2:1"),
    "key twice": (lambda p: write(p, text("x") + "flow_id: y\n"), "x.yaml:3:1"),
    "one good, one bad": (lambda p: write(p, text("x") + "---\nflow_id: y\n"), "x.yaml:4:1"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_manifest_hurts_only_itself(root: Path, clock: FakeClock, kind: str) -> None:
    """It is told, with line and column where there are any, and the next file is read."""
    make, said = ODD[kind]
    make(root / "x.yaml")
    write(root / "z.yaml", text("z"))
    look = Scanner(root, clock).look()
    assert said in faults(look, "x.yaml")
    assert look.files["x.yaml"].manifests == ()
    assert [m.flow.flow_id for m in look.files["z.yaml"].manifests] == ["z"]
    assert not look.unsettled


def test_a_pipe_whose_writer_says_nothing_is_not_even_opened(root: Path, clock: FakeClock) -> None:
    """Nor is its writer let go."""
    os.mkfifo(root / "x.yaml")
    both = os.open(root / "x.yaml", os.O_RDWR)
    try:
        look = Scanner(root, clock).look()
    finally:
        os.close(both)
    assert "named pipe" in faults(look, "x.yaml")


def test_a_name_that_is_no_text_hurts_only_itself(root: Path, clock: FakeClock) -> None:
    """It is told in a way that can be written down."""
    write(Path(os.fsdecode(os.fsencode(root) + b"/\xff.yaml")), text("x"))
    write(root / "z.yaml", text("z"))
    look = Scanner(root, clock).look()
    assert sorted(look.files) == [r"\udcff.yaml", "z.yaml"]
    assert "name is not valid UTF-8" in faults(look, r"\udcff.yaml")


def test_a_folder_named_like_a_manifest_is_a_folder(root: Path, clock: FakeClock) -> None:
    """What is in it counts."""
    (root / "x.yaml").mkdir()
    write(root / "x.yaml" / "a.yaml", text("a"))
    look = Scanner(root, clock).look()
    assert list(look.files) == ["x.yaml/a.yaml"]


def test_a_byte_order_mark_is_no_fault(root: Path, clock: FakeClock) -> None:
    """Some editors leave one."""
    write(root / "a.yaml", b"\xef\xbb\xbf" + text("a").encode())
    assert not Scanner(root, clock).look().files["a.yaml"].faults


@pytest.fixture
def closed_folder(root: Path) -> Iterator[Path]:
    """A sub-folder that everybody may write."""
    folder = root / "sub"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o755)


def test_a_sub_folder_that_others_may_write_hides_what_is_in_it(
    root: Path, clock: FakeClock, closed_folder: Path
) -> None:
    """Nobody can say that those files have gone; the rest is read."""
    write(closed_folder / "a.yaml", text("a"))
    write(root / "z.yaml", text("z"))
    look = Scanner(root, clock).look()
    assert list(look.files) == ["sub/", "z.yaml"]
    assert "may be written by everybody" in faults(look, "sub/")
    assert look.hides("sub/a.yaml")
    assert not look.hides("subway.yaml")


def test_a_link_to_the_folder_is_trusted_as_far_as_where_it_leads(
    root: Path, clock: FakeClock
) -> None:
    """The parents of the real folder count too."""
    (root / "open" / "real").mkdir(parents=True)
    (root / "link").symlink_to("open/real")
    assert Scanner(root / "link", clock).look().trouble is None
    (root / "open").chmod(0o777)
    assert "open may be written by everybody" in (
        Scanner(root / "link", clock).look().trouble or ""
    )


def test_a_release_that_is_swapped_by_a_link_is_read_whole(root: Path, clock: FakeClock) -> None:
    """The watched folder itself may be a link; a flow's paths start from its name."""
    for number in (1, 2):
        (root / f"r{number}").mkdir()
        write(root / f"r{number}" / "a.yaml", text("a", f"r{number}"))
    (root / "current").symlink_to("r1")
    scanner = Scanner(root / "current", clock)
    before = scanner.look()
    (root / "next").symlink_to("r2")
    (root / "next").rename(root / "current")
    after = scanner.look()
    assert (descriptions(before), descriptions(after)) == (["r1"], ["r2"])
    assert after.files["a.yaml"].base == before.files["a.yaml"].base == str(root / "current")
