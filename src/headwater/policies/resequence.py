"""Resequence: put events that arrive out of order back into order, by the user's own numbers.

Each key has a line of its own. What carries the number that is expected next is ready at once,
together with everything behind it that was only waiting for it. What carries a later number waits
behind the gap. A gap is given up, with a record, when the event that has waited longest behind it
has waited for the timeout, or when too many wait; then the line moves on to the smallest number
that is there. What comes after its place was passed is dropped as older, and a number that is
waiting already is dropped as a duplicate (Hohpe and Woolf, "Enterprise Integration Patterns",
Resequencer).

Everything that waits stands in one list in the order of arrival, so the next deadline is always
that of the first, and finding it costs the same with one key as with ten thousand.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from headwater.policies.duration import Duration, seconds
from headwater.policies.field import refused, shown, whole

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resequence:
    """How to put events of one key back into order.

    Args:
        by: Where an event keeps its sequence number: the name of an attribute (of a key, if the
            event is a mapping), or a function from the event to the number.
        timeout: How long an event waits behind a gap at most, in seconds or as a timedelta,
            default 5.
        first: The number that a key begins with, default 1.
        max_waiting: How many events of one key may wait at once, at least 1, default 1,000.
        max_keys: How many keys with nothing waiting are remembered, at least 1, default 10,000. The
            one unused for longest is forgotten first, and begins at `first` when it comes again.

    Raises:
        InvalidPolicy: If a field holds nonsense.
    """

    by: str | Callable[[Any], int]
    timeout: Duration = 5.0
    first: int = 1
    max_waiting: int = 1000
    max_keys: int = 10_000

    def __post_init__(self) -> None:
        if not _locates(self.by):
            raise refused("Resequence.by", "the name of an attribute, or a function", self.by)
        object.__setattr__(self, "timeout", seconds(self.timeout, "Resequence.timeout"))
        whole(self.first, "Resequence.first", least=None)
        whole(self.max_waiting, "Resequence.max_waiting")
        whole(self.max_keys, "Resequence.max_keys")

    def sequence_of(self, event: object) -> int:
        """Read the sequence number of an event.

        Args:
            event: The event, as its handler will see it.

        Returns:
            The number.

        Raises:
            TypeError: If the event has no such attribute or key, or what it has is no int. What a
                function given as `by` raises passes through.
        """
        number = _named(event, self.by) if isinstance(self.by, str) else self.by(event)
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(
                f"Resequence(by={self.by!r}): expected the sequence number of "
                f"{type(event).__name__} to be an int, got {shown(number)}"
            )
        return number


class Gap(NamedTuple):
    """Numbers of one key that were given up: they had not come when the line moved on.

    Attributes:
        key: The key.
        first_missing: The smallest of them.
        last_missing: The largest of them.
    """

    key: Hashable
    first_missing: int
    last_missing: int


class Arrival(NamedTuple, Generic[T]):
    """What follows from one arrival, all of it about the key that arrived.

    Attributes:
        ready: What is to be delivered now, in this order; it may be empty, and need not hold what
            has just arrived.
        dropped: Why the arrival is not kept: "older" at or before what the line has passed,
            "duplicate" of one that waits, None if it is kept.
        gaps: What was given up because too many were waiting.
    """

    ready: tuple[T, ...] = ()
    dropped: Literal["older", "duplicate"] | None = None
    gaps: tuple[Gap, ...] = ()


class Expiry(NamedTuple, Generic[T]):
    """What follows from the passing of time, for any number of keys.

    Attributes:
        ready: What is to be delivered now, in this order.
        gaps: What was given up to get there.
    """

    ready: tuple[T, ...] = ()
    gaps: tuple[Gap, ...] = ()


class _Line:
    """One key: the number expected next, None before the first delivery, and a heap of others."""

    __slots__ = ("expected", "waiting")

    def __init__(self) -> None:
        self.expected: int | None = None
        self.waiting: list[int] = []


class ResequenceState(Generic[T]):
    """The lines of all keys of one subscription. It holds items and never looks into them.

    Args:
        policy: The rules it follows.
    """

    __slots__ = (
        "_clock",
        "_first",
        "_idle",
        "_lines",
        "_max_keys",
        "_max_waiting",
        "_timeout",
        "_waiting",
    )

    def __init__(self, policy: Resequence) -> None:
        self._timeout = seconds(policy.timeout, "Resequence.timeout")
        self._first = policy.first
        self._max_waiting = policy.max_waiting
        self._max_keys = policy.max_keys
        self._clock = -math.inf
        self._lines: dict[Hashable, _Line] = {}
        self._idle: OrderedDict[Hashable, None] = OrderedDict()
        """The keys with nothing waiting, the one unused for longest first."""
        self._waiting: OrderedDict[tuple[Hashable, int], tuple[float, T]] = OrderedDict()
        """All that waits and since when, in the order of arrival."""

    def arrive(self, key: Hashable, sequence: int, item: T, now: float) -> Arrival[T]:
        """Take in one event.

        As long as nothing of its key was delivered, every number up to `first` is ready at once
        and the line begins with it. A larger one waits for those from `first` on.

        Args:
            key: What its number is unique in.
            sequence: Its number.
            item: What to give back when its turn comes.
            now: The time in seconds. One that is older than the latest seen counts as the latest.

        Returns:
            What is ready, dropped and given up by it.
        """
        self._clock = max(self._clock, now)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        arrival = self._place(key, line, sequence, item)
        self._remember(key, line)
        return arrival

    def expire(self, now: float) -> Expiry[T]:
        """Give up every gap behind which something has waited for the timeout.

        Args:
            now: The time in seconds; with `math.inf` everything that waits comes out.

        Returns:
            What is ready and what was given up by it.
        """
        ready: list[T] = []
        gaps: list[Gap] = []
        while self._waiting and self._due() <= now:
            key, _ = next(iter(self._waiting))
            line = self._lines[key]
            gaps.append(self._give_up(key, line))
            ready.extend(self._contiguous(key, line))
            self._remember(key, line)
        return Expiry(tuple(ready), tuple(gaps))

    def deadline(self) -> float | None:
        """Return the time at which `expire` has something to do, or None if nothing waits."""
        return self._due() if self._waiting else None

    def _place(self, key: Hashable, line: _Line, sequence: int, item: T) -> Arrival[T]:
        """Decide where an arrival goes: out, away, or behind a gap."""
        if line.expected is not None and sequence < line.expected:
            return Arrival(dropped="older")
        if (key, sequence) in self._waiting:
            return Arrival(dropped="duplicate")
        if sequence == line.expected or (line.expected is None and sequence <= self._first):
            line.expected = sequence + 1
            return Arrival((item, *self._contiguous(key, line)))
        self._waiting[key, sequence] = (self._clock, item)
        heappush(line.waiting, sequence)
        if len(line.waiting) <= self._max_waiting:
            return Arrival()
        gap = self._give_up(key, line)
        return Arrival(self._contiguous(key, line), gaps=(gap,))

    def _give_up(self, key: Hashable, line: _Line) -> Gap:
        """Move a line on to the smallest number that waits in it."""
        missing = self._first if line.expected is None else line.expected
        line.expected = line.waiting[0]
        return Gap(key, missing, line.expected - 1)

    def _contiguous(self, key: Hashable, line: _Line) -> tuple[T, ...]:
        """Take out what is expected now, and all that follows it without a gap."""
        ready: list[T] = []
        while line.waiting and line.waiting[0] == line.expected:
            line.expected = heappop(line.waiting) + 1
            ready.append(self._waiting.pop((key, line.expected - 1))[1])
        return tuple(ready)

    def _remember(self, key: Hashable, line: _Line) -> None:
        """Note that a key was used, and forget the one unused for longest if they are too many."""
        if line.waiting:
            self._idle.pop(key, None)
            return
        self._idle[key] = None
        self._idle.move_to_end(key)
        if len(self._idle) > self._max_keys:
            del self._lines[self._idle.popitem(last=False)[0]]

    def _due(self) -> float:
        """Return when the event that has waited longest will have waited for the timeout."""
        return next(iter(self._waiting.values()))[0] + self._timeout


def _locates(by: object) -> bool:
    """Tell whether a sequence number can be found with it."""
    return callable(by) or (isinstance(by, str) and by != "")


def _named(event: Any, name: str) -> object:
    """Return what an event holds under a name."""
    mapped = issubclass(type(event), Mapping)
    try:
        return event[name] if mapped else getattr(event, name)
    except (AttributeError, KeyError) as error:
        raise TypeError(
            f"Resequence(by={name!r}): expected the event to hold its sequence number there, "
            f"got {shown(event)}"
        ) from error
