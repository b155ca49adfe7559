"""Retry: whether a failed attempt is made again, and after how long.

The wait grows exponentially and is then drawn evenly between nothing and its full length. That
"full jitter" spreads the retries of a crowd that failed together, where a fixed wait would bring
them all back in the same instant (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture
Blog, 2015). Nothing here waits or draws: the caller brings the random number and does the waiting,
so the same failure with the same draw always has the same answer. Attempts are counted from 1 and
the first try is one of them.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

from headwater.policies.duration import Duration, seconds
from headwater.policies.field import finite, instance, refused, whole

Errors: TypeAlias = type[Exception] | tuple[type[Exception], ...]
"""What a user may write for "these errors": an exception class, or a tuple of them."""

LARGEST_GROWTH = 709.0
"""The natural logarithm of nearly the largest float: e**709 still is one, e**710 is not."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt.

    The longest wait before retry n is `initial * factor ** (n - 1)`, and never more than `maximum`.

    Args:
        initial: The longest wait before the first retry, in seconds or as a timedelta,
            default 0.5. With 0 every retry comes at once.
        factor: By how much each wait is longer than the one before, at least 1, default 2.
        maximum: What no wait exceeds, in seconds or as a timedelta, default 60.
        jitter: Whether the wait is drawn between 0 and its longest, default True.

    Raises:
        InvalidPolicy: If a field holds nonsense.
    """

    initial: Duration = 0.5
    factor: float = 2.0
    maximum: Duration = 60.0
    jitter: bool = True

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "initial", seconds(self.initial, "Backoff.initial"))
        put(self, "factor", finite(self.factor, "Backoff.factor", least=1.0))
        put(self, "maximum", seconds(self.maximum, "Backoff.maximum"))
        instance(self.jitter, "Backoff.jitter", bool)

    def delay(self, retry: int, draw: float) -> float:
        """Return the seconds to wait before one retry.

        Args:
            retry: Which retry it is; 1 is the one after the first failure.
            draw: A random number, at least 0 and less than 1; ignored without jitter.

        Returns:
            Seconds, at least 0 and at most `maximum`. With jitter a draw of 0 gives the longest
            wait, so that a retry never comes at once unless `initial` or `maximum` is 0.
        """
        longest = self._longest(retry)
        return longest * (1.0 - draw) if self.jitter else longest

    def _longest(self, retry: int) -> float:
        """Return the wait before jitter.

        The exponent stops where the power would no longer fit a float, so a handler that has
        failed for years still gets an answer. By then the wait is `maximum` long since.
        """
        growth = math.log(self.factor)
        furthest = max(1, int(LARGEST_GROWTH / growth)) if growth else 0
        exponent = min(max(retry, 1) - 1, furthest)
        initial = seconds(self.initial, "Backoff.initial")
        return min(seconds(self.maximum, "Backoff.maximum"), initial * self.factor**exponent)


@dataclass(frozen=True, slots=True)
class Retry:
    """Which failures are tried again, how often, and how far apart.

    Args:
        max_attempts: How many attempts there are at most, the first try counted; at least 1,
            default 5.
        backoff: How long to wait between them.
        on: The errors worth another attempt, a class or a tuple of classes, default every
            Exception. What is no Exception (KeyboardInterrupt, a cancellation) is never retried.
        give_up_on: The errors among them that are not, default none.

    Raises:
        InvalidPolicy: If a field holds nonsense.
    """

    max_attempts: int = 5
    backoff: Backoff = Backoff()
    on: Errors = Exception
    give_up_on: Errors = ()

    def __post_init__(self) -> None:
        whole(self.max_attempts, "Retry.max_attempts")
        instance(self.backoff, "Retry.backoff", Backoff)
        _check_errors(self.on, "Retry.on")
        _check_errors(self.give_up_on, "Retry.give_up_on")

    def delay(self, error: BaseException, attempt: int, draw: float) -> float | None:
        """Decide about a failed attempt.

        Args:
            error: What the attempt raised.
            attempt: Which attempt it was, counted from 1.
            draw: A random number, at least 0 and less than 1.

        Returns:
            The seconds to wait before the next attempt, or None to give up.
        """
        if attempt >= self.max_attempts:
            return None
        if isinstance(error, self.give_up_on) or not isinstance(error, self.on):
            return None
        return self.backoff.delay(attempt, draw)


def _check_errors(value: Errors, name: str) -> None:
    """Refuse whatever is neither an exception class nor a tuple of them."""
    for one in value if isinstance(value, tuple) else (value,):
        if not _is_error(one):
            raise refused(name, "a subclass of Exception, or a tuple of them", one)


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)
