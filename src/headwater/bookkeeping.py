"""What is noted about lanes and keys while deliveries come and go. On the bus's I/O loop.

Every event that was taken from a lane is finished there in the end: because it was handled, because
the ledger has it, or because nobody wants it. What the ledger is to write goes along with the
lane's next settlement.
"""

from collections.abc import Callable

from headwater.arrival import Arrival
from headwater.consumer import Consumer
from headwater.ledger import Change, Erase, Put
from headwater.settling import SettlingLife
from headwater.strand import Strand
from headwater.transport import Transport

MANY = 16
"""Deliveries under way from which on settlements are put together."""


class Bookkeeping:
    """The books of one bus.

    Args:
        transport: is given credit.
        life: drives the deliveries.

    Attributes:
        consumers: by durable name.
        stopping: whether nothing more is begun.
        finished: how many events were finished since the last settlement was begun.
        look_due: looks into a consumer's ledger.
    """

    def __init__(self, transport: Transport, life: SettlingLife) -> None:
        self.consumers: dict[str, Consumer] = {}
        self.stopping = False
        self.finished = 0
        self.look_due: Callable[[Consumer], None] = lambda consumer: None
        self._transport = transport
        self._life = life

    def consumer_of(self, arrival: Arrival) -> Consumer | None:
        """Who consumes it; None if its lane belongs to somebody else by now."""
        if arrival.strand.gone:
            return None
        return self.consumers.get(arrival.subscription.name)

    @property
    def many_under_way(self) -> bool:
        """Whether so much is going on that settlements can be put together."""
        return sum(len(consumer.admitted) for consumer in self.consumers.values()) >= MANY

    def finish(self, strand: Strand, position: int) -> None:
        """An event that was taken from a lane needs nothing more."""
        strand.window.finish(position)
        self.finished += 1
        strand.dirty = True
        self.renew(strand)

    def renew(self, strand: Strand) -> None:
        """Give the transport new credit, some at a time."""
        room = strand.room()
        if room:
            strand.asked += room
            self._transport.credit(strand.lane, room)

    def settle(self, arrival: Arrival) -> None:
        """Whatever becomes of a delivery stands in its lane's next settlement."""
        consumer = self.consumers.get(arrival.subscription.name)
        if consumer is not None:
            consumer.admitted.discard(arrival)
        if arrival.entered:
            # Until that is stored the ledger has it still, and would give it out again.
            arrival.strand.add([], [], lambda error: self.forget(arrival))
        else:
            self.finish(arrival.strand, arrival.position)

    def forget(self, arrival: Arrival) -> None:
        """It is not under way any more."""
        consumer = self.consumers.get(arrival.subscription.name)
        if consumer is not None:
            consumer.admitted.discard(arrival)
            if consumer.loaded.get(arrival.message.id) is arrival:
                del consumer.loaded[arrival.message.id]

    def recall(self, arrival: Arrival) -> None:
        """Take a delivery back: it comes again, here or elsewhere."""
        self.forget(arrival)
        self._life.recall(arrival)

    def erasing(self, arrival: Arrival) -> list[Change]:
        """How the ledger forgets a delivery, if it knows it."""
        if not (arrival.entered or arrival.counted):
            return []
        return [Erase(arrival.subscription.name, arrival.envelope.id)]

    def block(self, consumer: Consumer, arrival: Arrival) -> None:
        """Its key is held: it waits in the ledger, behind the others."""
        key = (arrival.envelope.topic, arrival.envelope.key or "")
        consumer.blocking[key] = consumer.blocking.get(key, 0) + 1
        entry = consumer.entry(arrival, "blocked", attempts=arrival.attempt - 1)

        def stored(error: BaseException | None) -> None:
            consumer.blocking[key] -= 1
            if not consumer.blocking[key]:
                del consumer.blocking[key]
            if error is None:
                self.look_due(consumer)

        arrival.strand.add([], [Put(entry)], stored)
        self.finish(arrival.strand, arrival.position)

    def hold(self, consumer: Consumer, arrival: Arrival) -> None:
        """Its key waits in the ledger from now on: those behind it go there too, in order."""
        key = arrival.envelope.key
        if key is None:
            return
        consumer.held.add((arrival.envelope.topic, key))
        intake, lock = arrival.subscription.intake, arrival.subscription.lock
        assert intake is not None
        assert lock is not None
        with lock:
            behind = intake.lanes.behind(arrival.lane)
        for follower in behind:
            assert isinstance(follower, Arrival)
            if follower.envelope.topic == arrival.envelope.topic:
                self.recall(follower)
                if not follower.entered:  # Else it is in the ledger already.
                    self.block(consumer, follower)
