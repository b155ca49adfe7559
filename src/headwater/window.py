"""What a process has taken from one lane and not settled yet. Pure.

Events are taken in order and finish in any order. Everything before the first unfinished one is
settled by moving the lane's position there; what finished beyond it is told as a list, so that a
process that takes the lane over need not do it again.
"""

from collections import deque
from collections.abc import Sequence


class Window:
    """The unfinished events of one lane.

    Args:
        position: everything up to here is settled.
        done: positions beyond it that are settled too.

    Attributes:
        end: everything up to here was taken or passed over.
    """

    def __init__(self, position: int, done: frozenset[int] = frozenset()) -> None:
        self.end = position
        self._settled_before = set(done)
        self._taken: deque[int] = deque()
        self._done: set[int] = set()
        self._position = position

    def __len__(self) -> int:
        return len(self._taken) - len(self._done)

    def was_done(self, position: int) -> bool:
        """Whether the owner before had settled this very event."""
        return position in self._settled_before

    def take(self, position: int) -> None:
        """The next event of the lane is under way."""
        self._taken.append(position)

    def pass_over(self, end: int) -> None:
        """There is nothing more to take up to `end`."""
        self.end = max(self.end, end)

    def finish(self, position: int) -> None:
        """An event that was taken is finished."""
        self._done.add(position)

    @property
    def position(self) -> int:
        """Everything up to here is settled."""
        taken, done = self._taken, self._done
        while taken and taken[0] in done:
            self._position = taken.popleft()
            done.discard(self._position)
        if not taken:
            self._position = max(self._position, self.end)
        else:
            self._position = max(self._position, min(taken[0] - 1, self.end))
        return self._position

    @property
    def done(self) -> Sequence[int]:
        """What is settled beyond `position`, in order."""
        position = self.position
        earlier = {place for place in self._settled_before if place > position}
        self._settled_before = earlier
        return sorted(self._done | earlier)

    @property
    def span(self) -> int:
        """How many events are kept in mind, finished ones included."""
        return len(self._taken)
