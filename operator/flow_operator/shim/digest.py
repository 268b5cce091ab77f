"""SHA-256 without OpenSSL's library, of which a process that needs nothing else has 1.4 MB less."""

from __future__ import annotations

try:
    from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
except ImportError:
    try:
        from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha256 as _sha256


def sha256(data: bytes) -> str:
    """The digest of some bytes, in hex."""
    return str(_sha256(data).hexdigest())
