"""Rule 1, order: by priority, then in order of registration; with a key, one at a time, in order.

The same order holds wherever handlers run. What takes long is played here by gates that the test
opens in whatever order is worst: no clock is involved.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Bus, Retry, event
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


@dataclass(frozen=True)
class Placed:
    number: int = 0


class Audited:
    """An interface: something that is of interest whatever it is."""


@dataclass(frozen=True)
class PlacedByPhone(Placed, Audited):
    pass


@event(key="order_id")
@dataclass(frozen=True)
class Paid:
    order_id: str
    number: int = 0


@event(key="order_id")
@dataclass(frozen=True)
class Refunded:
    order_id: int
    number: int = 0


class Number:
    """Something whose text is a key."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def notes_in(seen: list[str], name: str) -> Callable[[object], None]:
    """A handler that leaves its name."""

    def handler(event: object) -> None:
        seen.append(name)

    return handler


def async_notes_in(seen: list[str], name: str) -> Callable[[object], Any]:
    """The same as a coroutine function."""

    async def handler(event: object) -> None:
        seen.append(name)

    return handler


# By priority, then in order of registration.


def test_handlers_start_in_order_of_registration() -> None:
    """Without priorities the order of subscribing is the order of calling."""
    bus, seen = Bus(), list[str]()
    for name in "cabed":
        bus.subscribe(Placed, notes_in(seen, name))
    bus.publish(Placed())
    assert seen == list("cabed")


PRIORITIES = {"second": 1, "fourth": 0, "last": -1, "third": 1, "first": 7, "fifth": 0}
IN_ORDER = ["first", "second", "third", "fourth", "fifth", "last"]


def test_higher_priority_starts_first_and_ties_keep_their_order() -> None:
    """Priorities may be negative; those with the same priority keep their order."""
    bus, seen = Bus(), list[str]()
    for name, priority in PRIORITIES.items():
        bus.subscribe(Placed, notes_in(seen, name), priority=priority)
    bus.publish(Placed())
    assert seen == IN_ORDER


def test_async_handlers_start_by_priority_on_the_publishers_loop() -> None:
    """Tasks take their first steps in the same order as inline handlers would."""

    async def main() -> None:
        for name, priority in PRIORITIES.items():
            bus.subscribe(Placed, async_notes_in(seen, name), priority=priority)
        await bus.publish(Placed())

    bus, seen = Bus(), list[str]()
    asyncio.run(main())
    assert seen == IN_ORDER


def test_async_handlers_start_by_priority_on_the_bus_own_loop() -> None:
    """So they do where the publisher has no loop."""
    with Bus() as bus:
        seen = list[str]()
        for name, priority in PRIORITIES.items():
            bus.subscribe(Placed, async_notes_in(seen, name), priority=priority)
        bus.publish(Placed())
    assert seen == IN_ORDER


def test_thread_handlers_start_by_priority() -> None:
    """Workers take up the handlers of an event in order: one worker shows it."""
    with Bus(max_workers=1) as bus:
        seen = list[str]()
        for name, priority in PRIORITIES.items():
            bus.subscribe(Placed, notes_in(seen, name), priority=priority, executor="thread")
        bus.publish(Placed())
    assert seen == IN_ORDER


def test_a_pump_runs_event_after_event_each_by_priority() -> None:
    """What waits for a pump keeps the order of the events, and their handlers' priorities."""
    bus, seen = Bus(), list[str]()
    for name, priority in PRIORITIES.items():
        bus.subscribe(Placed, notes_in(seen, name), priority=priority, executor="pump")
    bus.publish(Placed(1))
    bus.publish(Placed(2))
    assert bus.pump() == 2 * len(IN_ORDER)
    assert seen == IN_ORDER * 2


def test_order_of_registration_holds_across_classes_names_and_patterns() -> None:
    """It does not matter by what a handler found the event: neither way in has precedence."""
    bus, seen = Bus(), list[str]()
    ways: tuple[type | str, ...] = (
        "**",
        Placed,
        PlacedByPhone,
        "Placed",
        Audited,
        "PlacedByPhone",
        "*",
    )
    for number, way in enumerate(ways):
        bus.subscribe(way, notes_in(seen, str(number)))
    bus.publish(PlacedByPhone())
    assert seen == [str(number) for number in range(len(ways))]


def test_an_event_reaches_the_handlers_of_its_base_classes_and_interfaces() -> None:
    """An event of a subclass is an event of each of its bases; not the other way round."""
    bus, seen = Bus(), list[str]()
    for cls in (object, Audited, Placed, PlacedByPhone):
        bus.subscribe(cls, notes_in(seen, cls.__name__))
    bus.publish(PlacedByPhone())
    assert seen == ["object", "Audited", "Placed", "PlacedByPhone"]
    seen.clear()
    bus.publish(Placed())
    assert seen == ["object", "Placed"]


def test_a_subscription_that_matches_in_several_ways_is_called_once() -> None:
    """A class, its base, its name and a pattern in one subscription: one call per event."""
    bus, seen = Bus(), list[Placed]()
    bus.on(PlacedByPhone, Placed, "PlacedByPhone", "**")(seen.append)
    bus.publish(PlacedByPhone(1))
    assert seen == [PlacedByPhone(1)]


def test_who_subscribes_again_goes_to_the_end_of_the_line() -> None:
    """Order of registration is that of the subscriptions there are now."""
    bus, seen = Bus(), list[str]()
    first = bus.subscribe(Placed, notes_in(seen, "first"))
    bus.subscribe(Placed, notes_in(seen, "second"))
    first.close()
    bus.subscribe(Placed, notes_in(seen, "again"))
    bus.publish(Placed())
    assert seen == ["second", "again"]


def test_a_publish_inside_a_handler_is_delivered_before_the_next_handler_is_called() -> None:
    """Publishing in sync code is done when it returns, at every depth: there is no queue."""
    bus, seen = Bus(), list[str]()

    def place(event: Placed) -> None:
        seen.append("place")
        bus.publish(Paid("o1"))
        seen.append("placed")

    bus.subscribe(Placed, place)
    bus.subscribe(Placed, notes_in(seen, "next"))
    bus.subscribe(Paid, notes_in(seen, "paid"))
    bus.publish(Placed())
    assert seen == ["place", "paid", "placed", "next"]


def test_events_held_back_by_a_pause_are_handled_in_the_order_published() -> None:
    """Whatever the colour, `resume` lets go first what came first."""
    with Bus(max_workers=1) as bus:
        inline, threaded = list[int](), list[int]()
        subscriptions = (
            bus.subscribe(Placed, lambda placed: inline.append(placed.number)),
            bus.subscribe(Placed, lambda placed: threaded.append(placed.number), executor="thread"),
        )
        for subscription in subscriptions:
            subscription.pause()
        for number in range(5):
            bus.publish(Placed(number))
        assert inline == threaded == []
        for subscription in subscriptions:
            subscription.resume()
        bus.publish(Placed(5))
        bus.idle(PATIENCE)
    assert inline == threaded == [0, 1, 2, 3, 4, 5]


def test_buses_that_forward_in_a_circle_deliver_once_each() -> None:
    """An event that comes back to a bus it has been on goes no further."""
    one, two, three, seen = Bus(), Bus(), Bus(), list[str]()
    for name, bus, following in (("1", one, two), ("2", two, three), ("3", three, one)):
        bus.subscribe(Placed, notes_in(seen, name))
        bus.forward(Placed, to=following)
    one.publish(Placed())
    assert seen == ["1", "2", "3"]


# With a key: one at a time, in the order published.


class Gated:
    """Async handlers' work: each event waits at its own gate, which the test opens."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.ended: list[int] = []
        self.reached = asyncio.Event()
        self.at_once = 0
        self.most_at_once = 0
        self._gates: dict[int, asyncio.Event] = {}

    async def handle(self, event: Paid | Refunded | Placed) -> None:
        self.began.append(event.number)
        self.reached.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate(event.number).wait()
        self.at_once -= 1
        self.ended.append(event.number)

    def gate(self, number: int) -> asyncio.Event:
        return self._gates.setdefault(number, asyncio.Event())

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.gate(number).set()


async def settle() -> None:
    """Let everything that can run on this loop run as far as it gets."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_key_keeps_async_handlers_in_order_however_long_they_take() -> None:
    """First in, first out: the gates are opened from the last to the first."""

    async def main() -> None:
        bus.subscribe(Paid, work.handle)
        receipts = [bus.publish(Paid("o1", number)) for number in range(4)]
        await settle()
        assert work.began == [0]
        work.open(3, 2, 1)
        await settle()
        assert work.began == [0]
        assert not any(receipt.done for receipt in receipts)
        work.open(0)
        for receipt in receipts:
            await receipt

    bus, work = Bus(), Gated()
    asyncio.run(main())
    assert work.began == work.ended == [0, 1, 2, 3]
    assert work.most_at_once == 1


def test_one_key_does_not_wait_for_another() -> None:
    """Order is per key: what has another key, or none, goes past."""

    async def main() -> None:
        bus.on(Paid, Placed)(work.handle)
        stuck = bus.publish(Paid("o1", 1))
        work.open(2, 3, 4)
        await bus.publish(Paid("o2", 2))
        await bus.publish(Placed(3))
        await bus.publish(Placed(4))
        assert not stuck.done
        work.open(1)
        await stuck

    bus, work = Bus(), Gated()
    asyncio.run(main())
    assert work.ended == [2, 3, 4, 1]


def test_without_a_key_async_handlers_run_side_by_side() -> None:
    """What nothing orders is not held up by anything."""

    async def main() -> None:
        bus.subscribe(Placed, work.handle)
        receipts = [bus.publish(Placed(number)) for number in range(3)]
        await settle()
        assert work.at_once == 3
        work.open(2, 1, 0)
        for receipt in receipts:
            await receipt

    bus, work = Bus(), Gated()
    asyncio.run(main())


def test_each_handler_has_lanes_of_its_own() -> None:
    """A handler that is stuck with a key holds up nobody else's events of that key."""

    async def main() -> None:
        bus.subscribe(Paid, slow.handle)
        bus.subscribe(Paid, quick.handle)
        quick.open(1, 2, 3)
        receipts = [bus.publish(Paid("o1", number)) for number in (1, 2, 3)]
        await settle()
        assert (slow.began, quick.ended) == ([1], [1, 2, 3])
        slow.open(1, 2, 3)
        for receipt in receipts:
            await receipt

    bus, slow, quick = Bus(), Gated(), Gated()
    asyncio.run(main())
    assert slow.ended == [1, 2, 3]


def test_order_of_a_key_holds_across_types() -> None:
    """One handler of two events gets them in order if they share a key, whose text counts."""

    async def main() -> None:
        bus.on(Paid, Refunded)(work.handle)
        receipts = [
            bus.publish(Paid("7", 1)),
            bus.publish(Refunded(7, 2)),
            bus.publish(Paid("7", 3)),
        ]
        work.open(3, 2)
        await settle()
        assert work.began == [1]
        work.open(1)
        for receipt in receipts:
            await receipt

    bus, work = Bus(), Gated()
    asyncio.run(main())
    assert work.ended == [1, 2, 3]


def test_a_key_given_at_the_publish_orders_what_has_none_or_another() -> None:
    """`publish(key=...)` is instead of the class's key; equal texts are equal keys."""

    async def main() -> None:
        bus.on(Paid, Placed, "plain")(work.handle)
        receipts = [
            bus.publish(Placed(1), key="42"),
            bus.publish(Paid("other", 2), key=42),
            bus.publish("plain", Placed(3), key=Number("42")),
        ]
        work.open(3, 2)
        await settle()
        assert work.began == [1]
        work.open(1)
        for receipt in receipts:
            await receipt

    bus, work = Bus(), Gated()
    asyncio.run(main())
    assert work.ended == [1, 2, 3]


def test_a_failure_passes_its_key_on() -> None:
    """Followers come in order after one that failed, however often."""

    async def main() -> None:
        async def handle(paid: Paid) -> None:
            await asyncio.sleep(0)
            seen.append(paid.number)
            if paid.number % 2 == 0:
                raise ValueError(paid.number)

        bus.subscribe(Paid, handle)
        receipts = [bus.publish(Paid("o1", number)) for number in range(5)]
        await receipts[-1]
        assert [len(receipt.errors) for receipt in receipts] == [1, 0, 1, 0, 1]

    bus, seen = Bus(), list[int]()
    asyncio.run(main())
    assert seen == [0, 1, 2, 3, 4]


def test_a_cancelled_handler_passes_its_key_on() -> None:
    """So do those whose task was cancelled."""

    async def main() -> None:
        bus.subscribe(Paid, work.handle)
        receipts = [bus.publish(Paid("o1", number)) for number in (1, 2)]
        await settle()
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        assert task is not None
        task.cancel()
        work.open(2)
        for receipt in receipts:
            await receipt

    bus, work = Bus(), Gated()
    asyncio.run(main())
    assert (work.began, work.ended) == ([1, 2], [2])


def test_nothing_overtakes_an_event_that_waits_for_its_retry() -> None:
    """It keeps its key, and only that one, until it has succeeded or is given up."""
    runtime, seen = VirtualRuntime(), list[tuple[str, int]]()
    with Bus(runtime=runtime) as bus:

        @bus.on(Paid, retry=Retry(max_attempts=2))
        async def handle(paid: Paid) -> None:
            seen.append((paid.order_id, paid.number))
            if paid.number == 1 and seen.count(("o1", 1)) == 1:
                raise ConnectionError

        bus.publish(Paid("o1", 1))
        bus.publish(Paid("o1", 2))
        bus.publish(Paid("o2", 3))
        assert seen == [("o1", 1), ("o2", 3)]
        runtime.advance(60)
        bus.idle(PATIENCE)
    assert seen == [("o1", 1), ("o2", 3), ("o1", 1), ("o1", 2)]


# The same in threads.


class Held:
    """The work of thread handlers: each event waits at a gate of its own."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.ended: list[int] = []
        self.overlaps = 0
        self._alone = threading.Lock()
        self.gates = [threading.Event() for _ in range(6)]
        self.arrived = [threading.Event() for _ in range(6)]

    def handle(self, event: Paid | Placed) -> None:
        alone = self._alone.acquire(blocking=False)
        self.overlaps += not alone
        self.began.append(event.number)
        self.arrived[event.number].set()
        assert self.gates[event.number].wait(PATIENCE)
        self.ended.append(event.number)
        if alone:
            self._alone.release()

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.gates[number].set()


def test_a_key_keeps_thread_handlers_in_order_however_long_they_take() -> None:
    """Several workers are free, and yet the first event of a key is finished first."""

    async def main() -> None:
        bus.subscribe(Paid, work.handle, executor="thread")
        receipts = [bus.publish(Paid("o1", number)) for number in range(4)]
        work.open(3, 2, 1)
        work.arrived[0].wait(PATIENCE)
        assert work.began == [0]
        assert not any(receipt.done for receipt in receipts)
        work.open(0)
        for receipt in receipts:
            await receipt

    work = Held()
    with Bus(max_workers=4) as bus:
        asyncio.run(main())
    assert work.began == work.ended == [0, 1, 2, 3]
    assert work.overlaps == 0


def test_one_key_does_not_wait_for_another_in_threads() -> None:
    """A worker that is stuck with one key leaves the others to the other workers."""

    async def main() -> None:
        bus.on(Paid, Placed, executor="thread")(work.handle)
        stuck = bus.publish(Paid("o1", 0))
        work.open(1, 2)
        await bus.publish(Paid("o2", 1))
        await bus.publish(Placed(2))
        assert not stuck.done
        work.open(0)
        await stuck

    work = Held()
    with Bus(max_workers=4) as bus:
        asyncio.run(main())
    assert work.ended == [1, 2, 0]


class Alone:
    """Handlers that notice when they are not alone."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.overlaps = 0
        self._alone = threading.Lock()

    def handle(self, paid: Paid) -> None:
        if self._alone.acquire(blocking=False):
            self.seen.append(paid.number)
            self._alone.release()
        else:
            self.overlaps += 1

    async def handle_async(self, paid: Paid) -> None:
        if self._alone.acquire(blocking=False):
            await asyncio.sleep(0)
            self.seen.append(paid.number)
            self._alone.release()
        else:
            self.overlaps += 1


@pytest.mark.parametrize("colour", ["async", "thread"])
def test_a_key_is_never_handled_twice_at_once_whoever_publishes(colour: str) -> None:
    """Threads that publish the same key side by side: the handler never meets itself."""
    work = Alone()

    def publish(thread: int) -> None:
        barrier.wait(PATIENCE)
        for number in range(25):
            bus.publish(Paid("o1", thread * 100 + number))

    with Bus() as bus:
        if colour == "async":
            bus.subscribe(Paid, work.handle_async)
        else:
            bus.subscribe(Paid, work.handle, executor="thread")
        barrier = threading.Barrier(4)
        threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert work.overlaps == 0
    for number in range(4):
        mine = [seen for seen in work.seen if seen // 100 == number]
        assert mine == [number * 100 + n for n in range(25)]


def test_what_a_thread_handler_returns_to_be_awaited_keeps_its_key_too() -> None:
    """A sync handler is not finished before the awaitable it returned is."""

    async def main() -> None:
        def handle(paid: Paid) -> Awaitable[None]:
            return work.handle(paid)

        bus.subscribe(Paid, handle, executor="thread")
        receipts = [bus.publish(Paid("o1", number)) for number in range(3)]
        work.open(2, 1)
        await work.reached.wait()
        await settle()
        assert work.began == [0]
        work.open(0)
        for receipt in receipts:
            await receipt

    work = Gated()
    with Bus() as bus:
        asyncio.run(main())
    assert work.began == work.ended == [0, 1, 2]


# Concurrency.


def test_concurrency_bounds_what_runs_at_once_and_keeps_the_order_of_starting() -> None:
    """Two at once: the third starts when either of them has ended, then the fourth."""

    async def main() -> None:
        bus.subscribe(Placed, work.handle, concurrency=2)
        receipts = [bus.publish(Placed(number)) for number in range(4)]
        await settle()
        assert work.began == [0, 1]
        work.open(1)
        await settle()
        assert work.began == [0, 1, 2]
        work.open(0, 2, 3)
        for receipt in receipts:
            await receipt

    bus, work = Bus(), Gated()
    asyncio.run(main())
    assert work.began == [0, 1, 2, 3]
    assert work.most_at_once == 2


def test_concurrency_counts_keys_side_by_side() -> None:
    """A follower waits for its key without taking the place of another key."""

    async def main() -> None:
        bus.subscribe(Paid, work.handle, concurrency=2)
        keys = ["a", "a", "b", "c"]
        receipts = [bus.publish(Paid(key, number)) for number, key in enumerate(keys)]
        await settle()
        assert work.began == [0, 2]
        work.open(2)
        await settle()
        assert work.began == [0, 2, 3]
        work.open(0, 1, 3)
        for receipt in receipts:
            await receipt

    bus, work = Bus(), Gated()
    asyncio.run(main())
    assert work.most_at_once == 2
