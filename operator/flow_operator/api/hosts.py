"""Under which names the API is served.

A name that a stranger has bound to this machine's address (DNS rebinding) makes a page of his, in
a browser that reaches us, look like one of our own. He needs a name in a zone of his for it: an
address is no name, and a name without a dot is in no zone.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@?#\\,\[\]]+)(?::[0-9]{0,5})?")

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def host_name(header: str) -> str:
    """The name in a Host header, as it is compared: without port, brackets and final dot.

    Empty if it is none.
    """
    found = _HOST.fullmatch(header)
    return found[1].strip("[]").lower().removesuffix(".") if found else ""


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names that may stand in the Host header.

    Attributes:
        names: those that may.
        plain: so may addresses and names without a dot.
        every: so may any other.
    """

    names: frozenset[str] = LOOPBACK
    plain: bool = False
    every: bool = False

    def serve(self, name: str) -> bool:
        """Whether one may."""
        return self.every or name in self.names or (self.plain and _is_plain(name))


def _is_plain(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name
    return True
