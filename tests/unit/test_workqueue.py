"""The workqueue's contract, as client-go's."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from flow_operator.clock import SystemClock
from flow_operator.meter import Meter
from flow_operator.workqueue import FEW, SHARE, WorkQueue
from support import FakeClock, eventually


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(clock: FakeClock) -> WorkQueue:
    return WorkQueue(clock)


def _drained(queue: WorkQueue) -> list[str]:
    """What is handed out now, in order; a key of our own keeps us from waiting."""
    queue.add("ours")
    taken = [queue.get()]
    while len(queue):
        taken.append(queue.get())
    queue.done("ours")
    taken.remove("ours")
    return taken


def test_keys_are_handed_out_in_the_order_in_which_they_came(queue):
    """First in, first out."""
    for key in "cab":
        queue.add(key)
    assert len(queue) == 3
    assert _drained(queue) == ["c", "a", "b"]


def test_a_key_that_waits_is_handed_out_once(queue):
    """However often it was added."""
    for _ in range(3):
        queue.add("a")
    assert _drained(queue) == ["a"]


def test_a_key_that_is_added_while_a_worker_has_it_comes_once_more(queue):
    """And only after it was given back, so that one worker at a time has it."""
    queue.add("a")
    assert queue.get() == "a"
    for _ in range(3):
        queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert len(queue) == 1
    assert queue.get() == "a"
    queue.done("a")
    assert _drained(queue) == []


def test_a_key_that_was_given_back_untouched_does_not_come_again(queue):
    """Done means done."""
    queue.add("a")
    queue.done(queue.get())
    assert _drained(queue) == []


def test_a_key_that_is_added_for_later_comes_when_it_is_due(queue, clock):
    """Not before, and once."""
    queue.add_after("a", 10)
    clock.advance(9.9)
    assert _drained(queue) == []
    clock.advance(0.1)
    assert queue.get() == "a"
    queue.done("a")
    clock.advance(100)
    assert _drained(queue) == []


@pytest.mark.parametrize("delays", [(5, 10), (10, 5)])
def test_of_several_moments_the_earliest_counts(queue, clock, delays):
    """In whichever order they were given; the later ones are dropped."""
    for delay in delays:
        queue.add_after("a", delay)
    clock.advance(5)
    assert queue.get() == "a"
    queue.done("a")
    clock.advance(5)
    assert _drained(queue) == []


def test_a_moment_given_after_an_earlier_one_has_passed_counts(queue, clock):
    """What was dropped earlier is no reason to drop it now."""
    queue.add_at("a", clock.now + 20)
    queue.add_at("a", clock.now + 10)
    clock.advance(10)
    assert queue.get() == "a"
    queue.done("a")
    queue.add_at("a", clock.now + 10)
    clock.advance(10)
    assert _drained(queue) == ["a"]


def test_a_key_that_falls_due_while_a_worker_has_it_comes_once_more(queue, clock):
    """As if it had been added then."""
    queue.add("a")
    queue.get()
    queue.add_after("a", 1)
    clock.advance(1)
    assert _drained(queue) == []
    queue.done("a")
    assert queue.get() == "a"


def test_keys_fall_due_in_the_order_of_their_moments(queue, clock):
    """Not in that in which they were added."""
    for key, delay in {"c": 3, "a": 1, "b": 2}.items():
        queue.add_after(key, delay)
    clock.advance(3)
    assert _drained(queue) == ["a", "b", "c"]


def _taken(queue: WorkQueue, count: int) -> list[str]:
    """What is handed out next; nothing is given back."""
    return [queue.get() for _ in range(count)]


def test_a_key_in_a_hurry_overtakes_all_others(queue):
    """Also if it waited already; and it is handed out once."""
    for key in "abcd":
        queue.add(key)
    queue.hurry("d")
    queue.hurry("e")
    assert len(queue) == 5
    assert _taken(queue, 2) == ["d", "e"]
    assert sorted(_taken(queue, 3)) == ["a", "b", "c"]
    assert len(queue) == 0


def test_a_key_stays_in_its_hurry_until_it_is_found_calm(queue):
    """What follows from a command is as urgent as the command."""
    queue.hurry("a")
    assert queue.get() == "a"
    queue.done("a")
    for key in "bca":
        queue.add(key)
    assert queue.get() == "a"
    queue.done("a", calm=True)
    queue.add("a")
    assert _taken(queue, 3) == ["b", "c", "a"]


def test_a_hurry_that_comes_while_a_worker_has_the_key_is_not_lost(queue):
    """The worker may not have seen what it is about."""
    queue.add("a")
    assert queue.get() == "a"
    queue.add("b")
    queue.hurry("a")
    queue.done("a", calm=True)
    assert queue.get() == "a"
    queue.done("a")
    queue.add("a")
    assert _taken(queue, 2) == ["a", "b"]


def test_keys_in_a_hurry_leave_the_others_their_share(queue):
    """However many are in a hurry, and however often they come back."""
    queue.add("patient")
    for number in range(100):
        queue.hurry(f"hurried-{number}")
    assert "patient" in _taken(queue, SHARE)


def test_closing_wakes_every_worker(queue):
    """They get None, now and from then on."""
    got = []
    workers = [threading.Thread(target=lambda: got.append(queue.get())) for _ in range(4)]
    for worker in workers:
        worker.start()
    queue.close()
    for worker in workers:
        worker.join(10)
    assert got == [None] * 4
    queue.add("a")
    queue.add_after("b", 0)
    assert queue.get() is None


def test_a_waiting_worker_sees_a_moment_that_is_earlier_than_the_one_it_waits_for():
    """The real clock: it does not sleep through it."""
    queue = WorkQueue(SystemClock())
    got = []
    worker = threading.Thread(target=lambda: got.append(queue.get()))
    queue.add_after("late", 3600)
    worker.start()
    queue.add_after("soon", 0.05)
    worker.join(10)
    queue.close()
    assert got == ["soon"]


def test_one_worker_at_a_time_has_a_key_and_no_wish_is_lost():
    """Four workers, two that add: every add is followed by a look that began after it."""
    queue = WorkQueue(SystemClock())
    keys = [f"flow-{n}" for n in range(5)]
    wanted: Counter[str] = Counter()
    looked: Counter[str] = Counter()
    held: Counter[str] = Counter()
    overlaps = []
    lock = threading.Lock()

    def work() -> None:
        while (key := queue.get()) is not None:
            with lock:
                held[key] += 1
                overlaps.append(held[key])
                seen = wanted[key]
            with lock:
                looked[key] = max(looked[key], seen)
                held[key] -= 1
            queue.done(key, calm=bool(seen % 2))

    def ask() -> None:
        for n in range(2000):
            key = keys[n % len(keys)]
            with lock:
                wanted[key] += 1
            if n % 3 == 1:
                queue.add(key)
            elif n % 3:
                queue.hurry(key)
            else:
                queue.add_after(key, 0.0001)

    workers = [threading.Thread(target=work) for _ in range(4)]
    askers = [threading.Thread(target=ask) for _ in range(2)]
    for thread in workers + askers:
        thread.start()
    for thread in askers:
        thread.join()
    eventually(lambda: _same(wanted, looked), within=10)
    queue.close()
    for thread in workers:
        thread.join()
    assert set(overlaps) == {1}


def _same(wanted: Counter[str], looked: Counter[str]) -> None:
    assert wanted == looked


class _Waited(Meter):
    """What a queue has told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def waited(self, lane: str, seconds: float) -> None:
        self.told.append((lane, seconds))


def test_how_long_a_key_has_waited_is_told_from_when_it_was_first_added(clock):
    """By lane; also what is spent waiting for the worker that has it."""
    meter = _Waited()
    queue = WorkQueue(clock, meter)
    queue.add("a")
    clock.advance(1)
    queue.add("a")
    queue.hurry("b")
    clock.advance(2)
    assert [queue.get(), queue.get()] == ["b", "a"]
    queue.add("a")
    clock.advance(5)
    queue.done("a")
    assert queue.get() == "a"
    assert meter.told == [("hurried", 2), ("normal", 3), ("normal", 5)]


def test_what_is_due_later_waits_only_from_then_on(clock):
    """A restart in an hour is no queue."""
    meter = _Waited()
    queue = WorkQueue(clock, meter)
    queue.add_after("a", 3600)
    clock.advance(3600)
    assert queue.get() == "a"
    assert meter.told == [("normal", 0)]


def test_the_load_tells_what_there_is_to_do(clock):
    """By lane, what is to come, and for how long each worker has had what it has."""
    queue = WorkQueue(clock)
    assert queue.load() == (0, 0, 0, (), 0)
    for key in "abc":
        queue.add(key)
    queue.hurry("d")
    queue.add_after("e", 60)
    queue.get()
    clock.advance(3)
    queue.get()
    clock.advance(4)
    assert queue.load() == (0, 2, 1, (7, 4), 4)
    queue.add("d")
    assert queue.load().hurried == 0, "a worker has it"
    queue.done("d")
    assert queue.load() == (1, 2, 1, (4,), 5)


# --- crowds ----------------------------------------------------------------------------------


@pytest.fixture
def crowded(queue: WorkQueue) -> WorkQueue:
    """A queue in which small letters join each other."""
    queue.joins = str.islower
    return queue


def _some(queue: WorkQueue, most: int = 9) -> list[str]:
    """What a worker is handed at once."""
    batch = queue.get_some(most)
    assert batch is not None
    return batch.keys


def test_a_crowd_is_taken_in_its_order(crowded):
    """So many at most."""
    crowded.add_all("abcde")
    assert _some(crowded, 3) == ["a", "b", "c"]
    for key in "abc":
        crowded.done(key)
    assert _some(crowded) == ["d", "e"]


def test_one_worker_at_a_time_has_a_crowd(crowded):
    """Who comes meanwhile, or once more, is in the next one, when all of the first are back."""
    crowded.add_all("abc")
    assert _some(crowded) == ["a", "b", "c"]
    crowded.add_all("bX")
    crowded.add("d")
    assert _some(crowded) == ["X"], "the others go on"
    for key in "ab":
        crowded.done(key)
        assert len(crowded) == 1 + (key == "b")
    crowded.add("Y")
    assert _some(crowded) == ["Y"]
    crowded.done("c")
    assert _some(crowded) == ["d", "b"]


def test_those_that_do_not_join_are_taken_alone(crowded):
    """Whatever their place."""
    crowded.add_all("XaYb")
    assert _some(crowded) == ["a", "b"]
    assert _some(crowded) == ["X"]
    assert _some(crowded) == ["Y"]


def test_a_key_in_a_hurry_is_taken_alone_and_first(crowded):
    """Also where it stands between others, and while somebody has a crowd."""
    crowded.add_all("abcd")
    crowded.hurry("c")
    assert _some(crowded) == ["c"]
    assert _some(crowded) == ["a", "b", "d"]
    crowded.hurry("e")
    assert _some(crowded) == ["e"]


def test_a_hurried_key_is_not_lost_where_a_crowd_passes_its_old_place(crowded):
    """It waits in its lane, whoever takes the others first."""
    crowded.add_all("abc")
    for _ in range(SHARE - 1):  # The next turn is that of the others.
        crowded.hurry("z")
        assert _some(crowded) == ["z"]
        crowded.done("z")
    crowded.hurry("b")
    assert _some(crowded) == ["a", "c"]
    assert _some(crowded) == ["b"]


def test_the_next_crowd_wakes_a_worker_that_could_not_take_it_before(crowded):
    """Nobody asks for it again and again."""
    crowded.add("a")
    assert _some(crowded) == ["a"]
    taken: list[list[str]] = []
    worker = threading.Thread(target=lambda: taken.append(_some(crowded)))
    worker.start()
    eventually(lambda: _assert(bool(crowded._changed._waiters)))
    crowded.add_all("bc")
    crowded.done("a")
    worker.join(10)
    assert taken == [["b", "c"]]


def test_who_has_a_crowd_is_handed_those_who_have_joined_it(crowded, clock):
    """Until nobody waits, and never those who do not join."""
    crowded.add_all("abX")
    batch = crowded.get_some(1)
    assert batch.keys == ["a"]
    assert _some(crowded) == ["X"]
    crowded.add("c")
    crowded.add_after("d", 5)
    assert [batch.more(), batch.more(), batch.more()] == [["b"], ["c"], []]
    clock.advance(5)
    assert batch.more() == ["d"], "who comes later, too"


@pytest.mark.parametrize("others", [lambda queue: queue.hurry("x"), lambda queue: queue.add("X")])
def test_who_has_a_crowd_is_let_go_where_nobody_else_can_see_to_others(crowded, others):
    """All other workers may wait for an engine."""
    crowded.add_all("abc")
    batch = crowded.get_some(1)
    others(crowded)
    assert batch.more() == []
    crowded._idle = 1
    assert batch.more() == ["b"], "there is another one"


def test_who_has_given_a_crowd_back_goes_on_with_it(crowded):
    """Until another worker has the next one."""
    crowded.add("a")
    batch = crowded.get_some(9)
    crowded.done("a")
    crowded.add("b")
    assert batch.more() == ["b"]
    crowded.done("b")
    crowded.add("c")
    assert _some(crowded) == ["c"]
    crowded.add("d")
    assert batch.more() == []


def test_one_that_is_taken_alone_is_joined_by_nobody(crowded):
    """Whoever has it looks at it alone, and another has the crowd."""
    crowded.add_all("ab")
    crowded.hurry("h")
    alone, crowd = crowded.get_some(1), crowded.get_some(1)
    assert (alone.keys, crowd.keys) == (["h"], ["a"])
    assert alone.more() == []
    assert crowd.more() == ["b"]


def test_a_queue_that_is_closed_hands_out_no_more(crowded):
    """So that its workers come to an end, however many wait."""
    crowded.add_all("ab")
    batch = crowded.get_some(1)
    crowded.close()
    assert batch.more() == []


STORM = [f"storm-{number:02}" for number in range(2 * FEW)]


def test_one_that_comes_by_itself_overtakes_a_storm(crowded):
    """A process that has ended need not wait until thousands of others have begun."""
    crowded.add_all(STORM)
    batch = crowded.get_some(2)
    for key in "ab":
        crowded.add(key)
    assert [batch.keys, batch.more()] == [STORM[:2], ["a", "b"]]
    crowded.add_all("cd")
    assert batch.more() == ["c", "d"], "few that come at once are no storm"


def test_one_turn_in_some_is_the_storms(crowded):
    """However many come by themselves."""
    crowded.add_all(STORM)
    for number in range(4 * SHARE):
        crowded.add(f"alone-{number}")
    batch = crowded.get_some(1)
    taken = [batch.keys, *(batch.more() for _ in range(2 * SHARE - 1))]
    assert [keys[0] in STORM for keys in taken] == 2 * ([False] * (SHARE - 1) + [True])


@pytest.mark.parametrize("many", [False, True])
def test_a_worker_that_is_idle_wakes_for_one_of_a_crowd_that_is_in_a_hurry(crowded, many):
    """While another worker has the crowd, and is not about to give it back."""
    crowded.add("a")
    assert _some(crowded) == ["a"]
    taken: list[list[str]] = []
    worker = threading.Thread(target=lambda: taken.append(_some(crowded)), daemon=True)
    worker.start()
    eventually(lambda: _assert(bool(crowded._changed._waiters)))
    crowded.add_all(STORM if many else STORM[:1])
    crowded.hurry(STORM[0])
    worker.join(10)
    assert taken == [STORM[:1]]


def test_a_volley_is_filled_from_both(crowded):
    """Nobody is kept waiting for a place that is free."""
    crowded.add_all(STORM)
    crowded.add("a")
    assert _some(crowded, 3) == ["a", *STORM[:2]]


def test_one_of_a_storm_that_comes_once_more_by_itself_has_left_it(crowded):
    """It is handed out once, whoever takes its old place first, and lines up anew after that."""
    crowded.add_all(STORM)
    crowded.add_all([*STORM, "other"])
    moved = STORM[9]
    crowded.add(moved)
    crowded.add(moved)
    batch = crowded.get_some(2)
    assert batch.keys == [moved, STORM[0]]
    crowded.done(moved)
    rest = [key for keys in iter(batch.more, []) for key in keys]
    assert rest == [key for key in STORM[1:] if key != moved] + ["other"]
    crowded.add_all(STORM)
    assert len(crowded) == 1, "all others are still somebody's"
    assert batch.more() == [moved]


def test_one_of_a_storm_in_a_hurry_is_not_lost(crowded):
    """Nor handed out twice."""
    crowded.add_all(STORM)
    crowded.hurry(STORM[3])
    assert _some(crowded) == [STORM[3]]
    crowded.done(STORM[3], calm=True)
    assert _some(crowded, 4) == [*STORM[:3], STORM[4]]


def _assert(condition: bool) -> None:
    assert condition


@pytest.fixture
def guarded(clock: FakeClock) -> WorkQueue:
    """Two workers at most may have slow keys at once."""
    made = WorkQueue(clock)
    made.most_slow = 2
    made.joins = lambda key: key.startswith("quick")
    return made


@pytest.mark.parametrize("hurried", [False, True])
def test_not_every_worker_has_a_slow_key(guarded, hurried):
    """Whoever comes that is quick finds one, however many slow ones wait, and in what hurry."""
    add = guarded.hurry if hurried else guarded.add
    slow = [f"slow {number}" for number in range(2 * SHARE)]
    for key in slow:
        add(key)
    assert [guarded.get() for _ in range(2)] == slow[:2]
    for number in range(2 * SHARE):
        add(f"quick {number}")
        assert guarded.get() == f"quick {number}"
        guarded.done(f"quick {number}")
    guarded.done(slow[0])
    assert guarded.get() == slow[2]


def test_a_worker_wakes_for_a_slow_key_when_another_is_given_back(guarded):
    """It could not have it before."""
    for key in ("slow 1", "slow 2", "slow 3"):
        guarded.add(key)
    taken = [guarded.get(), guarded.get()]
    worker = threading.Thread(target=lambda: taken.append(guarded.get()), daemon=True)
    worker.start()
    eventually(lambda: _assert(guarded._idle == 1))
    guarded.done("slow 1")
    worker.join(10)
    guarded.close()
    worker.join(10)
    assert taken == ["slow 1", "slow 2", "slow 3"]


def test_who_has_a_crowd_keeps_it_where_nobody_may_have_those_that_wait(guarded):
    """He would find nothing else to do."""
    guarded.add_all([f"quick {number}" for number in range(FEW + 4)])
    crowd = guarded.get_some(4)
    for key in ("slow 1", "slow 2", "slow 3"):
        guarded.add(key)
    assert [guarded.get(), guarded.get()] == ["slow 1", "slow 2"]
    assert len(crowd.more()) == 4
