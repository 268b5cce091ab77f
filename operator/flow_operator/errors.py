"""The errors of the operator. Each tells its reader what to do next.

::

    FlowError
    ├── InvalidError          the input is wrong; carries every Fault with its place
    ├── NotFoundError         no such flow
    ├── GoneError             what was asked for is not kept any more
    ├── ConflictError         the change clashes with what stands
    │   └── PreconditionError the resourceVersion has moved on
    ├── StorageError          the store could not make a write durable; nothing was changed
    │   └── StorageFullError
    ├── LockedError           another operator holds the data directory
    └── RunnerError           a runner's verb did not succeed
        ├── RetryableError    it may succeed if tried again soon
        │   └── AwayError     the backend is away: nothing can be seen, and nothing done
        ├── WaitingError      it will succeed after ``delay`` seconds
        └── TerminalError     the user must change something
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

MAX_FAULTS = 50
"""How many faults of one input are told; whoever has more has another problem."""

_LONGEST_ECHO = 80


def clipped(text: object) -> str:
    """What somebody sent, short enough to be sent back."""
    whole = str(text)
    return whole if len(whole) <= _LONGEST_ECHO else f"{whole[:_LONGEST_ECHO]}…"


class FlowError(Exception):
    """Root of the tree; ``str()`` is a sentence for people."""


class FaultView(TypedDict):
    """One thing that is wrong: where (a JSON pointer), and what would be right."""

    pointer: str
    detail: str
    line: int | None
    column: int | None


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an input.

    Attributes:
        detail: what is wrong and what would be right.
        pointer: JSON pointer (RFC 6901) to the value; ``""`` is the whole document.
        line: 1-based line in the source text, where known.
        column: 1-based column in the source text, where known.
        file: path of the source file, where there is one.
    """

    detail: str
    pointer: str = ""
    line: int | None = None
    column: int | None = None
    file: str | None = None

    def told(self) -> FaultView:
        """As the API tells it; the file is told beside it, if at all."""
        return {
            "pointer": self.pointer,
            "detail": self.detail,
            "line": self.line,
            "column": self.column,
        }

    def __str__(self) -> str:
        """Format as compilers do: ``file:line:column: /pointer: detail``."""
        place = self.file or ""
        if self.line is not None:
            place += f"{':' if place else 'line '}{self.line}:{self.column or 1}"
        parts = [part for part in (place, self.pointer) if part]
        return ": ".join([*parts, self.detail])


class InvalidError(FlowError):
    """The input was refused; ``faults`` lists what is wrong with it, 50 things at most."""

    def __init__(self, faults: list[Fault] | tuple[Fault, ...] | str) -> None:
        if isinstance(faults, str):
            faults = (Fault(faults),)
        self.total = len(faults)
        self.faults = tuple(faults[:MAX_FAULTS])
        more = self.total - len(self.faults)
        told = [str(fault) for fault in self.faults]
        super().__init__("; ".join([*told, f"and {more} more"] if more else told))


class NotFoundError(FlowError):
    """There is no flow of that id."""

    def __init__(self, flow_id: str) -> None:
        self.flow_id = flow_id
        super().__init__(
            f"There is no flow '{clipped(flow_id)}'. GET /flows lists those that exist."
        )


class GoneError(FlowError):
    """What was asked for is not kept any more."""


class ConflictError(FlowError):
    """The change clashes with what stands."""


class PreconditionError(ConflictError):
    """The caller's resourceVersion is not the present one."""


class StorageError(FlowError):
    """The store could not make the write durable; the old state stands.

    Attributes:
        renamed: whether the new state had been put in place before that was known.
    """

    renamed = False


class StorageFullError(StorageError):
    """There is no space left for the write; the old state stands."""


class LockedError(FlowError):
    """Another operator holds the data directory."""


class RunnerError(FlowError):
    """A runner's verb did not succeed."""


class RetryableError(RunnerError):
    """It may succeed when tried again soon."""


class AwayError(RetryableError):
    """The backend is away, and what it runs cannot be seen: unreachable is not ended."""


class WaitingError(RunnerError):
    """It will succeed later; try again after ``delay`` seconds."""

    def __init__(self, message: str, delay: float) -> None:
        self.delay = delay
        super().__init__(message)


class TerminalError(RunnerError):
    """It will not succeed until the user changes something."""
