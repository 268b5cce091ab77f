"""The file of tokens: whom the API knows, and what each may do.

::

    tokens:
    - {name: ci, role: operator, sha256: 9f86d081884c7d65…}   # of the token, in hex
    - {name: alice, role: admin, token: 3q2-7wAB…}            # or the token itself

It is read whole or not at all. What it says is never repeated in an error: it may be a secret that
has slipped into the wrong place.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow_operator.api.roles import Role
from flow_operator.errors import Fault, InvalidError
from flow_operator.manifest import Document, SourceText, parse_yaml
from flow_operator.trust import distrust, distrust_group

_MAX_SIZE = 2**20
"""Bytes; some thousands of tokens."""

_RULES: dict[str, tuple[re.Pattern[str], str]] = {
    "name": (
        re.compile(r"[A-Za-z0-9]([-A-Za-z0-9._]{0,62}[A-Za-z0-9])?"),
        "must be text of at most 64 letters, digits, '-', '.' and '_'",
    ),
    "role": (re.compile("viewer|operator|admin"), "must be viewer, operator or admin"),
    # What a request can carry (RFC 6750, section 2.1).
    "token": (
        re.compile(r"(?=.{20,512}\Z)[-A-Za-z0-9._~+/]+=*"),
        "must be text of 20 to 512 letters, digits and -._~+/, as `openssl rand -hex 32` makes",
    ),
    "sha256": (
        re.compile("[0-9a-f]{64}"),
        "must be text of 64 digits and letters a to f, as `printf %s TOKEN | sha256sum` tells",
    ),
}
"""What each key of an entry must hold."""

_UNTOLD = (
    "this is refused, and not repeated, as it may be a secret: quote what is all digits, use no "
    "key twice, and neither tags nor aliases"
)


@dataclass(frozen=True, slots=True)
class Grant:
    """One token, known by its digest only.

    Attributes:
        name: whose it is; several tokens may be one's, while they are being exchanged.
        digest: SHA-256 of the token.
    """

    name: str
    role: Role
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Granted:
    """What a file of tokens says.

    Attributes:
        exposed: whether everybody on this machine may read tokens in it.
    """

    grants: tuple[Grant, ...]
    exposed: bool = False


def read_granted(path: Path) -> Granted:
    """Read a file of tokens.

    Raises:
        InvalidError: naming everything that is wrong with it, or why it cannot be trusted.
    """
    try:
        text, info = _read(path)
        reason = distrust(path) or distrust_group(path)
    except OSError as error:
        raise _refused(
            path, f"it cannot be read ({error.strerror or error}): put it right, or name another"
        ) from None
    except UnicodeDecodeError:
        raise _refused(path, "it must be UTF-8 text") from None
    if reason:
        raise _refused(path, f"{reason}; who may write it may do anything here: chown and chmod it")
    document = _parsed(SourceText(text, str(path)))
    faults: list[Fault] = []
    grants = tuple(_grants(document, faults))
    if faults:
        raise InvalidError(faults)
    plain = any("token" in entry for entry in document.data["tokens"])
    if plain and _own(info) and info.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        raise _refused(path, "others may read the tokens in it: chmod 600, or write sha256 instead")
    return Granted(grants, plain and bool(info.st_mode & stat.S_IROTH))


def _refused(path: Path, why: str) -> InvalidError:
    return InvalidError([Fault(f"the file of tokens is refused: {why}", file=str(path))])


def _own(info: os.stat_result) -> bool:
    """Whether the operator's user could make it unreadable; root's may be a mounted secret."""
    return info.st_uid == os.geteuid() != 0


def _read(path: Path) -> tuple[str, os.stat_result]:
    # Not blocking: a named pipe would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size > _MAX_SIZE:
            raise OSError(f"it is no regular file of at most {_MAX_SIZE} bytes")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(_MAX_SIZE).decode(), info
    finally:
        os.close(descriptor)


def _parsed(source: SourceText) -> Document:
    """The one document, which has entries.

    Raises:
        InvalidError: it is not that.
    """
    try:
        documents = parse_yaml(source)
    except InvalidError as error:
        fault = error.faults[0]
        # What libyaml itself says quotes nothing.
        said = fault.detail if fault.detail.startswith("not valid YAML") else _UNTOLD
        place = (fault.line, fault.column, fault.file)
        raise InvalidError([Fault(said, "", *place)]) from None
    if len(documents) != 1:
        raise _refused(Path(source.file or ""), "it must be one document with the key 'tokens'")
    document = documents[0]
    data = document.data
    if not isinstance(data, dict) or list(data) != ["tokens"]:
        raise InvalidError([document.fault("", "'tokens' must be its one key")])
    if not isinstance(data["tokens"], list) or not data["tokens"]:
        said = "must be a list of at least one entry; without any, nobody could come in"
        raise InvalidError([document.fault("/tokens", said)])
    return document


def _grants(document: Document, faults: list[Fault]) -> Iterator[Grant]:
    """The good entries; what is wrong with the others is added to ``faults``."""
    roles: dict[str, str] = {}
    digests: set[bytes] = set()
    for index, entry in enumerate(document.data["tokens"]):
        here = f"/tokens/{index}"
        wrong = [(f"{here}{pointer}", said) for pointer, said in _wrong(entry)]
        if not wrong:
            digest = _digest(entry)
            if digest in digests:
                wrong.append((here, "the same token stands above already: leave one out"))
            if roles.setdefault(entry["name"], entry["role"]) != entry["role"]:
                wrong.append(
                    (f"{here}/role", f"'{entry['name']}' has another role above; it must have one")
                )
            digests.add(digest)
        faults += [document.fault(pointer, said) for pointer, said in wrong]
        if not wrong:
            yield Grant(entry["name"], Role(entry["role"]), digest)


def _wrong(entry: Any) -> Iterator[tuple[str, str]]:
    """(pointer within the entry, what is wrong) of one entry."""
    if not isinstance(entry, dict):
        yield "", f"must be a mapping of {', '.join(_RULES)}"
        return
    for key, value in entry.items():
        if key not in _RULES:
            yield "", f"has a key that is unknown; these are known: {', '.join(_RULES)}"
            continue
        pattern, said = _RULES[key]
        if not isinstance(value, str) or not pattern.fullmatch(value):
            yield f"/{key}", said
    for key in ("name", "role"):
        if key not in entry:
            yield "", f"must have the key '{key}'"
    if ("token" in entry) == ("sha256" in entry):
        yield "", "must have one of 'token' and 'sha256'"


def _digest(entry: dict[str, str]) -> bytes:
    if "sha256" in entry:
        return bytes.fromhex(entry["sha256"])
    return hashlib.sha256(entry["token"].encode()).digest()
