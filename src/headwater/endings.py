"""What the ends of handlers lead to.

Handlers end in any thread, and say so here; what follows is done on the bus's I/O loop, all that
has come together at once.
"""

import logging
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Iterable

from headwater import failpoint
from headwater.arrival import Arrival
from headwater.bookkeeping import Bookkeeping
from headwater.consumer import Consumer
from headwater.ledger import Change, Put, State
from headwater.runtime import Runtime, running_loop
from headwater.settling import SettlingLife
from headwater.transport import Granted, Transport

log = logging.getLogger("headwater")

Work = Callable[[Arrival], None]


class Endings:
    """The ends of the deliveries of one bus; `headwater.settling.Core`.

    Args:
        books: notes what becomes of them.
        transport: lends transactions.
        life: drives the deliveries.
        runtime: the clock.
        loop: the bus's I/O loop.
        go_on: called there with the consumers that something has ended for.
        alone_no_more: called there when a delivery that ran alone has ended.
    """

    def __init__(
        self,
        books: Bookkeeping,
        transport: Transport,
        life: SettlingLife,
        runtime: Runtime,
        loop: AbstractEventLoop,
        go_on: Callable[[Iterable[Consumer]], None],
        alone_no_more: Work,
    ) -> None:
        self._books = books
        self._transport = transport
        self._life = life
        self._runtime = runtime
        self._loop = loop
        self._go_on = go_on
        self._alone_no_more = alone_no_more
        self._posted: deque[tuple[Work, Arrival]] = deque()
        self._woken = False

    def __len__(self) -> int:
        return len(self._posted)

    def work(self) -> None:
        """Do now, on the I/O loop, what was posted, should the handlers' loop have ended."""
        if self._posted:
            self._work()

    # In any thread.

    def post(self, work: Work, arrival: Arrival) -> None:
        """Do something with a delivery on the I/O loop, soon."""
        self._posted.append((work, arrival))
        if self._woken:
            return
        self._woken = True
        loop = running_loop()
        if loop is None:
            self._wake()
        else:  # What else ends in this turn of the handlers' loop goes along.
            loop.call_soon(self._wake)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._work)
        except RuntimeError:  # The bus is closed: it is not settled, and comes again.
            self._posted.clear()

    def attempted(self, arrival: Arrival) -> None:
        """What ran alone has ended."""
        arrival.alone = False
        self.post(self._alone_no_more, arrival)

    def left(self, arrival: Arrival) -> None:
        """It has ended without an end: it comes again."""
        self.post(self._books.forget, arrival)

    def done(self, arrival: Arrival) -> None:
        """It is handled, and only its place is to be settled."""
        self.post(self._done, arrival)

    def publish_and_settle(self, arrival: Arrival) -> None:
        """It is handled, and what it published is to be stored."""
        self.post(self._publish, arrival)

    def count(self, arrival: Arrival, error: BaseException, delay: float) -> None:
        """It is to be handled again soon: note how often it was."""
        made = arrival.attempt
        self.post(lambda a: self._count(a, made, error, delay), arrival)

    def retry(self, arrival: Arrival, error: BaseException, delay: float) -> None:
        """It is to be handled again, by way of the ledger."""
        self.post(lambda a: self._retry(a, error, delay), arrival)

    def bury(self, arrival: Arrival, error: BaseException) -> None:
        """It is given up."""
        self.post(lambda a: self._bury(a, error), arrival)

    def borrow(self, arrival: Arrival, granted: Granted) -> None:
        """A transaction for its handler."""
        self._transport.borrow(arrival.strand.lane, arrival.strand.epoch, granted)

    # On the I/O loop.

    def _work(self) -> None:
        self._woken = False
        touched: dict[str, Consumer] = {}
        while self._posted:
            work, arrival = self._posted.popleft()
            try:
                work(arrival)
            except Exception:  # The others' ends must not be lost with it.
                log.critical("ending_failed handler=%s", arrival.subscription.name, exc_info=True)
            name = arrival.subscription.name
            if name not in touched and name in self._books.consumers:
                touched[name] = self._books.consumers[name]
        self._go_on(touched.values())

    def _done(self, arrival: Arrival) -> None:
        consumer = self._books.consumer_of(arrival)
        if consumer is None:
            return
        changes = self._books.erasing(arrival)
        self._books.settle(arrival)
        if changes:
            arrival.strand.add([], changes, lambda error: self._look(consumer, arrival, error))

    def _look(self, consumer: Consumer, arrival: Arrival, error: BaseException | None) -> None:
        """An entry of the ledger is gone: the next one of its key may have come due."""
        if arrival.entered and error is None:
            self._books.look_due(consumer)

    def _publish(self, arrival: Arrival) -> None:
        consumer = self._books.consumer_of(arrival)
        if consumer is None:
            self._books.recall(arrival)
            return
        changes = self._books.erasing(arrival)
        self._books.settle(arrival)
        failpoint.reach("stage.before")

        def stored(error: BaseException | None) -> None:
            if error is not None:
                self._life.recall(arrival)
                return
            self._life.release(arrival)
            self._look(consumer, arrival, None)

        arrival.strand.add(arrival.take_published(), changes, stored)

    def _count(self, arrival: Arrival, made: int, error: BaseException, delay: float) -> None:
        consumer = self._books.consumer_of(arrival)
        if consumer is None:
            return
        arrival.counted = True
        state: State = "retry" if arrival.entered else "count"
        due = self._runtime.calendar() + delay
        entry = consumer.entry(arrival, state, due=due, attempts=made, error=error)
        arrival.strand.add([], [Put(entry)], lambda error: failpoint.reach("retry.recorded"))

    def _retry(self, arrival: Arrival, error: BaseException, delay: float) -> None:
        consumer = self._books.consumer_of(arrival)
        if consumer is None:
            self._books.recall(arrival)
            return
        due = self._runtime.calendar() + delay
        entry = consumer.entry(arrival, "retry", due=due, attempts=arrival.attempt, error=error)

        def stored(error: BaseException | None) -> None:
            failpoint.reach("retry.recorded")
            if error is None:
                self._books.look_due(consumer)

        arrival.strand.add([], [Put(entry)], stored)
        self._books.hold(consumer, arrival)
        self._books.settle(arrival)
        self._life.recall(arrival)

    def _bury(self, arrival: Arrival, error: BaseException) -> None:
        consumer = self._books.consumer_of(arrival)
        if consumer is None:
            self._books.recall(arrival)
            return
        failpoint.reach("dead.before")
        parked = arrival.envelope.key is not None and (
            arrival.subscription.options.when_dead == "park"
        )
        attempts = arrival.attempt
        entry = consumer.entry(arrival, "dead", attempts=attempts, error=error, parked=parked)
        changes: list[Change] = []
        if arrival.entered and not parked:
            changes = self._books.erasing(arrival)  # Which arms the next one of its key.

        def stored(failure: BaseException | None) -> None:
            if failure is not None:
                self._life.recall(arrival)
                return
            failpoint.reach("dead.after")
            self._life.buried(arrival, error)
            self._books.look_due(consumer)

        arrival.strand.add([], [*changes, Put(entry)], stored)
        if parked:
            self._books.hold(consumer, arrival)
        self._books.settle(arrival)
