"""Structs that several threads may read from data."""

from __future__ import annotations

from typing import TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


def prepared(kind: type[S]) -> type[S]:
    """Have msgspec lay out now, while it is imported, what it needs to read a Struct and its parts.

    It does so when one is first read, without a lock, and a second thread that comes meanwhile
    meets types that are not there yet: two first requests at once have ended the process by
    SIGSEGV (msgspec 0.22.0).
    """
    msgspec.json.Decoder(kind)
    return kind
