"""Properties of the rate, and the rate against exact arithmetic."""

import math
from fractions import Fraction
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from headwater.policies import Rate
from headwater.policies.rate import RateState

limits = st.integers(1, 20) | st.floats(min_value=0.1, max_value=50)
pers = st.floats(min_value=0.01, max_value=100)
steps = st.lists(st.sampled_from([0.0, 0.0, 1e-9]) | st.floats(0, 30), min_size=1, max_size=60)
overflows = st.sampled_from(["delay", "shed"])


def taken(rate: RateState, times: list[float]) -> list[float]:
    """Return when each of those that were let go runs, in the order of asking."""
    waits = ((now, rate.take(now)) for now in times)
    return [now + wait for now, wait in waits if wait is not None]


def until_shed(rate: RateState, now: float) -> int:
    """Return how many get through at once, asking until one does not."""
    count = 0
    while rate.take(now) is not None:
        count += 1
    return count


@given(limits, pers, overflows, steps)
def test_no_window_holds_more_than_a_burst_and_what_was_gained_in_it(
    limit: float, per: float, overflow: str, gaps: list[float]
) -> None:
    """At most `limit + limit * window / per`, so twice the limit in a window of `per`."""
    policy = Rate(limit, per, overflow)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    releases = taken(RateState(policy), list(accumulate(gaps)))
    burst = max(1.0, limit)
    for first, start in enumerate(releases):
        for last, end in enumerate(releases[first:], start=1):
            assert last <= math.floor(burst + limit * (end - start) / per + 1e-6)


@given(limits, pers, overflows, st.lists(st.floats(-1e3, 1e6), min_size=1, max_size=60))
def test_nobody_gets_ahead_even_if_the_clock_goes_back(
    limit: float, per: float, overflow: str, times: list[float]
) -> None:
    """Counted on a clock that stands still instead, releases follow the order of asking."""
    rate = RateState(Rate(limit, per, overflow))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    waits = zip(accumulate(times, max), map(rate.take, times), strict=True)
    releases = [now + wait for now, wait in waits if wait is not None]
    assert all(earlier <= later for earlier, later in pairwise(releases))


@given(limits, pers, steps)
def test_each_leaves_when_exact_arithmetic_says(
    limit: float, per: float, gaps: list[float]
) -> None:
    """Neither earlier nor later than a cell rate algorithm in fractions would let it go."""
    rate = RateState(Rate(limit, per, max_delayed=1000))
    interval = Fraction(per) / Fraction(limit)
    tolerance = interval * (max(Fraction(1), Fraction(limit)) - 1)
    theoretical = Fraction(0)
    for now in accumulate(gaps):
        release = max(Fraction(now), theoretical - tolerance)
        theoretical = max(Fraction(now), theoretical) + interval
        wait = rate.take(now)
        assert wait is not None
        assert abs(Fraction(now) + Fraction(wait) - release) < 1e-6


@given(st.integers(1, 20), st.integers(1, 10), steps)
def test_no_more_wait_than_may_and_none_is_shed_before(
    limit: int, max_delayed: int, gaps: list[float]
) -> None:
    """One is shed exactly if, of those before it, so many have not gone yet."""
    rate = RateState(Rate(limit, max_delayed=max_delayed))
    releases: list[float] = []
    for now in accumulate(gaps):
        waiting = sum(release > now for release in releases)
        wait = rate.take(now)
        if wait is None:
            assert waiting == max_delayed
        else:
            assert waiting + (wait > 0) <= max_delayed
            releases.append(now + wait)


@given(limits, pers, steps)
def test_what_was_shed_costs_nothing(limit: float, per: float, gaps: list[float]) -> None:
    """Asking again and again in vain gets no fewer through than asking in vain once."""
    impatient, patient = (RateState(Rate(limit, per, "shed")) for _ in range(2))
    for now in accumulate(gaps):
        through = [wait for wait in (impatient.take(now) for _ in range(60)) if wait is not None]
        assert set(through) <= {0.0}
        assert len(through) == until_shed(patient, now)
