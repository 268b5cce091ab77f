"""The file of tokens: what it may say, who may write it, and that it is read when it changes."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flow_operator.api.roles import Role
from flow_operator.api.token_file import Granted, read_granted
from flow_operator.api.tokens import Tokens
from flow_operator.clock import SystemClock
from flow_operator.errors import InvalidError
from support import FakeClock, require

TOKEN = "Canary-0123456789abcdef~._+/=="  # noqa: S105
OTHER = "another-0123456789abcdef"
DIGEST = hashlib.sha256(OTHER.encode()).hexdigest()
ENTRY = f"{{name: ci, role: viewer, token: {TOKEN}}}"
GOOD = f"""
tokens:
- {ENTRY}
- {{name: "alice.b_c-1", role: admin, sha256: {DIGEST}}}
"""


@pytest.fixture
def path(root: Path) -> Path:
    """A good file."""
    return write(root / "tokens.yaml", GOOD)


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def faults(path: Path) -> list[str]:
    with pytest.raises(InvalidError) as caught:
        read_granted(path)
    return [str(fault) for fault in caught.value.faults]


def test_tokens_and_digests_say_the_same(path: Path) -> None:
    """Of either only the digest is kept, and not even that is shown."""
    first, second = read_granted(path).grants
    assert (first.name, first.role) == ("ci", Role.VIEWER)
    assert first.digest == hashlib.sha256(TOKEN.encode()).digest()
    assert (second.name, second.role) == ("alice.b_c-1", Role.ADMIN)
    assert second.digest.hex() == DIGEST
    assert repr(first) == "Grant(name='ci', role=<Role.VIEWER: 'viewer'>)"


def test_a_token_is_exchanged_while_both_are_good(path: Path) -> None:
    """One name may have several tokens of one role."""
    write(path, f"{GOOD}- {{name: ci, role: viewer, token: the-next-one-0123456789}}\n")
    assert [grant.name for grant in read_granted(path).grants] == ["ci", "alice.b_c-1", "ci"]


def test_every_fault_is_named_with_its_place(path: Path) -> None:
    """File, line and column of each, all at once."""
    write(
        path,
        f"""tokens:
- {ENTRY}
- {{name: "a b", role: root, token: short}}
- {{name: x, role: viewer, token: {OTHER}, sha256: {DIGEST}}}
- {{role: viewer, name: y}}
- text
- {{token: {TOKEN}}}
- {{name: ci, role: admin, token: yet-another-0123456789}}
- {{name: z, role: viewer, token: {TOKEN}}}
""",
    )
    told = faults(path)
    assert [fault.split(": ")[0].removeprefix(f"{path}:") for fault in told] == [
        *("3:10", "3:23", "3:36", "4:3", "5:3", "6:3", "7:3", "7:3", "8:20", "9:3"),
    ]
    assert [fault.split(": ")[1] for fault in told][:4] == [
        *("/tokens/1/name", "/tokens/1/role", "/tokens/1/token", "/tokens/2"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tokens: []",
        "tokens:",
        f"tokens: {TOKEN}",
        f"- {TOKEN}",
        TOKEN,
        f"{TOKEN}: tokens",
        f"{GOOD}\n---\n{GOOD}",
        f"{GOOD}\nmore: {TOKEN}",
        f"tokens: [{{name: {TOKEN}, role: viewer, token: ci}}]",
        f"tokens: [{{name: ci, role: {TOKEN}, token: viewer}}]",
        f"tokens: [{{{TOKEN}: ci, name: ci, role: viewer}}]",
        f"tokens: [{{name: ci, role: viewer, token: {TOKEN}, {TOKEN}: a, {TOKEN}: b}}]",
        f"tokens: [{{name: ci, role: viewer, sha256: {TOKEN}}}]",
        f"tokens: [{{name: ci, role: viewer, token: *{TOKEN}}}]",
        f"tokens: [{{name: ci, role: viewer, token: !{TOKEN} a}}]",
        f"tokens: [{{name: ci, role: viewer, token: {TOKEN}",
        f"tokens: [{{name: ci, role: viewer, token: '{TOKEN}ü'}}]",
        f"tokens: [{{name: ci, role: viewer, token: '{TOKEN}\\n'}}]",
        f"tokens: [{{name: ci, role: viewer, token: [{TOKEN}]}}]",
        "tokens: [{name: ci, role: viewer, token: 12345678901234567890}]",
        "tokens: [{name: ci, role: viewer, token: 1234567890123456789}]",
        "tokens: [{name: ci, role: viewer, token: 0123456789abcdefghi}]",
        f"tokens: [{{name: ci, role: viewer, token: {'a' * 513}}}]",
        "tokens: [{name: ci, role: viewer, sha256: " + "A" * 64 + "}]",
        "tokens: " + "[" * 500,
        "a\x00b",
    ],
    ids=lambda text: ascii(text)[:50],
)
def test_what_is_refused_is_never_repeated(path: Path, text: str) -> None:
    """A secret may stand in any place by mistake; the error names the place only."""
    write(path, text)
    told = faults(path)
    assert told
    for secret in (TOKEN, TOKEN.lower(), "123456789", "abcdefghi", "aaaaaaaa"):
        assert not any(secret in fault for fault in told)
    assert all(str(path) in fault for fault in told)


def test_what_is_no_text_is_refused(path: Path) -> None:
    """Bytes, folders, pipes and giants."""
    path.write_bytes(b"\xff\xfe")
    assert "UTF-8" in faults(path)[0]
    path.write_bytes(b"#" * (2**20 + 1))
    assert "regular file" in faults(path)[0]
    path.unlink()
    assert "No such file" in faults(path)[0]
    os.mkfifo(path)
    assert "regular file" in faults(path)[0]
    path.unlink()
    path.mkdir()
    assert faults(path)


# --- who may read and write it ---------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o622])
def test_a_file_that_others_may_write_is_refused(path: Path, mode: int) -> None:
    """Whoever may write it makes himself an admin; the message says what to do."""
    path.chmod(mode)
    assert "chmod" in faults(path)[0]


@pytest.mark.parametrize(("mode", "allowed"), [(0o755, True), (0o775, False), (0o777, False)])
@pytest.mark.parametrize("link", [False, True])
def test_a_file_in_a_folder_that_others_may_write_is_refused(
    root: Path, mode: int, *, allowed: bool, link: bool
) -> None:
    """They could replace it; where it is a link, also what it leads to."""
    folder = root / "etc"
    folder.mkdir()
    path = write(folder / "tokens.yaml", GOOD)
    folder.chmod(mode)
    if link:
        (root / "link").symlink_to(path)
        path = root / "link"
    if allowed:
        assert read_granted(path).grants
    else:
        assert f"{folder} may be written" in faults(path)[0]


def test_a_sticky_folder_is_good_enough(root: Path) -> None:
    """As Kubernetes mounts secrets: others may add files there, and not replace ours."""
    folder = root / "secrets"
    folder.mkdir()
    (folder / "..2026").mkdir()
    write(folder / "..2026" / "tokens.yaml", GOOD, 0o440)
    (folder / "..data").symlink_to("..2026")
    (folder / "tokens.yaml").symlink_to("..data/tokens.yaml")
    folder.chmod(0o1777)
    assert read_granted(folder / "tokens.yaml").grants


READ = """
import os, sys
from pathlib import Path
from flow_operator.api.token_file import read_granted
os.setgid(65534); os.setuid(65534)
try:
    print(read_granted(Path(sys.argv[1])).exposed)
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("owner", "mode", "text", "said"),
    [
        (65534, 0o600, GOOD, "False"),
        (65534, 0o640, GOOD, "chmod 600"),
        (65534, 0o604, GOOD, "chmod 600"),
        (65534, 0o644, f"tokens: [{{name: a, role: viewer, sha256: {DIGEST}}}]", "False"),
        (0, 0o444, GOOD, "True"),
        (0, 0o444, f"tokens: [{{name: a, role: viewer, sha256: {DIGEST}}}]", "False"),
        (0, 0o440, GOOD, "False"),
        (1, 0o444, GOOD, "belongs to user 1"),
        (0, 0o400, GOOD, "Permission denied"),
    ],
)
def test_who_else_may_read_it(root: Path, owner: int, mode: int, text: str, said: str) -> None:
    """The operator's own file must be closed; root's may be a mounted secret, and is told about.

    Digests may be read by everybody.
    """
    require("only root may give files away" if os.geteuid() else None)
    root.chmod(0o755)
    path = write(root / "tokens.yaml", text, mode)
    os.chown(path, owner, 65534)
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said in done.stdout, done


# --- the tokens that count now ---------------------------------------------------------------


@pytest.fixture
def tokens(path: Path) -> Tokens:
    """Those of the good file."""
    return Tokens(path, SystemClock())


def replace(path: Path, text: str) -> None:
    """As an editor does."""
    write(path.with_suffix(".new"), text).rename(path)


def test_a_token_is_found_by_itself_only(tokens: Tokens) -> None:
    """Neither a part of it, nor its digest."""
    found = tokens.find(OTHER)
    assert found is not None
    assert found.name == "alice.b_c-1"
    for wrong in ("", OTHER[:-1], f"{OTHER}x", OTHER.upper(), DIGEST, "ci"):
        assert tokens.find(wrong) is None


@pytest.mark.parametrize("token", [TOKEN, OTHER, "nobodys-0123456789abcdef", ""])
def test_finding_takes_as_long_whatever_is_found(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """Each token is compared, by what takes as long for any two digests."""
    compared = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    tokens.find(token)
    assert compared == [(32, 32)] * 2


def test_a_new_file_counts_from_the_next_request_on(tokens: Tokens, path: Path) -> None:
    """What was taken out is refused, what was put in is let in, also right after one another."""
    before = tokens.find(TOKEN)
    assert before is not None
    replace(path, GOOD.replace(TOKEN, "a-new-one-0123456789"))
    assert tokens.find(TOKEN) is None
    assert not tokens.stands(before)
    assert tokens.find("a-new-one-0123456789") is not None
    for number in range(200):
        # In place, of the same length, and faster than the times of files tell.
        path.write_text(GOOD.replace(TOKEN, f"number-{number:03}-0123456789"))
        assert tokens.find(f"number-{number:03}-0123456789") is not None


def test_another_role_counts_from_the_next_request_on(tokens: Tokens, path: Path) -> None:
    """Who had the former one is no longer what he was."""
    before = tokens.find(TOKEN)
    assert before is not None
    replace(path, GOOD.replace("role: viewer", "role: operator"))
    after = tokens.find(TOKEN)
    assert after is not None
    assert after.role is Role.OPERATOR
    assert not tokens.stands(before)


@pytest.mark.parametrize("bad", ["tokens: [", "", GOOD.replace("admin", "root")])
def test_a_bad_edit_keeps_the_last_good_tokens(
    tokens: Tokens, path: Path, bad: str, logged_events: list[Any]
) -> None:
    """It is told once, with its place, and until it is mended."""
    logged_events.clear()
    replace(path, bad)
    for _ in range(3):
        assert tokens.find(TOKEN) is not None
    assert tokens.error is not None
    assert str(path) in tokens.error
    assert [event["log_level"] for event in logged_events] == ["error"]
    replace(path, GOOD)
    assert tokens.find(TOKEN) is not None
    assert tokens.error is None
    assert [event["log_level"] for event in logged_events] == ["error", "info"]


def test_a_file_that_has_gone_or_is_open_to_others_keeps_them_too(
    tokens: Tokens, path: Path
) -> None:
    """Until it is put right."""
    path.chmod(0o666)
    assert tokens.find(TOKEN) is not None
    assert "chmod" in (tokens.error or "")
    path.unlink()
    assert tokens.find(TOKEN) is not None
    assert "No such file" in (tokens.error or "")
    write(path, GOOD)
    assert tokens.find(TOKEN) is not None
    assert tokens.error is None


def test_a_file_that_has_just_changed_is_read_each_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For two seconds: its times may be too coarse to tell of another change."""
    clock = FakeClock(wall=path.stat().st_ctime + 1.9)
    tokens = Tokens(path, clock)
    reads = []

    def read(given: Path) -> Granted:
        reads.append(given)
        return read_granted(given)

    monkeypatch.setattr("flow_operator.api.tokens.read_granted", read)
    for _ in range(3):
        assert tokens.find(TOKEN) is not None
    assert len(reads) == 3
    clock.advance(0.2)
    for _ in range(3):
        assert tokens.find(TOKEN) is not None
    assert len(reads) == 4


def test_a_file_that_rests_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, logged_events: list[Any]
) -> None:
    """One look at its times for each request."""
    tokens = Tokens(path, FakeClock())  # long after the file was written, or before

    def read(_path: Path) -> Granted:
        pytest.fail("it was read")

    monkeypatch.setattr("flow_operator.api.tokens.read_granted", read)
    assert tokens.find(TOKEN) is not None


def test_tokens_that_everybody_may_read_are_told_about(
    path: Path, logged_events: list[Any]
) -> None:
    """With what to do; where the operator is root, its files may be mounted secrets as well."""
    require("only root's own are accepted" if os.geteuid() else None)
    path.chmod(0o644)
    Tokens(path, SystemClock())
    assert [event["event"] for event in logged_events if event["log_level"] == "warning"] == [
        "everybody on this machine may read the tokens"
    ]
