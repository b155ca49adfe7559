"""Properties of resequencing, and the resequencer against a naive one."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from headwater.policies import Resequence
from headwater.policies.resequence import Gap, ResequenceState


class Item(NamedTuple):
    """An event: `number` tells apart those with one key and sequence."""

    key: str
    sequence: int
    number: int


class Step(NamedTuple):
    """So much time passes, what is due expires or not, and then one event arrives."""

    time: float
    expires: bool
    key: str
    sequence: int


history = st.lists(
    st.builds(
        Step,
        st.sampled_from([0.0, 0.5, 2.0, 5.0]),
        st.booleans(),
        st.sampled_from("abc"),
        st.integers(-2, 14),
    ),
    max_size=80,
)


@dataclass
class Outcome:
    """What became of every event of a history."""

    ready: list[Item] = field(default_factory=list)
    dropped: list[tuple[Item, str]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    deadlines: list[float | None] = field(default_factory=list)


class Naive:
    """The same rules with nothing but lists: it looks at everything, every time."""

    def __init__(self, timeout: float, max_waiting: int) -> None:
        self.timeout = timeout
        self.max_waiting = max_waiting
        self.passed: dict[str, int] = {}
        self.waiting: list[tuple[float, Item]] = []
        self.outcome = Outcome()

    def arrive(self, item: Item, now: float) -> None:
        if item.key in self.passed and item.sequence <= self.passed[item.key]:
            self.outcome.dropped.append((item, "older"))
        elif any(item[:2] == other[:2] for _, other in self.waiting):
            self.outcome.dropped.append((item, "duplicate"))
        elif item.key not in self.passed and item.sequence <= 1:
            self.deliver(item)
        else:
            self.waiting.append((now, item))
        self.follow(item.key)
        if len(self.of(item.key)) > self.max_waiting:
            self.give_up(item.key)

    def expire(self, now: float) -> None:
        while self.waiting and self.waiting[0][0] + self.timeout <= now:
            self.give_up(self.waiting[0][1].key)

    def give_up(self, key: str) -> None:
        item = min(self.of(key))
        self.outcome.gaps.append(Gap(key, self.passed.get(key, 0) + 1, item.sequence - 1))
        self.deliver(item)
        self.follow(key)

    def follow(self, key: str) -> None:
        while key in self.passed:
            following = [one for one in self.of(key) if one.sequence == self.passed[key] + 1]
            if not following:
                return
            self.deliver(following[0])

    def deliver(self, item: Item) -> None:
        self.waiting = [(since, other) for since, other in self.waiting if other != item]
        self.passed[item.key] = item.sequence
        self.outcome.ready.append(item)

    def of(self, key: str) -> list[Item]:
        return [item for _, item in self.waiting if item.key == key]


def played(steps: list[Step], timeout: float = 5.0, max_waiting: int = 1000) -> Outcome:
    """Play a history to its end, where everything that still waits comes out."""
    state = ResequenceState[Item](Resequence("sequence", timeout, max_waiting=max_waiting))
    outcome, now = Outcome(), 0.0
    for number, step in enumerate(steps):
        now += step.time
        if step.expires:
            expiry = state.expire(now)
            outcome.ready += expiry.ready
            outcome.gaps += expiry.gaps
        item = Item(step.key, step.sequence, number)
        arrival = state.arrive(item.key, item.sequence, item, now)
        outcome.ready += arrival.ready
        outcome.gaps += arrival.gaps
        if arrival.dropped is not None:
            outcome.dropped.append((item, arrival.dropped))
        outcome.deadlines.append(state.deadline())
    expiry = state.expire(math.inf)
    outcome.ready += expiry.ready
    outcome.gaps += expiry.gaps
    assert state.deadline() is None
    return outcome


def naively(steps: list[Step], timeout: float, max_waiting: int) -> Outcome:
    """Play the same history with the naive resequencer."""
    naive, now = Naive(timeout, max_waiting), 0.0
    for number, step in enumerate(steps):
        now += step.time
        if step.expires:
            naive.expire(now)
        naive.arrive(Item(step.key, step.sequence, number), now)
        oldest = min((since for since, _ in naive.waiting), default=None)
        naive.outcome.deadlines.append(None if oldest is None else oldest + timeout)
    naive.expire(math.inf)
    return naive.outcome


@given(st.permutations(range(1, 31)), st.integers(-5, 5))
def test_any_permutation_comes_out_in_order(order: list[int], shift: int) -> None:
    """As long as what waits fits and nobody gives up, arrival order does not matter."""
    first = 1 + shift
    state = ResequenceState[int](Resequence("n", first=first, max_waiting=len(order)))
    ready: list[int] = []
    for number in order:
        arrival = state.arrive("k", number + shift, number + shift, 0.0)
        assert arrival.dropped is None
        assert arrival.gaps == ()
        ready += arrival.ready
    assert ready == list(range(first, first + len(order)))


@given(st.permutations([(key, number) for key in "abc" for number in range(1, 9)]))
def test_keys_are_put_in_order_side_by_side(order: list[tuple[str, int]]) -> None:
    """However they are mixed, each key comes out as if it were alone."""
    state = ResequenceState[tuple[str, int]](Resequence("n", max_waiting=8))
    ready = [item for one in order for item in state.arrive(*one, one, 0.0).ready]
    assert {key: [n for k, n in ready if k == key] for key in "abc"} == {
        key: list(range(1, 9)) for key in "abc"
    }


@given(history, st.sampled_from([0.0, 1.0, 5.0]), st.integers(1, 4))
def test_every_event_ends_exactly_once(steps: list[Step], timeout: float, max_waiting: int) -> None:
    """It is delivered or it is dropped: nothing is lost and nothing doubled."""
    outcome = played(steps, timeout, max_waiting)
    ends = [item.number for item in outcome.ready]
    ends += [item.number for item, _ in outcome.dropped]
    assert sorted(ends) == list(range(len(steps)))


@given(history, st.sampled_from([0.0, 1.0, 5.0]), st.integers(1, 4))
def test_what_is_delivered_of_a_key_only_ever_grows(
    steps: list[Step], timeout: float, max_waiting: int
) -> None:
    """Giving up a gap never turns the order around, and what was given up never comes."""
    outcome = played(steps, timeout, max_waiting)
    delivered: defaultdict[object, list[int]] = defaultdict(list)
    for item in outcome.ready:
        delivered[item.key].append(item.sequence)
    for sequences in delivered.values():
        assert all(earlier < later for earlier, later in pairwise(sequences))
    for gap in outcome.gaps:
        assert gap.first_missing <= gap.last_missing
        missing = range(gap.first_missing, gap.last_missing + 1)
        assert not set(missing) & set(delivered[gap.key])
        assert gap.last_missing + 1 in delivered[gap.key]


@given(history, st.sampled_from([0.0, 1.0, 5.0]), st.integers(1, 4))
def test_it_does_what_a_naive_resequencer_does(
    steps: list[Step], timeout: float, max_waiting: int
) -> None:
    """The same events in the same order, the same drops, gaps and deadlines."""
    assert played(steps, timeout, max_waiting) == naively(steps, timeout, max_waiting)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(-1, 3)), max_size=100), st.integers(1, 5))
def test_memory_is_bounded_by_the_keys_remembered_and_those_that_wait(
    arrivals: list[tuple[int, int]], max_keys: int
) -> None:
    """No more keys are kept than may be idle, and those with something waiting."""
    state = ResequenceState[None](Resequence("n", max_keys=max_keys))
    for key, sequence in arrivals:
        state.arrive(key, sequence, None, 0.0)
        waiting = {key for key, _ in state._waiting}
        assert len(state._lines) <= max_keys + len(waiting)
        assert set(state._lines) == waiting | set(state._idle)
        assert not waiting & set(state._idle)
