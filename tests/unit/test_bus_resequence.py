"""Resequencing on a direct bus, in virtual time: order, gaps, and what comes too late."""

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Backoff, Bus, Rate, Resequence, Retry, event
from headwater.errors import Abandonment, OutOfSequence
from headwater.records import Deferred, Failed, GapSkipped, Record, Skipped
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""

KINDS = ["async", "thread", "executor"]
IN_ORDER = Resequence(by="number", timeout=5)


@event(key="key")
@dataclass(frozen=True)
class Step:
    number: int
    key: str | None = "a"


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
    with ThreadPoolExecutor(2) as pool:
        yield pool


def subscribe(
    bus: Bus,
    work: Callable[[Step], object],
    kind: str = "thread",
    pool: ThreadPoolExecutor | None = None,
    **options: Any,
) -> None:
    """Have `work` called in a handler of some kind, in sequence."""

    async def handle(step: Step) -> None:
        work(step)

    options = {"resequence": IN_ORDER, **options}
    if kind == "async":
        bus.subscribe(Step, handle, **options)
    else:
        where: Any = pool if kind == "executor" else kind
        bus.subscribe(Step, work, executor=where, **options)


def settle(bus: Bus, waiting: int = 0) -> None:
    """Return when only so many deliveries are unfinished."""
    for _ in range(10_000):
        if len(bus._unfinished) == waiting:
            return
        with contextlib.suppress(TimeoutError):
            bus.idle(0.001)
    pytest.fail(f"not settled: {bus}")


# Order.


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_out_of_order_is_put_into_order(
    bus: Bus, runtime: VirtualRuntime, pool: ThreadPoolExecutor, kind: str
) -> None:
    """Each waits for the numbers before it, and no publisher waits with it."""
    handled = list[int]()
    subscribe(bus, lambda step: handled.append(step.number), kind, pool)
    receipts = [bus.publish(Step(number)) for number in (3, 2, 5, 1)]
    assert [receipt.deferred for receipt in receipts] == [1, 1, 1, 0]
    settle(bus, 1)
    assert handled == [1, 2, 3]
    bus.publish(Step(4))
    settle(bus)
    assert handled == [1, 2, 3, 4, 5]
    assert all(receipt.errors == () for receipt in receipts)


def test_what_comes_in_order_does_not_wait(bus: Bus) -> None:
    """Publish returns when it is handled, as without the policy."""
    handled = list[int]()
    subscribe(bus, lambda step: handled.append(step.number))
    for number in range(1, 6):
        assert bus.publish(Step(number)).deferred == 0
        assert handled[-1] == number


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_has_a_sequence_of_its_own(bus: Bus, pool: ThreadPoolExecutor, kind: str) -> None:
    """A gap in one holds up no other."""
    handled = list[tuple[str | None, int]]()
    subscribe(bus, lambda step: handled.append((step.key, step.number)), kind, pool)
    for number, key in ((2, "a"), (1, "b"), (2, "b"), (1, "a")):
        bus.publish(Step(number, key))
    settle(bus)
    assert [number for key, number in handled if key == "a"] == [1, 2]
    assert handled[:2] == [("b", 1), ("b", 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_events_without_a_key_share_one_sequence(
    bus: Bus, pool: ThreadPoolExecutor, kind: str
) -> None:
    """And are handled one at a time, or their order would be lost again."""
    handled = list[int]()
    subscribe(bus, lambda step: handled.append(step.number), kind, pool)
    numbers = list(range(1, 51))
    random.Random(7).shuffle(numbers)
    for number in numbers:
        bus.publish(Step(number, None))
    settle(bus)
    assert handled == list(range(1, 51))


def test_sixteen_threads_and_one_sequence(bus: Bus) -> None:
    """Whoever publishes whatever number when, they are handled in order."""
    handled = list[int]()
    subscribe(bus, lambda step: handled.append(step.number))
    together = threading.Barrier(16)

    def publish_many(thread: int) -> None:
        together.wait(PATIENCE)
        for number in range(thread + 1, 320, 16):
            bus.publish(Step(number))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(publish_many, range(16)))
    settle(bus)
    assert handled == list(range(1, 320))


def test_a_sequence_begins_where_first_says(bus: Bus) -> None:
    """With 1, if nothing is said."""
    handled = list[int]()
    subscribe(
        bus,
        lambda step: handled.append(step.number),
        resequence=Resequence(by="number", first=100),
    )
    bus.publish(Step(101))
    bus.publish(Step(100))
    settle(bus)
    assert handled == [100, 101]


def test_a_sequence_on_a_loop(bus: Bus) -> None:
    """A publisher in async code awaits what is handled, and not what waits."""
    handled = list[int]()

    async def handle(step: Step) -> None:
        await asyncio.sleep(0)
        handled.append(step.number)

    async def main() -> None:
        assert (await bus.publish(Step(2))).deferred == 1
        await bus.publish(Step(1))
        await bus.idle(PATIENCE)

    bus.subscribe(Step, handle, resequence=IN_ORDER)
    asyncio.run(main())
    assert handled == [1, 2]


@pytest.mark.parametrize("by", ["number", lambda step: step["number"]], ids=["name", "function"])
def test_the_number_of_plain_data_is_found_too(bus: Bus, by: Any) -> None:
    """By the name of a key, or with a function."""
    handled = list[int]()
    bus.subscribe(
        "step.taken", lambda step: handled.append(step["number"]), resequence=Resequence(by=by)
    )
    for number in (3, 1, 2):
        bus.publish("step.taken", {"number": number})
    settle(bus)
    assert handled == [1, 2, 3]


# Gaps.


@pytest.mark.parametrize("kind", KINDS)
def test_a_gap_is_given_up_after_the_timeout(
    bus: Bus, runtime: VirtualRuntime, pool: ThreadPoolExecutor, kind: str
) -> None:
    """And not before; what waited behind it is handled, in order."""
    handled = list[int]()
    subscribe(bus, lambda step: handled.append(step.number), kind, pool)
    for number in (1, 5, 4):
        bus.publish(Step(number))
    runtime.advance(4.999)
    settle(bus, 2)
    assert handled == [1]
    runtime.advance(0.001)
    settle(bus)
    assert handled == [1, 4, 5]
    assert runtime.waiting == []


def test_a_gap_is_recorded_and_logged(
    bus: Bus, runtime: VirtualRuntime, records: list[Record], caplog: pytest.LogCaptureFixture
) -> None:
    """With its key and the numbers that never came."""
    subscribe(bus, lambda step: None, name="steps")
    bus.publish(Step(1, "k"))
    bus.publish(Step(4, "k"), id="e4")
    runtime.advance(5)
    settle(bus)
    (gap,) = (record for record in records if isinstance(record, GapSkipped))
    assert (gap.subscription, gap.key, gap.first, gap.last) == ("steps", "k", 2, 3)
    assert gap.event_id == "e4"
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert line.getMessage() == "gap_skipped handler=steps key=k first=2 last=3"


def test_a_gap_without_a_key_has_none_in_its_record(
    bus: Bus, runtime: VirtualRuntime, records: list[Record]
) -> None:
    """The sequence that events without a key share has no name."""
    subscribe(bus, lambda step: None)
    bus.publish(Step(3, None))
    runtime.advance(5)
    settle(bus)
    (gap,) = (record for record in records if isinstance(record, GapSkipped))
    assert (gap.key, gap.first, gap.last) == (None, 1, 2)


def test_gaps_of_several_keys_are_given_up_each_in_its_time(
    bus: Bus, runtime: VirtualRuntime, records: list[Record]
) -> None:
    """The timeout counts from when the first one began to wait behind the gap."""
    handled = list[str]()
    subscribe(bus, lambda step: handled.append(f"{step.key}{step.number}"))
    for key in "abc":
        bus.publish(Step(2, key))
        runtime.advance(1)
    for expected in ("a2", "b2", "c2"):
        runtime.advance(2 if expected == "a2" else 1)
        settle(bus, 3 - "abc".index(expected[0]) - 1)
        assert handled[-1] == expected
    gaps = [record.key for record in records if isinstance(record, GapSkipped)]
    assert gaps == ["a", "b", "c"]


def test_a_gap_is_given_up_when_too_many_wait_behind_it(bus: Bus, records: list[Record]) -> None:
    """What may wait is bounded; the line moves on to the smallest number there is."""
    handled = list[int]()
    resequence = Resequence(by="number", timeout=60, max_waiting=3)
    subscribe(bus, lambda step: handled.append(step.number), resequence=resequence)
    for number in (9, 6, 7):
        bus.publish(Step(number))
    assert handled == []
    bus.publish(Step(8))
    settle(bus)
    assert handled == [6, 7, 8, 9]
    (gap,) = (record for record in records if isinstance(record, GapSkipped))
    assert (gap.first, gap.last) == (1, 5)


def test_the_gap_is_told_before_what_follows_it(
    bus: Bus, runtime: VirtualRuntime, records: list[Record]
) -> None:
    """Who watches hears first what was given up, then what is handled."""
    seen = list[str]()
    bus.observe(lambda record: seen.append(type(record).__name__))
    subscribe(bus, lambda step: None)
    bus.publish(Step(2))
    runtime.advance(5)
    settle(bus)
    assert seen.index("GapSkipped") < seen.index("Handled")


# Too late, and twice.


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_older_is_dropped(
    bus: Bus, records: list[Record], pool: ThreadPoolExecutor, kind: str
) -> None:
    """Its place has passed: an error on the receipt, and a record with the reason."""
    handled = list[int]()
    subscribe(bus, lambda step: handled.append(step.number), kind, pool)
    for number in (1, 2):
        bus.publish(Step(number))
    (error,) = bus.publish(Step(1), id="late").errors
    settle(bus)
    assert isinstance(error, OutOfSequence)
    assert error.reason == "older"
    assert handled == [1, 2]
    (skipped,) = (record for record in records if isinstance(record, Skipped))
    assert (skipped.event_id, skipped.reason) == ("late", "older")
    assert [record.error for record in records if isinstance(record, Failed)] == [error]


def test_what_fills_a_gap_too_late_is_dropped(bus: Bus, runtime: VirtualRuntime) -> None:
    """The line has moved on without it."""
    handled = list[int]()
    subscribe(bus, lambda step: handled.append(step.number))
    bus.publish(Step(1))
    bus.publish(Step(3))
    runtime.advance(5)
    (error,) = bus.publish(Step(2)).errors
    settle(bus)
    assert isinstance(error, OutOfSequence)
    assert handled == [1, 3]


def test_what_waits_already_is_dropped(bus: Bus, records: list[Record]) -> None:
    """The first one with a number is the one that counts."""
    handled = list[int]()
    subscribe(bus, lambda step: handled.append(step.number))
    first, second = bus.publish(Step(2)), bus.publish(Step(2))
    (error,) = second.errors
    assert isinstance(error, OutOfSequence)
    assert error.reason == "duplicate"
    bus.publish(Step(1))
    settle(bus)
    assert handled == [1, 2]
    assert first.errors == ()
    assert [record.reason for record in records if isinstance(record, Skipped)] == ["duplicate"]


@pytest.mark.parametrize("number", ["2", None, 2.0, True])
def test_what_has_no_number_is_a_failure(bus: Bus, number: Any) -> None:
    """It is not handled, the receipt says why, and the others go on."""
    handled = list[int]()
    subscribe(bus, lambda step: handled.append(step.number))
    bus.publish(Step(1))
    (error,) = bus.publish(Step(number)).errors
    assert isinstance(error, TypeError)
    bus.publish(Step(2))
    settle(bus)
    assert handled == [1, 2]


def test_a_function_that_fails_to_find_the_number_is_a_failure(bus: Bus) -> None:
    """What it raises is on the receipt."""
    handled = list[int]()
    resequence = Resequence(by=lambda step: 1 // 0)
    subscribe(bus, lambda step: handled.append(step.number), resequence=resequence)
    (error,) = bus.publish(Step(1)).errors
    settle(bus)
    assert isinstance(error, ZeroDivisionError)
    assert handled == []


# With other options.


def test_a_retry_holds_up_its_sequence(bus: Bus, runtime: VirtualRuntime) -> None:
    """Nothing overtakes an event that is being tried again."""
    calls = list[int]()

    def handle(step: Step) -> None:
        calls.append(step.number)
        if calls == [1]:
            raise LookupError

    subscribe(bus, handle, retry=Retry(backoff=Backoff(initial=60, jitter=False)))
    receipts = [bus.publish(Step(number)) for number in (2, 1, 3)]
    assert [receipt.deferred for receipt in receipts] == [1, 1, 1]
    assert calls == [1]
    runtime.advance(60)
    settle(bus)
    assert calls == [1, 1, 2, 3]


def test_a_failure_does_not_stop_the_sequence(bus: Bus) -> None:
    """Its number is used up."""
    handled = list[int]()

    def handle(step: Step) -> None:
        if step.number == 2:
            raise LookupError
        handled.append(step.number)

    subscribe(bus, handle)
    receipts = [bus.publish(Step(number)) for number in (3, 2, 1)]
    settle(bus)
    assert handled == [1, 3]
    assert [len(receipt.errors) for receipt in receipts] == [0, 1, 0]


def test_the_sequence_comes_before_the_rate(bus: Bus, runtime: VirtualRuntime) -> None:
    """What the rate lets go is in order already."""
    handled = list[int]()
    subscribe(bus, lambda step: handled.append(step.number), rate=Rate(1, per=1))
    for number in (3, 2, 1):
        bus.publish(Step(number))
    settle(bus, 2)
    assert handled == [1]
    for waiting in (1, 0):
        runtime.advance(1)
        settle(bus, waiting)
    assert handled == [1, 2, 3]


def test_why_it_waited_is_recorded(
    bus: Bus, runtime: VirtualRuntime, records: list[Record]
) -> None:
    """Resequencing first; what waits for a rate after that is deferred already."""
    subscribe(bus, lambda step: None, rate=Rate(1, per=1))
    bus.publish(Step(2))
    bus.publish(Step(1))
    runtime.advance(1)
    settle(bus)
    assert [record.reason for record in records if isinstance(record, Deferred)] == ["resequence"]


def test_closing_gives_up_on_what_waits(bus: Bus, runtime: VirtualRuntime) -> None:
    """Its handler is not called any more when the gap is given up."""
    handled = list[int]()
    subscription = bus.subscribe(
        Step, lambda step: handled.append(step.number), resequence=IN_ORDER
    )
    receipt = bus.publish(Step(2))
    subscription.close()
    runtime.advance(5)
    settle(bus)
    assert handled == []
    assert isinstance(receipt.errors[0], Abandonment)


def test_subscriptions_put_the_same_events_into_order_each_for_itself(bus: Bus) -> None:
    """One waits, the other takes what comes."""
    ordered, plain = list[int](), list[int]()
    subscribe(bus, lambda step: ordered.append(step.number))
    bus.subscribe(Step, lambda step: plain.append(step.number))
    for number in (3, 1, 2):
        bus.publish(Step(number))
    settle(bus)
    assert (ordered, plain) == ([1, 2, 3], [3, 1, 2])
