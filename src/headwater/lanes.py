"""Who may run now: at most one item per key, at most `concurrency` items at once.

Pure: no time, no threads, no calls into anything. The caller guards it with a lock of its own
and starts what it is told to start. An item that rests (a retry in its backoff) keeps its key,
so that nothing of that key overtakes it, and gives back its credit, so that other keys go on.
"""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Lanes(Generic[T]):
    """The lanes of one subscription.

    Args:
        concurrency: items that may run at once; None: as many as there are keys.
    """

    def __init__(self, concurrency: int | None = None) -> None:
        self._concurrency = concurrency
        self._running: dict[T, None] = {}
        self._holders: dict[str, T] = {}
        self._behind: dict[str, deque[T]] = {}
        self._ready: deque[T] = deque()  # Hold their key, if any, and wait for credit.
        self.queued = 0
        """How many wait behind the holder of their key."""

    def enter(self, item: T, key: str | None) -> bool:
        """Queue `item`; true if it may run now."""
        if key is not None:
            if key in self._holders:
                self._behind.setdefault(key, deque()).append(item)
                self.queued += 1
                return False
            self._holders[key] = item
        self._ready.append(item)
        return item in self._fill()

    def rest(self, item: T) -> list[T]:
        """`item` runs no longer but keeps its key; returns what may run now instead."""
        self._running.pop(item, None)
        return self._fill()

    def wake(self, item: T) -> bool:
        """A resting `item` wants to run again; true if it may now."""
        self._ready.append(item)
        return item in self._fill()

    def leave(self, item: T, key: str | None) -> list[T]:
        """`item` is finished, wherever it was; returns what may run now."""
        if item in self._running:
            del self._running[item]
        elif item in self._ready:
            self._ready.remove(item)
        if key is not None:
            self._pass_on(item, key)
        return self._fill()

    def behind(self, key: str | None) -> tuple[T, ...]:
        """What waits behind the holder of `key`, in order."""
        return tuple(self._behind.get(key, ())) if key is not None else ()

    def blockers(self, item: T, key: str | None) -> tuple[T, ...]:
        """What must leave or rest before `item` can run; nothing if it runs."""
        if item in self._running:
            return ()
        holder = None if key is None else self._holders.get(key)
        if holder is not None and holder is not item:
            return (holder,)
        return tuple(self._running) if item in self._ready else ()

    @property
    def idle(self) -> bool:
        """Whether nothing is in the lanes."""
        return not (self._running or self._holders or self._ready)

    def _fill(self) -> list[T]:
        started: list[T] = []
        limit = self._concurrency
        while self._ready and (limit is None or len(self._running) < limit):
            item = self._ready.popleft()
            self._running[item] = None
            started.append(item)
        return started

    def _pass_on(self, item: T, key: str) -> None:
        """Give the key to the next in line, or take `item` out of the line."""
        waiting = self._behind.get(key)
        if self._holders.get(key) is item:
            if waiting:
                self._holders[key] = waiting[0]
                self._ready.append(waiting.popleft())
                self.queued -= 1
            else:
                del self._holders[key]
        elif waiting and item in waiting:
            waiting.remove(item)
            self.queued -= 1
        if waiting is not None and not waiting:
            self._behind.pop(key, None)
