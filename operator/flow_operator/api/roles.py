"""Which role a request needs: one table for the guard and for the description of the API."""

from __future__ import annotations

from enum import Enum

OPEN = frozenset({"/livez", "/readyz", "/docs", "/openapi.json", "/ui"})
"""What can be read without a token: health for those who look after the machine, and what stands
in the project's own documentation anyway. Of a page everybody gets the files: what they show, they
must ask for.
"""

_OPEN_BELOW = ("/docs/", "/ui/")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Role(Enum):
    """What a token may do; each may also do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what needs that one."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


def role_needed(method: str, path: str) -> Role | None:
    """The least role for a request; None if it needs no token.

    What does not exist needs a role as well: a stranger must not learn which routes there are.

    Args:
        method: of HTTP; in small letters too, as the router takes it.
        path: decoded, without the base URL's own and without the query.
    """
    method = method.upper()
    if method in _READS:
        return None if _is_open(path) else Role.VIEWER
    if (method, path) == ("PATCH", "/flows/commands"):
        return Role.OPERATOR
    return Role.ADMIN


def _is_open(path: str) -> bool:
    # Dots could lead out again wherever a path is made shorter.
    return path in OPEN or (path.startswith(_OPEN_BELOW) and ".." not in path.split("/"))
