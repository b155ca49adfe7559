"""Transactions that pass the seam: the engine's, lent to us, and the user's, lent to the engine."""

from collections.abc import Callable
from typing import Any, Protocol

from headwater.envelope import Envelope

Done = Callable[[BaseException | None], None]
"""Is told that a transaction is stored, or why it is not."""


class Loan(Protocol):
    """A transaction of the engine, lent to one handler or block of code."""

    connection: Any

    def publish(self, envelope: Envelope, due: float | None) -> None:
        """Store an event in this transaction."""
        ...

    def is_new(
        self, subscription: str, event_id: str, topic: str, lane: int, position: int
    ) -> bool:
        """Note that an event is handled in this transaction; false if it was before."""
        ...

    def give_back(self, *, commit: bool, done: Done) -> None:
        """Commit or roll back; `done` is told when that has happened."""
        ...


class Guests(Protocol):
    """Connections of the user's to the very database that the log is in."""

    def admits(self, file: str) -> bool:
        """Whether a database's file is the log's; refused if nobody else may write to it."""
        ...

    def append(self, connection: Any, envelope: Envelope, due: float | None) -> bool:
        """Store an event in the transaction of a connection; false if that cannot be done."""
        ...


Granted = Callable[[Loan | BaseException], None]
"""Is given a transaction, or told why there is none."""
