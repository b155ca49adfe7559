"""Rule 5, change during dispatch: new from the next event on, closed from now on, once is once.

Handlers subscribe and close while events are on their way, their own included. None of it makes
another handler miss an event, or get one twice.
"""

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Backoff, Bus, Context, Receipt, Retry, Subscription, event
from headwater.errors import Abandonment, InvalidName
from headwater.records import Abandoned, Handled, Record
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


@dataclass(frozen=True)
class Placed:
    number: int = 0


@event(key="order_id")
@dataclass(frozen=True)
class Paid:
    order_id: str = "o1"
    number: int = 0


COLOURS = ["inline", "observed", "async", "thread", "pool", "pump"]
"""``observed`` is inline on the longer way that events take when somebody watches."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """An executor of the user's own."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def subscribe(
    bus: Bus, colour: str, pool: Any, handler: Callable[[Any], Any], **options: Any
) -> Subscription:
    """Subscribe a sync handler in one of the `COLOURS`."""

    async def handle(event: object) -> None:
        handler(event)

    if colour == "observed":
        bus.observe(lambda record: None)
    if colour == "async":
        return bus.subscribe(Placed, handle, **options)
    if colour in ("inline", "observed"):
        return bus.subscribe(Placed, handler, **options)
    where: Any = pool if colour == "pool" else colour
    return bus.subscribe(Placed, handler, executor=where, **options)


def finish(bus: Bus) -> None:
    """Let all that was published be handled."""
    bus.pump()
    bus.idle(PATIENCE)


def note(seen: list[str], name: str, event: object) -> None:
    """With its first two arguments, a handler that leaves a name."""
    seen.append(name)


# Subscribed now: from the next event on.


@pytest.mark.parametrize("colour", COLOURS)
def test_who_subscribes_in_a_handler_is_called_from_the_next_event_on(
    colour: str, pool: ThreadPoolExecutor
) -> None:
    """Not for the event that is on its way, whatever the newcomer's priority and colour."""
    with Bus() as bus:
        seen = list[Placed]()

        @bus.on(Placed, once=True)
        def newcomer(placed: Placed) -> None:
            for priority in (-1, 0, 1):
                subscribe(bus, colour, pool, seen.append, priority=priority)

        bus.publish(Placed(1))
        finish(bus)
        assert seen == []
        bus.publish(Placed(2))
        finish(bus)
        assert seen == [Placed(2)] * 3


def test_an_event_published_inside_the_handler_is_the_next_one() -> None:
    """The newcomer gets the inner event and not the outer one, which began before."""
    bus, seen = Bus(), list[Placed]()

    @bus.on(Placed)
    def handle(placed: Placed) -> None:
        if placed.number == 1:
            bus.subscribe(Placed, seen.append)
            bus.publish(Placed(2))

    bus.publish(Placed(1))
    assert seen == [Placed(2)]


def test_who_subscribes_in_another_thread_is_called_from_the_next_event_on() -> None:
    """While the first event is still held up in a handler, the next one finds the newcomer."""
    bus, seen = Bus(), list[Placed]()
    reached, gate = threading.Event(), threading.Event()

    @bus.on(Placed)
    def hold(placed: Placed) -> None:
        if placed.number == 1:
            reached.set()
            assert gate.wait(PATIENCE)

    publisher = threading.Thread(target=bus.publish, args=(Placed(1),))
    publisher.start()
    assert reached.wait(PATIENCE)
    bus.subscribe(Placed, seen.append)
    bus.publish(Placed(2))
    gate.set()
    publisher.join(PATIENCE)
    assert seen == [Placed(2)]


def test_a_handler_that_subscribes_itself_again_does_not_go_on_for_ever() -> None:
    """One event calls the subscriptions that there were: twice as many for the next."""
    bus, calls = Bus(), list[int]()

    def handle(placed: Placed) -> None:
        calls.append(placed.number)
        bus.subscribe(Placed, handle)

    bus.subscribe(Placed, handle)
    for number in range(4):
        bus.publish(Placed(number))
    assert [calls.count(number) for number in range(4)] == [1, 2, 4, 8]


# Closed now: not called any more.


@pytest.mark.parametrize("colour", ["inline", "observed", "async", "thread", "pump"])
def test_who_was_closed_by_an_earlier_handler_is_not_called(colour: str) -> None:
    """Not by this event either; nobody calls that a failure."""
    with Bus() as bus:
        seen, victims = list[Placed](), list[Subscription]()
        bus.subscribe(Placed, lambda placed: victims[0].close())
        victims.append(subscribe(bus, colour, None, seen.append))
        after = list[Placed]()
        bus.subscribe(Placed, after.append)
        receipt = bus.publish(Placed())
        finish(bus)
        assert (seen, after, receipt.errors) == ([], [Placed()], ())


def test_who_was_closed_before_its_task_took_a_step_is_not_called() -> None:
    """Its task has been made; a later inline handler closes it before the loop gets to it.

    Where tasks start eagerly the handler came first: then it has been called, and closed after.
    """

    async def main() -> Receipt:
        async def handle(placed: Placed) -> None:
            order.append("handle")

        def close(placed: Placed) -> None:
            order.append("close")
            subscription.close()

        subscription = bus.subscribe(Placed, handle)
        bus.subscribe(Placed, close)
        receipt = await bus.publish(Placed())
        await bus.publish(Placed())
        return receipt

    bus, order = Bus(), list[str]()
    receipt = asyncio.run(main())
    if order == ["close", "close"]:
        assert [type(error) for error in receipt.errors] == [Abandonment]
    else:
        assert order == ["handle", "close", "close"]
        assert receipt.errors == ()


def test_who_was_closed_while_waiting_for_a_worker_is_not_called() -> None:
    """The only worker is busy; the work that waits for it is withdrawn, with a record."""

    async def main() -> None:
        receipt = bus.publish(Placed())
        assert busy.wait(PATIENCE)
        victim.close()
        gate.set()
        await receipt
        assert [type(error) for error in receipt.errors] == [Abandonment]

    busy, gate, seen = threading.Event(), threading.Event(), list[Placed]()
    records = list[Record]()

    def hold(placed: Placed) -> None:
        busy.set()
        assert gate.wait(PATIENCE)

    with Bus(max_workers=1) as bus:
        bus.observe(records.append)
        bus.subscribe(Placed, hold, executor="thread")
        victim = bus.subscribe(Placed, seen.append, executor="thread", name="victim")
        asyncio.run(main())
    assert seen == []
    (abandoned,) = (record for record in records if isinstance(record, Abandoned))
    assert (abandoned.subscription, abandoned.reason) == ("victim", "closed")
    assert sum(isinstance(record, Handled) for record in records) == 1


def test_who_was_closed_while_waiting_for_an_executor_is_not_called(
    pool: ThreadPoolExecutor,
) -> None:
    """The same where the threads are the user's."""

    async def main() -> None:
        receipt = bus.publish(Placed())
        assert busy.wait(PATIENCE)
        victim.close()
        gate.set()
        await receipt
        assert [type(error) for error in receipt.errors] == [Abandonment]

    busy, gate, seen = threading.Event(), threading.Event(), list[Placed]()

    def hold(placed: Placed) -> None:
        busy.set()
        assert gate.wait(PATIENCE)

    with Bus() as bus:
        bus.subscribe(Placed, hold, executor=pool)
        victim = bus.subscribe(Placed, seen.append, executor=pool)
        asyncio.run(main())
    assert seen == []


def test_who_was_closed_while_waiting_for_a_pump_is_not_called() -> None:
    """A window that was closed gets no more calls from the pump."""
    bus, seen = Bus(), list[Placed]()
    subscription = bus.subscribe(Placed, seen.append, executor="pump")
    receipt = bus.publish(Placed())
    subscription.close()
    finish(bus)
    assert seen == []
    assert [type(error) for error in receipt.errors] == [Abandonment]


def test_who_was_closed_while_events_waited_in_a_lane_gets_none_of_them() -> None:
    """The one that runs is finished; those behind it are given up, and their receipts know."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(paid: Paid) -> None:
            seen.append(paid.number)
            await gate.wait()

        subscription = bus.subscribe(Paid, handle)
        receipts = [bus.publish(Paid(number=number)) for number in range(3)]
        await asyncio.sleep(0)
        subscription.close()
        gate.set()
        await bus.idle(PATIENCE)
        errors = [[type(error) for error in receipt.errors] for receipt in receipts]
        assert errors == [[], [Abandonment], [Abandonment]]

    bus, seen = Bus(), list[int]()
    asyncio.run(main())
    assert seen == [0]


def test_who_was_closed_while_waiting_for_a_retry_is_not_called_again() -> None:
    """The attempts so far were all."""
    runtime, attempts = VirtualRuntime(), list[Placed]()

    def fail(placed: Placed) -> None:
        attempts.append(placed)
        raise ConnectionError

    with Bus(runtime=runtime) as bus:
        subscription = bus.subscribe(Placed, fail, retry=Retry(max_attempts=5))
        bus.publish(Placed())
        subscription.close()
        runtime.advance(3600)
        bus.idle(PATIENCE)
    assert attempts == [Placed()]


def test_who_was_closed_while_paused_does_not_get_what_was_held_back() -> None:
    """It is given up at once: nobody can resume it any more."""
    bus, seen = Bus(), list[Placed]()
    subscription = bus.subscribe(Placed, seen.append)
    subscription.pause()
    receipt = bus.publish(Placed())
    subscription.close()
    bus.idle(PATIENCE)
    subscription.resume()
    assert seen == []
    assert [type(error) for error in receipt.errors] == [Abandonment]


def test_who_was_closed_in_another_thread_is_not_called() -> None:
    """An event is held up in its first handler meanwhile."""
    bus, seen = Bus(), list[Placed]()
    reached, gate = threading.Event(), threading.Event()

    @bus.on(Placed)
    def hold(placed: Placed) -> None:
        reached.set()
        assert gate.wait(PATIENCE)

    victim = bus.subscribe(Placed, seen.append)
    publisher = threading.Thread(target=bus.publish, args=(Placed(),))
    publisher.start()
    assert reached.wait(PATIENCE)
    victim.close()
    gate.set()
    publisher.join(PATIENCE)
    assert seen == []


@pytest.mark.parametrize("colour", COLOURS)
def test_a_handler_that_closes_itself_does_not_make_its_neighbours_miss_the_event(
    colour: str, pool: ThreadPoolExecutor
) -> None:
    """Before it and behind it, everybody is called, once."""
    with Bus() as bus:
        seen, mine = list[str](), list[Subscription]()

        def close(placed: Placed) -> None:
            seen.append("itself")
            mine[0].close()

        subscribe(bus, colour, pool, lambda placed: seen.append("before"))
        mine.append(subscribe(bus, colour, pool, close))
        subscribe(bus, colour, pool, lambda placed: seen.append("behind"))
        for _ in range(2):
            bus.publish(Placed())
            finish(bus)
    assert sorted(seen) == ["before", "before", "behind", "behind", "itself"]


def test_closing_a_subscription_does_not_stop_the_handler_that_runs() -> None:
    """What has begun is finished, and its receipt knows no error."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()
            seen.append(placed)

        subscription = bus.subscribe(Placed, handle)
        receipt = bus.publish(Placed())
        await asyncio.sleep(0)
        subscription.close()
        gate.set()
        await receipt
        assert (receipt.errors, seen) == ((), [Placed()])

    bus, seen = Bus(), list[Placed]()
    asyncio.run(main())


def test_a_handler_can_end_its_own_subscription_by_its_context() -> None:
    """It need not know the object that `subscribe` returned."""
    bus, seen = Bus(), list[Placed]()

    @bus.on(Placed)
    def handle(placed: Placed, context: Context) -> None:
        seen.append(placed)
        assert context.subscription is not None
        context.subscription.close()

    bus.publish(Placed(1))
    bus.publish(Placed(2))
    assert seen == [Placed(1)]


def test_closing_twice_is_closing_once() -> None:
    """From the outside, from a handler, with the block it was opened in: no harm."""
    bus, seen, neighbour = Bus(), list[Placed](), list[Placed]()
    subscription = bus.subscribe(Placed, seen.append)
    bus.subscribe(Placed, neighbour.append)
    with subscription:
        bus.publish(Placed(1))
        subscription.close()
        subscription.close()
    bus.publish(Placed(2))
    assert (seen, neighbour) == ([Placed(1)], [Placed(1), Placed(2)])
    assert subscription.closed


def test_a_subscription_ends_with_its_block() -> None:
    """Also when the block ends with an error."""
    bus, seen = Bus(), list[Placed]()

    def fail() -> None:
        with bus.subscribe(Placed, seen.append):
            bus.publish(Placed(1))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    bus.publish(Placed(2))
    assert seen == [Placed(1)]


def test_a_closed_stream_receives_nothing_more() -> None:
    """Neither what is published later, nor does it wait for it."""

    async def main() -> None:
        stream = bus.stream(Placed)
        bus.publish(Placed(1))
        assert await anext(stream) == Placed(1)
        await stream.aclose()
        bus.publish(Placed(2))
        assert [placed async for placed in stream] == []

    bus = Bus()
    asyncio.run(main())


# Every subscription is one of its own.


def test_the_same_function_subscribed_twice_is_two_subscriptions() -> None:
    """It is called twice, and closing one leaves the other."""
    bus, seen = Bus(), list[Placed]()
    first = bus.subscribe(Placed, seen.append)
    second = bus.subscribe(Placed, seen.append)
    bus.publish(Placed(1))
    first.close()
    bus.publish(Placed(2))
    second.close()
    bus.publish(Placed(3))
    assert seen == [Placed(1), Placed(1), Placed(2)]


def test_handlers_with_one_name_are_separate_subscriptions() -> None:
    """Functions made in a loop, and all those that are called ``_``: nothing is replaced."""
    bus, seen = Bus(), list[int]()
    for number in range(3):

        @bus.on(Placed)
        def _(placed: Placed, number: int = number) -> None:
            seen.append(number)

    bus.publish(Placed())
    assert seen == [0, 1, 2]


def test_a_decorator_subscribes_to_everything_or_to_nothing() -> None:
    """One name that is no name, and none of the others is subscribed to."""
    bus, seen = Bus(), list[object]()
    with pytest.raises(InvalidName):
        bus.on(Placed, Paid, "order..placed")(seen.append)
    bus.publish(Placed())
    bus.publish(Paid())
    assert seen == []


# Once.


@pytest.mark.parametrize("colour", COLOURS)
def test_once_is_called_for_one_event_and_then_closed(
    colour: str, pool: ThreadPoolExecutor
) -> None:
    """And only for the first, however many are published before it is handled."""

    async def main() -> None:
        for number in range(1, 4):
            bus.publish(Placed(number))
        bus.pump()
        await bus.idle(PATIENCE)

    with Bus() as bus:
        seen = list[Placed]()
        subscription = subscribe(bus, colour, pool, seen.append, once=True)
        asyncio.run(main())
    assert seen == [Placed(1)]
    assert subscription.closed


@pytest.mark.parametrize("colour", ["inline", "observed"])
def test_once_is_claimed_before_the_call(colour: str) -> None:
    """A handler that publishes the same event again does not meet itself."""
    bus, seen = Bus(), list[int]()

    def handle(placed: Placed) -> None:
        seen.append(placed.number)
        assert subscription.closed
        bus.publish(Placed(placed.number + 1))

    subscription = subscribe(bus, colour, None, handle, once=True)
    bus.publish(Placed(0))
    assert seen == [0]


@pytest.mark.parametrize("colour", COLOURS)
def test_once_is_claimed_by_one_of_many_threads(colour: str, pool: ThreadPoolExecutor) -> None:
    """All publish at the same moment, again and again, and each time one event gets it."""

    def publish(number: int) -> None:
        barrier.wait(PATIENCE)
        bus.publish(Placed(number))

    with Bus() as bus:
        for _ in range(20):
            seen = list[Placed]()
            subscribe(bus, colour, pool, seen.append, once=True)
            barrier = threading.Barrier(4)
            threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            finish(bus)
            assert len(seen) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_once_counts_only_events_that_match(colour: str, pool: ThreadPoolExecutor) -> None:
    """What its condition turns away does not claim it."""
    with Bus() as bus:
        seen = list[Placed]()
        subscribe(
            bus, colour, pool, seen.append, once=True, where=lambda placed: placed.number == 2
        )
        for number in (1, 2, 2, 3):
            bus.publish(Placed(number))
            finish(bus)
    assert seen == [Placed(2)]


@pytest.mark.parametrize("colour", COLOURS)
def test_once_is_used_up_by_a_failure_too(colour: str, pool: ThreadPoolExecutor) -> None:
    """It was called: that it failed is on the receipt, and it is not called again."""

    def fail(placed: Placed) -> None:
        seen.append(placed)
        raise ValueError

    with Bus() as bus:
        seen = list[Placed]()
        subscribe(bus, colour, pool, fail, once=True)
        receipt = bus.publish(Placed(1))
        finish(bus)
        bus.publish(Placed(2))
        finish(bus)
    assert seen == [Placed(1)]
    assert [type(error) for error in receipt.errors] == [ValueError]


def test_once_has_all_its_attempts_with_its_one_event() -> None:
    """Closed is the way in; the event that got in is retried like any other."""
    attempts = list[Placed]()

    def fail_twice(placed: Placed) -> None:
        attempts.append(placed)
        if len(attempts) < 3:
            raise ConnectionError

    at_once = Retry(max_attempts=5, backoff=Backoff(initial=0.001, jitter=False))
    with Bus() as bus:
        bus.subscribe(Placed, fail_twice, once=True, retry=at_once)
        receipt = bus.publish(Placed(1))
        bus.publish(Placed(2))
        bus.idle(PATIENCE)
    assert attempts == [Placed(1)] * 3
    assert receipt.errors == ()


def test_once_that_was_closed_before_its_event_is_not_called() -> None:
    """Closed is closed."""
    bus, seen = Bus(), list[Placed]()
    bus.subscribe(Placed, seen.append, once=True).close()
    bus.publish(Placed())
    assert seen == []


def test_several_that_want_one_event_each_get_the_same_one() -> None:
    """That one of them leaves does not make the next one miss the event."""
    bus, seen = Bus(), list[str]()
    for name in "abc":
        bus.subscribe(Placed, functools.partial(note, seen, name), once=True)
        bus.subscribe(Placed, lambda placed: seen.append("always"))
    bus.publish(Placed())
    assert seen == ["a", "always", "b", "always", "c", "always"]
    seen.clear()
    bus.publish(Placed())
    assert seen == ["always"] * 3
