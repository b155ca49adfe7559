"""The seam to engines: what a transport is told and what it tells.

A transport stores envelopes and hands them out again. It speaks lanes (one ordered strand of a
topic, for one subscription), epochs (who owns a lane, counted up at each change of owner) and
credit (how many events it may hand out). Keys, concurrency, retries, duplicates and dead letters
belong to the core (`consume`), and are the same on every engine.

Everything runs on the bus's I/O loop, except `publish`, `settle` and `borrow`, which may be called
from any thread and never block. Everything a consumer has to know comes out of `events` in one
order.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from headwater.capabilities import Capabilities
from headwater.lane import (
    Assigned,
    Batch,
    Event,
    Interest,
    Lane,
    Lost,
    Nudge,
    Outgoing,
    Progress,
    Received,
    Revoking,
    Settlement,
)
from headwater.ledger import Ledger
from headwater.lending import Done, Granted, Guests, Loan

__all__ = [
    "Assigned",
    "Batch",
    "Capabilities",
    "Confirmed",
    "Done",
    "Event",
    "Granted",
    "Guests",
    "Interest",
    "Lane",
    "Loan",
    "Lost",
    "Nudge",
    "Outgoing",
    "Progress",
    "Received",
    "Revoking",
    "Settled",
    "Settlement",
    "Transport",
]

Settled = Callable[[Sequence[BaseException | None]], None]
Confirmed = Callable[[Sequence[Any], BaseException | None], None]


class Transport(Protocol):
    """An engine behind the seam; see the module."""

    capabilities: Capabilities
    ledger: Ledger | None

    async def open(self, confirmed: Confirmed) -> None:
        """Connect; `confirmed` is told, in any thread, which tokens were stored, or why not."""
        ...

    async def close(self) -> None:
        """Store what was given, and let go; lanes that were released are free at once."""
        ...

    async def ensure(self, interests: Sequence[Interest]) -> Sequence[str]:
        """Register subscriptions; returns the names of those that were new."""
        ...

    async def subscribe(self, interest: Interest) -> None:
        """Compete for the lanes of a registered subscription."""
        ...

    async def unsubscribe(self, subscription: str) -> None:
        """Compete for them no longer."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """What happens, in order, until the transport is closed."""
        ...

    def publish(self, outgoing: Outgoing) -> None:
        """Store an event, once for each id."""
        ...

    def credit(self, lane: Lane, more: int) -> None:
        """Hand out so many events of a lane more."""
        ...

    def settle(self, settlements: Sequence[Settlement], done: Settled) -> None:
        """Settle, each lane all or nothing; `Fenced` for a lane that another process has."""
        ...

    async def release(self, lane: Lane, epoch: int) -> None:
        """Give up a lane in which nothing is under way."""
        ...

    def borrow(self, lane: Lane | None, epoch: int, granted: Granted) -> None:
        """Lend a transaction; `Fenced` if the borrower's lane is another process's."""
        ...

    async def read(
        self, topics: Sequence[str] | None, after: int, end: int | None, limit: int
    ) -> tuple[Sequence[Received], int]:
        """Past events after a position, and up to where these are all."""
        ...

    async def locate(self, time: float | None) -> int:
        """The position before the first event of a time; None: before what is still to come."""
        ...

    async def probe(self, subscriptions: Sequence[str]) -> Sequence[Progress]:
        """How far subscriptions are."""
        ...

    async def strangers(self, prefix: str, known: Sequence[str]) -> Sequence[str]:
        """Registered subscriptions whose names begin so and that are not known."""
        ...

    def watch(self, look: Callable[[], None]) -> Callable[[], None]:
        """Call something on the I/O loop when there may be new events; returns how to end it."""
        ...

    def abandon(self) -> None:
        """In the child of a fork: leave alone what the parent goes on using."""
        ...
