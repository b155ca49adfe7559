"""Rates on a direct bus, in virtual time: what waits, in which order, and what is shed."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Backoff, Bus, Context, Rate, Retry, event
from headwater.errors import Abandonment, RateExceeded
from headwater.records import Deferred, Failed, Handled, Record, Skipped
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""

KINDS = ["async", "thread", "executor"]


@event(key="key")
@dataclass(frozen=True)
class Step:
    number: int = 0
    key: str | None = None


@pytest.fixture
def runtime() -> VirtualRuntime:
    """The clock of `bus`."""
    return VirtualRuntime()


@pytest.fixture
def bus(runtime: VirtualRuntime) -> Iterator[Bus]:
    """A bus in virtual time, which does not wait for what a test left behind."""
    bus = Bus(runtime=runtime)
    yield bus
    bus.stop(0)


@pytest.fixture
def records(bus: Bus) -> list[Record]:
    """What happens on `bus`."""
    records = list[Record]()
    bus.observe(records.append)
    return records


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """An executor of the user."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def subscribe(
    bus: Bus, kind: str, pool: ThreadPoolExecutor, work: Callable[[Step], object], **options: Any
) -> None:
    """Have `work` called in a handler of some kind."""

    async def handle(step: Step) -> None:
        work(step)

    if kind == "async":
        bus.subscribe(Step, handle, **options)
    else:
        where: Any = pool if kind == "executor" else kind
        bus.subscribe(Step, work, executor=where, **options)


def settle(bus: Bus, waiting: int) -> None:
    """Return when only so many deliveries are unfinished."""
    for _ in range(10_000):
        if len(bus._unfinished) == waiting:
            return
        with contextlib.suppress(TimeoutError):
            bus.idle(0.001)
    pytest.fail(f"not settled: {bus}")


# Delays.


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_too_fast_waits(
    bus: Bus, runtime: VirtualRuntime, pool: ThreadPoolExecutor, kind: str
) -> None:
    """Two at once, then one every half second, in the order they were published."""
    handled = list[int]()
    subscribe(bus, kind, pool, lambda step: handled.append(step.number), rate=Rate(2))
    receipts = [bus.publish(Step(number)) for number in range(6)]
    assert [receipt.deferred for receipt in receipts] == [0, 0, 1, 1, 1, 1]
    assert all(receipt.done for receipt in receipts)
    for waiting in (3, 2, 1, 0):
        runtime.advance(0.499)
        settle(bus, waiting + 1)
        assert len(handled) == 5 - waiting
        runtime.advance(0.001)
        settle(bus, waiting)
    assert handled == [0, 1, 2, 3, 4, 5]
    assert runtime.waiting == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_is_kept_across_keys(
    bus: Bus, runtime: VirtualRuntime, pool: ThreadPoolExecutor, kind: str
) -> None:
    """A rate is about the handler: first come, first served, whatever their keys."""
    handled = list[int]()
    subscribe(bus, kind, pool, lambda step: handled.append(step.number), rate=Rate(1, per=10))
    for number in range(6):
        bus.publish(Step(number, "ab"[number % 2]))
    for waiting in (4, 3, 2, 1, 0):
        runtime.advance(10)
        settle(bus, waiting)
    assert handled == [0, 1, 2, 3, 4, 5]


def test_when_much_time_has_passed_as_many_run_as_would_have(
    bus: Bus, runtime: VirtualRuntime
) -> None:
    """A clock that jumps lets go all that came due meanwhile."""
    handled = list[int]()
    bus.subscribe(Step, lambda step: handled.append(step.number), rate=Rate(1), concurrency=1)
    for number in range(10):
        bus.publish(Step(number))
    runtime.advance(5)
    settle(bus, 4)
    assert handled == [0, 1, 2, 3, 4, 5]
    runtime.advance(100)
    settle(bus, 0)
    assert handled == list(range(10))


def test_a_quiet_time_fills_the_burst_up(bus: Bus, runtime: VirtualRuntime) -> None:
    """After it as many may run at once as in the beginning."""
    handled = list[int]()
    bus.subscribe(Step, lambda step: handled.append(step.number), rate=Rate(3, per=60))
    for start in (0, 10):
        receipts = [bus.publish(Step(start + number)) for number in range(3)]
        assert [receipt.deferred for receipt in receipts] == [0, 0, 0]
        runtime.advance(60)
    assert len(handled) == 6


def test_every_subscription_has_a_rate_of_its_own(bus: Bus, runtime: VirtualRuntime) -> None:
    """One policy value for two handlers is two rates; who has none does not wait."""
    calls, rate = list[str](), Rate(1, per=60)
    bus.subscribe(Step, lambda step: calls.append("slow"), rate=rate)
    bus.subscribe(Step, lambda step: calls.append("slow too"), rate=rate)
    bus.subscribe(Step, lambda step: calls.append("quick"))
    for number in range(2):
        bus.publish(Step(number))
    settle(bus, 2)
    assert sorted(calls) == ["quick", "quick", "slow", "slow too"]


def test_a_delay_is_recorded(bus: Bus, runtime: VirtualRuntime, records: list[Record]) -> None:
    """With its reason; the handling comes later."""
    bus.subscribe(Step, lambda step: None, rate=Rate(1, per=60), name="slow")
    bus.publish(Step())
    bus.publish(Step(), id="e2")
    (record,) = (record for record in records if isinstance(record, Deferred))
    assert (record.event_id, record.subscription, record.reason) == ("e2", "slow", "rate")
    assert len([record for record in records if isinstance(record, Handled)]) == 1


def test_a_rate_on_a_loop(bus: Bus, runtime: VirtualRuntime) -> None:
    """A publisher in async code awaits what runs, and not what waits."""
    handled = list[int]()

    async def handle(step: Step) -> None:
        await asyncio.sleep(0)
        handled.append(step.number)

    async def main() -> None:
        receipts = [await bus.publish(Step(number)) for number in range(3)]
        assert [receipt.deferred for receipt in receipts] == [0, 1, 1]
        assert handled == [0]
        runtime.advance(2)
        await bus.idle(PATIENCE)
        assert handled == [0, 1, 2]

    bus.subscribe(Step, handle, rate=Rate(1))
    asyncio.run(main())


def test_a_rate_in_real_time() -> None:
    """Without a clock of the test's, the timers are real."""
    handled = list[int]()
    with Bus() as bus:
        bus.subscribe(Step, lambda step: handled.append(step.number), rate=Rate(1000, per=1))
        bus.subscribe(Step, lambda step: handled.append(step.number), rate=Rate(1, per=0.001))
        for number in range(20):
            bus.publish(Step(number))
        bus.idle(PATIENCE)
    assert sorted(handled) == sorted(2 * list(range(20)))


# Too much.


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_may_shed(
    bus: Bus, runtime: VirtualRuntime, pool: ThreadPoolExecutor, kind: str
) -> None:
    """What is too fast is skipped, with an error on its receipt, and takes no one's place."""
    handled = list[int]()
    rate = Rate(2, per=10, overflow="shed")
    subscribe(bus, kind, pool, lambda step: handled.append(step.number), rate=rate)
    receipts = [bus.publish(Step(number)) for number in range(4)]
    assert [len(receipt.errors) for receipt in receipts] == [0, 0, 1, 1]
    assert all(isinstance(receipt.errors[0], RateExceeded) for receipt in receipts[2:])
    runtime.advance(10)
    assert bus.publish(Step(9)).errors == ()
    settle(bus, 0)
    assert handled == [0, 1, 9]


def test_what_may_wait_is_bounded(bus: Bus, runtime: VirtualRuntime) -> None:
    """Beyond max_delayed events are shed, until there is room again."""
    handled = list[int]()
    rate = Rate(1, per=10, max_delayed=2)
    bus.subscribe(Step, lambda step: handled.append(step.number), rate=rate)
    receipts = [bus.publish(Step(number)) for number in range(5)]
    assert [receipt.deferred for receipt in receipts] == [0, 1, 1, 0, 0]
    assert [len(receipt.errors) for receipt in receipts] == [0, 0, 0, 1, 1]
    runtime.advance(10)
    receipts = [bus.publish(Step(number)) for number in (5, 6)]
    assert [len(receipt.errors) for receipt in receipts] == [0, 1]
    runtime.advance(100)
    settle(bus, 0)
    assert sorted(handled) == [0, 1, 2, 5]


def test_what_is_shed_is_recorded_and_logged(
    bus: Bus, records: list[Record], caplog: pytest.LogCaptureFixture
) -> None:
    """As skipped, with the reason, and as a failure; a warning without a traceback."""
    rate = Rate(1, per=60, overflow="shed")
    bus.subscribe(Step, lambda step: None, rate=rate, name="slow")
    bus.publish(Step())
    receipt = bus.publish(Step(), id="e2")
    (skipped,) = (record for record in records if isinstance(record, Skipped))
    assert (skipped.event_id, skipped.subscription, skipped.reason) == ("e2", "slow", "rate")
    (failed,) = (record for record in records if isinstance(record, Failed))
    assert failed.error is receipt.errors[0]
    (line,) = caplog.records
    assert (line.levelno, line.exc_info) == (logging.WARNING, None)
    assert line.getMessage().startswith("handler_skipped event=Step id=e2 handler=slow")


def test_sixteen_threads_and_one_rate(bus: Bus, runtime: VirtualRuntime) -> None:
    """Every event is handled, delayed or shed, and none twice."""
    handled, shed = list[int](), list[int]()
    rate = Rate(10, per=10, max_delayed=100)
    bus.subscribe(Step, lambda step: handled.append(step.number), rate=rate)
    together = threading.Barrier(16)

    def publish_many(thread: int) -> None:
        together.wait(PATIENCE)
        for number in range(thread * 20, thread * 20 + 20):
            if bus.publish(Step(number)).errors:
                shed.append(number)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(publish_many, range(16)))
    settle(bus, 100)
    assert len(handled) == 10
    runtime.advance(1000)
    settle(bus, 0)
    assert sorted(handled + shed) == list(range(320))
    assert len(shed) == 210


# With other options.


def test_a_rate_and_concurrency_bound_together(bus: Bus, runtime: VirtualRuntime) -> None:
    """What the rate lets go still waits for its turn."""
    handled, gate, began = list[int](), threading.Event(), threading.Event()

    def handle(step: Step) -> None:
        began.set()
        assert gate.wait(PATIENCE)
        handled.append(step.number)

    bus.subscribe(Step, handle, rate=Rate(1), concurrency=1)
    first = threading.Thread(target=bus.publish, args=(Step(0),))
    first.start()
    assert began.wait(PATIENCE)
    for number in (1, 2):
        bus.publish(Step(number))
    runtime.advance(10)
    assert handled == []
    gate.set()
    first.join(PATIENCE)
    settle(bus, 0)
    assert handled == [0, 1, 2]


def test_attempts_are_not_counted_by_a_rate(bus: Bus, runtime: VirtualRuntime) -> None:
    """A retry has its own backoff, and takes nobody's turn."""
    calls = list[tuple[int, int]]()

    def handle(step: Step, context: Context) -> None:
        calls.append((step.number, context.attempt))
        if context.attempt == 1:
            raise LookupError

    retry = Retry(backoff=Backoff(initial=1, jitter=False))
    bus.subscribe(Step, handle, rate=Rate(1, per=60), retry=retry)
    bus.publish(Step(0))
    runtime.advance(1)
    settle(bus, 0)
    assert calls == [(0, 1), (0, 2)]


def test_closing_gives_up_on_what_waits(
    bus: Bus, runtime: VirtualRuntime, records: list[Record]
) -> None:
    """Its handler is not called any more when the time comes."""
    handled = list[int]()
    subscription = bus.subscribe(Step, lambda step: handled.append(step.number), rate=Rate(1))
    receipts = [bus.publish(Step(number)) for number in range(3)]
    subscription.close()
    runtime.advance(10)
    settle(bus, 0)
    assert handled == [0]
    assert [type(receipt.errors[0]) for receipt in receipts[1:]] == [Abandonment] * 2


def test_what_a_pause_held_back_passes_the_rate_when_it_is_resumed(
    bus: Bus, runtime: VirtualRuntime
) -> None:
    """It does not come all at once."""
    handled = list[int]()
    subscription = bus.subscribe(Step, lambda step: handled.append(step.number), rate=Rate(1))
    subscription.pause()
    for number in range(3):
        bus.publish(Step(number))
    runtime.advance(60)
    subscription.resume()
    settle(bus, 2)
    assert handled == [0]
    runtime.advance(2)
    settle(bus, 0)
    assert handled == [0, 1, 2]


def test_a_rate_for_pumped_handlers(bus: Bus, runtime: VirtualRuntime) -> None:
    """What the rate lets go waits for the pump then."""
    handled = list[int]()
    bus.subscribe(Step, lambda step: handled.append(step.number), rate=Rate(1), executor="pump")
    for number in range(3):
        bus.publish(Step(number))
    assert bus.pump() == 1
    assert bus.pump() == 0
    runtime.advance(1)
    assert bus.pump() == 1
    runtime.advance(1)
    assert bus.pump() == 1
    assert handled == [0, 1, 2]
