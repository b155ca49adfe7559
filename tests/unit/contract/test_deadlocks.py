"""The deadlocks that a receipt invites: whoever waits inside a handler may be waiting for itself.

Rule 3 answers them: what waits for something other than a handler, or for one of the publisher's
own causes, is deferred, and the receipt is done without it. Each test runs in a thread of its own
that is given up after a while, so that a deadlock fails one test and not the run.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from headwater import (
    Backoff,
    Bus,
    Context,
    EventStorm,
    Overloaded,
    Rate,
    Receipt,
    Resequence,
    Retry,
    WouldDeadlock,
    event,
)
from headwater.records import Deferred, Handled, Record
from headwater.testing import VirtualRuntime

PATIENCE = 20.0
"""Seconds after which something that waits is taken for deadlocked."""


@event(key="key")
@dataclass(frozen=True)
class Step:
    key: str | None = "a"
    number: int = 0


@dataclass(frozen=True)
class Other:
    key: str = "a"
    number: int = 0


def in_time(work: Callable[[], object]) -> None:
    """Run `work` in a thread, and fail if it has not ended in time."""
    errors = list[BaseException]()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        pytest.fail("deadlocked")
    if errors:
        raise errors[0]


def on_a_loop(main: Callable[[], Awaitable[object]]) -> None:
    """Run `main` on a loop, and fail if it has not ended in time."""

    async def run() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()

    in_time(lambda: asyncio.run(run()))


@pytest.fixture
def bus() -> Iterator[Bus]:
    """A bus that does not wait for what hangs."""
    bus = Bus(drain_timeout=0.5)
    yield bus
    bus.close()


@pytest.fixture
def later() -> Iterator[Bus]:
    """A bus in virtual time."""
    bus = Bus(runtime=VirtualRuntime(), drain_timeout=0.5)
    yield bus
    bus.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """An executor with a single thread; one that hangs is left alone."""
    pool = ThreadPoolExecutor(1)
    yield pool
    pool.shutdown(wait=False)


# A handler waits for its own key.

KINDS = ["async", "thread", "executor"]
TURNS: dict[str, dict[str, Any]] = {
    "key": {},
    "key and concurrency": {"concurrency": 3},
    "concurrency": {"concurrency": 1},
    "retry": {"retry": Retry()},
}


def subscribe(
    bus: Bus,
    kind: str,
    pool: ThreadPoolExecutor,
    what: type,
    work: Callable[[Any], Receipt | None],
    **options: Any,
) -> None:
    """Have `work` called in a handler of some kind, which waits for the receipt it returns."""

    async def handle(event: Any) -> None:
        receipt = work(event)
        if receipt is not None:
            await receipt

    if kind == "async":
        bus.subscribe(what, handle, **options)
    else:
        where: Any = pool if kind == "executor" else kind
        bus.subscribe(what, work, executor=where, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("new_story", [False, True])
def test_a_handler_waits_for_a_publish_of_its_own_key(
    bus: Bus,
    pool: ThreadPoolExecutor,
    kind: str,
    turns: str,
    new_story: bool,  # noqa: FBT001 -- a parameter of pytest
) -> None:
    """The event comes after the handler, in order, and is not waited for."""
    begun, receipts = list[int](), list[Receipt]()

    def work(step: Step) -> Receipt | None:
        begun.append(step.number)
        if step.number == 5:
            return None
        receipt = bus.publish(Step(step.key, step.number + 1), new_story=new_story)
        receipts.append(receipt)
        return receipt

    subscribe(bus, kind, pool, Step, work, **TURNS[turns])
    key = None if turns == "concurrency" else "a"
    in_time(lambda: bus.publish(Step(key)))
    in_time(lambda: bus.idle(PATIENCE))
    assert begun == list(range(6))
    assert [(receipt.deferred, receipt.errors) for receipt in receipts] == [(1, ())] * 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("between", ["inline", "async", "thread"])
def test_a_handler_waits_for_its_own_key_by_way_of_another_handler(
    bus: Bus, pool: ThreadPoolExecutor, kind: str, between: str
) -> None:
    """However the ring is closed, the publish that closes it is not waited for."""
    begun = list[int]()

    def work(step: Step) -> Receipt | None:
        begun.append(step.number)
        return bus.publish(Other(number=step.number)) if step.number < 3 else None

    subscribe(bus, kind, pool, Step, work)
    subscribe(bus, between, pool, Other, lambda other: bus.publish(Step("a", other.number + 1)))
    in_time(lambda: bus.publish(Step()))
    in_time(lambda: bus.idle(PATIENCE))
    assert begun == [0, 1, 2, 3]


def test_a_handler_awaits_many_publishes_of_its_own_key_at_once(bus: Bus) -> None:
    """All of them are deferred, and come in order."""
    begun, deferred = list[int](), list[int]()

    async def handle(step: Step) -> None:
        begun.append(step.number)
        if step.number == 0:
            publishes = [bus.publish(Step("a", number)) for number in range(1, 10)]
            receipts = await asyncio.gather(*publishes)
            deferred.extend(receipt.deferred for receipt in receipts)

    async def main() -> None:
        await bus.publish(Step())
        await bus.idle(PATIENCE)

    bus.subscribe(Step, handle)
    on_a_loop(main)
    assert begun == list(range(10))
    assert deferred == [1] * 9


def test_a_handler_awaits_a_task_that_awaits_its_own_key(bus: Bus) -> None:
    """What a handler sets going waits on its behalf."""
    begun = list[int]()

    async def publish_next() -> None:
        await bus.publish(Step("a", 1))

    async def handle(step: Step) -> None:
        begun.append(step.number)
        if step.number == 0:
            await asyncio.create_task(publish_next())

    async def main() -> None:
        await bus.publish(Step())
        await bus.idle(PATIENCE)

    bus.subscribe(Step, handle)
    on_a_loop(main)
    assert begun == [0, 1]


def test_another_handler_of_the_same_event_is_still_waited_for(bus: Bus) -> None:
    """Only the delivery that closes the ring is deferred."""
    noted, at_return = list[int](), list[int]()

    def handle(step: Step) -> None:
        if step.number == 0:
            receipt = bus.publish(Step("a", 1))
            at_return.append(len(noted))
            assert receipt.deferred == 1

    async def note(step: Step) -> None:
        await asyncio.sleep(0)
        noted.append(step.number)

    bus.subscribe(Step, note)
    bus.subscribe(Step, handle, executor="thread")
    in_time(lambda: bus.publish(Step()))
    in_time(lambda: bus.idle(PATIENCE))
    assert noted == [0, 1]
    assert at_return == [2]


# Two handlers wait for each other.


def meet(bus: Bus, kind: str, ring: int, **options: Any) -> list[tuple[str, int]]:
    """Handlers of `ring` keys, all of them running, each wait for a publish of the next key."""
    done = list[tuple[str, int]]()
    together = threading.Barrier(ring)
    arrived, everybody = count(1), asyncio.Event()

    def next_key(key: str) -> str:
        return str((int(key) + 1) % ring)

    def handle(step: Step) -> None:
        if step.number == 0:
            together.wait(PATIENCE)
            bus.publish(Step(next_key(step.key or ""), 1))
        done.append((step.key or "", step.number))

    async def handle_async(step: Step) -> None:
        if step.number == 0:
            if next(arrived) == ring:
                everybody.set()
            await everybody.wait()
            await bus.publish(Step(next_key(step.key or ""), 1))
        done.append((step.key or "", step.number))

    async def main() -> None:
        for key in range(ring):
            bus.publish(Step(str(key)))
        await bus.idle(PATIENCE)

    if kind == "async":
        bus.subscribe(Step, handle_async, **options)
    else:
        bus.subscribe(Step, handle, executor="thread", **options)
    on_a_loop(main)
    return done


@pytest.mark.parametrize("kind", ["async", "thread"])
@pytest.mark.parametrize("ring", [2, 3, 5])
def test_handlers_of_different_keys_wait_for_each_other(bus: Bus, kind: str, ring: int) -> None:
    """A waits for B while B waits for A: one of them goes on, and all is handled."""
    done = meet(bus, kind, ring)
    assert sorted(done) == sorted((str(key), number) for key in range(ring) for number in (0, 1))


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_handlers_that_fill_the_concurrency_wait_for_each_other(bus: Bus, kind: str) -> None:
    """Every one of them waits for a place that only one of them can free."""
    done = meet(bus, kind, 3, concurrency=3)
    assert len(done) == 6


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_handlers_of_two_subscriptions_wait_for_each_other(bus: Bus, kind: str) -> None:
    """Each is handled one at a time, and publishes to the other one."""
    done, together = list[str](), threading.Barrier(2)
    arrived, both = count(1), asyncio.Event()

    def work(mine: str, other: object) -> Callable[[Any], object]:
        def handle(event: Any) -> None:
            if event.number == 0:
                together.wait(PATIENCE)
                bus.publish(other)
            done.append(mine)

        async def handle_async(event: Any) -> None:
            if event.number == 0:
                if next(arrived) == 2:
                    both.set()
                await both.wait()
                await bus.publish(other)
            done.append(mine)

        return handle_async if kind == "async" else handle

    async def main() -> None:
        bus.publish(Step(None))
        bus.publish(Other())
        await bus.idle(PATIENCE)

    bus.subscribe(Step, work("step", Other(number=1)), concurrency=1)
    bus.subscribe(Other, work("other", Step(None, 1)), concurrency=1)
    on_a_loop(main)
    assert sorted(done) == ["other", "other", "step", "step"]


def test_an_async_and_a_thread_handler_wait_for_each_other(bus: Bus) -> None:
    """The ring may go through a loop and a worker."""
    done, in_thread, on_loop = list[str](), threading.Event(), threading.Event()

    async def handle_async(step: Step) -> None:
        if step.number == 0:
            on_loop.set()
            assert await asyncio.to_thread(in_thread.wait, PATIENCE)
            await bus.publish(Other(number=1), key="b")
        done.append("async")

    def handle(other: Other) -> None:
        if other.number == 0:
            in_thread.set()
            assert on_loop.wait(PATIENCE)
            bus.publish(Step("a", 1))
        done.append("thread")

    async def main() -> None:
        bus.publish(Step("a"))
        bus.publish(Other(), key="b")
        await bus.idle(PATIENCE)

    bus.subscribe(Step, handle_async)
    bus.subscribe(Other, handle, executor="thread")
    on_a_loop(main)
    assert sorted(done) == ["async", "async", "thread", "thread"]


def test_handlers_of_two_buses_wait_for_each_other(bus: Bus) -> None:
    """A ring through two buses is a ring."""
    done = list[str]()
    with Bus(drain_timeout=0.5) as other:

        def handle(step: Step) -> None:
            if step.number == 0:
                other.publish(Step())
            done.append("here")

        def handle_there(step: Step) -> None:
            bus.publish(Step(number=1))
            done.append("there")

        bus.subscribe(Step, handle, executor="thread")
        other.subscribe(Step, handle_there, executor="thread")
        in_time(lambda: bus.publish(Step()))
        in_time(lambda: bus.idle(PATIENCE))
    assert done == ["there", "here", "here"]


# A handler takes turns with itself.


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_with_concurrency_one_publishes_to_itself(
    bus: Bus, pool: ThreadPoolExecutor, kind: str
) -> None:
    """In a tree: every event has two effects, and all of them are handled, one at a time."""
    running, overlapped, handled = list[int](), list[int](), list[int]()

    def work(step: Step) -> Receipt | None:
        running.append(step.number)
        overlapped.extend(running[1:])
        receipt = None
        if step.number < 4:
            bus.publish(Step(None, step.number + 1))
            receipt = bus.publish(Step(None, step.number + 1))
        running.remove(step.number)
        handled.append(step.number)
        return receipt

    subscribe(bus, kind, pool, Step, work, concurrency=1)
    in_time(lambda: bus.publish(Step(None)))
    in_time(lambda: bus.idle(PATIENCE))
    assert len(handled) == 31
    assert overlapped == []


# What is deferred by a policy is not waited for.

DEFERRING: dict[str, dict[str, Any]] = {
    "resequence": {"resequence": Resequence(by="number", first=-1, timeout=60)},
    "retry": {"retry": Retry(backoff=Backoff(initial=60))},
    "rate": {"rate": Rate(1, per=60)},
    "pump": {"executor": "pump"},
}


def fill(bus: Bus, policy: str) -> list[int]:
    """A handler of `Step` that puts off a second event for some reason; what it has handled."""
    handled, failing = list[int](), count()

    def handle(step: Step) -> None:
        if policy == "retry" and next(failing) == 0:
            raise LookupError
        handled.append(step.number)

    bus.subscribe(Step, handle, **DEFERRING[policy])
    if policy == "rate":
        in_time(lambda: bus.publish(Step("a", -1)))
        handled.clear()
    return handled


@pytest.mark.parametrize("policy", DEFERRING)
@pytest.mark.parametrize("publisher", ["sync", "async", "inline", "thread", "async handler"])
def test_a_waiting_publisher_does_not_wait_for(later: Bus, policy: str, publisher: str) -> None:
    """The receipt is done and says so; the handler runs when its time has come."""
    handled, receipts, records = fill(later, policy), list[Receipt](), list[Record]()
    later.observe(records.append)

    def publish(other: Other) -> None:
        receipts.append(later.publish(Step()))

    async def publish_async(other: Other) -> None:
        receipts.append(await later.publish(Step()))

    async def main() -> None:
        await publish_async(Other())

    if publisher == "sync":
        in_time(lambda: publish(Other()))
    elif publisher == "async":
        on_a_loop(main)
    else:
        if publisher == "async handler":
            later.subscribe(Other, publish_async)
        else:
            later.subscribe(Other, publish, executor="thread" if publisher == "thread" else None)
        in_time(lambda: later.publish(Other()))
    (receipt,) = receipts
    assert (receipt.done, receipt.deferred, receipt.errors) == (True, 1, ())
    assert handled == []
    pass_time(later)
    in_time(lambda: later.idle(PATIENCE))
    assert handled == [0]
    assert [record.reason for record in records if isinstance(record, Deferred)] == [policy]


def pass_time(bus: Bus) -> None:
    """Let two minutes pass, and pump."""
    runtime = bus._runtime
    assert isinstance(runtime, VirtualRuntime)
    runtime.advance(120)
    bus.pump()


def test_a_publisher_that_waits_behind_a_handler_is_let_go_when_that_is_retried(
    later: Bus,
) -> None:
    """Nobody waits for the backoff of an earlier event of the same key."""
    begun, fail, attempts = threading.Event(), threading.Event(), count(1)

    def handle(step: Step) -> None:
        if step.number == 0 and next(attempts) == 1:
            begun.set()
            assert fail.wait(PATIENCE)
            raise LookupError
        handled.append(step.number)

    handled, behind = list[int](), list[Receipt]()
    later.subscribe(Step, handle, retry=Retry(backoff=Backoff(initial=60)))
    first = threading.Thread(target=later.publish, args=(Step("a", 0),), daemon=True)
    first.start()
    assert begun.wait(PATIENCE)
    queued = threading.Event()
    later.observe(lambda record: queued.set())
    second = threading.Thread(
        target=lambda: behind.append(later.publish(Step("a", 1))), daemon=True
    )
    second.start()
    assert queued.wait(PATIENCE)
    fail.set()
    first.join(PATIENCE)
    second.join(PATIENCE)
    assert behind[0].deferred == 1
    assert handled == []
    pass_time(later)
    in_time(lambda: later.idle(PATIENCE))
    assert handled == [0, 1]


def test_a_handler_that_waits_for_a_paused_one_goes_on(bus: Bus) -> None:
    """What is held back counts as deferred."""
    done = list[str]()
    paused = bus.subscribe(Other, lambda other: done.append("other"), executor="thread")
    paused.pause()

    def handle(step: Step) -> None:
        assert bus.publish(Other()).deferred == 1
        done.append("step")

    bus.subscribe(Step, handle, executor="thread")
    in_time(lambda: bus.publish(Step()))
    paused.resume()
    in_time(lambda: bus.idle(PATIENCE))
    assert done == ["step", "other"]


# More handlers wait than there are threads.


@pytest.mark.parametrize("max_workers", [1, 2])
@pytest.mark.parametrize("depth", [1, 10, 60])
def test_thread_handlers_nest_deeper_than_the_pool(max_workers: int, depth: int) -> None:
    """A worker that waits is not counted, so that there is always one more."""
    bus, ended = Bus(max_workers=max_workers, drain_timeout=0.5), list[int]()

    def handle(step: Step) -> None:
        if step.number < depth:
            assert bus.publish(Step(None, step.number + 1)).deferred == 0
        ended.append(step.number)

    with bus:
        bus.subscribe(Step, handle, executor="thread")
        in_time(lambda: bus.publish(Step(None)))
    assert ended == list(range(depth, -1, -1))


def test_thread_handlers_nest_deeper_than_the_pool_and_broadly() -> None:
    """Three handlers for each event, three events deep, on one worker."""
    bus, ended = Bus(max_workers=1, drain_timeout=0.5), list[int]()

    def handle(step: Step) -> None:
        if step.number < 3:
            assert bus.publish(Step(None, step.number + 1)).deferred == 0
        ended.append(step.number)

    with bus:
        for _ in range(3):
            bus.subscribe(Step, handle, executor="thread")
        in_time(lambda: bus.publish(Step(None)))
    assert len(ended) == 3 + 9 + 27 + 81


def test_thread_and_async_handlers_nest_in_each_other() -> None:
    """A worker waits for the loop, which awaits a worker, and so on."""
    bus, ended = Bus(max_workers=1, drain_timeout=0.5), list[int]()

    def handle(step: Step) -> None:
        if step.number < 20:
            bus.publish(Other(number=step.number))
        ended.append(step.number)

    async def handle_async(other: Other) -> None:
        await bus.publish(Step(None, other.number + 1))

    with bus:
        bus.subscribe(Step, handle, executor="thread")
        bus.subscribe(Other, handle_async)
        in_time(lambda: bus.publish(Step(None)))
    assert ended == list(range(20, -1, -1))


def test_the_pool_shrinks_again_after_a_deep_nest() -> None:
    """Threads that were made because others waited go when they are not needed."""
    bus, threads = Bus(max_workers=2, drain_timeout=0.5), set[threading.Thread]()

    def handle(step: Step) -> None:
        threads.add(threading.current_thread())
        if step.number < 30:
            bus.publish(Step(None, step.number + 1))

    with bus:
        bus.subscribe(Step, handle, executor="thread")
        in_time(lambda: bus.publish(Step(None)))
        assert len(threads) == 31
        for number in range(40):
            bus.publish(Step(None, 30 + number))
        for thread in list(threads)[:]:
            thread.join(PATIENCE / 100)
        assert sum(thread.is_alive() for thread in threads) <= 2


# The user's executor has one thread.


def test_a_handler_publishes_to_another_one_in_the_same_single_thread(
    bus: Bus, pool: ThreadPoolExecutor
) -> None:
    """It cannot be waited for: its thread is the one that waits."""
    done, records = list[str](), list[Record]()
    bus.observe(records.append)

    def handle(step: Step) -> None:
        assert bus.publish(Other()).deferred == 1
        done.append("step")

    bus.subscribe(Step, handle, executor=pool)
    bus.subscribe(Other, lambda other: done.append("other"), executor=pool)
    in_time(lambda: bus.publish(Step()))
    in_time(lambda: bus.idle(PATIENCE))
    assert done == ["step", "other"]
    assert [record.reason for record in records if isinstance(record, Deferred)] == ["executor"]


def test_a_handler_publishes_to_its_single_thread_by_way_of_a_worker(
    bus: Bus, pool: ThreadPoolExecutor
) -> None:
    """The worker's handler is between them, and waits for it as well."""
    done = list[str]()

    def handle(step: Step) -> None:
        if step.number == 0:
            bus.publish(Other())
        done.append(f"step {step.number}")

    bus.subscribe(Step, handle, executor=pool)
    bus.subscribe(Other, lambda other: bus.publish(Step("b", 1)), executor="thread")
    in_time(lambda: bus.publish(Step()))
    in_time(lambda: bus.idle(PATIENCE))
    assert done == ["step 0", "step 1"]


@pytest.mark.parametrize("ring", [2, 3])
def test_handlers_in_executors_of_one_thread_wait_for_each_other(bus: Bus, ring: int) -> None:
    """Each occupies the thread that another one waits for."""
    done, together = list[str](), threading.Barrier(ring)

    def work(index: int) -> Callable[[int], None]:
        def handle(number: int) -> None:
            if number == 0:
                together.wait(PATIENCE)
                bus.publish(f"ring.{(index + 1) % ring}", 1)
            done.append(f"{index}.{number}")

        return handle

    async def main() -> None:
        for index in range(ring):
            bus.publish(f"ring.{index}", 0)
        await bus.idle(PATIENCE)

    with ExitStack() as stack:
        for index in range(ring):
            pool = stack.enter_context(ThreadPoolExecutor(1))
            bus.subscribe(f"ring.{index}", work(index), executor=pool)
        on_a_loop(main)
    assert sorted(done) == [f"{index}.{number}" for index in range(ring) for number in (0, 1)]


# A branching storm.


def storm(bus: Bus, kind: str, pool: ThreadPoolExecutor) -> "count[int]":
    """A handler of `Other` that publishes it twice more; counts its calls."""
    calls = count()

    def handle(other: Other) -> None:
        next(calls)
        bus.publish(other)
        bus.publish(other)

    async def handle_async(other: Other) -> None:
        next(calls)
        first, second = bus.publish(other), bus.publish(other)
        if kind == "async, awaited":
            await first
            await second

    async def handle_one_by_one(other: Other) -> None:
        next(calls)
        await bus.publish(other)
        await bus.publish(other)

    if kind == "async, one by one":
        bus.subscribe(Other, handle_one_by_one)
    elif kind.startswith("async"):
        bus.subscribe(Other, handle_async)
    else:
        where: Any = pool if kind == "executor" else kind
        bus.subscribe(Other, handle, executor=where)
    return calls


STORMS = ["inline", "thread", "executor", "async", "async, awaited", "async, one by one"]


@pytest.mark.parametrize("kind", STORMS)
@pytest.mark.parametrize("publisher", ["sync", "async", "async, not awaited"])
def test_a_branching_storm_ends(pool: ThreadPoolExecutor, kind: str, publisher: str) -> None:
    """Two effects of every event would be 2**64 events; the bus is as good as new afterwards."""
    bus = Bus(max_story=2000, drain_timeout=0.5)
    calls = storm(bus, kind, pool)

    async def main() -> None:
        receipt = bus.publish(Other())
        if publisher == "async":
            await receipt
        await bus.idle(PATIENCE)

    if publisher == "sync":
        in_time(lambda: bus.publish(Other()))
        in_time(lambda: bus.idle(PATIENCE))
    else:
        on_a_loop(main)
    assert next(calls) <= 2000
    handled = list[Step]()
    bus.subscribe(Step, handled.append, executor="thread")
    in_time(lambda: bus.publish(Step()))
    assert handled == [Step()]
    assert len(bus._unfinished) == 0
    bus.close()


def test_a_branching_storm_that_is_pumped_ends() -> None:
    """Every call of pump runs what was waiting, and in the end nothing is."""
    bus, calls = Bus(max_story=2000), count()

    def handle(other: Other) -> None:
        next(calls)
        for _ in range(2):
            with suppress(EventStorm, Overloaded):
                bus.publish(other)

    bus.subscribe(Other, handle, executor="pump")
    bus.publish(Other())
    rounds = 0
    while bus.pump() and rounds < 100:
        rounds += 1
    bus.idle(PATIENCE)
    assert rounds < 100
    assert next(calls) == 2000


def test_a_branching_storm_with_the_default_limits_ends(pool: ThreadPoolExecutor) -> None:
    """Depth first it is over after 64 steps, long before the number of events would matter."""
    for kind in ("inline", "thread", "async, one by one"):
        bus = Bus(drain_timeout=0.5)
        calls = storm(bus, kind, pool)
        in_time(lambda bus=bus: bus.publish(Other()))  # type: ignore[misc]
        in_time(lambda bus=bus: bus.idle(PATIENCE))  # type: ignore[misc]
        assert next(calls) <= 65
        bus.close()


# What cannot be deferred is refused.


def test_waiting_for_everything_inside_a_handler_is_refused(bus: Bus) -> None:
    """The handler is part of everything."""
    refused = list[str]()

    def handle(step: Step) -> None:
        with suppress(WouldDeadlock):
            bus.idle()
        refused.append("thread")

    async def handle_async(step: Step) -> None:
        with suppress(WouldDeadlock):
            await bus.idle()
        refused.append("async")

    bus.subscribe(Step, handle, executor="thread")
    bus.subscribe(Step, handle_async)
    in_time(lambda: bus.publish(Step()))
    assert sorted(refused) == ["async", "thread"]


def test_a_request_to_a_replier_that_asks_itself_expires(bus: Bus) -> None:
    """An answer cannot be deferred: whoever asks hears in time that there is none."""
    handled = list[str]()

    async def reply(other: Other, context: Context) -> str:
        if other.number == 0:
            with suppress(TimeoutError):
                await bus.request(Other(number=1), timeout=0.05)
        handled.append(str(other.number))
        return "done"

    async def main() -> None:
        assert await bus.request(Other(), timeout=PATIENCE) == "done"

    bus.reply(Other, concurrency=1)(reply)
    on_a_loop(main)
    assert handled == ["0"]


def test_the_deferred_are_handled_in_the_order_they_were_published(bus: Bus) -> None:
    """Deferring changes who waits, and nothing else."""
    records, order = list[Record](), list[int]()
    bus.observe(records.append)

    def handle(step: Step) -> None:
        if step.number < 3:
            for extra in (10, 20):
                bus.publish(Step("a", step.number * 100 + extra))
        order.append(step.number)

    bus.subscribe(Step, handle, executor="thread")
    in_time(lambda: [bus.publish(Step("a", number)) for number in range(3)])
    in_time(lambda: bus.idle(PATIENCE))
    assert order[0] == 0
    for number in range(3):
        assert order.index(number * 100 + 10) < order.index(number * 100 + 20)
    assert len([record for record in records if isinstance(record, Handled)]) == len(order)
