"""Rule 2, colour: where a handler runs, that what is awaitable is awaited, and that it lives on.

An event is a fact. Whoever published it may stop waiting, or be cancelled: its handlers go on.
"""

import asyncio
import functools
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Bus, Context, Rate, Receipt, Resequence, Retry, event
from headwater.errors import HandlerTimeout, InvalidOption

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


@dataclass(frozen=True)
class Placed:
    number: int = 0


@event(key="order_id")
@dataclass(frozen=True)
class Paid:
    order_id: str = "o1"


def this_thread() -> int:
    """The thread that runs here, by its number."""
    return threading.get_ident()


# Sync handlers.


def test_a_sync_handler_runs_in_the_publishers_thread() -> None:
    """Inline: below publish on the publisher's own stack, in whatever thread that is."""
    bus, threads = Bus(), list[int]()
    bus.subscribe(Placed, lambda placed: threads.append(this_thread()))
    bus.publish(Placed())
    other = threading.Thread(target=bus.publish, args=(Placed(),))
    other.start()
    other.join(PATIENCE)
    assert threads == [this_thread(), other.ident]


def test_a_sync_handler_runs_in_the_publishers_thread_where_a_loop_runs() -> None:
    """A loop changes nothing for it: it has run when publish returns."""

    async def main() -> None:
        bus.publish(Placed())
        assert threads == [this_thread()]

    bus, threads = Bus(), list[int]()
    bus.subscribe(Placed, lambda placed: threads.append(this_thread()))
    asyncio.run(main())


ROOM_NEEDED: dict[str, dict[str, Any]] = {
    "executor": {"executor": "thread"},
    "retry": {"retry": Retry()},
    "rate": {"rate": Rate(100)},
    "timeout": {"timeout": PATIENCE},
    "resequence": {"resequence": Resequence(by="number", timeout=PATIENCE)},
    "concurrency": {"concurrency": 1},
}


@pytest.mark.parametrize("option", ROOM_NEEDED)
def test_a_sync_handler_runs_in_a_worker_if_an_option_would_hold_up_the_publisher(
    option: str,
) -> None:
    """With `executor="thread"`, and with any option that may make it wait."""
    threads = list[str]()
    with Bus() as bus:
        bus.subscribe(
            Placed,
            lambda placed: threads.append(threading.current_thread().name),
            **ROOM_NEEDED[option],
        )
        bus.publish(Placed())
        bus.idle(PATIENCE)
    assert threads == ["headwater-worker"]


@pytest.mark.parametrize("option", set(ROOM_NEEDED) - {"executor"})
def test_inline_is_refused_together_with_an_option_that_would_hold_up_the_publisher(
    option: str,
) -> None:
    """What contradicts itself is refused at registration."""
    bus = Bus()
    with pytest.raises(InvalidOption, match=option):
        bus.subscribe(Placed, print, executor="inline", **ROOM_NEEDED[option])


def test_a_sync_handler_runs_in_the_executor_it_was_given() -> None:
    """Any executor of `concurrent.futures` will do."""
    threads = list[str]()
    with ThreadPoolExecutor(thread_name_prefix="mine") as executor, Bus() as bus:
        bus.subscribe(
            Placed,
            lambda placed: threads.append(threading.current_thread().name),
            executor=executor,
        )
        bus.publish(Placed())
    assert threads == ["mine_0"]


def test_a_pumped_handler_runs_only_when_pumped_and_in_the_pumping_thread() -> None:
    """Whichever thread published: a GUI's handlers run in the GUI's own loop."""
    bus, threads = Bus(), list[int]()
    bus.subscribe(Placed, lambda placed: threads.append(this_thread()), executor="pump")
    publisher = threading.Thread(target=bus.publish, args=(Placed(),))
    publisher.start()
    publisher.join(PATIENCE)
    assert threads == []
    assert bus.pump() == 1
    assert threads == [this_thread()]
    assert bus.pump() == 0


# Async handlers.


def test_an_async_handler_runs_as_a_task_of_its_own_on_the_publishers_loop() -> None:
    """In the publisher's thread, on its loop, in another task."""

    async def main() -> None:
        async def handle(placed: Placed) -> None:
            seen.append((asyncio.get_running_loop(), asyncio.current_task(), this_thread()))

        bus.subscribe(Placed, handle)
        await bus.publish(Placed())
        ((loop, task, thread),) = seen
        assert (loop, thread) == (asyncio.get_running_loop(), this_thread())
        assert task is not None
        assert task is not asyncio.current_task()

    bus, seen = Bus(), list[tuple[object, object, int]]()
    asyncio.run(main())


def test_without_a_running_loop_an_async_handler_runs_on_the_bus_own_loop() -> None:
    """On one loop in one thread for all of them, and publish waits for it."""

    async def handle(placed: Placed) -> None:
        await asyncio.sleep(0)
        seen.append((asyncio.get_running_loop(), this_thread()))

    seen = list[tuple[object, int]]()
    with Bus() as bus:
        bus.subscribe(Placed, handle)
        bus.publish(Placed(1))
        bus.publish(Placed(2))
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert seen[0][1] != this_thread()


def test_each_publisher_gets_its_async_handlers_on_its_own_loop() -> None:
    """Two loops in two threads, one bus: no handler strays."""

    async def publish() -> None:
        barrier.wait(PATIENCE)
        await bus.publish(Placed())
        loops.add(asyncio.get_running_loop())

    async def handle(placed: Placed) -> None:
        await asyncio.sleep(0)
        seen.add(asyncio.get_running_loop())

    bus, barrier = Bus(), threading.Barrier(2)
    loops, seen = set[object](), set[object]()
    bus.subscribe(Placed, handle)
    threads = [threading.Thread(target=asyncio.run, args=(publish(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(seen) == 2
    assert seen == loops


def test_a_loop_that_is_not_running_does_not_count() -> None:
    """Between two runs of a loop a publish is one from sync code."""

    async def handle(placed: Placed) -> None:
        seen.append(asyncio.get_running_loop())

    seen = list[object]()
    loop = asyncio.new_event_loop()
    with Bus() as bus:
        bus.subscribe(Placed, handle)
        asyncio.set_event_loop(loop)
        try:
            bus.publish(Placed())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
    assert len(seen) == 1
    assert seen[0] is not loop


class AsyncCallable:
    """An object whose call is a coroutine function."""

    def __init__(self, seen: list[object]) -> None:
        self.seen = seen

    async def __call__(self, placed: Placed) -> None:
        await asyncio.sleep(0)
        self.seen.append(placed)


@pytest.mark.parametrize("wrap", [lambda f: f, functools.partial], ids=["object", "partial"])
def test_an_object_with_an_async_call_is_an_async_handler(wrap: Callable[[Any], Any]) -> None:
    """Its colour is found out at registration, below any number of partials."""

    async def main() -> None:
        subscription = bus.subscribe(Placed, wrap(wrap(AsyncCallable(seen))))
        assert subscription.colour == "async"
        await bus.publish(Placed(1))

    bus, seen = Bus(), list[object]()
    asyncio.run(main())
    assert seen == [Placed(1)]


# What turns out to be awaitable is awaited.


class CustomAwaitable:
    """Awaitable, and nothing else."""

    def __init__(self, coroutine: Awaitable[None]) -> None:
        self.coroutine = coroutine

    def __await__(self) -> Generator[Any, None, None]:
        return self.coroutine.__await__()


async def record(seen: list[object], placed: Placed) -> None:
    """What every one of the handlers below comes to in the end."""
    await asyncio.sleep(0)
    seen.append(placed)


def a_lambda(seen: list[object]) -> Callable[[Placed], Any]:
    """A lambda that passes on what a coroutine function gives it."""
    return lambda placed: record(seen, placed)


def a_partial(seen: list[object]) -> Callable[[Placed], Any]:
    """A partial of a coroutine function."""
    return functools.partial(record, seen)


def a_function(seen: list[object]) -> Callable[[Placed], Any]:
    """A function whose result is awaitable, and no coroutine."""

    def handle(placed: Placed) -> Awaitable[None]:
        return CustomAwaitable(record(seen, placed))

    return handle


def a_decorated_function(seen: list[object]) -> Callable[[Placed], Any]:
    """A sync wrapper, as decorators leave them."""

    async def handle(placed: Placed) -> None:
        await record(seen, placed)

    @functools.wraps(handle)
    def decorated(placed: Placed) -> Any:
        return handle(placed)

    return decorated


def a_callable_object(seen: list[object]) -> Callable[[Placed], Any]:
    """An object whose call gives a coroutine, and does not say so."""

    class Handler:
        def __call__(self, placed: Placed) -> Awaitable[None]:
            return record(seen, placed)

    return Handler()


def with_context(seen: list[object]) -> Callable[..., Any]:
    """One that takes the context too."""

    def handle(placed: Placed, context: Context) -> Awaitable[None]:
        return record(seen, placed)

    return handle


AWAITABLES = [
    a_lambda,
    a_partial,
    a_function,
    a_decorated_function,
    a_callable_object,
    with_context,
]


@pytest.mark.parametrize("watched", [False, True], ids=["unseen", "observed"])
@pytest.mark.parametrize("make", AWAITABLES)
def test_an_awaitable_that_a_sync_handler_returns_is_awaited(
    make: Callable[[list[object]], Callable[..., Any]],
    watched: bool,  # noqa: FBT001  parametrized
) -> None:
    """On the publisher's loop, or on the bus's own; and the receipt waits for it."""

    async def main() -> None:
        receipt = bus.publish(Placed(1))
        await receipt
        assert seen == [Placed(1)]

    with Bus() as bus:
        seen, after = list[object](), list[object]()
        if watched:
            bus.observe(lambda record: None)
        bus.subscribe(Placed, make(seen))
        bus.subscribe(Placed, after.append)
        asyncio.run(main())
        bus.publish(Placed(2))
        assert seen == after == [Placed(1), Placed(2)]


@pytest.mark.parametrize("executor", ["thread", "pump", "pool"])
def test_an_awaitable_from_another_thread_is_awaited_on_the_publishers_loop(executor: str) -> None:
    """Neither a worker, nor a pump, nor an executor drops what its handler returned."""

    async def main() -> None:
        def handle(placed: Placed) -> Awaitable[None]:
            async def later() -> None:
                await asyncio.sleep(0)
                seen.append(asyncio.get_running_loop())

            return later()

        where: Any = pool if executor == "pool" else executor
        bus.subscribe(Placed, handle, executor=where)
        for number in range(20):
            bus.publish(Placed(number))
        bus.pump()
        await bus.idle(PATIENCE)
        assert seen == [asyncio.get_running_loop()] * 20

    seen = list[object]()
    with ThreadPoolExecutor(2) as pool, Bus() as bus:
        asyncio.run(main())


@pytest.mark.parametrize("executor", ["thread", "pool"])
def test_an_awaitable_from_a_worker_is_awaited_where_nobody_has_a_loop(executor: str) -> None:
    """On the bus's own loop, and the receipt waits for it."""
    with ThreadPoolExecutor(2) as pool, Bus() as bus:
        seen = list[object]()
        where: Any = pool if executor == "pool" else executor
        bus.subscribe(Placed, lambda placed: record(seen, placed), executor=where)
        for number in range(20):
            bus.publish(Placed(number))
            assert len(seen) == number + 1


def test_an_awaitable_of_an_event_that_was_held_back_is_awaited() -> None:
    """A subscription that is resumed on a loop has its awaitables awaited there."""

    async def main() -> None:
        subscription = bus.subscribe(Placed, lambda placed: record(seen, placed))
        subscription.pause()
        bus.publish(Placed(1))
        subscription.resume()
        await bus.idle(PATIENCE)

    bus, seen = Bus(), list[object]()
    asyncio.run(main())
    assert seen == [Placed(1)]


def test_an_awaitable_that_fails_is_a_failure_of_its_handler() -> None:
    """Nothing is lost between the call and the awaiting."""

    async def main() -> Receipt:
        async def fail() -> None:
            await asyncio.sleep(0)
            raise LookupError("gone")

        bus.subscribe(Placed, lambda placed: fail())
        return await bus.publish(Placed())

    bus = Bus()
    (error,) = asyncio.run(main()).errors
    assert isinstance(error, LookupError)


def test_a_timeout_covers_what_a_handler_returned_to_be_awaited() -> None:
    """The time of a handler ends with the awaiting."""

    async def main() -> Receipt:
        bus.subscribe(
            Placed, lambda placed: asyncio.get_running_loop().create_future(), timeout=PATIENCE
        )

        async def wait_for_ever() -> None:
            await asyncio.get_running_loop().create_future()

        bus.subscribe(Placed, lambda placed: wait_for_ever(), timeout=0.01)
        receipt = bus.publish(Placed())
        await bus.idle(PATIENCE)
        return receipt

    with Bus() as bus:
        receipt = asyncio.run(main())
    assert any(isinstance(error, HandlerTimeout) for error in receipt.errors)


# The task belongs to the bus.


class Suspended:
    """A handler that waits for a future which nothing but the handler itself refers to."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.finished = asyncio.Event()
        self._future: weakref.ref[asyncio.Future[None]] | None = None

    async def handle(self, placed: Placed) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._future = weakref.ref(future)
        self.reached.set()
        await future
        self.finished.set()

    def go_on(self) -> None:
        assert self._future is not None
        future = self._future()
        assert future is not None, "the handler is gone"
        future.set_result(None)


@pytest.mark.parametrize("is_async", [True, False], ids=["async handler", "returned awaitable"])
def test_a_handler_is_never_garbage_collected_while_it_waits(
    is_async: bool,  # noqa: FBT001  parametrized
) -> None:
    """Not even when nobody keeps its receipt, or what it waits for."""

    async def main() -> None:
        def handle(placed: Placed) -> Awaitable[None]:
            return work.handle(placed)

        bus.subscribe(Placed, work.handle if is_async else handle)
        bus.publish(Placed())
        await work.reached.wait()
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
        work.go_on()
        await bus.idle(PATIENCE)
        assert work.finished.is_set()

    bus, work = Bus(), Suspended()
    asyncio.run(main())


def test_a_handler_outlives_its_subscription_its_bus_variable_and_its_publisher() -> None:
    """What has begun is finished, whatever becomes of those who began it."""

    async def main() -> None:
        async def publish() -> None:
            bus = Bus()
            subscription = bus.subscribe(Placed, work.handle)
            bus.publish(Placed())
            await work.reached.wait()
            subscription.close()

        await asyncio.create_task(publish())
        gc.collect()
        await asyncio.sleep(0)
        work.go_on()
        await work.finished.wait()

    work = Suspended()
    asyncio.run(main())


# Whoever waits may stop waiting.


def test_cancelling_whoever_awaits_the_receipt_does_not_cancel_the_handlers() -> None:
    """The waiter is cancelled, the handler is not, and others that wait get what they wait for."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()
            seen.append(placed)

        async def wait() -> Receipt:
            return await receipt

        bus.subscribe(Placed, handle)
        receipt = bus.publish(Placed(1))
        leaves, stays = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        assert not receipt.done
        gate.set()
        assert await stays is receipt
        assert (receipt.done, receipt.errors) == (True, ())

    bus, seen = Bus(), list[object]()
    asyncio.run(main())
    assert seen == [Placed(1)]


def test_a_wait_that_runs_out_of_time_does_not_cancel_the_handlers() -> None:
    """`asyncio.wait_for` cancels the waiting, and only that."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()
            seen.append(placed)

        bus.subscribe(Placed, handle)
        receipt = bus.publish(Placed(1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receipt, timeout=0)
        gate.set()
        await receipt

    bus, seen = Bus(), list[object]()
    asyncio.run(main())
    assert seen == [Placed(1)]


def test_cancelling_the_publisher_does_not_cancel_the_handlers() -> None:
    """Nor what they publish themselves in the course of it."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()
            await bus.publish(Paid("from the handler"))

        async def publisher() -> None:
            await bus.publish(Placed(1))

        bus.subscribe(Placed, handle)
        bus.subscribe(Paid, record_paid)
        task = asyncio.create_task(publisher())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        await bus.idle(PATIENCE)

    async def record_paid(paid: Paid) -> None:
        seen.append(paid)

    bus, seen = Bus(), list[object]()
    asyncio.run(main())
    assert seen == [Paid("from the handler")]


def test_cancelling_a_handler_that_waits_does_not_cancel_what_it_has_published() -> None:
    """A handler that is cancelled is a waiter like any other for the handlers below it."""

    async def main() -> None:
        gate, began = asyncio.Event(), asyncio.Event()

        async def outer(placed: Placed) -> None:
            tasks.append(asyncio.current_task())
            await bus.publish(Paid())

        async def inner(paid: Paid) -> None:
            began.set()
            await gate.wait()
            seen.append(paid)

        bus.subscribe(Placed, outer)
        bus.subscribe(Paid, inner)
        receipt = bus.publish(Placed())
        await began.wait()
        (task,) = tasks
        assert task is not None
        task.cancel()
        await receipt
        assert [type(error) for error in receipt.errors] == [asyncio.CancelledError]
        assert seen == []
        gate.set()
        await bus.idle(PATIENCE)

    bus, seen, tasks = Bus(), list[object](), list["asyncio.Task[Any] | None"]()
    asyncio.run(main())
    assert seen == [Paid()]
