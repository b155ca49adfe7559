"""The rate: a burst at once, then one per interval, the rest delayed or shed."""

from datetime import timedelta
from typing import Any

import pytest

from headwater.errors import InvalidPolicy
from headwater.policies import Rate
from headwater.policies.rate import RateState


def test_a_burst_runs_at_once_and_the_rest_waits_in_line() -> None:
    """Each waits one interval longer than the one before."""
    rate = RateState(Rate(limit=4))
    assert [rate.take(100.0) for _ in range(7)] == [0.0, 0.0, 0.0, 0.0, 0.25, 0.5, 0.75]


def test_shedding_drops_what_cannot_run_now() -> None:
    """What was dropped takes nothing from those that come after."""
    rate = RateState(Rate(limit=2, overflow="shed"))
    assert [rate.take(0.0) for _ in range(5)] == [0.0, 0.0, None, None, None]
    assert rate.take(0.5) == 0.0
    assert rate.take(0.5) is None


def test_a_pause_fills_the_bucket_and_never_beyond_the_burst() -> None:
    """After an hour of silence the burst is as large as at first."""
    rate = RateState(Rate(limit=3, overflow="shed"))
    rate.take(0.0)
    assert [rate.take(3600.0) for _ in range(4)] == [0.0, 0.0, 0.0, None]


def test_a_short_pause_fills_the_bucket_by_as_much() -> None:
    """Half the time gives back half the burst."""
    rate = RateState(Rate(limit=4, overflow="shed"))
    assert [rate.take(0.0) for _ in range(4)] == [0.0] * 4
    assert [rate.take(0.5) for _ in range(3)] == [0.0, 0.0, None]


def test_less_than_one_per_second_still_lets_one_go() -> None:
    """A burst is never less than one."""
    rate = RateState(Rate(limit=0.5))
    assert [rate.take(0.0) for _ in range(3)] == [0.0, 2.0, 4.0]


def test_a_limit_between_whole_numbers_keeps_its_long_run_average() -> None:
    """With 2.5 per second two go at once and the third when half a token more is there."""
    rate = RateState(Rate(limit=2.5))
    assert [rate.take(0.0) for _ in range(5)] == pytest.approx([0.0, 0.0, 0.2, 0.6, 1.0])


def test_only_so_many_may_wait() -> None:
    """What comes on top is shed until one of those that wait has gone."""
    rate = RateState(Rate(limit=1, max_delayed=2))
    assert [rate.take(0.0) for _ in range(4)] == [0.0, 1.0, 2.0, None]
    assert rate.take(0.999) is None
    assert rate.take(1.0) == 2.0
    assert rate.take(1.0) is None


def test_a_clock_that_goes_back_stands_still() -> None:
    """It gives no tokens, and nobody gets ahead of one that asked before."""
    rate = RateState(Rate(limit=1))
    assert rate.take(10.0) == 0.0
    assert rate.take(3.0) == 1.0
    assert rate.take(10.0) == 2.0


@pytest.mark.parametrize("start", [0.0, 123_456.789])
def test_a_million_takes_on_time_never_wait(start: float) -> None:
    """The intervals are counted and not summed, so nothing drifts."""
    rate = RateState(Rate(limit=10, overflow="shed"))
    for _ in range(10):
        assert rate.take(start) == 0.0
    assert all(rate.take(start + number / 10) == 0.0 for number in range(1, 500_001))


def test_what_was_delayed_goes_on_time_after_any_number_of_takes() -> None:
    """The last of a long line leaves when an exact computation says."""
    rate = RateState(Rate(limit=3, per=0.7, max_delayed=100_000))
    for _ in range(100_002):
        rate.take(0.0)
    assert rate.take(0.0) == pytest.approx(100_000 * 0.7 / 3, rel=1e-15)


def test_a_rate_takes_a_timedelta_and_holds_seconds() -> None:
    """Both spellings make equal policies."""
    assert Rate(5, timedelta(minutes=1)) == Rate(limit=5, per=60.0)
    assert Rate(5, timedelta(minutes=1)).per == 60.0


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"limit": 0}, "Rate.limit: expected a finite number above 0, got 0"),
        ({"limit": True}, "Rate.limit: expected a finite number above 0"),
        ({"limit": 10**400}, "Rate.limit: expected a finite number above 0"),
        ({"limit": 1, "per": 0}, "Rate.per: expected seconds .* above 0, got 0"),
        ({"limit": 1, "per": timedelta(0)}, "Rate.per: expected seconds"),
        ({"limit": 1e-200, "per": 1e200}, "Rate.per / Rate.limit: expected seconds"),
        ({"limit": 1e200, "per": 1e-200}, "Rate.per / Rate.limit: expected seconds"),
        ({"limit": 1, "overflow": "drop"}, "Rate.overflow: expected 'delay' or 'shed', got 'drop'"),
        ({"limit": 1, "overflow": []}, "Rate.overflow: expected 'delay' or 'shed'"),
        ({"limit": 1, "max_delayed": 0}, "Rate.max_delayed: expected an int of at least 1"),
    ],
)
def test_a_rate_of_nonsense_is_refused(fields: dict[str, Any], complaint: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidPolicy, match=complaint):
        Rate(**fields)
