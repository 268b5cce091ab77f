"""Durations: parsed once, kept as they were written."""

from __future__ import annotations

import msgspec
import pytest

from flow_operator.model.flow import decode_unit
from flow_operator.model.units import Cpu, Duration, Size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0s", 0),
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5s", 1.5),
        ("10m", 600),
        ("1h30m", 5400),
        ("1d2h3m4s5ms", 93784.005),
        ("0.5h", 1800),
        ("3650d", 315_360_000),
        (0, 0),
        (2, 2),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_text_with_units_or_a_number_of_seconds(written, seconds):
    """Parts go from large to small; fractions are fine but for milliseconds."""
    assert Duration.parse(written).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    [
        *("", " ", "s", "5", "-5s", "+5s", "5 s", " 5s", "5s ", "5s\n", "5s\0"),
        *("1m1h", "1s1s", "1.5ms", ".5s", "1.s", "1e3s", "5S", "5sec", "1_0s", "\u0665s"),
        *(-1, -0.001, 315_360_001, "3651d", "9" * 400 + "s", float("inf"), float("nan")),
        *(None, True, False, [], {}, b"5s"),
    ],
)
def test_anything_else_is_refused(written):
    """What is not meant cannot be guessed; ten years is the longest."""
    with pytest.raises(ValueError):
        Duration.parse(written)


def test_the_refusal_shows_how_to_write_it():
    """The message names the bad value and good ones."""
    with pytest.raises(ValueError, match=r"'5' is no duration.* 30s, 10m or 1h30m"):
        Duration.parse("5")


@pytest.mark.parametrize("written", ["1h30m", "90m", "0.5h", "500ms"])
def test_text_is_kept_as_it_was_written(written):
    """It is given back to whoever wrote it."""
    assert Duration.parse(written).text == written


@pytest.mark.parametrize(
    "number",
    [0, -0.0, 0.0004, 0.00001, 1 / 3, 1, 30.0, 0.001, 999_999, 1_234_567, 2_592_000.5],
)
def test_a_number_is_kept_as_text_that_can_be_read_back(number):
    """It goes into files as text; milliseconds are as fine as it gets."""
    once = Duration.parse(number)
    assert Duration.parse(once.text).seconds == once.seconds == round(number, 3)


def test_durations_are_equal_by_their_length():
    """However they were written."""
    assert Duration.parse("90s") == Duration.parse("1m30s") == Duration.parse(90)
    assert len({Duration.parse("90s"), Duration.parse("1m30s")}) == 1
    assert Duration.parse("1s") != Duration.parse("2s")
    assert Duration.parse("1s") != 1


def test_a_duration_is_immutable():
    """Settings are shared between threads."""
    with pytest.raises(AttributeError):
        Duration.parse("1s").seconds = 2


@pytest.mark.parametrize(("kind", "text"), [(Duration, "90s"), (Size, "3Mi"), (Cpu, "250m")])
def test_what_many_flows_write_is_kept_once(kind, text):
    """Five of them stand in each of ten thousand flows."""
    first, second = (
        msgspec.json.decode(f'"{text}"', type=kind, dec_hook=decode_unit) for _ in range(2)
    )
    assert first is second
