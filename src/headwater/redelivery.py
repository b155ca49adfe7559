"""Entries of the ledger whose time has come: they are delivered again, and in the order of keys.

On the bus's I/O loop. With an entry come those that wait behind it. Once all of a key are here, it
is held no longer: what comes by the lane now queues up behind them.
"""

import contextlib
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from headwater.arrival import Arrival
from headwater.bookkeeping import Bookkeeping
from headwater.consumer import Consumer
from headwater.ledger import Entry, Erase, Ledger
from headwater.runtime import Runtime
from headwater.settling import SettlingLife
from headwater.transport import Lane

AT_ONCE = 100
"""Entries that are taken out of the ledger together."""


class Redelivery:
    """Takes what is due out of one bus's ledger.

    Args:
        books: notes what becomes of it.
        ledger: where it is; None: the engine has none.
        life: drives the deliveries.
        runtime: clock and timers.
        loop: the bus's I/O loop.
        settle: settles what there is.
        complain: is told of trouble.
    """

    def __init__(
        self,
        books: Bookkeeping,
        ledger: Ledger | None,
        life: SettlingLife,
        runtime: Runtime,
        loop: AbstractEventLoop,
        settle: Callable[[], None],
        complain: Callable[[BaseException], None],
    ) -> None:
        self._books = books
        self._ledger = ledger
        self._life = life
        self._runtime = runtime
        self._loop = loop
        self._settle = settle
        self._complain = complain
        self._tasks: set[Task[None]] = set()
        books.look_due = self.look

    def look(self, consumer: Consumer) -> None:
        """Take out what is due, soon."""
        if self._ledger is None or self._books.stopping:
            return
        if consumer.checking:
            consumer.check_again = True
            return
        consumer.checking = True
        self.spawn(self._take_due(consumer, self._ledger))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something on the loop, and let its trouble be known."""
        task = self._loop.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # Nobody awaits it.
            self._complain(error)

    async def _take_due(self, consumer: Consumer, ledger: Ledger) -> None:
        try:
            by_topic: dict[str, list[int]] = {}
            for lane in consumer.strands:
                by_topic.setdefault(lane.topic, []).append(lane.number)
            for topic, lanes in by_topic.items():
                now = self._runtime.calendar()
                entries, later = await ledger.due(consumer.name, topic, lanes, now, AT_ONCE)
                for entry in entries:
                    await self._load(consumer, entry, ledger)
                self._wait_for(consumer, later)
        finally:
            consumer.checking = False
        if consumer.check_again:
            consumer.check_again = False
            self.look(consumer)

    async def _load(self, consumer: Consumer, entry: Entry, ledger: Ledger) -> None:
        """Begin an entry whose time has come, and those that wait behind it."""
        if entry.envelope.id in consumer.loaded or consumer.subscription.paused:
            return
        key = (entry.envelope.topic, entry.envelope.key or "")
        holding = entry.envelope.key is not None and key in consumer.held
        behind: Sequence[Entry] = await ledger.followers(entry, AT_ONCE) if holding else ()
        if self._books.stopping:
            return
        arrivals, all_here = self._arrivals(consumer, (entry, *behind))
        if all_here and holding and len(behind) < AT_ONCE and key not in consumer.blocking:
            consumer.held.discard(key)
        if arrivals:
            self._life.arrive_all(arrivals)
        self._settle()

    def _arrivals(self, consumer: Consumer, entries: Sequence[Entry]) -> tuple[list[Arrival], bool]:
        """Their deliveries, as far as this process may have them, and whether that is all."""
        arrivals = list[Arrival]()
        for entry in entries:
            lane = Lane(consumer.name, entry.envelope.topic, entry.lane)
            strand = consumer.strands.get(lane)
            if strand is None or strand.leaving or entry.envelope.id in consumer.loaded:
                return arrivals, False
            arrival = consumer.arrival(strand, entry.position, entry.envelope)
            if arrival is None:  # `where` does not want it any more.
                erase = Erase(consumer.name, entry.envelope.id)
                strand.add([], [erase], lambda error: self.look(consumer))
                return arrivals, False
            arrival.entered, arrival.attempt = True, entry.attempts + 1
            consumer.loaded[entry.envelope.id] = arrival
            consumer.admitted.add(arrival)
            arrivals.append(arrival)
        return arrivals, True

    def _wait_for(self, consumer: Consumer, due: float | None) -> None:
        if due is None or (consumer.next_due is not None and consumer.next_due <= due):
            return
        consumer.next_due = due

        def come() -> None:
            consumer.next_due = None
            self.look(consumer)

        def ring() -> None:  # Who moves time by hand does so in a thread of its own.
            with contextlib.suppress(RuntimeError):  # The bus is closed.
                self._loop.call_soon_threadsafe(come)

        when = self._runtime.monotonic() + max(0.0, due - self._runtime.calendar())
        self._runtime.call_at(when, ring, self._loop)
