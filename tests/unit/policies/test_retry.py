"""Retry and its backoff: who gets another attempt, and when."""

import dataclasses
import pickle
from datetime import timedelta
from typing import Any

import pytest

from headwater.errors import InvalidPolicy
from headwater.policies import Backoff, Retry

PLAIN = Backoff(initial=0.5, factor=2, maximum=60, jitter=False)


def test_each_wait_is_longer_by_the_factor_until_the_maximum() -> None:
    """Without jitter the waits are exact."""
    waits = [PLAIN.delay(retry, 0.0) for retry in range(1, 10)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_jitter_draws_between_nothing_and_the_whole_wait() -> None:
    """A draw of 0 gives the longest wait, one close to 1 nearly none."""
    backoff = Backoff(initial=8)
    assert backoff.delay(1, 0.0) == 8.0
    assert backoff.delay(1, 0.25) == 6.0
    assert 0 < backoff.delay(1, 1 - 2**-53) < 1e-14


def test_without_jitter_the_draw_is_ignored() -> None:
    """The same retry waits equally long whatever was drawn."""
    assert PLAIN.delay(3, 0.9) == PLAIN.delay(3, 0.1) == 2.0


def test_a_handler_that_has_failed_for_years_still_gets_its_wait() -> None:
    """The power would not fit a float; the wait is the maximum long since."""
    assert PLAIN.delay(5_000, 0.0) == 60.0
    assert PLAIN.delay(10**400, 0.0) == 60.0
    assert Backoff(factor=1e308, jitter=False).delay(10**400, 0.0) == 60.0


def test_a_factor_of_one_keeps_the_wait_the_same() -> None:
    """Constant waits are a backoff too."""
    backoff = Backoff(initial=3, factor=1, jitter=False)
    assert [backoff.delay(retry, 0.0) for retry in (1, 2, 10**6)] == [3.0, 3.0, 3.0]


def test_an_initial_wait_of_nothing_retries_at_once() -> None:
    """Zero times any power is zero."""
    assert Backoff(initial=0).delay(10**6, 0.0) == 0.0


def test_the_maximum_wins_over_a_longer_initial_wait() -> None:
    """The first wait is capped like every other."""
    assert Backoff(initial=5, maximum=2, jitter=False).delay(1, 0.0) == 2.0


def test_a_retry_before_the_first_counts_as_the_first() -> None:
    """No number makes the wait shorter than the first."""
    assert PLAIN.delay(0, 0.0) == PLAIN.delay(-(10**400), 0.0) == 0.5


def test_a_backoff_takes_timedeltas_and_holds_seconds() -> None:
    """Both spellings make equal policies."""
    backoff = Backoff(timedelta(milliseconds=500), 2, timedelta(minutes=1), jitter=True)
    assert backoff == Backoff()
    assert (backoff.initial, backoff.maximum) == (0.5, 60.0)


def test_attempts_end_with_the_last_allowed_and_the_first_try_counts() -> None:
    """With three attempts there are two waits."""
    retry = Retry(max_attempts=3, backoff=PLAIN)
    assert [retry.delay(OSError(), attempt, 0.0) for attempt in (1, 2, 3, 4)] == [
        0.5,
        1.0,
        None,
        None,
    ]


def test_one_attempt_is_never_retried() -> None:
    """The first try is the last."""
    assert Retry(max_attempts=1).delay(OSError(), 1, 0.0) is None


def test_only_the_errors_named_are_retried() -> None:
    """Subclasses belong to their class, and a tuple names several."""
    retry = Retry(on=(OSError, KeyError), backoff=PLAIN)
    assert retry.delay(ConnectionError(), 1, 0.0) == 0.5
    assert retry.delay(KeyError(), 1, 0.0) == 0.5
    assert retry.delay(ValueError(), 1, 0.0) is None


def test_giving_up_wins_over_retrying() -> None:
    """An error that is named on both sides is given up."""
    retry = Retry(on=OSError, give_up_on=(FileNotFoundError, PermissionError))
    assert retry.delay(FileNotFoundError(), 1, 0.0) is None
    assert Retry(on=OSError, give_up_on=FileNotFoundError).delay(PermissionError(), 1, 0.0) == 0.5


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_is_no_exception_is_never_retried(error: BaseException) -> None:
    """Leaving the program is not a failure of the handler."""
    assert Retry().delay(error, 1, 0.0) is None


def test_policies_are_values() -> None:
    """Equal fields make equal, hashable, frozen, copyable policies."""
    retry = Retry(3, Backoff(1), OSError, KeyError)
    assert retry == Retry(
        max_attempts=3, backoff=Backoff(initial=1.0), on=OSError, give_up_on=KeyError
    )
    assert hash(retry) == hash(dataclasses.replace(retry))
    assert pickle.loads(pickle.dumps(retry)) == retry  # noqa: S301 -- pickled a moment ago
    assert not hasattr(retry, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        retry.max_attempts = 4  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"initial": -1}, "Backoff.initial: expected seconds"),
        ({"initial": "1"}, "Backoff.initial: expected seconds"),
        ({"factor": 0.5}, "Backoff.factor: expected a finite number of at least 1, got 0.5"),
        ({"factor": True}, "Backoff.factor: expected a finite number"),
        ({"maximum": float("inf")}, "Backoff.maximum: expected seconds"),
        ({"maximum": timedelta(-1)}, "Backoff.maximum: expected seconds"),
        ({"jitter": 1}, "Backoff.jitter: expected a bool, got 1"),
    ],
)
def test_a_backoff_of_nonsense_is_refused(fields: dict[str, Any], complaint: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidPolicy, match=complaint):
        Backoff(**fields)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"max_attempts": 0}, "Retry.max_attempts: expected an int of at least 1, got 0"),
        ({"max_attempts": True}, "Retry.max_attempts: expected an int"),
        ({"backoff": 5}, r"Retry.backoff: expected a Backoff, got 5 \(int\)"),
        ({"on": OSError()}, "Retry.on: expected a subclass of Exception"),
        ({"on": KeyboardInterrupt}, "Retry.on: expected a subclass of Exception"),
        ({"on": [OSError]}, "Retry.on: expected a subclass of Exception, or a tuple of them"),
        ({"on": (OSError, "KeyError")}, r"Retry.on: .* got 'KeyError' \(str\)"),
        ({"give_up_on": None}, "Retry.give_up_on: expected a subclass of Exception"),
        ({"give_up_on": (OSError, int)}, "Retry.give_up_on: expected a subclass of Exception"),
    ],
)
def test_a_retry_of_nonsense_is_refused(fields: dict[str, Any], complaint: str) -> None:
    """The error names the field, and of a tuple the part that is wrong."""
    with pytest.raises(InvalidPolicy, match=complaint):
        Retry(**fields)
