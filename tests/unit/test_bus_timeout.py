"""What becomes of a handler that runs longer than its timeout; time is virtual here.

An async handler is cancelled. A thread cannot be stopped: its event is given up, and whatever the
handler still does counts for nothing.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from headwater import Backoff, Bus, Context, Receipt, Retry
from headwater.errors import HandlerTimeout
from headwater.records import Abandoned, Failed, Handled, Record
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds, real ones, after which a test that waits gives up."""


@dataclass(frozen=True)
class Placed:
    number: int = 0


class Hanging:
    """A thread handler that hangs in its first attempt until it is let go."""

    def __init__(self) -> None:
        self.began, self.gate = threading.Event(), threading.Event()
        self.done = list[tuple[int, str]]()
        self.thread: threading.Thread | None = None

    def handle(self, placed: Placed, context: Context) -> None:
        """The first attempt hangs, the others do not."""
        if context.attempt > 1:
            self.done.append((context.attempt, "quick"))
            return
        self.thread = threading.current_thread()
        self.began.set()
        assert self.gate.wait(PATIENCE)
        self.done.append((context.attempt, "late"))

    def release(self) -> None:
        """Let it go on, and wait until its thread has ended: its bus is closed."""
        self.gate.set()
        assert self.thread is not None
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def in_thread(publish: Callable[[], Receipt]) -> Callable[[], Receipt]:
    """Publish in a thread that may wait; gives a function that waits for the receipt."""
    receipts = list[Receipt]()
    thread = threading.Thread(target=lambda: receipts.append(publish()))
    thread.start()

    def join() -> Receipt:
        thread.join(PATIENCE)
        (receipt,) = receipts
        return receipt

    return join


def only_error(receipt: Receipt) -> HandlerTimeout:
    """The one error on a receipt, which is that of a timeout."""
    (error,) = receipt.errors
    assert isinstance(error, HandlerTimeout)
    return error


# Async handlers.


@pytest.mark.parametrize("timeout", [5, 5.0, timedelta(seconds=5)])
def test_an_async_handler_is_cancelled_at_its_timeout(timeout: Any) -> None:
    """It may clean up; the receipt says why it ended."""

    async def main() -> None:
        began = asyncio.Event()

        async def handle(placed: Placed) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(placed)
                raise

        bus.subscribe(Placed, handle, timeout=timeout)
        receipt = bus.publish(Placed(1))
        await began.wait()
        clock.advance(4.9)
        await asyncio.sleep(0)
        assert not receipt.done
        clock.advance(0.1)
        error = only_error(await asyncio.wait_for(receipt, PATIENCE))
        assert error.seconds == 5.0
        assert "ran longer than its timeout of 5 s" in str(error)
        assert cancelled == [Placed(1)]

    clock, cancelled = VirtualRuntime(), list[object]()
    bus = Bus(runtime=clock)
    asyncio.run(main())


def test_an_async_handler_without_the_publishers_loop_is_cancelled_at_its_timeout() -> None:
    """On the bus's own loop, while its publisher waits."""
    clock, began = VirtualRuntime(), threading.Event()

    async def handle(placed: Placed) -> None:
        began.set()
        await asyncio.Event().wait()

    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, handle, timeout=5)
        receipt = in_thread(lambda: bus.publish(Placed()))
        assert began.wait(PATIENCE)
        clock.advance(5)
        only_error(receipt())


def test_a_handler_in_time_leaves_no_timer() -> None:
    """Whatever its colour, and whether it fails or not."""
    clock = VirtualRuntime()

    async def succeed(placed: Placed) -> None: ...

    def fail(placed: Placed) -> None:
        raise ZeroDivisionError

    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, succeed, timeout=5)
        bus.subscribe(Placed, fail, timeout=5)
        receipt = bus.publish(Placed())
        assert [type(error) for error in receipt.errors] == [ZeroDivisionError]
        assert clock.waiting == []


def test_an_error_while_cleaning_up_is_the_error() -> None:
    """What the handler raises instead of the cancellation is what is reported."""

    async def main() -> None:
        began = asyncio.Event()

        async def handle(placed: Placed) -> None:
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                raise ZeroDivisionError

        bus.subscribe(Placed, handle, timeout=5)
        receipt = bus.publish(Placed())
        await began.wait()
        clock.advance(5)
        await asyncio.wait_for(receipt, PATIENCE)
        assert [type(error) for error in receipt.errors] == [ZeroDivisionError]

    clock = VirtualRuntime()
    bus = Bus(runtime=clock)
    asyncio.run(main())


def test_a_task_that_is_cancelled_by_others_has_not_timed_out() -> None:
    """Before its time has come, a cancellation is just that."""

    async def main() -> None:
        began, tasks = asyncio.Event(), list["asyncio.Task[Any] | None"]()

        async def handle(placed: Placed) -> None:
            tasks.append(asyncio.current_task())
            began.set()
            await asyncio.Event().wait()

        bus.subscribe(Placed, handle, timeout=5)
        receipt = bus.publish(Placed())
        await began.wait()
        (task,) = tasks
        assert task is not None
        task.cancel()
        await asyncio.wait_for(receipt, PATIENCE)
        assert [type(error) for error in receipt.errors] == [asyncio.CancelledError]
        assert clock.waiting == []

    clock = VirtualRuntime()
    bus = Bus(runtime=clock)
    asyncio.run(main())


def test_the_time_counts_from_the_start_of_the_handler() -> None:
    """Not from the publish: waiting for credit costs nothing."""

    async def main() -> None:
        async def handle(placed: Placed) -> None:
            began[placed.number].set()
            await asyncio.Event().wait()

        began = [asyncio.Event(), asyncio.Event()]
        bus.subscribe(Placed, handle, timeout=5, concurrency=1)
        first, second = bus.publish(Placed(0)), bus.publish(Placed(1))
        await began[0].wait()
        clock.advance(5)
        only_error(await asyncio.wait_for(first, PATIENCE))
        await asyncio.wait_for(began[1].wait(), PATIENCE)
        clock.advance(4.9)
        await asyncio.sleep(0)
        assert not second.done
        clock.advance(0.1)
        only_error(await asyncio.wait_for(second, PATIENCE))

    clock = VirtualRuntime()
    bus = Bus(runtime=clock)
    asyncio.run(main())


# Thread handlers.


@pytest.mark.parametrize("where", ["thread", "executor"])
def test_a_thread_handler_is_given_up_at_its_timeout_and_its_result_ignored(where: str) -> None:
    """With a record of that, since it goes on; what it does later is not reported again."""
    clock, hanging, records = VirtualRuntime(), Hanging(), list[Record]()
    with ThreadPoolExecutor() as pool, Bus(runtime=clock) as bus:
        executor: Any = pool if where == "executor" else "thread"
        bus.subscribe(Placed, hanging.handle, timeout=5, executor=executor)
        bus.observe(records.append)
        receipt = in_thread(lambda: bus.publish(Placed(1)))
        assert hanging.began.wait(PATIENCE)
        clock.advance(5)
        error = only_error(receipt())
        assert hanging.done == []
        bus.stop()
        pool.shutdown(wait=False)
        hanging.release()
    assert hanging.done == [(1, "late")]
    assert only_error(receipt()) is error
    assert [record.reason for record in records if isinstance(record, Abandoned)] == ["timeout"]
    assert [record.error for record in records if isinstance(record, Failed)] == [error]
    assert not any(isinstance(record, Handled) for record in records)


def test_a_late_error_is_ignored_too() -> None:
    """The event has failed already, once."""
    clock, began, gate = VirtualRuntime(), threading.Event(), threading.Event()
    threads = list[threading.Thread]()

    def handle(placed: Placed) -> None:
        threads.append(threading.current_thread())
        began.set()
        assert gate.wait(PATIENCE)
        raise ZeroDivisionError

    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, handle, timeout=5)
        receipt = in_thread(lambda: bus.publish(Placed()))
        assert began.wait(PATIENCE)
        clock.advance(5)
        receipt()
    gate.set()
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive()
    only_error(receipt())


def test_workers_that_hang_do_not_exhaust_the_pool() -> None:
    """As many as there may be hang, timed out, and others work in their stead."""

    async def main() -> None:
        receipts = [bus.publish(Placed(number)) for number in range(1, limit + 1)]
        for began in begun:
            assert began.wait(PATIENCE)
        clock.advance(5)
        for receipt in receipts:
            only_error(await asyncio.wait_for(receipt, PATIENCE))
        for _ in range(2 * limit):
            receipt = await asyncio.wait_for(bus.publish(Placed(0)), PATIENCE)
            assert receipt.errors == ()

    def handle(placed: Placed) -> None:
        threads.add(threading.current_thread())
        if placed.number:
            begun[placed.number - 1].set()
            assert gate.wait(PATIENCE)

    clock = VirtualRuntime()
    limit = clock.workers.limit
    gate, begun = threading.Event(), [threading.Event() for _ in range(limit)]
    threads = set[threading.Thread]()
    bus = Bus(runtime=clock)
    bus.subscribe(Placed, handle, timeout=5)
    asyncio.run(main())
    gate.set()
    bus.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_what_waited_for_a_hanging_handlers_key_goes_on() -> None:
    """The next event of the key is begun when the one before it is given up."""

    async def main() -> None:
        first, second = bus.publish(Placed(1), key="o1"), bus.publish(Placed(2), key="o1")
        assert began.wait(PATIENCE)
        clock.advance(5)
        only_error(await asyncio.wait_for(first, PATIENCE))
        assert (await asyncio.wait_for(second, PATIENCE)).errors == ()
        assert seen == [2]

    def handle(placed: Placed) -> None:
        if placed.number == 1:
            began.set()
            assert gate.wait(PATIENCE)
        seen.append(placed.number)

    clock, seen = VirtualRuntime(), list[int]()
    began, gate = threading.Event(), threading.Event()
    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, handle, timeout=5)
        asyncio.run(main())
        gate.set()


# With retry.

RETRY = Retry(max_attempts=2, backoff=Backoff(initial=60, jitter=False))


def test_an_async_handler_that_timed_out_is_retried() -> None:
    """A timeout is a failure like any other, and each attempt has all of the time."""

    async def main() -> None:
        async def handle(placed: Placed, context: Context) -> None:
            began[context.attempt - 1].set()
            await asyncio.Event().wait()

        began = [asyncio.Event(), asyncio.Event()]
        bus.subscribe(Placed, handle, timeout=5, retry=RETRY)
        receipt = bus.publish(Placed())
        await began[0].wait()
        clock.advance(5)
        await asyncio.wait_for(receipt, PATIENCE)
        assert (receipt.deferred, receipt.errors) == (1, ())
        assert clock.waiting == [65]
        clock.advance(60)
        await asyncio.wait_for(began[1].wait(), PATIENCE)
        clock.advance(5)
        await bus.idle(PATIENCE)
        only_error(receipt)

    clock = VirtualRuntime()
    bus = Bus(runtime=clock)
    asyncio.run(main())


def test_a_thread_handler_that_timed_out_is_retried_while_it_still_hangs() -> None:
    """The late end of the first attempt does not settle the second one, nor the event twice."""
    clock, hanging, records = VirtualRuntime(), Hanging(), list[Record]()
    with Bus(runtime=clock) as bus:
        bus.observe(records.append)
        bus.subscribe(Placed, hanging.handle, timeout=5, retry=RETRY)
        receipt = in_thread(lambda: bus.publish(Placed()))
        assert hanging.began.wait(PATIENCE)
        clock.advance(5)
        assert receipt().deferred == 1
        clock.advance(60)
        bus.idle(PATIENCE)
        assert hanging.done == [(2, "quick")]
    hanging.release()
    assert hanging.done == [(2, "quick"), (1, "late")]
    assert receipt().errors == ()
    assert [record.attempt for record in records if isinstance(record, Handled)] == [2]
    assert not any(isinstance(record, Failed) for record in records)


def test_a_timeout_that_is_not_to_be_retried_ends_it() -> None:
    """`give_up_on` knows `HandlerTimeout`."""
    clock, hanging = VirtualRuntime(), Hanging()
    retry = Retry(max_attempts=5, give_up_on=HandlerTimeout)
    with Bus(runtime=clock) as bus:
        bus.subscribe(Placed, hanging.handle, timeout=5, retry=retry)
        receipt = in_thread(lambda: bus.publish(Placed()))
        assert hanging.began.wait(PATIENCE)
        clock.advance(5)
        only_error(receipt())
        assert clock.waiting == []
    hanging.release()
