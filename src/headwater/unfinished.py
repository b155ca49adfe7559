"""Everything a bus has accepted and not finished, and those who wait until that is nothing."""

import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

from headwater.errors import Overloaded
from headwater.receipt import Receipt

T = TypeVar("T", bound=Hashable)

_kept: dict[int, set[Any]] = {}
"""The items of every bus. An empty set keeps nothing alive; one with items keeps them, and through
them their bus, even if nobody else remembers it."""


class Unfinished(Generic[T]):
    """A bounded set; adding and removing are atomic, so that it needs no lock.

    It also keeps its items, and what they hold (tasks), from being garbage-collected.

    Args:
        limit: how many it may hold.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.items: set[T] = set()
        _kept[id(self.items)] = self.items
        weakref.finalize(self, _kept.pop, id(self.items)).atexit = False
        self.gates: list[Receipt] = []
        """Who waits for it to be empty."""
        self.add: Callable[[T], None] = self.items.add
        """One more."""

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self.items))

    def check_room(self, more: int) -> None:
        """Refuse `more` items that would not fit.

        Raises:
            Overloaded: they do not.
        """
        if len(self.items) + more > self.limit:
            raise Overloaded(len(self.items), self.limit)

    def discard(self, item: T) -> None:
        """One less; the last one opens the gates."""
        self.items.discard(item)
        if self.gates and not self.items:
            self.open()

    def empty(self) -> Receipt:
        """A receipt that is done when there is nothing left."""
        gate = Receipt()
        self.gates.append(gate)
        if not self.items:  # Perhaps since before the append.
            self.open()
        return gate

    def open(self) -> None:
        """It is empty: let everybody through."""
        while self.gates:
            try:
                self.gates.pop().sealed()
            except IndexError:
                return
