"""What becomes of flows whose file has gone."""

from __future__ import annotations

import pytest

from flow_operator.sources.prune import QUIET, Gone, Prune, Vanishing, judge, ripe


def names(*numbers: int) -> frozenset[str]:
    return frozenset(f"f{number}" for number in numbers)


def gone(flows: frozenset[str], owned: int = 100, **more: bool) -> Gone:
    return Gone(flows, owned, **{"empty": False, **more})


def after(flows: frozenset[str], mode: Prune = "auto", owned: int = 100, **more: bool) -> Vanishing:
    """What is thought of flows that have vanished together, once that was waited for."""
    seen = gone(flows, owned, **more)
    return judge(judge(Vanishing(), seen, mode, 0.0), seen, mode, QUIET)


@pytest.mark.parametrize(
    ("count", "owned", "held"),
    [(1, 1, False), (3, 3, False), (4, 4, True), (4, 13, True), (4, 14, False), (30, 100, False),
     (31, 100, True)],
)  # fmt: skip
def test_more_than_three_and_more_than_a_third_is_an_accident(
    count: int,
    owned: int,
    held: bool,
) -> None:
    """30 %, to be exact; all others may go."""
    flows = names(*range(count))
    state = after(flows, owned=owned)
    assert state.held == (flows if held else names())
    assert ripe(state, QUIET) is not held


def test_an_empty_folder_is_an_accident_however_few_flows_it_had() -> None:
    """Even one."""
    assert after(names(1), owned=1, empty=True).held == names(1)


def test_what_vanishes_with_its_file_system_is_an_accident() -> None:
    """However little; also if only the first of the looks has seen that."""
    state = judge(Vanishing(), Gone(names(1), 100, empty=False, moved=True), "auto", 0.0)
    state = judge(state, gone(names(1)), "auto", QUIET)
    assert state.held == names(1)
    assert "another file system" in (state.message or "")
    assert after(names(1), "always", moved=True).held == names()


def test_nothing_goes_before_it_has_been_quiet() -> None:
    """Whoever replaces a file by removing it first leaves a gap; a return in it changes nothing."""
    state = judge(Vanishing(), gone(names(1)), "auto", 0.0)
    assert not ripe(judge(state, gone(names(1)), "auto", QUIET * 0.9), QUIET * 0.9)
    assert judge(state, gone(names()), "auto", QUIET) == Vanishing()


def test_what_goes_bit_by_bit_is_judged_together() -> None:
    """A slow rm -rf of 40 of 100 flows, one at a time, is the same accident as a fast one."""
    state, now = Vanishing(), 0.0
    for number in range(40):
        now += QUIET * 0.9
        state = judge(state, gone(names(*range(number + 1))), "auto", now)
        assert not ripe(state, now)
    state = judge(state, gone(names(*range(40))), "auto", now + QUIET)
    assert state.held == names(*range(40))
    assert "40 of 100 flows have vanished at once; their 40 flows go on" in (state.message or "")


def test_new_flows_do_not_make_a_loss_look_smaller() -> None:
    """What counts is how many there were before the first one went."""
    state = judge(Vanishing(), gone(names(1, 2, 3, 4), owned=5), "auto", 0.0)
    state = judge(state, gone(names(1, 2, 3, 4), owned=1000), "auto", QUIET)
    assert state.held == names(1, 2, 3, 4)
    later = judge(state, gone(names(1, 2, 3, 4), owned=1000), "auto", 1000.0)
    assert later.held == names(1, 2, 3, 4)
    state = judge(Vanishing(), gone(names(1, 2), owned=5), "auto", 0.0)
    for now in (0.1, 0.1 + QUIET):
        state = judge(state, gone(names(1, 2, 3, 4), owned=1000), "auto", now)
    assert state.held == names(1, 2, 3, 4)


def test_what_returns_is_free_and_may_go_again_on_its_own() -> None:
    """Held once is not held for ever."""
    state = after(names(1, 2, 3, 4), owned=4)
    state = judge(state, gone(names(2, 3, 4), owned=4), "auto", 10.0)
    assert state.held == names(2, 3, 4)
    state = judge(state, gone(names(1, 2, 3, 4), owned=4), "auto", 11.0)
    assert (state.held, state.fresh) == (names(2, 3, 4), names(1))
    assert ripe(judge(state, gone(names(1, 2, 3, 4), owned=4), "auto", 12.0), 12.0)


def test_never_holds_and_always_lets_go() -> None:
    """Whatever it looks like; always also lets go of what was held before."""
    assert after(names(1), "never").held == names(1)
    everything = names(*range(10))
    assert after(everything, "always", owned=10, empty=True).held == names()
    was = Vanishing(everything, "before")
    assert judge(was, gone(everything), "always", 0.0).fresh == everything
