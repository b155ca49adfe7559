"""Breaker: stop calling what keeps failing, and find out gently when it is well again.

A closed breaker lets every call pass and counts failures in a row. After so many it opens, and
calls are refused without being made. When the cooldown has passed, exactly one caller is let
through as the probe, which is what half-open means: if the probe succeeds the breaker closes, if it
fails the breaker opens for another cooldown (Michael Nygard, "Release It!").

Calls run side by side, so a report may come from a call that began in another age: before the
breaker opened, or before an earlier probe. Between two changes of state lies a *period*, and a
report counts only in the period in which its call was allowed. That one rule keeps a late failure
from opening the breaker twice, from extending the cooldown, and from being taken for the probe's.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from headwater.policies.duration import Duration, seconds
from headwater.policies.field import whole

State: TypeAlias = Literal["closed", "open", "half_open"]
"""The three states of a breaker."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """When to stop calling a handler that fails, and for how long.

    Args:
        failures: How many failures in a row open the breaker, at least 1, default 5.
        cooldown: How long it stays open before one call probes it, in seconds or as a timedelta,
            default 30.

    Raises:
        InvalidPolicy: If a field holds nonsense.
    """

    failures: int = 5
    cooldown: Duration = 30.0

    def __post_init__(self) -> None:
        whole(self.failures, "Breaker.failures")
        object.__setattr__(self, "cooldown", seconds(self.cooldown, "Breaker.cooldown"))


class BreakerState:
    """One breaker at work. Ask `allows` before each call, report what became of it after.

    A caller that runs one call at a time need not care about periods. One that runs several
    remembers `period` right after `allows` said yes and hands it back with the report.

    Args:
        policy: The rules it follows.
    """

    __slots__ = ("_cooldown", "_failures", "_period", "_probe_at", "_state", "_threshold")

    def __init__(self, policy: Breaker) -> None:
        self._threshold = policy.failures
        self._cooldown = seconds(policy.cooldown, "Breaker.cooldown")
        self._state: State = "closed"
        self._failures = 0
        self._period = 0
        self._probe_at = 0.0

    @property
    def state(self) -> State:
        """Whether calls pass: "closed", "open", or "half_open" while the probe is on its way."""
        return self._state

    @property
    def failures(self) -> int:
        """How many calls in a row have failed, the probes among them."""
        return self._failures

    @property
    def period(self) -> int:
        """The number of changes of state so far; a call belongs to the period it was allowed in."""
        return self._period

    def allows(self, now: float) -> bool:
        """Decide about a call that is about to be made.

        Args:
            now: The time in seconds, of any clock that does not go back.

        Returns:
            Whether to make the call. From an open breaker the first yes after the cooldown makes
            that call the probe, and nobody else gets one until the probe is reported.
        """
        if self._state == "closed":
            return True
        if self._state == "half_open" or now < self._probe_at:
            return False
        self._enter("half_open")
        return True

    def opens_again(self, now: float) -> float:
        """Seconds until the next call may pass, as far as that is known; 0 if one may now."""
        return 0.0 if self._state == "closed" else max(0.0, self._probe_at - now)

    def succeeded(self, period: int | None = None) -> bool:
        """Report a call that succeeded.

        Args:
            period: The period in which the call was allowed; None, the default, means this one.

        Returns:
            Whether this closed the breaker.
        """
        if not self._counts(period):
            return False
        self._failures = 0
        if self._state == "closed":
            return False
        self._enter("closed")
        return True

    def failed(self, now: float, period: int | None = None) -> bool:
        """Report a call that failed.

        Args:
            now: The time in seconds; a cooldown begins with it.
            period: The period in which the call was allowed; None, the default, means this one.

        Returns:
            Whether this opened the breaker, a probe that opened it again included.
        """
        if not self._counts(period):
            return False
        self._failures += 1
        if self._state == "closed" and self._failures < self._threshold:
            return False
        self._probe_at = now + self._cooldown
        self._enter("open")
        return True

    def abandoned(self, period: int | None = None) -> None:
        """Report a call that ended without an answer: cancelled, say, or never started.

        An abandoned probe gives its place to the next caller; any other call changes nothing.

        Args:
            period: The period in which the call was allowed; None, the default, means this one.
        """
        if self._state == "half_open" and self._counts(period):
            self._enter("open")

    def _counts(self, period: int | None) -> bool:
        """Tell whether a report is about now: while open no call was allowed, so none can be."""
        return self._state != "open" and (period is None or period == self._period)

    def _enter(self, state: State) -> None:
        self._state = state
        self._period += 1
