"""Events for later, `delay=` and `at=`, in virtual time: from sync code and from loops.

A delayed event is delivered on its publisher's loop while that runs, else by a worker.
"""

import asyncio
import contextvars
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from headwater import Bus, Overloaded, Receipt, event
from headwater.errors import InvalidOption, InvalidPolicy
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds, real ones, after which a test that waits gives up."""
START = 1_700_000_000.0
NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Placed:
    number: int = 0


@event(key="order_id")
@dataclass(frozen=True)
class Paid:
    order_id: str
    number: int


class Numbers:
    """A handler that notes the numbers of its events, and where it was called."""

    def __init__(self) -> None:
        self.seen = list[int]()
        self.threads = list[threading.Thread]()
        self.loops = list[asyncio.AbstractEventLoop]()

    def sync(self, event: Placed | Paid) -> None:
        """In a thread."""
        self.seen.append(event.number)
        self.threads.append(threading.current_thread())

    async def on_loop(self, event: Placed | Paid) -> None:
        """On a loop."""
        self.sync(event)
        self.loops.append(asyncio.get_running_loop())


# When.


@pytest.mark.parametrize("delay", [60, 60.0, timedelta(minutes=1)])
def test_a_delayed_event_is_delivered_after_its_delay(delay: Any) -> None:
    """Not before, and once; the publisher goes on at once, with a receipt that says so."""
    clock, numbers = VirtualRuntime(), Numbers()
    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, numbers.sync)
        receipt = bus.publish(Placed(1), delay=delay)
        assert (receipt.done, receipt.deferred) == (True, 1)
        clock.advance(59.9)
        with pytest.raises(TimeoutError):
            bus.idle(0)
        assert numbers.seen == []
        clock.advance(0.1)
        bus.idle(PATIENCE)
        assert numbers.seen == [1]
        clock.advance(600)
        bus.idle(PATIENCE)
        assert numbers.seen == [1]


@pytest.mark.parametrize(
    "at",
    [
        NOON,
        NOON.astimezone(timezone(timedelta(hours=-7))),
        NOON.timestamp(),
        int(NOON.timestamp()),
    ],
    ids=["UTC", "another time zone", "seconds since 1970", "whole seconds"],
)
def test_an_event_is_delivered_at_its_time(at: Any) -> None:
    """By the wall clock, in whatever way the moment is written."""
    clock, numbers = VirtualRuntime(NOON.timestamp() - 60), Numbers()
    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, numbers.sync)
        bus.publish(Placed(1), at=at)
        clock.advance(59)
        with pytest.raises(TimeoutError):
            bus.idle(0)
        clock.advance(1)
        bus.idle(PATIENCE)
        assert numbers.seen == [1]


@pytest.mark.parametrize("when", [{"at": START - 3600}, {"at": START}, {"delay": 0}], ids=str)
def test_an_event_that_is_due_already_is_delivered_by_the_next_timer(when: Any) -> None:
    """Soon, and not by publish itself."""
    clock, numbers = VirtualRuntime(START), Numbers()
    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, numbers.sync)
        bus.publish(Placed(1), **when)
        assert numbers.seen == []
        clock.advance(0)
        bus.idle(PATIENCE)
        assert numbers.seen == [1]


def test_an_event_that_is_due_already_is_delivered_in_real_time_too() -> None:
    """The real timer of a moment in the past does not wait."""
    numbers = Numbers()
    with Bus() as bus:
        bus.subscribe(Placed, numbers.sync)
        bus.publish(Placed(1), at=datetime(2001, 1, 1, tzinfo=UTC))
        bus.idle(PATIENCE)
        assert numbers.seen == [1]


def test_delayed_events_are_delivered_in_the_order_of_their_times() -> None:
    """Whatever the order in which they were published, and in that order at the same time."""

    async def main() -> None:
        for number, delay in ((4, 3), (1, 1), (5, 3), (2, 2), (3, 2)):
            bus.publish(Paid("o1", number), delay=delay)
        clock.advance(1)
        assert numbers.seen == [1]
        clock.advance(1)
        assert numbers.seen == [1, 2, 3]
        clock.advance(1)
        assert numbers.seen == [1, 2, 3, 4, 5]

    clock, numbers = VirtualRuntime(), Numbers()
    bus = Bus(runtime=clock)
    bus.subscribe(Paid, numbers.sync)
    asyncio.run(main())


# What is refused.


@pytest.mark.parametrize(
    ("when", "error", "text"),
    [
        ({"at": datetime(2030, 6, 1)}, InvalidOption, "time zone"),  # noqa: DTZ001
        ({"at": NOON, "delay": 1}, InvalidOption, "got both"),
        ({"at": 0, "delay": 0}, InvalidOption, "got both"),
        ({"at": "noon"}, InvalidOption, "datetime"),
        ({"at": True}, InvalidOption, "datetime"),
        ({"at": -1}, InvalidPolicy, "at"),
        ({"delay": -1}, InvalidPolicy, "delay"),
        ({"delay": timedelta(seconds=-1)}, InvalidPolicy, "delay"),
        ({"delay": float("nan")}, InvalidPolicy, "delay"),
        ({"delay": float("inf")}, InvalidPolicy, "delay"),
        ({"delay": "1"}, InvalidPolicy, "delay"),
    ],
    ids=str,
)
def test_a_time_that_makes_no_sense_is_refused(
    when: Any, error: type[Exception], text: str
) -> None:
    """By publish, at once; nothing is put by."""
    clock = VirtualRuntime()
    bus = Bus(runtime=clock)
    with pytest.raises(error, match=text):
        bus.publish(Placed(), **when)
    assert clock.waiting == []
    bus.idle(0)


def test_a_delayed_event_counts_as_pending() -> None:
    """Beyond `max_pending` publish refuses what is for later too."""
    clock = VirtualRuntime()
    bus = Bus(runtime=clock, max_pending=2, drain_timeout=0)
    bus.publish(Placed(), delay=60)
    bus.publish(Placed(), delay=60)
    with pytest.raises(Overloaded):
        bus.publish(Placed(), delay=60)
    bus.close()


# Where.


def test_from_sync_code_a_worker_delivers() -> None:
    """The publisher may be anywhere by then: a sync handler runs in a worker."""
    clock, numbers = VirtualRuntime(), Numbers()
    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, numbers.sync)
        bus.publish(Placed(1), delay=60)
        clock.advance(60)
        bus.idle(PATIENCE)
        assert [thread.name for thread in numbers.threads] == ["headwater-worker"]


def test_from_sync_code_an_async_handler_runs_on_the_bus_own_loop() -> None:
    """As if it had been published without a delay."""
    clock, numbers = VirtualRuntime(), Numbers()
    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, numbers.on_loop)
        bus.publish(Placed(1), delay=60)
        clock.advance(60)
        bus.idle(PATIENCE)
        assert [thread.name for thread in numbers.threads] == ["headwater-loop"]


def test_from_a_loop_that_still_runs_it_is_delivered_there() -> None:
    """Sync handlers in the loop's thread, async ones on the loop."""

    async def main() -> None:
        receipt = await bus.publish(Placed(1), delay=60)
        assert receipt.deferred == 1
        clock.advance(60)
        await bus.idle(PATIENCE)
        assert sync.threads == on_loop.threads == [threading.current_thread()]
        assert on_loop.loops == [asyncio.get_running_loop()]

    clock, sync, on_loop = VirtualRuntime(), Numbers(), Numbers()
    bus = Bus(runtime=clock)
    bus.subscribe(Placed, sync.sync)
    bus.subscribe(Placed, on_loop.on_loop)
    asyncio.run(main())


def test_from_a_loop_that_still_runs_whatever_thread_moves_the_time() -> None:
    """Timers may be called anywhere; the handlers are not."""

    async def main() -> None:
        await bus.publish(Placed(1), delay=60)
        other = threading.Thread(target=clock.advance, args=(60,))
        other.start()
        await bus.idle(PATIENCE)
        other.join(PATIENCE)
        assert sync.threads == on_loop.threads == [threading.current_thread()]

    clock, sync, on_loop = VirtualRuntime(), Numbers(), Numbers()
    bus = Bus(runtime=clock)
    bus.subscribe(Placed, sync.sync)
    bus.subscribe(Placed, on_loop.on_loop)
    asyncio.run(main())


def test_from_a_loop_that_has_ended_others_take_its_place() -> None:
    """A worker, and the bus's own loop."""

    async def main() -> None:
        await bus.publish(Placed(1), delay=60)

    clock, sync, on_loop = VirtualRuntime(), Numbers(), Numbers()
    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, sync.sync)
        bus.subscribe(Placed, on_loop.on_loop)
        asyncio.run(main())
        clock.advance(60)
        bus.idle(PATIENCE)
        assert [thread.name for thread in sync.threads] == ["headwater-worker"]
        assert [thread.name for thread in on_loop.threads] == ["headwater-loop"]


def test_a_loop_in_real_time_delivers_what_was_delayed() -> None:
    """The same with the real clock, for a hundredth of a second."""

    async def main() -> None:
        await bus.publish(Placed(1), delay=0.01)
        await bus.idle(PATIENCE)
        assert numbers.loops == [asyncio.get_running_loop()]
        assert numbers.seen == [1]

    bus, numbers = Bus(), Numbers()
    bus.subscribe(Placed, numbers.on_loop)
    asyncio.run(main())
    bus.close()


# What, and to whom.


def test_whoever_is_subscribed_when_it_is_due_gets_it() -> None:
    """Not who was when it was published."""
    clock, early, late = VirtualRuntime(), Numbers(), Numbers()
    with Bus(runtime=clock) as bus:
        subscription = bus.subscribe(Placed, early.sync)
        bus.publish(Placed(1), delay=60)
        subscription.close()
        bus.subscribe(Placed, late.sync)
        clock.advance(60)
        bus.idle(PATIENCE)
    assert (early.seen, late.seen) == ([], [1])


def test_a_name_with_data_may_be_for_later() -> None:
    """The class is built when it is published: mistakes show there."""
    clock, numbers = VirtualRuntime(), Numbers()
    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, numbers.sync)
        bus.publish("Placed", {"number": 7}, delay=60)
        clock.advance(60)
        bus.idle(PATIENCE)
    assert numbers.seen == [7]


def test_handlers_see_the_context_variables_of_the_publisher() -> None:
    """As they were at publish."""
    tenant = contextvars.ContextVar("tenant", default="nobody")
    clock, seen = VirtualRuntime(), list[str]()

    async def on_loop(placed: Placed) -> None:
        seen.append(tenant.get())

    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, lambda placed: seen.append(tenant.get()))
        bus.subscribe(Placed, on_loop)
        token = tenant.set("acme")
        bus.publish(Placed(), delay=60)
        tenant.reset(token)
        clock.advance(60)
        bus.idle(PATIENCE)
    assert seen == ["acme", "acme"]


def failing_later(bus: Bus, clock: VirtualRuntime) -> Receipt:
    """The receipt of an event whose handler failed when its time had come."""

    def fail(placed: Placed) -> None:
        raise ZeroDivisionError

    bus.subscribe(Placed, fail)
    receipt = bus.publish(Placed(), delay=60)
    clock.advance(60)
    return receipt


def test_what_fails_later_is_on_the_receipt() -> None:
    """Which its publisher may still hold."""
    clock = VirtualRuntime()
    with Bus(runtime=clock) as bus:
        receipt = failing_later(bus, clock)
        bus.idle(PATIENCE)
        assert [type(error) for error in receipt.errors] == [ZeroDivisionError]


def test_what_fails_later_is_raised_by_idle_if_errors_are_to_be_raised() -> None:
    """Nobody waits for the receipt any more."""
    clock = VirtualRuntime()
    with Bus(runtime=clock, on_error="raise") as bus:
        failing_later(bus, clock)
        with pytest.raises(ExceptionGroup) as caught:
            bus.idle(PATIENCE)
        assert caught.group_contains(ZeroDivisionError)
