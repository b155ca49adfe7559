"""Stopping where it is awkward: from signals and handlers, with work that hangs, and in a race."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Bus, Rate, RetryLater, event
from headwater.errors import Abandonment, BusClosed
from headwater.records import Abandoned, Record
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


@event(key="key")
@dataclass(frozen=True)
class Placed:
    number: int = 0
    key: str | None = None


@dataclass(frozen=True)
class Paid:
    number: int = 0


@contextlib.contextmanager
def on_alarm(handler: Callable[[], object], after: float) -> Iterator[None]:
    """Have `handler` called by a signal, after so many seconds; 0: when the test sends it."""
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Signals.


def test_run_ends_when_a_signal_handler_stops_an_idle_bus() -> None:
    """The loop sleeps, with nothing to do, and is woken."""

    async def main() -> None:
        with on_alarm(bus.stop, after=0.05):
            await asyncio.wait_for(bus.run(), PATIENCE)

    bus = Bus()
    asyncio.run(main())


def once(work: Callable[[], object]) -> Callable[[], object]:
    """`work`, the first time only."""
    left = [work]
    return lambda: left.pop()() if left else None


def test_run_ends_when_the_loops_own_signal_handler_stops_a_busy_bus() -> None:
    """It asks run to end, which lets the handlers finish."""

    async def main() -> None:
        loop, gate = asyncio.get_running_loop(), asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()
            done.append(placed)

        def stop() -> None:
            loop.remove_signal_handler(signal.SIGUSR1)
            bus.stop()
            gate.set()

        bus.subscribe(Placed, handle)
        loop.add_signal_handler(signal.SIGUSR1, stop)
        running = asyncio.create_task(bus.run())
        bus.publish(Placed())
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.wait_for(running, PATIENCE)

    bus, done = Bus(), list[Placed]()
    asyncio.run(main())
    assert done == [Placed()]


def test_a_signal_handler_stops_a_bus_whose_publisher_waits() -> None:
    """It interrupts the wait for a worker, lets the worker finish, and the publisher goes on."""
    bus, gate, done = Bus(), threading.Event(), list[Placed]()
    main = threading.get_ident()

    def handle(placed: Placed) -> None:
        for _ in range(100):  # One that comes just before the wait does not interrupt it.
            signal.pthread_kill(main, signal.SIGALRM)
            if gate.wait(0.2):
                break
        done.append(placed)

    def stop() -> None:
        gate.set()
        bus.stop()

    bus.subscribe(Placed, handle, executor="thread")
    with on_alarm(once(stop), after=0):
        assert bus.publish(Placed()).errors == ()
    assert done == [Placed()]
    assert bus._state == "new"


# Handlers.


@pytest.mark.parametrize("executor", ["inline", "thread", "pump"])
def test_a_bus_closed_in_a_handler_refuses_what_is_published_later(executor: Any) -> None:
    """On every path, the shortest one included."""
    bus, seen = Bus(), list[Paid]()
    bus.subscribe(Paid, seen.append)
    bus.subscribe(Placed, lambda placed: bus.close(), executor=executor)
    bus.publish(Paid(1))
    bus.publish(Placed())
    bus.pump()
    with pytest.raises(BusClosed):
        bus.publish(Paid(2))
    with pytest.raises(BusClosed):
        bus.publish("Paid", {"number": 2})
    with pytest.raises(BusClosed):
        bus.publish(Paid(2), delay=1)
    assert seen == [Paid(1)]


def test_a_handler_may_stop_the_bus_and_go_on() -> None:
    """It is not waited for by itself; the bus opens again at the next event."""
    bus, done = Bus(), list[int]()

    def handle(placed: Placed) -> None:
        bus.stop()
        done.append(placed.number)

    bus.subscribe(Placed, handle, executor="thread")
    bus.publish(Placed(1))
    bus.stop()
    bus.publish(Placed(2))
    bus.close()
    assert done == [1, 2]


# Errors.


def test_a_bus_is_closed_even_if_closing_raises_what_nobody_collected() -> None:
    """The errors come out, and the bus is closed nevertheless."""
    bus = Bus(on_error="raise")
    bus.subscribe(Placed, lambda placed: 1 / 0, executor="pump")
    bus.publish(Placed())
    with pytest.raises(ExceptionGroup):
        bus.close()
    with pytest.raises(BusClosed):
        bus.publish(Placed())


# What hangs.


def test_a_worker_that_hangs_is_not_counted_when_the_bus_starts_again() -> None:
    """Its only worker was given up on; there is room for another one."""
    bus, gate, handled = Bus(max_workers=1, drain_timeout=0.05), threading.Event(), list[int]()
    began = threading.Event()

    def handle(placed: Placed) -> None:
        if placed.number == 0:
            began.set()
            assert gate.wait(PATIENCE * 3)
        handled.append(placed.number)

    async def publish_only() -> None:
        bus.publish(Placed(0))

    bus.subscribe(Placed, handle, executor="thread")
    asyncio.run(publish_only())
    assert began.wait(PATIENCE)
    bus.stop()
    publisher = threading.Thread(target=bus.publish, args=(Placed(1),))
    publisher.start()
    publisher.join(PATIENCE)
    assert handled == [1]
    gate.set()
    bus.close()


def test_what_was_given_up_before_it_began_is_never_called() -> None:
    """A loop that was busy until after the end does not begin it then."""
    bus, gate, called = Bus(drain_timeout=0.05), threading.Event(), list[int]()
    began, given_up = threading.Event(), list[Abandoned]()

    @bus.observe
    def go_on(record: Record) -> None:
        if isinstance(record, Abandoned):
            given_up.append(record)
            if len(given_up) == 2:
                gate.set()

    async def handle(placed: Placed) -> None:
        called.append(placed.number)
        if placed.number == 0:
            began.set()
            assert gate.wait(PATIENCE)  # As nobody should: it stops the bus's own loop.

    threads = list[threading.Thread]()
    bus.subscribe(Placed, handle)
    for number in range(2):
        threads.append(threading.Thread(target=bus.publish, args=(Placed(number),)))
        threads[-1].start()
        assert began.wait(PATIENCE)
    until(lambda: len(bus._unfinished) == 2)
    bus.stop()
    for thread in threads:
        thread.join(PATIENCE)
    assert [record.reason for record in given_up] == ["stopped"] * 2
    assert called == [0]


def until(condition: Callable[[], bool]) -> None:
    """Give other threads their turn until `condition` is true."""
    waiter = threading.Event()
    for _ in range(10_000):
        if condition():
            return
        waiter.wait(0.001)
    pytest.fail("it never came true")


def test_an_async_handler_that_is_given_up_may_clean_up() -> None:
    """On the bus's own loop it is cancelled, and what it does then is still run."""
    bus, steps = Bus(drain_timeout=0.05), list[str]()
    began, cleaned = threading.Event(), threading.Event()

    async def handle(placed: Placed) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("cancelled")
            cleaned.set()

    bus.subscribe(Placed, handle)
    publisher = threading.Thread(target=bus.publish, args=(Placed(),))
    publisher.start()
    assert began.wait(PATIENCE)
    bus.stop()
    assert cleaned.wait(PATIENCE)
    publisher.join(PATIENCE)
    assert steps == ["cancelled"]


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_what_a_pause_held_is_not_handled_after_it_was_given_up(executor: Any) -> None:
    """The bus stopped, and starts again, and the subscription goes on: with what comes then."""
    bus, handled = Bus(), list[Placed]()
    subscription = bus.subscribe(Placed, handled.append, executor=executor)
    subscription.pause()
    receipt = bus.publish(Placed(1))
    bus.stop()
    assert isinstance(receipt.errors[0], Abandonment)
    subscription.resume()
    bus.publish(Placed(2))
    bus.close()
    assert handled == [Placed(2)]


def test_a_key_goes_on_after_its_holder_was_given_up() -> None:
    """A lane that was held when the bus stopped is free when it starts again."""
    bus, calls = Bus(runtime=VirtualRuntime(), drain_timeout=1), list[int]()

    def handle(placed: Placed) -> None:
        calls.append(placed.number)
        if placed.number == 0:
            raise RetryLater(60)

    bus.subscribe(Placed, handle, executor="thread")
    bus.publish(Placed(0, "a"))
    bus.stop()
    assert bus.publish(Placed(1, "a")).deferred == 0
    bus.close()
    assert calls == [0, 1]


def test_a_rate_goes_on_in_real_time_after_its_timer_was_lost() -> None:
    """The thread that kept the time ended with the bus; the next event sets a new timer."""
    bus, handled = Bus(), list[int]()
    rate = Rate(1, per=0.02)
    bus.subscribe(Placed, lambda placed: handled.append(placed.number), rate=rate)
    for number in range(3):
        bus.publish(Placed(number))
    bus.stop(0)
    assert handled == [0]
    for number in range(3, 5):
        bus.publish(Placed(number))
    bus.idle(PATIENCE)
    bus.close()
    assert handled == [0, 3, 4]


# Races.


@pytest.mark.parametrize("executor", ["inline", "thread"])
@pytest.mark.parametrize("_", range(10))
def test_publishers_and_a_close_at_the_same_time(executor: Any, _: int) -> None:
    """Every publish is handled or refused, and then nothing is left."""
    bus, handled, refused = Bus(drain_timeout=PATIENCE), list[Placed](), list[Placed]()
    together = threading.Barrier(5)
    bus.subscribe(Placed, handled.append, executor=executor)

    def publish_many(thread: int) -> None:
        together.wait(PATIENCE)
        for number in range(thread * 30, thread * 30 + 30):
            try:
                receipt = bus.publish(Placed(number))
            except BusClosed:
                refused.append(Placed(number))
            else:
                refused.extend(Placed(number) for _ in receipt.errors)

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(publish_many, thread) for thread in range(4)]
        together.wait(PATIENCE)
        bus.close()
        for future in futures:
            future.result(PATIENCE)
    assert sorted(placed.number for placed in handled + refused) == list(range(120))
    assert len(bus._unfinished) == 0
    with pytest.raises(BusClosed):
        bus.publish(Placed())


def test_sixteen_threads_stop_and_use_a_bus() -> None:
    """Stopping is no end: whoever publishes next opens it again, and nothing hangs."""
    bus, handled = Bus(drain_timeout=PATIENCE), list[int]()
    together = threading.Barrier(16)

    def use(thread: int) -> None:
        together.wait(PATIENCE)
        for number in range(thread * 10, thread * 10 + 10):
            bus.publish(Placed(number))
            if thread % 4 == 0:
                bus.stop()

    bus.subscribe(Placed, lambda placed: handled.append(placed.number), executor="thread")
    with ThreadPoolExecutor(16) as threads:
        for future in [threads.submit(use, thread) for thread in range(16)]:
            future.result(PATIENCE)
    bus.close()
    assert sorted(handled) == list(range(160))
