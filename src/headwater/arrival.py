"""A delivery that came out of a log, and what its handler has published meanwhile."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from headwater.context import Context
from headwater.deliver import Deliverer, Delivery
from headwater.envelope import Decode, Envelope, unseal
from headwater.message import Message
from headwater.policies.identity import derived
from headwater.receipt import Receipt
from headwater.strand import Strand
from headwater.subscription import Subscription
from headwater.transport import Loan


class Arrival(Delivery):
    """One event of a log on its way to one subscription.

    Attributes:
        position: its place in the log.
        envelope: as it came.
        strand: the lane it came by.
        entered: whether it came out of the ledger, and so is settled already as far as the lane
            is concerned.
        counted: whether the ledger holds a count of its attempts.
        alone: whether it runs alone because it may have killed the process before.
        loan: the transaction that its handler was lent.
        transaction: the same, as the handler sees it.
        recalled: whether it was taken back, and its result does not count.
        decode: finds what builds its event.
        refused: why it cannot be handled at all: it does not decode, say.
        lasted: seconds that its last attempt took.
        published: what its handler has published in this attempt.
        left: is told, when it is over, whether what it published is stored with its settlement.
    """

    entered = False
    counted = False
    alone = False
    recalled = False
    refused: BaseException | None = None
    decode: Callable[[Envelope], Decode] | None = None
    lasted = 0.0
    loan: Loan | None = None
    transaction: Any = None
    left: Callable[[bool], None] | None = None

    def __init__(
        self,
        driver: Deliverer,
        message: Message,
        subscription: Subscription,
        envelope: Envelope,
        position: int,
        strand: Strand,
    ) -> None:
        super().__init__(driver, message, subscription, NOBODY, None)
        self.envelope = envelope
        self.position = position
        self.strand = strand
        self.published: list[tuple[Envelope, float | None]] | None = []
        self._repeats: Counter[str] | None = None

    @property
    def special(self) -> bool:
        """Whether its end takes more than to settle it."""
        return self.alone or self.recalled or self.loan is not None

    @property
    def waits_to_begin(self) -> bool:
        """Whether its handler has not begun, or rests before its next attempt."""
        return self.ticket is None or self.resting

    @property
    def context(self) -> Context:
        """What the handler and its middleware see."""
        context = super().context
        context.position = self.position
        context.transaction = self.transaction
        return context

    def staging(self, bus: object) -> bool:
        """Whether what is published on `bus` now waits for this delivery's success."""
        return self.published is not None and self._driver.bus is bus

    def stage(self, envelope: Envelope, due: float | None) -> None:
        """Keep an event until the handler has succeeded."""
        if self.published is not None:
            self.published.append((envelope, due))

    def derived_id(self, name: str, key: str | None, data: bytes) -> str:
        """The id of an event that its handler publishes; the same at each attempt."""
        if self._repeats is None:
            self._repeats = Counter()
        digest = derived(self.message.id, self.subscription.name, name, key, data)
        number = self._repeats[digest]
        self._repeats[digest] += 1
        return digest if not number else derived(digest, str(number), name, key, b"")

    def begin_attempt(self) -> None:
        """Forget what an earlier attempt published, and what it did to the event."""
        if self.ticket is not None and self.decode is not None:
            self.message.event = unseal(self.envelope, self.decode(self.envelope))
        self.published = []
        self._repeats = None

    def finish(self) -> None:
        """It is settled; or taken back, or given up, and what it published was not taken."""
        super().finish()
        left, self.left = self.left, None
        if left is not None:
            left(self.published is None and not self.recalled)

    def take_published(self) -> list[tuple[Envelope, float | None]]:
        """What the handler has published; what it publishes from now on leaves at once."""
        published, self.published = self.published or [], None
        return published


class _Nobody(Receipt):
    """Nobody waits for a delivery out of a log: its publisher has long gone on."""

    is_shared = True

    def __init__(self) -> None:
        super().__init__()
        self.seal()

    def settle(self, delivery: Any, error: BaseException | None = None) -> None:
        """Nobody to tell."""

    def fail(self, error: BaseException) -> None:
        """Nobody to tell."""

    def defer(self, delivery: Any) -> bool:
        """It is seen by observers all the same."""
        return True


NOBODY = _Nobody()
