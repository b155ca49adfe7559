"""Resequencing: back into order, with gaps given up by time or by number."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from headwater.errors import InvalidPolicy
from headwater.policies import Resequence
from headwater.policies.resequence import Arrival, Expiry, Gap, ResequenceState


@dataclass(frozen=True)
class Numbered:
    number: Any

    @property
    def broken(self) -> int:
        raise AttributeError("not there yet")


def lines(**fields: Any) -> ResequenceState[str]:
    """Return a resequencer of strings."""
    return ResequenceState(Resequence(by="number", **fields))


def arrive(state: ResequenceState[str], *sequences: int, now: float = 0.0) -> list[str]:
    """Let numbers of the key "k" arrive, and return what became ready, as texts."""
    ready: list[str] = []
    for sequence in sequences:
        ready += state.arrive("k", sequence, str(sequence), now).ready
    return ready


def test_what_comes_in_order_is_ready_at_once() -> None:
    """Nothing waits, so nothing is due."""
    state = lines()
    assert state.arrive("k", 1, "one", 0.0) == Arrival(("one",))
    assert state.arrive("k", 2, "two", 0.0) == Arrival(("two",))
    assert state.deadline() is None
    assert state.expire(math.inf) == Expiry()


def test_what_comes_too_early_waits_for_what_is_missing() -> None:
    """The missing one brings all that waited for it along, in order."""
    state = lines()
    assert arrive(state, 1, 4, 3) == ["1"]
    assert arrive(state, 2) == ["2", "3", "4"]


def test_a_later_gap_still_holds_what_is_behind_it() -> None:
    """Filling one gap does not open the next."""
    state = lines()
    assert arrive(state, 1, 3, 5) == ["1"]
    assert arrive(state, 2) == ["2", "3"]
    assert arrive(state, 4) == ["4", "5"]


def test_a_key_begins_with_the_first_number() -> None:
    """What is larger waits as behind a gap."""
    state = lines(first=10)
    assert arrive(state, 11) == []
    assert arrive(state, 10) == ["10", "11"]


def test_a_key_may_begin_below_the_first_number() -> None:
    """Whatever is at or below it begins the line where it is."""
    state = lines(first=10)
    assert arrive(state, 7) == ["7"]
    assert arrive(state, 10) == []
    assert arrive(state, 9, 8) == ["8", "9", "10"]


def test_a_start_below_the_first_number_makes_what_waits_wait_for_its_own_gap() -> None:
    """The gap is now wider than it was."""
    state = lines(first=2)
    assert arrive(state, 4, 0) == ["0"]
    assert state.expire(math.inf) == Expiry(("4",), (Gap("k", 1, 3),))


def test_what_is_as_old_as_what_was_delivered_is_dropped() -> None:
    """It would go back in time."""
    state = lines()
    arrive(state, 1, 2)
    assert state.arrive("k", 2, "again", 0.0) == Arrival(dropped="older")
    assert state.arrive("k", 1, "again", 0.0) == Arrival(dropped="older")


def test_a_number_that_waits_already_is_dropped_as_a_duplicate() -> None:
    """The one that came first is the one that is delivered."""
    state = lines()
    state.arrive("k", 2, "first", 0.0)
    assert state.arrive("k", 2, "second", 0.0) == Arrival(dropped="duplicate")
    assert state.arrive("k", 1, "one", 0.0).ready == ("one", "first")


def test_keys_do_not_know_of_each_other() -> None:
    """The same number of another key is another event."""
    state = lines()
    assert state.arrive("a", 2, "a2", 0.0) == Arrival()
    assert state.arrive("b", 2, "b2", 0.0) == Arrival()
    assert state.arrive("a", 1, "a1", 0.0).ready == ("a1", "a2")
    assert state.expire(math.inf) == Expiry(("b2",), (Gap("b", 1, 1),))


def test_a_gap_is_given_up_when_the_timeout_is_over() -> None:
    """At the deadline and not before."""
    state = lines(timeout=5.0)
    arrive(state, 1)
    arrive(state, 4, now=10.0)
    assert state.deadline() == 15.0
    assert state.expire(14.999) == Expiry()
    assert state.expire(15.0) == Expiry(("4",), (Gap("k", 2, 3),))
    assert state.deadline() is None


def test_what_is_missing_and_comes_after_its_gap_was_given_up_is_older() -> None:
    """The line has moved on."""
    state = lines()
    arrive(state, 1, 3)
    state.expire(math.inf)
    assert state.arrive("k", 2, "two", 9.0) == Arrival(dropped="older")
    assert state.arrive("k", 4, "four", 9.0).ready == ("four",)


def test_the_gap_before_a_key_has_begun_starts_at_the_first_number() -> None:
    """Nothing was delivered, and everything from there on is missing."""
    state = lines(first=5)
    arrive(state, 8)
    assert state.expire(math.inf) == Expiry(("8",), (Gap("k", 5, 7),))


def test_nothing_waits_longer_than_the_timeout_behind_however_many_gaps() -> None:
    """The one that came first was behind both, so both are given up for it."""
    state = lines(timeout=5.0)
    arrive(state, 1)
    arrive(state, 5, now=0.0)
    arrive(state, 3, now=4.0)
    assert state.expire(5.0) == Expiry(("3", "5"), (Gap("k", 2, 2), Gap("k", 4, 4)))


def test_a_gap_with_younger_waiters_only_is_kept() -> None:
    """It has its own time to be filled."""
    state = lines(timeout=5.0)
    arrive(state, 1)
    arrive(state, 3, now=0.0)
    arrive(state, 5, now=4.0)
    assert state.expire(5.0) == Expiry(("3",), (Gap("k", 2, 2),))
    assert state.deadline() == 9.0
    assert arrive(state, 4, now=8.0) == ["4", "5"]


def test_the_deadline_is_that_of_the_longest_waiting_of_all_keys() -> None:
    """When it is delivered the next one counts."""
    state = lines(timeout=5.0)
    state.arrive("a", 2, "a2", 1.0)
    state.arrive("b", 2, "b2", 2.0)
    assert state.deadline() == 6.0
    state.arrive("a", 1, "a1", 3.0)
    assert state.deadline() == 7.0


def test_a_clock_that_goes_back_stands_still() -> None:
    """Who came later is never due earlier."""
    state = lines(timeout=5.0)
    state.arrive("a", 2, "a2", 10.0)
    state.arrive("b", 2, "b2", 3.0)
    assert state.deadline() == 15.0
    assert state.arrive("a", 1, "a1", 4.0).ready == ("a1", "a2")
    assert state.deadline() == 15.0


def test_too_many_waiting_give_up_the_gap_before_them() -> None:
    """The line moves on to the smallest number that is there, were it the one just come."""
    state = lines(max_waiting=2)
    arrive(state, 1, 6, 5)
    assert state.arrive("k", 3, "3", 0.0) == Arrival(("3",), gaps=(Gap("k", 2, 2),))
    assert state.arrive("k", 9, "9", 0.0) == Arrival(("5", "6"), gaps=(Gap("k", 4, 4),))
    assert state.arrive("k", 7, "7", 0.0) == Arrival(("7",))


def test_each_key_may_have_so_many_waiting() -> None:
    """One key's gap costs the others nothing."""
    state = lines(max_waiting=1)
    assert state.arrive("a", 2, "a2", 0.0) == Arrival()
    assert state.arrive("b", 2, "b2", 0.0) == Arrival()
    assert state.arrive("a", 5, "a5", 0.0) == Arrival(("a2",), gaps=(Gap("a", 1, 1),))


def test_the_key_unused_for_longest_is_forgotten() -> None:
    """It begins anew when it comes again, and those in use go on."""
    state = lines(max_keys=2)
    for key in ("a", "b", "a", "c"):
        state.arrive(key, 1, key, 0.0)
    assert state.arrive("b", 1, "again", 0.0) == Arrival(("again",))
    assert state.arrive("c", 1, "again", 0.0) == Arrival(dropped="older")


def test_being_asked_for_counts_as_use() -> None:
    """Even if what came was dropped."""
    state = lines(max_keys=2)
    for key in ("a", "b", "a", "c"):
        state.arrive(key, 1, key, 0.0)
    assert state.arrive("a", 1, "again", 0.0) == Arrival(dropped="older")


def test_a_key_with_something_waiting_is_never_forgotten() -> None:
    """However many others come, and it can be forgotten once nothing waits any more."""
    state = lines(max_keys=1)
    state.arrive("a", 2, "a2", 0.0)
    for key in "bcde":
        state.arrive(key, 1, key, 0.0)
    assert state.arrive("a", 1, "a1", 0.0).ready == ("a1", "a2")
    state.arrive("b", 1, "b", 0.0)
    assert state.arrive("a", 1, "a1", 0.0).ready == ("a1",)


def test_a_key_whose_gap_was_given_up_can_be_forgotten() -> None:
    """Nothing of it waits any more."""
    state = lines(max_keys=1)
    state.arrive("a", 2, "a2", 0.0)
    state.expire(math.inf)
    state.arrive("b", 1, "b", 0.0)
    assert state.arrive("a", 1, "a1", 0.0) == Arrival(("a1",))


@pytest.mark.parametrize(
    ("by", "event"),
    [
        ("number", Numbered(7)),
        ("number", {"number": 7}),
        ("number", MappingProxyType({"number": 7})),
        (lambda event: event.number + 1, Numbered(6)),
    ],
)
def test_the_number_is_found_by_attribute_key_or_function(
    by: str | Callable[[Any], int], event: object
) -> None:
    """Events may be objects or mappings, and a function can look anywhere."""
    assert Resequence(by).sequence_of(event) == 7


@pytest.mark.parametrize("number", ["7", 7.0, True, None])
def test_a_number_that_is_no_int_is_a_type_error(number: object) -> None:
    """The error names the place, the event and what was found."""
    complaint = r"Resequence\(by='number'\): .* of Numbered to be an int, got .*\(\w+\)"
    with pytest.raises(TypeError, match=complaint):
        Resequence("number").sequence_of(Numbered(number))


@pytest.mark.parametrize("event", [{"count": 7}, {}, object(), None])
def test_an_event_without_a_number_is_a_type_error(event: object) -> None:
    """The error shows the event."""
    with pytest.raises(TypeError, match=r"Resequence\(by='number'\): expected the event to hold"):
        Resequence("number").sequence_of(event)


def test_the_reason_why_an_attribute_is_missing_is_kept() -> None:
    """A property that fails is the cause of the error."""
    with pytest.raises(TypeError) as caught:
        Resequence("broken").sequence_of(Numbered(7))
    assert str(caught.value.__cause__) == "not there yet"


def test_what_a_function_raises_passes_through() -> None:
    """It is the user's own error, and says more than ours could."""
    with pytest.raises(ZeroDivisionError):
        Resequence(lambda event: event // 0).sequence_of(1)


def test_a_resequence_takes_a_timedelta_and_holds_seconds() -> None:
    """Both spellings make equal policies."""
    assert Resequence("number", timedelta(seconds=5)) == Resequence("number")
    assert Resequence("number").timeout == 5.0


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"by": ""}, "Resequence.by: expected the name of an attribute, or a function, got ''"),
        ({"by": 7}, "Resequence.by: expected the name of an attribute, or a function, got 7"),
        ({"timeout": -1}, "Resequence.timeout: expected seconds"),
        ({"timeout": None}, "Resequence.timeout: expected seconds"),
        ({"first": True}, "Resequence.first: expected an int, got True"),
        ({"first": 1.0}, "Resequence.first: expected an int"),
        ({"max_waiting": 0}, "Resequence.max_waiting: expected an int of at least 1, got 0"),
        ({"max_keys": 0}, "Resequence.max_keys: expected an int of at least 1, got 0"),
    ],
)
def test_a_resequence_of_nonsense_is_refused(fields: dict[str, Any], complaint: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidPolicy, match=complaint):
        Resequence(**{"by": "number", **fields})
