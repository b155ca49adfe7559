"""Storms: a story that feeds on itself is ended before it eats the process.

A story is everything that follows from one first event. It is bounded in depth (how long a
chain of causes may be) and in number of events in this process. Past either bound the story is
over: what is published in it afterwards is refused at once, so that a branching storm folds up
instead of being cut one leaf at a time.
"""

import itertools
from collections.abc import Sequence

MAX_DEPTH = 64
MAX_STORY = 100_000
DEEP = 16
"""From this depth on, it is the story that a RecursionError comes from, not one handler's code."""


class Story:
    """All events of one correlation, counted.

    The counter is a C iterator: taking a number from it is atomic, in every thread.
    """

    __slots__ = ("_numbers", "ended", "overflowed")

    def __init__(self) -> None:
        self._numbers = itertools.count(2)  # Its first event is there when it is made.
        self.ended: str | None = None
        """Why the story was ended; None while it goes on."""
        self.overflowed = False
        """Whether its handlers, one inside the other, have used up Python's stack."""

    def admit(self, depth: int, max_depth: int, max_story: int) -> str | None:
        """Count one more event at `depth`.

        Returns:
            None when it may be published, else why not; the story is ended from then on.
        """
        if self.ended is not None:
            return self.ended
        number = next(self._numbers)
        if self.overflowed:
            self.ended = "deeper than Python's stack"
        elif depth > max_depth:
            self.ended = f"deeper than max_depth={max_depth}"
        elif number > max_story:
            self.ended = f"more than max_story={max_story} events"
        return self.ended


def cycle(path: Sequence[str]) -> tuple[str, ...]:
    """The shortest run of names that repeats at the end of `path`, closed: ``(A, B, A)``.

    Without a repetition, the last five names.
    """
    for length in range(1, len(path) // 2 + 1):
        if list(path[-length:]) == list(path[-2 * length : -length]):
            run = tuple(path[-length:])
            return (*run, run[0])
    return tuple(path[-5:])
