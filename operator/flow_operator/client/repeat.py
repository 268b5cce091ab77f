"""Which calls may be repeated after which failures.

==================== ==================================================================
``Repeat.ALWAYS``    reads, a replacement with ``if_match``, ``stop``, ``pause`` and dry
                     runs: twice is the same as once
``Repeat.UNSENT``    all other ``PUT``, ``DELETE`` and ``PATCH``: once more only where the
                     first try has certainly not been acted upon. A second ``restart``
                     restarts again, a second ``start`` runs again what has completed
                     meanwhile, a second ``DELETE`` is refused, and a replacement without
                     ``if_match`` would undo what somebody else has written meanwhile
``Repeat.NEVER``     ``POST``
==================== ==================================================================
"""

from __future__ import annotations

from enum import Enum

from flow_operator.client.errors import Unavailable, UnreachableError, UntrustedError

_TWICE_AS_ONCE = frozenset({"stop", "pause"})


class Repeat(Enum):
    """Whether a call may be repeated."""

    NEVER = "never"
    UNSENT = "unsent"
    ALWAYS = "always"

    @classmethod
    def unsent_unless(cls, same: object) -> Repeat:
        """``ALWAYS`` if there is something that makes twice the same as once."""
        return cls.ALWAYS if same else cls.UNSENT

    @classmethod
    def of_command(cls, command: str, *, dry_run: bool) -> Repeat:
        """That of a command to flows."""
        return cls.unsent_unless(dry_run or command in _TWICE_AS_ONCE)

    def delay(self, error: BaseException) -> float | None:
        """The least seconds until the next try after a failure; None if there must be none.

        What was refused with ``Retry-After`` was not begun.
        """
        if self is Repeat.NEVER or isinstance(error, UntrustedError):
            return None
        if isinstance(error, Unavailable):
            return error.retry_after
        if isinstance(error, UnreachableError) and (self is Repeat.ALWAYS or not error.sent):
            return 0.0
        return None
