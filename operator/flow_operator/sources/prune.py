"""What becomes of flows whose file no longer holds them: a pure decision.

A file that has gone is a wish to delete its flows, unless so much goes that it looks like an
accident: a folder that is suddenly empty, a checkout of the wrong branch, ``rm -rf``. Such flows
are held: they go on until somebody confirms, or their files return. Nothing else lets them go,
neither time nor a restart of the operator nor new files that make the loss look smaller.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

Prune = Literal["auto", "always", "never"]

QUIET = 0.3
"""Seconds without a further flow vanishing, after which those that have are judged together.

Programs that replace a file by removing it first leave a gap, and ``rm -rf`` takes its time.
"""

HOLD_MORE_THAN = 3
HOLD_SHARE = 0.3
"""More flows than this, and a larger share than this, vanishing at once look like an accident."""


class Vanishing(Struct, frozen=True):
    """What has vanished so far.

    Attributes:
        held: flows that are kept until confirmed.
        why: what has happened to them.
        fresh: flows that have vanished and are not judged yet.
        since: monotonic time of the last of these.
        base: how many flows the files held before the first of these vanished.
        moved: whether the folder was on another file system before.
    """

    held: frozenset[str] = frozenset()
    why: str = ""
    fresh: frozenset[str] = frozenset()
    since: float = 0.0
    base: int = 0
    moved: bool = False

    @property
    def message(self) -> str | None:
        """What is held and how to let it go; None if nothing is."""
        if not self.held:
            return None
        count = len(self.held)
        flows = "its flow goes" if count == 1 else f"their {count} flows go"
        return f"{self.why}; {flows} on until `flowctl prune` confirms it or the files return"


class Gone(NamedTuple):
    """What one look has come to.

    Attributes:
        flows: those that no file holds any more.
        owned: how many flows files have held before.
        empty: whether there is no file at all.
        moved: whether the folder is on another file system than it was.
    """

    flows: frozenset[str]
    owned: int
    empty: bool
    moved: bool = False


def judge(state: Vanishing, gone: Gone, prune: Prune, now: float) -> Vanishing:
    """The state after a look; what is in its ``fresh`` may be removed once :func:`ripe`."""
    # What is back is free, and nothing is held from those who say so.
    held = state.held & gone.flows if prune != "always" else frozenset()
    fresh = gone.flows - held
    if not fresh:
        return Vanishing(held, state.why)
    if not fresh <= state.fresh:
        base = state.base if state.fresh else gone.owned
        return Vanishing(held, state.why, fresh, now, base, state.moved or gone.moved)
    state = replace(state, held=held, fresh=fresh)
    why = _why_held(state, gone, prune)
    if why is None or not ripe(state, now):
        return state
    return Vanishing(held | fresh, why)


def ripe(state: Vanishing, now: float) -> bool:
    """Whether what has vanished freshly has been waited for."""
    return bool(state.fresh) and now - state.since >= QUIET


def all_held(owned: frozenset[str], why: str) -> Vanishing:
    """The state when the folder itself cannot be seen."""
    return Vanishing(owned, why)


def _why_held(state: Vanishing, gone: Gone, prune: Prune) -> str | None:
    count = len(state.fresh)
    if prune == "never":
        return "--prune=never: flows whose file has gone are kept"
    if prune == "always":
        return None
    if gone.empty:
        return "the folder is empty"
    if state.moved:
        return "another file system has been mounted there, or unmounted"
    if count > HOLD_MORE_THAN and count > HOLD_SHARE * state.base:
        return f"{count} of {state.base} flows have vanished at once"
    return None
