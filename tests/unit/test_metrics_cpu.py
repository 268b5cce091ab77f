"""CPU time as a counter."""

from __future__ import annotations

import pytest

from flow_operator.metrics.cpu import CpuTotals
from scrapes import make_status, make_step


def _flow(*steps):
    return make_status(
        "a",
        steps=tuple(
            make_step(name=f"s{i}", pid=pid, cpu_seconds=cpu) for i, (pid, cpu) in enumerate(steps)
        ),
    )


@pytest.fixture
def totals() -> CpuTotals:
    """Those of an operator that is older than all flows."""
    return CpuTotals(since="2020-01-01T00:00:00.000Z")


def test_what_processes_had_used_that_were_taken_back_is_not_counted():
    """They have outlived an operator: a counter that begins with what they had used would leap."""
    totals = CpuTotals(since="2024-01-01T00:00:00.001Z")
    assert totals.of([]) == []
    assert totals.of([_flow((1, 5000.0))]) == [0]
    assert totals.of([_flow((1, 5001.5))]) == [1.5]


def test_what_a_process_of_this_operator_has_used_is_counted_whole(totals):
    """However late the first scrape."""
    assert totals.of([_flow((1, 2.0))]) == [2.0]


def test_a_step_that_was_restarted_begins_at_nothing_and_the_sum_does_not_fall(totals):
    """Not even by what the other step has used: a fall is taken for a restart from zero."""
    assert totals.of([_flow((1, 100.0), (2, 5.0))]) == [105]
    assert totals.of([_flow((1, 101.0), (3, 1.0))]) == [107]
    assert totals.of([_flow((1, 101.0), (3, 2.0))]) == [108]


def test_figures_that_still_are_those_of_the_process_before_count_once(totals):
    """A status tells of a new process up to two seconds before the figures do."""
    assert totals.of([_flow((1, 100.0))]) == [100]
    assert totals.of([_flow((2, 100.0))]) == [100]
    assert totals.of([_flow((2, 0.5))]) == [100.5]
    assert totals.of([_flow((2, 0.7))]) == pytest.approx([100.7])


def test_a_descendant_that_is_gone_takes_nothing_away(totals):
    """What it had used is no longer told; the process is still the same."""
    assert totals.of([_flow((1, 100.0))]) == [100]
    assert totals.of([_flow((1, 90.0))]) == [100]
    assert totals.of([_flow((1, 91.0))]) == [101]


def test_a_descendant_that_goes_after_a_pause_between_two_processes_is_no_new_process(totals):
    """While a step waits for its restart it has no process, and has used nothing."""
    assert totals.of([_flow((1, 100.0))]) == [100]
    assert totals.of([_flow((None, 0.0))]) == [100]
    assert totals.of([_flow((2, 50.0))]) == [150]
    assert totals.of([_flow((2, 40.0))]) == [150]


def test_a_flow_that_is_gone_is_forgotten(totals):
    """And one that comes by its name begins anew."""
    totals.of([_flow((1, 100.0))])
    assert totals.of([]) == []
    assert totals.of([_flow((2, 1.0))]) == [1]
