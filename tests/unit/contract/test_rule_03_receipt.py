"""Rule 3, receipt: publish starts the work at once and gives back the fate of the event.

Where no loop runs publish returns when that is known; where one does, it returns at once.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import (
    Bus,
    Context,
    Overloaded,
    Rate,
    Receipt,
    Resequence,
    Retry,
    WouldDeadlock,
    event,
)
from headwater.receipt import DONE
from headwater.records import Deferred, Record
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


def ignore(event: object) -> None:
    """A handler that does nothing."""


async def ignore_async(event: object) -> None:
    """The same on a loop, after a turn of it."""
    await asyncio.sleep(0)


async def settle() -> None:
    """Let everything that can run on this loop run as far as it gets."""
    for _ in range(20):
        await asyncio.sleep(0)


# Done when it returns.


@pytest.mark.parametrize("executor", [None, "inline", "thread", "pool"])
def test_in_sync_code_publish_returns_when_sync_handlers_are_done(executor: str | None) -> None:
    """Inline, in a worker or in an executor: the last of them has finished."""
    with ThreadPoolExecutor(1) as pool, Bus() as bus:
        seen = list[object]()
        where: Any = pool if executor == "pool" else executor
        bus.subscribe(Placed, seen.append, executor=where)
        for number in range(10):
            receipt = bus.publish(Placed(number))
            assert receipt.done
            assert len(seen) == number + 1


def test_in_sync_code_publish_returns_when_async_handlers_are_done() -> None:
    """Those on the bus's own loop, with all they await."""

    async def handle(placed: Placed) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        seen.append(placed)

    with Bus() as bus:
        seen = list[object]()
        bus.subscribe(Placed, handle)
        for number in range(10):
            assert bus.publish(Placed(number)).done
            assert len(seen) == number + 1


def test_where_a_loop_runs_publish_returns_at_once_and_the_receipt_may_be_awaited() -> None:
    """The work has been started, and publish has not waited for it."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()

        bus.subscribe(Placed, handle)
        receipt = bus.publish(Placed())
        assert not receipt.done
        await asyncio.sleep(0)
        assert not receipt.done
        gate.set()
        assert await receipt is receipt
        assert (receipt.done, receipt.errors, receipt.deferred) == (True, (), 0)

    bus = Bus()
    asyncio.run(main())


def test_a_receipt_may_be_awaited_often_and_by_many() -> None:
    """By several tasks at once, again when it is done, and from another loop."""

    async def wait() -> Receipt:
        return await receipts[0]

    async def main() -> None:
        def elsewhere() -> None:
            from_elsewhere.append(asyncio.run(wait()))

        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()

        bus.subscribe(Placed, handle)
        receipts.append(bus.publish(Placed()))
        tasks = [asyncio.create_task(wait()) for _ in range(3)]
        other = asyncio.create_task(asyncio.to_thread(elsewhere))
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*tasks) == [receipts[0]] * 3
        await other
        assert await receipts[0] is await receipts[0]

    bus, receipts, from_elsewhere = Bus(), list[Receipt](), list[Receipt]()
    asyncio.run(main())
    assert from_elsewhere == receipts


def test_another_thread_may_wait_for_a_receipt_of_a_loop() -> None:
    """`wait` blocks its own thread only; `timeout` bounds it, and the handler goes on."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()

        def patience_ends() -> None:
            with pytest.raises(TimeoutError):
                receipt.wait(timeout=0)

        bus.subscribe(Placed, handle)
        receipt = bus.publish(Placed())
        await asyncio.to_thread(patience_ends)
        waiting = asyncio.create_task(asyncio.to_thread(receipt.wait, PATIENCE))
        await asyncio.sleep(0)
        assert not receipt.done
        gate.set()
        assert await waiting is receipt

    bus = Bus()
    asyncio.run(main())


def test_a_receipt_waits_for_all_handlers_whatever_their_colour() -> None:
    """It is done with the last of an inline, an async and a thread handler, and not before."""

    async def main() -> None:
        in_loop, in_thread = asyncio.Event(), threading.Event()

        async def handle(placed: Placed) -> None:
            await in_loop.wait()

        bus.subscribe(Placed, ignore)
        bus.subscribe(Placed, handle)
        bus.subscribe(Placed, lambda placed: in_thread.wait(PATIENCE), executor="thread")
        for first, second in ((in_loop, in_thread), (in_thread, in_loop)):
            in_loop.clear()
            in_thread.clear()
            receipt = bus.publish(Placed())
            first.set()
            await asyncio.sleep(0)
            assert not receipt.done
            second.set()
            await receipt

    with Bus() as bus:
        asyncio.run(main())


def test_errors_are_on_the_receipt_in_the_order_of_failing() -> None:
    """Not in the order of the handlers."""

    async def main() -> None:
        gates = [asyncio.Event() for _ in range(3)]

        def fails(number: int) -> Callable[[Placed], Any]:
            async def handle(placed: Placed) -> None:
                await gates[number].wait()
                raise ValueError(number)

            return handle

        def fail(placed: Placed) -> None:
            raise ValueError("inline")

        for number in range(3):
            bus.subscribe(Placed, fails(number))
        bus.subscribe(Placed, fail)
        receipt = bus.publish(Placed())
        failed: list[object] = ["inline"]
        assert [error.args[0] for error in receipt.errors] == failed
        for number in (2, 0, 1):
            gates[number].set()
            failed.append(number)
            await settle()
            assert [error.args[0] for error in receipt.errors] == failed
        assert receipt.done
        assert [error.args[0] for error in receipt.errors] == ["inline", 2, 0, 1]

    bus = Bus()
    asyncio.run(main())


# The receipt of an inline publish.


def test_the_receipt_of_an_inline_publish_is_complete_and_shared() -> None:
    """One object for all of them, on every bus, in sync and in async code."""

    async def main() -> None:
        receipt = bus.publish(Placed())
        assert receipt is DONE
        assert await receipt is DONE

    bus, other = Bus(), Bus()
    for each in (bus, other):
        each.subscribe(Placed, ignore)
        each.subscribe(Paid, ignore)
    assert bus.publish(Placed()) is DONE
    assert bus.publish(Placed()) is other.publish(Paid())
    asyncio.run(main())
    assert DONE.wait() is DONE
    assert (DONE.done, DONE.errors, DONE.deferred) == (True, (), 0)


def test_the_shared_receipt_also_stands_for_an_event_that_nobody_handles() -> None:
    """There is nothing to wait for."""
    bus = Bus()
    assert bus.publish(Placed()) is DONE
    assert bus.publish("order.placed", {"number": 1}) is DONE


def test_a_failure_never_lands_on_the_shared_receipt() -> None:
    """What fails gets a receipt of its own; the next event's is the shared one again."""

    def fail_at_one(placed: Placed) -> None:
        if placed.number == 1:
            raise ValueError

    bus = Bus()
    bus.subscribe(Placed, fail_at_one)
    failed = bus.publish(Placed(1))
    assert failed is not DONE
    assert failed.done
    assert len(failed.errors) == 1
    assert bus.publish(Placed(2)) is DONE
    assert DONE.errors == ()


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """What dies inside dies of its own: nothing referred to it any more."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_an_inline_publish_allocates_nothing_that_stays() -> None:
    """A thousand publishes leave not one block of memory behind each."""
    bus, placed = Bus(), Placed()
    for _ in range(3):
        bus.subscribe(Placed, ignore)
    publish = functools.partial(bus.publish, placed)

    def blocks_left(times: int) -> int:
        before = sys.getallocatedblocks()
        for _ in range(times):
            publish()
        return sys.getallocatedblocks() - before

    with no_garbage_collection():
        blocks_left(100)  # What is made once is made here.
        assert blocks_left(1000) < 100


def nested(bus: Bus) -> None:
    """A handler that publishes."""

    def handle(placed: Placed) -> None:
        bus.publish(Paid())

    bus.subscribe(Placed, handle)
    bus.subscribe(Paid, ignore)


def failing(bus: Bus) -> None:
    """A handler that fails."""

    def fail(placed: Placed) -> None:
        raise ValueError

    bus.subscribe(Placed, fail)


def taking_the_context(bus: Bus) -> None:
    """A handler that looks at the message."""

    def handle(placed: Placed, context: Context) -> None:
        assert context.event_id

    bus.subscribe(Placed, handle)


def observed(bus: Bus) -> None:
    """A bus that somebody watches."""
    bus.subscribe(Placed, ignore)
    bus.observe(lambda record: None)


INLINE: list[Callable[[Bus], Any]] = [
    lambda bus: bus.subscribe(Placed, ignore),
    nested,
    failing,
    taking_the_context,
    observed,
]
NAMES = ["plain", "nested", "failing", "context", "observed"]


@pytest.mark.parametrize("prepare", INLINE, ids=NAMES)
def test_an_inline_publish_keeps_nothing_of_the_event(
    prepare: Callable[[Bus], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The event dies with the publisher's last reference, without a garbage collection."""
    caplog.set_level(logging.CRITICAL + 1, logger="headwater")  # pytest keeps what is logged.
    bus = Bus()
    prepare(bus)
    bus.publish(Placed())  # The first event of a class goes a longer way.
    with no_garbage_collection():
        placed = Placed()
        reference = weakref.ref(placed)
        bus.publish(placed)
        del placed
        assert reference() is None


@pytest.mark.parametrize("executor", ["thread", "pool", "pump", "async"])
def test_a_delivery_that_is_finished_keeps_nothing_of_the_event(executor: str) -> None:
    """Neither the bus, nor an idle worker, nor the bus's loop remembers it."""
    with ThreadPoolExecutor(1) as pool, Bus(max_workers=1) as bus:
        if executor == "async":
            bus.subscribe(Placed, ignore_async, timeout=PATIENCE)
        else:
            where: Any = pool if executor == "pool" else executor
            bus.subscribe(Placed, ignore, executor=where, timeout=PATIENCE)
        placed = Placed()
        reference = weakref.ref(placed)
        bus.publish(placed)
        del placed
        bus.pump()
        bus.idle(PATIENCE)
        # The thread that finished it may still be on its way back: it gets another one.
        bus.publish(Placed())
        bus.pump()
        bus.idle(PATIENCE)
        gc.collect()
        assert reference() is None


# Deferred: it waits for something other than a handler.


@dataclass(frozen=True)
class Waits:
    """A way to make a delivery wait; its options, and how to let it go."""

    options: dict[str, Any]
    publish: dict[str, Any]
    let_go: Callable[[Bus, VirtualRuntime], object]


def fail_once() -> Callable[[Placed], None]:
    """A handler that succeeds when it is tried again."""
    failures = [ConnectionError()]

    def handle(placed: Placed) -> None:
        if failures:
            raise failures.pop()

    return handle


def advance(bus: Bus, runtime: VirtualRuntime) -> None:
    """An hour goes by."""
    runtime.advance(3600)


DEFERRALS = {
    "delay": Waits({}, {"delay": 60}, advance),
    "rate": Waits({"rate": Rate(1, per=60)}, {}, advance),
    "resequence": Waits({"resequence": Resequence(by="number", timeout=60)}, {}, advance),
    "retry": Waits({"retry": Retry()}, {}, advance),
    "pump": Waits({"executor": "pump"}, {}, lambda bus, runtime: bus.pump()),
}


@pytest.mark.parametrize("reason", DEFERRALS)
def test_a_receipt_does_not_wait_for_what_is_deferred(reason: str) -> None:
    """For a time, a number, a pump: it is done, says how many, and the work is done later."""
    waits, runtime, seen = DEFERRALS[reason], VirtualRuntime(), list[Record]()
    with Bus(runtime=runtime) as bus:
        bus.observe(seen.append)
        handler = fail_once() if reason == "retry" else ignore
        bus.subscribe(Placed, handler, name="waits", **waits.options)
        if reason == "rate":
            bus.publish(Placed(0))  # Uses it up.
        handled = sum(type(record).__name__ == "Handled" for record in seen)
        receipt = bus.publish(Placed(7), **waits.publish)
        assert (receipt.done, receipt.deferred, receipt.errors) == (True, 1, ())
        assert sum(type(record).__name__ == "Handled" for record in seen) == handled
        if reason != "delay":
            (deferred,) = (record for record in seen if isinstance(record, Deferred))
            assert (deferred.reason, deferred.subscription) == (reason, "waits")
        waits.let_go(bus, runtime)
        bus.idle(PATIENCE)
        assert sum(type(record).__name__ == "Handled" for record in seen) == handled + 1


def test_a_receipt_does_not_wait_for_a_paused_subscription() -> None:
    """Nor for its successors; they are unfinished until it is resumed."""
    bus, seen = Bus(), list[object]()
    subscription = bus.subscribe(Placed, seen.append)
    subscription.pause()
    receipt = bus.publish(Placed())
    assert (receipt.done, receipt.deferred, seen) == (True, 1, [])
    with pytest.raises(TimeoutError):
        bus.idle(0)
    subscription.resume()
    bus.idle(PATIENCE)
    assert seen == [Placed()]


def test_a_handler_that_awaits_an_event_of_its_own_key_does_not_wait_for_ever() -> None:
    """The lane is held by the publisher itself: deferred, and handled right after it."""

    async def main() -> None:
        @bus.on(Paid)
        async def handle(paid: Paid) -> None:
            seen.append(f"began {paid.number}")
            if paid.number < 2:
                receipt = await bus.publish(Paid(number=paid.number + 1))
                deferred.append(receipt.deferred)
            seen.append(f"ended {paid.number}")

        receipt = await bus.publish(Paid(number=0))
        assert (receipt.deferred, receipt.errors) == (0, ())
        await bus.idle(PATIENCE)

    bus, seen, deferred = Bus(), list[str](), list[int]()
    asyncio.run(main())
    assert seen == [f"{verb} {number}" for number in range(3) for verb in ("began", "ended")]
    assert deferred == [1, 1]


def test_an_event_of_the_publishers_own_key_is_deferred_at_once() -> None:
    """Its receipt is done whoever looks at it, and it is handled when the publisher has ended."""

    async def main() -> None:
        @bus.on(Paid)
        async def handle(paid: Paid) -> None:
            seen.append(paid.number)
            if paid.number == 0:
                receipt = bus.publish(Paid(number=1))
                assert (receipt.done, receipt.deferred) == (True, 1)
                other = bus.publish(Paid("o2", number=2))
                assert other.deferred == 0
                await other

        assert (await bus.publish(Paid(number=0))).errors == ()
        await bus.idle(PATIENCE)

    bus, seen = Bus(), list[int]()
    asyncio.run(main())
    assert seen == [0, 2, 1]


def test_handlers_that_wait_for_each_others_keys_do_not_wait_for_ever() -> None:
    """Neither is the other's cause: the wait that closes the ring is deferred."""

    async def main() -> None:
        both = asyncio.Barrier(2)

        @bus.on(Paid)
        async def handle(paid: Paid) -> None:
            if paid.number == 0:
                await both.wait()
                other = "right" if paid.order_id == "left" else "left"
                deferred.append((await bus.publish(Paid(other, 1))).deferred)
            seen.append(paid)

        receipts = [bus.publish(Paid("left")), bus.publish(Paid("right"))]
        for receipt in receipts:
            assert (await receipt).errors == ()
        await bus.idle(PATIENCE)

    bus, seen, deferred = Bus(), list[Paid](), list[int]()
    asyncio.run(main())
    assert sorted(deferred) == [0, 1]
    for key in ("left", "right"):
        assert [paid.number for paid in seen if paid.order_id == key] == [0, 1]


def test_a_thread_handler_that_publishes_its_own_key_does_not_wait_for_ever() -> None:
    """The same where the wait blocks a worker."""
    with Bus(max_workers=1) as bus:
        seen = list[int]()

        @bus.on(Paid, executor="thread")
        def handle(paid: Paid) -> None:
            if paid.number < 2:
                receipt = bus.publish(Paid(number=paid.number + 1))
                assert (receipt.done, receipt.deferred) == (True, 1)
            seen.append(paid.number)

        bus.publish(Paid(number=0))
        bus.idle(PATIENCE)
    assert seen == [0, 1, 2]


# Would deadlock.


def test_waiting_in_a_thread_whose_loop_has_to_do_the_work_raises() -> None:
    """It says what to do instead, and does no harm; a receipt that is done may be waited for."""

    async def main() -> None:
        bus.subscribe(Placed, ignore_async)
        receipt = bus.publish(Placed())
        with pytest.raises(WouldDeadlock, match="await the receipt"):
            receipt.wait()
        await receipt
        assert receipt.wait() is receipt

    bus = Bus()
    asyncio.run(main())


def test_an_inline_handler_on_a_loop_cannot_wait_either() -> None:
    """The loop is its thread's, whoever calls: the error is that handler's failure."""

    async def main() -> None:
        def handle(placed: Placed) -> None:
            bus.publish(Paid()).wait()

        bus.subscribe(Placed, handle)
        bus.subscribe(Paid, ignore_async)
        receipt = await bus.publish(Placed())
        assert [type(error) for error in receipt.errors] == [WouldDeadlock]
        await bus.idle(PATIENCE)

    bus = Bus()
    asyncio.run(main())


def test_waiting_in_a_handler_until_the_bus_is_idle_raises() -> None:
    """It would wait for itself, in a worker as well as on a loop, and below inline handlers."""

    async def wait_async(placed: Placed) -> None:
        await bus.idle(PATIENCE)

    def wait(placed: object) -> None:
        bus.idle(PATIENCE)

    def publish(placed: Placed) -> None:
        nested.append(bus.publish(Paid()))

    nested = list[Receipt]()
    with Bus() as bus:
        bus.subscribe(Paid, wait)
        bus.subscribe(Placed, wait_async)
        bus.subscribe(Placed, wait, executor="thread")
        bus.subscribe(Placed, publish, executor="thread")
        receipts = [bus.publish(Placed()), *nested]
        errors = [error for receipt in receipts for error in receipt.errors]
        assert [type(error) for error in errors] == [WouldDeadlock] * 3


def test_an_inline_handler_in_sync_code_may_wait_until_the_bus_is_idle() -> None:
    """It is not among what is unfinished: its publisher waits for it anyway."""

    def wait(placed: Placed) -> None:
        bus.idle(PATIENCE)

    with Bus() as bus:
        seen = list[object]()
        bus.subscribe(Placed, wait)
        bus.subscribe(Placed, seen.append)
        assert bus.publish(Placed()).errors == ()
        assert seen == [Placed()]


def test_stopping_a_busy_bus_without_awaiting_it_raises_where_a_loop_runs() -> None:
    """The loop would have to go on for what is unfinished."""

    async def main() -> None:
        bus.subscribe(Placed, ignore_async)
        receipt = bus.publish(Placed())
        with pytest.raises(WouldDeadlock, match="aclose"):
            bus.stop()
        await receipt
        bus.stop()

    bus = Bus()
    asyncio.run(main())


# Overloaded.


def test_publish_raises_beyond_max_pending_before_any_handler_is_called() -> None:
    """All or nothing: not even inline handlers of higher priority get the event."""

    async def main() -> None:
        bus.subscribe(Placed, seen.append, priority=1)
        for _ in range(3):
            bus.subscribe(Placed, ignore_async)
        receipt = bus.publish(Placed(1))
        with pytest.raises(Overloaded) as caught:
            bus.publish(Placed(2))
        assert (caught.value.pending, caught.value.limit) == (3, 5)
        assert seen == [Placed(1)]
        await receipt
        await bus.publish(Placed(3))
        assert seen == [Placed(1), Placed(3)]

    bus, seen = Bus(max_pending=5), list[object]()
    asyncio.run(main())


def test_one_event_with_more_handlers_than_may_be_pending_is_refused() -> None:
    """An idle bus too says so, and calls none."""
    bus, seen = Bus(max_pending=2), list[object]()
    for _ in range(3):
        bus.subscribe(Placed, seen.append, executor="thread")
    with pytest.raises(Overloaded):
        bus.publish(Placed())
    assert seen == []


def test_a_full_bus_has_room_for_what_runs_inline() -> None:
    """It is never pending; what is refused is refused, and nothing is dropped."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(paid: Paid) -> None:
            await gate.wait()
            seen.append(paid)

        bus.subscribe(Placed, seen.append)
        bus.subscribe(Paid, handle)
        accepted = list[object]()
        for number in range(10):
            paid = Paid(str(number))
            with contextlib.suppress(Overloaded):
                bus.publish(paid)
                accepted.append(paid)
        assert len(accepted) == 3
        assert bus.publish(Placed()) is DONE
        gate.set()
        await bus.idle(PATIENCE)
        assert seen == [Placed(), *accepted]

    bus, seen = Bus(max_pending=3), list[object]()
    asyncio.run(main())


@pytest.mark.parametrize("reason", ["delay", "pump", "rate", "pause"])
def test_what_is_deferred_counts_as_pending(reason: str) -> None:
    """Its receipt is done, the work is not: bounded like all other."""
    runtime = VirtualRuntime()
    with Bus(max_pending=2, runtime=runtime, drain_timeout=0) as bus:
        waits = DEFERRALS.get(reason, DEFERRALS["delay"])
        subscription = bus.subscribe(Placed, ignore, **waits.options)
        options = waits.publish if reason == "delay" else {}
        if reason == "pause":
            subscription.pause()
        if reason == "rate":
            bus.publish(Placed())  # Uses it up.
        for _ in range(2):
            assert bus.publish(Placed(), **options).deferred == 1
        with pytest.raises(Overloaded):
            bus.publish(Placed(), **options)
        subscription.resume()
        waits.let_go(bus, runtime)
        bus.idle(PATIENCE)
        bus.publish(Placed(), **options)
