"""What an event passes before its handler: sequence, rate, lane.

Pure, like the policies it is made of: a function of state, time and input, and the answer is a
list of effects for the caller to carry out, in order. The caller guards it with one lock and
calls `tick` at `deadline`.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, Literal, TypeVar

from headwater.lanes import Lanes
from headwater.policies import Rate, Resequence
from headwater.policies.rate import RateState
from headwater.policies.resequence import Gap, ResequenceState

T = TypeVar("T", bound=Hashable)

Verb = Literal["start", "queue", "defer", "drop", "gap"]

Effect = tuple[Verb, T, str | Gap]
"""Something to be done with an item, and why.

``start`` its handler; ``queue``: it waits in its lane; ``defer``: it waits for ``resequence`` or
``rate``; ``drop`` it as ``older``, as a ``duplicate`` or because of the ``rate``; ``gap``: numbers
were given up before it. A plain tuple, because every event with a key makes one.
"""

Numbered = tuple[T, str | None, int]
"""An item, its key and its sequence number."""


class Intake(Generic[T]):
    """The way in to one subscription.

    Args:
        resequence: put back into order by sequence number first.
        rate: then let through at most so many per time.
        concurrency: then run at most so many at once, and one per key.
    """

    def __init__(
        self, resequence: Resequence | None, rate: Rate | None, concurrency: int | None
    ) -> None:
        self._sequence: ResequenceState[Numbered[T]] | None = (
            None if resequence is None else ResequenceState(resequence)
        )
        self._rate = None if rate is None else RateState(rate)
        self._delayed: deque[tuple[float, T, str | None]] = deque()
        self.lanes: Lanes[T] = Lanes(concurrency)
        self.waiting: set[T] = set()
        """What waits for time to pass: for its place in a sequence, or for its rate."""

    def arrive(self, item: T, key: str | None, sequence: int, now: float) -> list[Effect[T]]:
        """A new item; `sequence` counts only with a `Resequence`."""
        if self._sequence is None:
            return self._pace(item, key, now)
        arrival = self._sequence.arrive(key, sequence, (item, key, sequence), now)
        if arrival.dropped is not None:
            return [("drop", item, arrival.dropped)]
        effects = _gaps(arrival.gaps, arrival.ready)
        if not any(ready is item for ready, _, _ in arrival.ready):
            self.waiting.add(item)
            effects.append(("defer", item, "resequence"))
        for ready, its_key, _ in arrival.ready:
            effects.extend(self._pace(ready, its_key, now))
        return effects

    def tick(self, now: float) -> list[Effect[T]]:
        """Time has passed: let go what is due."""
        effects: list[Effect[T]] = []
        while self._delayed and self._delayed[0][0] <= now:
            _, item, key = self._delayed.popleft()
            effects.append(self._enter(item, key))
        if self._sequence is not None:
            expiry = self._sequence.expire(now)
            effects.extend(_gaps(expiry.gaps, expiry.ready))
            for item, key, _ in expiry.ready:
                effects.extend(self._pace(item, key, now))
        return effects

    def deadline(self) -> float | None:
        """When `tick` has something to do; None while nothing waits for time."""
        times = [self._delayed[0][0]] if self._delayed else []
        expires = self._sequence.deadline() if self._sequence is not None else None
        if expires is not None:
            times.append(expires)
        return min(times, default=None)

    def rest(self, item: T) -> list[Effect[T]]:
        """`item` waits for another attempt: it keeps its key and gives its credit to others."""
        return [("start", other, "") for other in self.lanes.rest(item)]

    def wake(self, item: T) -> list[Effect[T]]:
        """`item` wants its next attempt."""
        return [("start" if self.lanes.wake(item) else "queue", item, "")]

    def leave(self, item: T, key: str | None) -> list[Effect[T]]:
        """`item` is finished."""
        return [("start", other, "") for other in self.lanes.leave(item, key)]

    def _pace(self, item: T, key: str | None, now: float) -> list[Effect[T]]:
        if self._rate is None:
            return [self._enter(item, key)]
        wait = self._rate.take(now)
        if wait is None:
            self.waiting.discard(item)
            return [("drop", item, "rate")]
        if wait == 0 and not self._delayed:
            return [self._enter(item, key)]
        # Behind those that wait already, even if its own time has come: their timer is due.
        self._delayed.append((now + wait, item, key))
        self.waiting.add(item)
        return [("defer", item, "rate")]

    def _enter(self, item: T, key: str | None) -> Effect[T]:
        self.waiting.discard(item)
        return ("start" if self.lanes.enter(item, key) else "queue", item, "")


def _gaps(gaps: Iterable[Gap], ready: Iterable[Numbered[T]]) -> list[Effect[T]]:
    """Each gap goes with the item that comes after it."""
    items: dict[tuple[Hashable, int], T] = {(key, number): item for item, key, number in ready}
    return [("gap", items[gap.key, gap.last_missing + 1], gap) for gap in gaps]
