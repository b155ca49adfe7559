"""Time that a test moves by hand.

Handlers run for real, on real loops and in real threads; only the clock, the timers and the
draws of jitter are the test's. Nothing waits: a retry in an hour comes when the test says that
an hour has passed.
"""

import heapq
import itertools
from asyncio import AbstractEventLoop
from collections.abc import Callable

from headwater.runtime import Lock, Runtime, Timer


class VirtualRuntime(Runtime):
    """A runtime for ``Bus(runtime=...)`` whose time stands still until `advance`.

    Args:
        start: the wall clock at the beginning, in seconds since 1970, UTC.
        draws: what `draw` gives, again and again; 0.0 makes a jittered backoff its longest.
    """

    def __init__(self, start: float = 1_700_000_000.0, draws: tuple[float, ...] = (0.0,)) -> None:
        super().__init__()
        self._start = start
        self._elapsed = 0.0
        self._draws = itertools.cycle(draws)
        self._timers: list[tuple[float, int, _VirtualTimer]] = []
        self._numbers = itertools.count()
        self._timers_lock = Lock()

    def now(self) -> float:
        """The wall clock, as far as it was advanced."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds since the start, as far as they were advanced."""
        return self._elapsed

    def draw(self) -> float:
        """The next of the given draws."""
        return next(self._draws)

    def call_at(
        self,
        when: float,
        callback: Callable[[], None],
        loop: AbstractEventLoop | None = None,
    ) -> Timer:
        """Call `callback` in the thread that advances the time to `when`."""
        timer = _VirtualTimer(callback)
        with self._timers_lock:
            heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    @property
    def waiting(self) -> list[float]:
        """The monotonic times of the timers that are set, earliest first."""
        with self._timers_lock:
            return sorted(when for when, _, timer in self._timers if timer.callback is not None)

    def advance(self, seconds: float) -> None:
        """Let time pass: every timer that comes due is called, in order, at its own time."""
        until = self._elapsed + seconds
        while (timer := self._next(until)) is not None:
            timer.fire()
        self._elapsed = until

    def _next(self, until: float) -> "_VirtualTimer | None":
        with self._timers_lock:
            if not self._timers or self._timers[0][0] > until:
                return None
            when, _, timer = heapq.heappop(self._timers)
            self._elapsed = max(self._elapsed, when)
            return timer


class _VirtualTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def fire(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()
