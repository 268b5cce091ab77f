"""How moments are written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_operator.clock import rfc3339


@pytest.mark.parametrize(
    ("wall", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1.9999, "1970-01-01T00:00:01.999Z"),
        (-0.25, "1969-12-31T23:59:59.750Z"),
        (951_782_400.5, "2000-02-29T00:00:00.500Z"),
        (253_402_300_799.0, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_moments_are_written_to_the_millisecond(wall: float, text: str) -> None:
    """Never later than they were, so that no event seems to come before its cause."""
    assert rfc3339(wall) == text
    assert rfc3339(wall, "seconds") == f"{text[:-5]}Z"


@given(st.integers(-(2**35), 2**35))
def test_what_is_written_is_read_back(eighths: int) -> None:
    """Of moments that a float holds exactly."""
    moment = datetime.fromisoformat(rfc3339(eighths / 8))
    assert moment == datetime.fromtimestamp(eighths / 8, tz=UTC)
