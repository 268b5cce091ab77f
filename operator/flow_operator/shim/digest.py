"""SHA-256 without OpenSSL's library, of which a process that needs nothing else has 1.4 MB less."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OWN = ("_sha2", "_sha256")
"""Where Python has its own: from 3.12 on, and before."""


def sha256(data: bytes) -> str:
    """The digest of some bytes, in hex."""
    return str(_implementation()(data).hexdigest())


def _implementation() -> Any:
    for name in _OWN:
        try:
            return __import__(name).sha256
        except ImportError:
            continue
    from hashlib import sha256 as openssl  # noqa: PLC0415 - where there is nothing else

    return openssl
