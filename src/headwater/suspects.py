"""After a crash: events that may have caused it run one at a time, each counted before its call.

When a process vanishes, whoever takes its lanes over knows how far it may have got. The events up
to there are suspects. While one of them runs no other suspect of this process does, so that if the
process ends again it is known by which; an event that has done so too often is given up, and its
neighbours go on. On the bus's I/O loop.
"""

from collections import deque
from collections.abc import Callable

from headwater import failpoint
from headwater.arrival import Arrival
from headwater.bookkeeping import Bookkeeping
from headwater.consumer import Consumer
from headwater.errors import ProcessDied
from headwater.ledger import Put
from headwater.settling import SettlingLife

Admit = Callable[[Consumer, Arrival], Arrival | None]


class Suspects:
    """The suspects of one bus.

    Args:
        books: notes what becomes of them.
        life: drives the deliveries.
        admit: gives a delivery back if it is to be handled now.
        bury: gives a delivery up.
    """

    def __init__(
        self,
        books: Bookkeeping,
        life: SettlingLife,
        admit: Admit,
        bury: Callable[[Arrival, BaseException], None],
    ) -> None:
        self._books = books
        self._life = life
        self._admit = admit
        self._bury = bury
        self._alone: Arrival | None = None
        self._waiting: deque[Consumer] = deque()

    def add(self, consumer: Consumer) -> None:
        """One of its lanes begins with a suspect."""
        if consumer not in self._waiting:
            self._waiting.append(consumer)

    def ended(self, arrival: Arrival) -> None:
        """The one that ran alone has ended, or was taken back."""
        if self._alone is arrival:
            self._alone = None

    def run(self) -> None:
        """Begin the next one, if none runs."""
        while self._alone is None and self._waiting:
            consumer = self._waiting.popleft()
            if self._books.stopping or consumer.subscription.paused:
                continue
            if self._begin_next(consumer):
                self._waiting.append(consumer)

    def _begin_next(self, consumer: Consumer) -> bool:
        """Begin one of a consumer; false if it has none."""
        for strand in tuple(consumer.strands.values()):
            queue = strand.queue
            if not queue or strand.leaving or queue[0].position > strand.suspect:
                continue
            position, envelope = queue.popleft()
            arrival = consumer.arrival(strand, position, envelope)
            if arrival is None:
                self._books.finish(strand, position)
            else:
                self._begin(consumer, arrival)
            return True
        return False

    def _begin(self, consumer: Consumer, arrival: Arrival) -> None:
        strand = arrival.strand
        known = strand.attempts.get(arrival.envelope.id, 0)
        if self._admit(consumer, arrival) is None:
            return
        # It was in reach when the process ended: that counts as an attempt, if none was counted.
        made = max(known, 1)
        consumer.admitted.add(arrival)
        if known and made >= self._life.limit_of(arrival):
            arrival.attempt = made
            self._bury(arrival, ProcessDied(consumer.name, made))
            return
        arrival.attempt = made + 1
        arrival.alone = arrival.counted = True
        self._alone = arrival
        entry = consumer.entry(arrival, "count", attempts=arrival.attempt)

        def counted(error: BaseException | None) -> None:
            failpoint.reach("alone.counted")
            if error is not None or arrival.finished:
                return
            if consumer.holds(arrival.envelope):  # One before it has failed meanwhile.
                self._books.forget(arrival)
                self._books.block(consumer, arrival)
                self.ended(arrival)
                self.run()
            else:
                self._life.arrive_all([arrival])

        strand.add([], [Put(entry)], counted)
