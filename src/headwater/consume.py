"""Delivery from a transport: receive, decode, begin. The core that all engines share.

It lives on the bus's I/O loop. Events come by lanes (`strand`) and are begun in order, as far as
the subscription has room, its keys are not held, and the lane's claim reaches: before an event is
begun, the engine has been told how far this process may have got, so that whoever takes over after
a crash knows which events may have caused it (`suspects`).

What the ends of handlers lead to is in `endings`, what is noted meanwhile in `bookkeeping`, the way
back to the engine in `settler`, and the way out of the ledger in `redelivery`.
"""

import logging
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Iterable

from headwater import failpoint
from headwater.arrival import Arrival
from headwater.bookkeeping import Bookkeeping
from headwater.consumer import Consumer
from headwater.endings import Endings
from headwater.errors import Fenced
from headwater.redelivery import Redelivery
from headwater.runtime import Runtime
from headwater.settler import Settler
from headwater.settling import SettlingLife
from headwater.strand import Strand
from headwater.suspects import Suspects
from headwater.transport import Assigned, Batch, Lane, Lost, Nudge, Revoking, Transport

log = logging.getLogger("headwater")

ROOM = 2
"""Deliveries under way per event handled at once: the next ones wait where handlers start."""


class Consumption:
    """What one bus takes from its transport.

    Args:
        transport: opened.
        life: drives the deliveries.
        runtime: clock and timers.
        loop: the bus's I/O loop.
    """

    def __init__(
        self, transport: Transport, life: SettlingLife, runtime: Runtime, loop: AbstractEventLoop
    ) -> None:
        self.books = books = Bookkeeping(transport, life)
        self.consumers = books.consumers
        self._transport = transport
        self._life = life
        self._runtime = runtime
        self._progress: list[Callable[[], None]] = []
        self._settler = Settler(books, transport, loop, self._give_up, self._settled)
        self._endings = Endings(
            books, transport, life, runtime, loop, self._go_on, self._alone_no_more
        )
        self._suspects = Suspects(books, life, self._admit, self._endings.bury)
        self._redelivery = Redelivery(
            books, transport.ledger, life, runtime, loop, self._settler.settle,
            self._settler.complain,
        )  # fmt: skip
        life.core, life.io = self._endings, loop
        life.has_ledger = transport.ledger is not None

    # What the transport says.

    async def listen(self) -> None:
        """Take what comes, until the transport is closed."""
        async for event in self._transport.events():
            try:
                if isinstance(event, Batch):
                    self._take(event)
                elif isinstance(event, Assigned):
                    await self._assigned(event)
                elif isinstance(event, Nudge):
                    for consumer in self.consumers.values():
                        self._redelivery.look(consumer)
                else:
                    self._leave_or_lose(event)
            except Exception as error:  # Nothing that comes may end the listening.
                self._settler.complain(error)

    async def _assigned(self, event: Assigned) -> None:
        consumer = self.consumers.get(event.lane.subscription)
        if consumer is None or self.books.stopping:
            await self._transport.release(event.lane, event.epoch)
            return
        attempts: dict[str, int] = {}
        if self._transport.ledger is not None:
            held = await self._transport.ledger.held(*event.lane)
            attempts = held.attempts
            consumer.held |= {(event.lane.topic, key) for key in held.keys}
        failpoint.reach("lane.assigned")
        consumer.strands[event.lane] = strand = Strand(event, attempts)
        self.books.renew(strand)
        self._redelivery.look(consumer)

    def _take(self, batch: Batch) -> None:
        found = self._find(batch.lane, batch.epoch)
        if found is None:
            return
        consumer, strand = found
        strand.weigh(batch.received)
        for received in batch.received:
            if strand.window.was_done(received.position) or not consumer.wants(received.envelope):
                strand.dirty = True
            else:
                strand.window.take(received.position)
                strand.queue.append(received)
        strand.window.pass_over(batch.end)
        if not batch.received:  # It is told only that it has come far: the place shall show that.
            strand.dirty = True
        self.books.renew(strand)
        self._go_on([consumer])

    def _find(self, lane: Lane, epoch: int) -> tuple[Consumer, Strand] | None:
        consumer = self.consumers.get(lane.subscription)
        strand = None if consumer is None else consumer.strands.get(lane)
        if consumer is None or strand is None or strand.epoch != epoch:
            return None
        return consumer, strand

    def _leave_or_lose(self, event: Revoking | Lost) -> None:
        found = self._find(event.lane, event.epoch)
        if found is None:
            return
        if isinstance(event, Lost):
            self._give_up(found[1])
        else:
            self._leave(*found)

    # Lanes that go.

    def _leave(self, consumer: Consumer, strand: Strand) -> None:
        """Give a lane up: what has not begun is left to the next owner."""
        strand.leaving = True
        strand.queue.clear()
        for arrival in self._under_way(consumer, strand):
            if arrival.waits_to_begin:
                self._recall(arrival)
        self._settler.settle()
        self._release_if_empty(consumer, strand)

    def _release_if_empty(self, consumer: Consumer, strand: Strand) -> None:
        if self._under_way(consumer, strand) or strand.dirty or self._settler.busy:
            return
        strand.gone = True
        self._remove(consumer, strand)
        self._redelivery.spawn(self._transport.release(strand.lane, strand.epoch))

    def _give_up(self, strand: Strand) -> None:
        """Another process has it: nothing that is under way here counts any more."""
        found = self._find(strand.lane, strand.epoch)
        if found is not None:
            log.warning(
                "lane_lost handler=%s topic=%s lane=%d another process has taken it over",
                *strand.lane,
            )
            self._remove(found[0], strand)
            for arrival in self._under_way(found[0], strand):
                self._recall(arrival)
        strand.give_up(Fenced("another process has taken the lane over"))

    def _remove(self, consumer: Consumer, strand: Strand) -> None:
        consumer.strands.pop(strand.lane, None)
        for event_id, arrival in tuple(consumer.loaded.items()):
            if arrival.strand is strand:
                del consumer.loaded[event_id]
        if not consumer.strands:
            consumer.held.clear()  # It is read again with the next lane.

    def _recall(self, arrival: Arrival) -> None:
        self._suspects.ended(arrival)
        self.books.recall(arrival)

    def _under_way(self, consumer: Consumer, strand: Strand) -> list[Arrival]:
        return [each for each in _latest_first(consumer.admitted) if each.strand is strand]

    # Begin.

    def changed(self, consumer: Consumer) -> None:
        """Its subscription was resumed, or closed."""
        if not consumer.subscription.closed:
            self._redelivery.look(consumer)
            self._go_on([consumer])
            return
        for strand in tuple(consumer.strands.values()):
            self._leave(consumer, strand)
        self._redelivery.spawn(self._transport.unsubscribe(consumer.name))

    def _go_on(self, consumers: Iterable[Consumer]) -> None:
        """Begin what may begin, and settle what is done."""
        for consumer in consumers:
            self._advance(consumer)
            for strand in tuple(consumer.strands.values()):
                if strand.leaving:
                    self._release_if_empty(consumer, strand)
        self._suspects.run()
        self._settler.settle()
        for tell in tuple(self._progress):
            tell()

    def _settled(self) -> None:
        self._go_on(tuple(self.consumers.values()))

    def _alone_no_more(self, arrival: Arrival) -> None:
        self._suspects.ended(arrival)
        self._settled()

    def _advance(self, consumer: Consumer) -> None:
        """Begin what may begin."""
        while not (self.books.stopping or consumer.subscription.paused):
            # What is queued behind another event of its key takes no room: look again.
            room = consumer.limit * ROOM - consumer.under_way
            beginning = self._next_ones(consumer, room)
            if not beginning:
                return
            self._life.arrive_all(beginning)

    def _next_ones(self, consumer: Consumer, most: int) -> list[Arrival]:
        """The next events to begin, the lanes taking turns."""
        beginning = list[Arrival]()
        waiting = deque(
            strand for strand in consumer.strands.values() if strand.queue and not strand.leaving
        )
        while waiting and len(beginning) < most:
            strand = waiting.popleft()
            if not self._may_begin(consumer, strand):
                continue
            arrival = self._next(consumer, strand)
            if arrival is not None:
                consumer.admitted.add(arrival)
                beginning.append(arrival)
            if strand.queue:
                waiting.append(strand)
        return beginning

    def _may_begin(self, consumer: Consumer, strand: Strand) -> bool:
        position = strand.queue[0].position
        if position <= strand.suspect:
            self._suspects.add(consumer)
            return False
        if position <= strand.claim:
            return True
        if strand.claiming < position:
            strand.want_claim(position, self._runtime.monotonic())
        return False

    def _next(self, consumer: Consumer, strand: Strand) -> Arrival | None:
        """The next event of a lane, if it is to be begun; what is not is dealt with here."""
        position, envelope = strand.queue.popleft()
        arrival = consumer.arrival(strand, position, envelope)
        if arrival is None:
            self.books.finish(strand, position)
            return None
        return self._admit(consumer, arrival)

    def _admit(self, consumer: Consumer, arrival: Arrival) -> Arrival | None:
        """Hold it back if its key is held."""
        attempts = arrival.strand.attempts.pop(arrival.envelope.id, 0)
        if attempts:
            arrival.counted, arrival.attempt = True, attempts + 1
        if consumer.holds(arrival.envelope):
            self.books.block(consumer, arrival)
            return None
        return arrival

    # The end.

    def stop(self) -> None:
        """Take back what has not begun, and begin nothing more."""
        self.books.stopping = True
        for consumer in self.consumers.values():
            for strand in consumer.strands.values():
                strand.queue.clear()
            for arrival in _latest_first(consumer.admitted):
                if arrival.waits_to_begin:
                    self._recall(arrival)

    @property
    def busy(self) -> bool:
        """Whether something is under way, or here and not begun."""
        return any(
            consumer.admitted or any(strand.queue for strand in consumer.strands.values())
            for consumer in self.consumers.values()
            if not consumer.subscription.paused
        )

    @property
    def unsettled(self) -> bool:
        """Whether something is still to be settled."""
        strands = (s for consumer in self.consumers.values() for s in consumer.strands.values())
        return self._settler.busy or len(self._endings) > 0 or any(s.dirty for s in strands)

    def work(self) -> None:
        """See to what handlers' ends have left to do."""
        self._endings.work()

    def on_progress(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call something whenever something may have been settled; returns how to end that."""
        self._progress.append(tell)
        return lambda: self._progress.remove(tell)

    async def release_all(self) -> None:
        """Give back every lane in which nothing is under way."""
        for consumer in self.consumers.values():
            for strand in tuple(consumer.strands.values()):
                if not strand.gone and not self._under_way(consumer, strand):
                    strand.gone = True
                    await self._transport.release(strand.lane, strand.epoch)


def _latest_first(arrivals: Iterable[Arrival]) -> list[Arrival]:
    """Taken back in this order, nothing leaves its key to a later event that then would begin."""
    return sorted(arrivals, key=lambda arrival: arrival.position, reverse=True)
