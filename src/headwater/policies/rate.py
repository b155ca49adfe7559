"""Rate: at most so many per so long, with a burst of the same size.

This is a bucket that holds `limit` tokens and gains `limit` more every `per` seconds, in the form
of the generic cell rate algorithm (ITU-T Recommendation I.371): there is no bucket and no refilling
timer, only the time at which the next one may run. In any stretch of `window` seconds at most
`limit + limit * window / per` are let go, which is twice the limit for a window of `per`.

A sum of a million intervals drifts, so the intervals are counted and multiplied instead: the n-th
since the bucket was last full goes n intervals after that moment, with a single rounding.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

from headwater.policies.duration import Duration, seconds
from headwater.policies.field import finite, refused, whole


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something may run, and what happens to the rest.

    Args:
        limit: How many may run per `per`, above 0; also the size of a burst, which is never less
            than one.
        per: The time that `limit` is about, in seconds or as a timedelta, default 1.
        overflow: "delay", the default, makes the rest wait in order; "shed" drops them.
        max_delayed: How many may wait at once, at least 1, default 1,000; what comes on top is
            shed.

    Raises:
        InvalidPolicy: If a field holds nonsense.
    """

    limit: float
    per: Duration = 1.0
    overflow: Literal["delay", "shed"] = "delay"
    max_delayed: int = 1000

    def __post_init__(self) -> None:
        limit = finite(self.limit, "Rate.limit", positive=True)
        per = seconds(self.per, "Rate.per", positive=True)
        seconds(per / limit, "Rate.per / Rate.limit", positive=True)
        object.__setattr__(self, "per", per)
        if self.overflow not in ("delay", "shed"):
            raise refused("Rate.overflow", "'delay' or 'shed'", self.overflow)
        whole(self.max_delayed, "Rate.max_delayed")


class RateState:
    """One rate at work.

    Args:
        policy: The rules it follows.
    """

    __slots__ = ("_burst", "_clock", "_delayed", "_full_at", "_limit", "_per", "_room", "_taken")

    def __init__(self, policy: Rate) -> None:
        self._limit = float(policy.limit)
        self._per = seconds(policy.per, "Rate.per")
        self._burst = max(1.0, self._limit)
        self._room = policy.max_delayed if policy.overflow == "delay" else 0
        self._delayed: deque[float] = deque()
        self._clock = -math.inf
        self._full_at = -math.inf
        self._taken = 0

    def take(self, now: float) -> float | None:
        """Ask for one to run.

        Args:
            now: The time in seconds. One that is older than the latest seen counts as the latest,
                because two threads may read the clock in one order and ask in the other.

        Returns:
            The seconds to wait before this one may run, 0.0 for now, never ahead of one that asked
            before; or None if it is shed, which takes nothing from those that come after.
        """
        self._clock = max(self._clock, now)
        if self._clock >= self._full_at + self._intervals(self._taken):
            self._full_at, self._taken = self._clock, 0
        release = self._full_at + self._intervals(self._taken + 1 - self._burst)
        if release <= self._clock:
            self._taken += 1
            return 0.0
        if not self._has_room():
            return None
        self._delayed.append(release)
        self._taken += 1
        return release - self._clock

    def _intervals(self, count: float) -> float:
        """Return how long it takes to gain so many tokens, in seconds."""
        return count * self._per / self._limit

    def _has_room(self) -> bool:
        """Tell whether one more may wait, after letting go of those whose time has come."""
        while self._delayed and self._delayed[0] <= self._clock:
            self._delayed.popleft()
        return len(self._delayed) < self._room
