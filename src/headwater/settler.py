"""Settling: everything that has come together while the last settlement was under way.

On the bus's I/O loop. What cannot be stored now is tried again, without end: the handlers have done
their work, and nothing else is begun meanwhile than the lanes' credit allows.
"""

import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence

from headwater import failpoint
from headwater.bookkeeping import Bookkeeping
from headwater.consumer import Consumer
from headwater.errors import Fenced, HeadwaterError
from headwater.ledger import Handled
from headwater.runtime import Rarely, call_after
from headwater.strand import Strand, Told
from headwater.transport import Settlement, Transport

log = logging.getLogger("headwater")

AGAIN, AT_MOST = 0.25, 5.0
"""Seconds between two tries to settle, at first and at most."""
ENOUGH = 256
"""Events that are settled together while more are under way, unless it takes too long."""
GATHER = 0.004
"""Seconds that they are waited for."""
COMPLAINTS = 10.0
"""Seconds between two lines in the log about an engine in trouble."""

Batch = list[tuple[Strand, Settlement, list[Told]]]


class Settler:
    """Settles what one bus has handled.

    Args:
        books: says what there is to settle.
        transport: stores it.
        loop: the bus's I/O loop.
        lose: called with a strand that belongs to another process.
        settled: called when something was settled.
    """

    def __init__(
        self,
        books: Bookkeeping,
        transport: Transport,
        loop: AbstractEventLoop,
        lose: Callable[[Strand], None],
        settled: Callable[[], None],
    ) -> None:
        self.busy = False
        self._books = books
        self._transport = transport
        self._loop = loop
        self._lose = lose
        self._settled = settled
        self._gathering = False
        self._failures = 0
        self._rarely = Rarely(COMPLAINTS)

    def settle(self) -> None:
        """Settle what there is, unless that is under way, or more is about to come."""
        if self.busy or self._gathering:
            return
        if self._books.finished < ENOUGH and self._books.many_under_way:
            self._gathering = True
            call_after(self._loop, GATHER, self._gathered)
        else:
            self._settle()

    def _gathered(self) -> None:
        self._gathering = False
        if not self.busy:
            self._settle()

    def _settle(self) -> None:
        self._books.finished = 0
        batch: Batch = []
        for consumer in self._books.consumers.values():
            for strand in consumer.strands.values():
                if strand.dirty:
                    batch.append((strand, *_settlement(consumer, strand)))
        if not batch:
            return
        failpoint.reach("settle.before")
        self.busy = True

        def done(errors: Sequence[BaseException | None]) -> None:
            try:
                self._loop.call_soon_threadsafe(self._answered, batch, errors)
            except RuntimeError:  # The bus is closed.
                self.busy = False

        self._transport.settle([settlement for _, settlement, _ in batch], done)

    def _answered(self, batch: Batch, errors: Sequence[BaseException | None]) -> None:
        self.busy = False
        failpoint.reach("settle.after")
        trouble: BaseException | None = None
        for (strand, settlement, told), error in zip(batch, errors, strict=True):
            if error is None:
                _stored(strand, settlement, told)
            elif isinstance(error, Fenced) or strand.gone:
                strand.put_back(settlement, told)
                self._lose(strand)
            else:
                trouble = error
                strand.put_back(settlement, told)
        if trouble is None:
            self._failures = 0
            self._settled()
        else:
            self.complain(trouble)
            self._later()

    def _later(self) -> None:
        self._failures += 1
        wait = min(AT_MOST, AGAIN * 2 ** min(self._failures, 10))
        self.busy = True

        def again() -> None:
            self.busy = False
            self.settle()

        call_after(self._loop, wait, again)

    def complain(self, error: BaseException) -> None:
        """Log trouble with the engine, one line in ten seconds."""
        if self._rarely():
            known = isinstance(error, HeadwaterError)
            log.error("transport_trouble error=%r", error, exc_info=None if known else error)


def _settlement(consumer: Consumer, strand: Strand) -> tuple[Settlement, list[Told]]:
    settlement, told = strand.settlement()
    if consumer.subscription.options.transaction is True:
        forget = Handled(*strand.lane, settlement.position)
        settlement = settlement._replace(changes=[*settlement.changes, forget])
    return settlement, told


def _stored(strand: Strand, settlement: Settlement, told: list[Told]) -> None:
    if settlement.claim > strand.claim:
        strand.claim = settlement.claim
        failpoint.reach("claim.committed")
    for tell in told:
        tell(None)
