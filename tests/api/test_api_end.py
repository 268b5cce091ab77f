"""How the server ends."""

from __future__ import annotations

import math
from collections.abc import Callable

from serving import plain, serving

from support import always_for, eventually


def test_a_server_whom_somebody_else_has_woken_waits_for_who_ends_it() -> None:
    """Else it would have closed by then what it is woken with: another file, perhaps."""
    with serving(plain) as server:
        listener = server._server
        trigger, pull_trigger = listener.trigger, listener.trigger.pull_trigger

        def told() -> None:
            assert listener._close_by < math.inf

        def open_still() -> None:
            assert listener._map

        def late(thunk: Callable[[], None] | None = None) -> None:
            if thunk != listener._begin_to_close:
                pull_trigger(thunk)
                return
            with trigger.lock:
                trigger.thunks.append(thunk)
            trigger._physical_pull()  # somebody else's
            eventually(told)
            always_for(0.3, open_still)
            trigger._physical_pull()

        trigger.pull_trigger = late
    assert not listener._map
