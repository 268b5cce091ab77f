"""What the state of a pipe means."""

from __future__ import annotations

import pytest

from flow_operator.runners.base import PipeView
from flow_operator.runners.measure import pipe_view

CAPACITY = 65536
PAGE = 4096


@pytest.mark.parametrize(
    ("unread", "capacity", "waits", "full"),
    [
        (CAPACITY, CAPACITY, True, True),
        (CAPACITY - PAGE, CAPACITY, False, True),
        (CAPACITY - PAGE - 1, CAPACITY, False, False),
        (48_000, CAPACITY, True, True),
        (0, CAPACITY, False, False),
        (0, 0, False, False),
        (CAPACITY, 0, False, False),
    ],
)
def test_a_pipe_is_full_when_its_writer_waits_or_all_but_a_page_is_used(
    unread, capacity, waits, full
):
    """A capacity of 0 is a pipe that nobody writes any more."""
    assert pipe_view(unread, capacity, waits) == PipeView(unread, full)
