"""Properties of retry and backoff, for any numbers at all."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from headwater.policies import Backoff, Retry

durations = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
factors = st.floats(min_value=1, allow_nan=False, allow_infinity=False)
draws = st.floats(min_value=0, max_value=1, exclude_max=True)
backoffs = st.builds(Backoff, durations, factors, durations, st.booleans())
any_int = st.integers() | st.integers(min_value=10**300)
errors = st.sampled_from([OSError, FileNotFoundError, KeyError, ValueError, KeyboardInterrupt])


@given(backoffs, any_int, draws)
@example(Backoff(1e308, 1e308, 1e308), 10**400, 0.0)
@example(Backoff(5e-324, 1.0000000000000002, 1e308), 10**400, 0.0)
@example(Backoff(1.0, 2.0, 60.0), 1025, 0.5)
def test_a_wait_is_finite_never_negative_and_never_over_the_maximum(
    backoff: Backoff, retry: int, draw: float
) -> None:
    """No policy, no number of retries and no draw overflows."""
    delay = backoff.delay(retry, draw)
    assert math.isfinite(delay)
    assert isinstance(backoff.maximum, float)
    assert 0 <= delay <= backoff.maximum


@given(backoffs, st.integers(min_value=1, max_value=5_000), draws)
def test_no_wait_is_shorter_than_the_one_before(backoff: Backoff, retry: int, draw: float) -> None:
    """With the same draw, waiting never shrinks from retry to retry."""
    assert backoff.delay(retry, draw) <= backoff.delay(retry + 1, draw)


@given(
    st.floats(min_value=0.001, max_value=10),
    st.floats(min_value=1.1, max_value=1e300),
    st.floats(min_value=0.001, max_value=1e6),
)
def test_the_maximum_is_reached(initial: float, factor: float, maximum: float) -> None:
    """The exponent is stopped only after the wait has become as long as it may."""
    assert Backoff(initial, factor, maximum, jitter=False).delay(10**9, 0.0) == maximum


@given(st.integers(min_value=1, max_value=20), errors, errors, errors, draws)
def test_there_are_never_more_attempts_than_allowed(
    max_attempts: int, on: type, give_up_on: type, raised: type, draw: float
) -> None:
    """A handler that always fails is called exactly as often as its policy says."""
    if KeyboardInterrupt in (on, give_up_on):
        on, give_up_on = Exception, ValueError
    retry = Retry(max_attempts, Backoff(), on, give_up_on)
    attempts = 1
    while (delay := retry.delay(raised(), attempts, draw)) is not None:
        assert delay >= 0
        attempts += 1
    retried = issubclass(raised, on) and not issubclass(raised, give_up_on)
    assert attempts == (max_attempts if retried else 1)
