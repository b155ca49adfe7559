"""The breaker: open after failures in a row, probed once after the cooldown."""

from datetime import timedelta
from typing import Any

import pytest

from headwater.errors import InvalidPolicy
from headwater.policies import Breaker
from headwater.policies.breaker import BreakerState


def opened(failures: int = 2, cooldown: float = 10.0) -> BreakerState:
    """Return a breaker that opened at time 0."""
    breaker = BreakerState(Breaker(failures, cooldown))
    for _ in range(failures):
        assert breaker.allows(0.0)
        breaker.failed(0.0)
    assert breaker.state == "open"
    return breaker


def test_a_new_breaker_is_closed_and_lets_everything_pass() -> None:
    """Nothing has failed yet."""
    breaker = BreakerState(Breaker())
    assert (breaker.state, breaker.failures, breaker.period) == ("closed", 0, 0)
    assert all(breaker.allows(0.0) for _ in range(100))


def test_failures_in_a_row_open_it_and_the_last_one_says_so() -> None:
    """Only the failure that opens it reports True."""
    breaker = BreakerState(Breaker(failures=3))
    assert [breaker.failed(0.0) for _ in range(3)] == [False, False, True]
    assert breaker.state == "open"
    assert breaker.failures == 3


def test_a_success_ends_the_row() -> None:
    """What counts is failures with nothing good between them."""
    breaker = BreakerState(Breaker(failures=2))
    breaker.failed(0.0)
    assert breaker.succeeded() is False
    assert breaker.failures == 0
    assert breaker.failed(0.0) is False


def test_while_open_nothing_passes_until_the_cooldown_is_over() -> None:
    """At the very end of the cooldown the first caller passes."""
    breaker = opened(cooldown=10.0)
    assert not breaker.allows(9.999)
    assert breaker.state == "open"
    assert breaker.allows(10.0)


def test_exactly_one_caller_probes() -> None:
    """The others wait for its report."""
    breaker = opened()
    assert [breaker.allows(10.0) for _ in range(3)] == [True, False, False]
    assert breaker.state == "half_open"
    assert not breaker.allows(1e9)


def test_a_probe_that_succeeds_closes_it() -> None:
    """Its report says so, and the row of failures begins anew."""
    breaker = opened(failures=2)
    breaker.allows(10.0)
    assert breaker.succeeded() is True
    assert (breaker.state, breaker.failures) == ("closed", 0)
    assert breaker.failed(11.0) is False


def test_a_probe_that_fails_opens_it_for_another_cooldown() -> None:
    """The new cooldown begins with the failure, not with the probe."""
    breaker = opened(failures=2, cooldown=10.0)
    breaker.allows(10.0)
    assert breaker.failed(12.0) is True
    assert (breaker.state, breaker.failures) == ("open", 3)
    assert not breaker.allows(21.9)
    assert breaker.allows(22.0)


def test_an_abandoned_probe_gives_its_place_to_the_next_caller() -> None:
    """The cooldown is over already, so nobody waits for it again."""
    breaker = opened()
    breaker.allows(10.0)
    breaker.abandoned()
    assert breaker.state == "open"
    assert [breaker.allows(10.0) for _ in range(2)] == [True, False]


def test_any_other_abandoned_call_changes_nothing() -> None:
    """Neither while closed nor while open."""
    breaker = BreakerState(Breaker(failures=2))
    breaker.failed(0.0)
    breaker.abandoned()
    assert (breaker.state, breaker.failures) == ("closed", 1)
    breaker = opened()
    breaker.abandoned()
    assert (breaker.state, breaker.allows(9.0)) == ("open", False)


def test_a_late_failure_neither_opens_it_twice_nor_extends_the_cooldown() -> None:
    """Calls that began while it was closed may end while it is open."""
    breaker = opened(cooldown=10.0)
    assert breaker.failed(5.0) is False
    assert breaker.failures == 2
    assert breaker.allows(10.0)


def test_a_late_success_does_not_close_it() -> None:
    """Only a probe can."""
    breaker = opened()
    assert breaker.succeeded() is False
    assert breaker.state == "open"


def test_a_call_of_an_earlier_period_is_not_taken_for_the_probe() -> None:
    """A caller that runs several calls hands back the period in which each was allowed."""
    breaker = BreakerState(Breaker(failures=1, cooldown=10.0))
    assert breaker.allows(0.0)
    slow = breaker.period
    breaker.failed(0.0, slow)
    assert breaker.allows(10.0)
    probe = breaker.period
    assert breaker.failed(11.0, slow) is False
    assert breaker.succeeded(slow) is False
    breaker.abandoned(slow)
    assert breaker.state == "half_open"
    assert breaker.succeeded(probe) is True


def test_the_news_of_an_earlier_period_does_not_count_after_closing() -> None:
    """What failed before the breaker opened says nothing about after it has closed."""
    breaker = BreakerState(Breaker(failures=1, cooldown=10.0))
    slow = breaker.period
    breaker.failed(0.0)
    breaker.allows(10.0)
    breaker.succeeded()
    assert breaker.failed(11.0, slow) is False
    assert (breaker.state, breaker.failures) == ("closed", 0)


def test_an_abandoned_probe_that_reports_after_all_is_not_heard() -> None:
    """Its place was given away."""
    breaker = opened()
    breaker.allows(10.0)
    first = breaker.period
    breaker.abandoned(first)
    breaker.allows(10.0)
    assert breaker.failed(11.0, first) is False
    assert breaker.state == "half_open"


def test_without_a_cooldown_the_next_caller_probes() -> None:
    """A cooldown of 0 is one that is over at once."""
    assert opened(cooldown=0.0).allows(0.0)


def test_a_breaker_takes_a_timedelta_and_holds_seconds() -> None:
    """Both spellings make equal policies."""
    assert Breaker(5, timedelta(seconds=30)) == Breaker()
    assert Breaker().cooldown == 30.0


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"failures": 0}, "Breaker.failures: expected an int of at least 1, got 0"),
        ({"failures": 2.0}, "Breaker.failures: expected an int"),
        ({"cooldown": -0.1}, "Breaker.cooldown: expected seconds"),
        ({"cooldown": False}, "Breaker.cooldown: expected seconds"),
    ],
)
def test_a_breaker_of_nonsense_is_refused(fields: dict[str, Any], complaint: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidPolicy, match=complaint):
        Breaker(**fields)
