"""Breakers on a direct bus, in virtual time: what is skipped, who is told, how it heals."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Backoff, Breaker, Bus, Context, Reject, Retry, RetryLater
from headwater.errors import BreakerOpen, HandlerTimeout, RemoteError
from headwater.records import BreakerChanged, Failed, Record, Retried, Skipped
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""

KINDS = ["inline", "async", "thread", "executor"]
BREAKER = Breaker(failures=2, cooldown=30)


@dataclass(frozen=True)
class Step:
    number: int = 0


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


class Flaky:
    """A handler whose next calls end as the test says; what it was called with."""

    def __init__(self) -> None:
        self.calls = list[int]()
        self.error: BaseException | None = LookupError()

    def __call__(self, step: Step) -> None:
        self.calls.append(step.number)
        if self.error is not None:
            raise self.error


def subscribe(
    bus: Bus, kind: str, pool: ThreadPoolExecutor, work: Callable[[Step], object], **options: Any
) -> None:
    """Have `work` called in a handler of some kind, with a breaker."""

    async def handle(step: Step) -> None:
        work(step)

    options = {"breaker": BREAKER, "name": "flaky", **options}
    if kind == "async":
        bus.subscribe(Step, handle, **options)
    else:
        where: Any = {"executor": pool, "inline": None}.get(kind, kind)
        bus.subscribe(Step, work, executor=where, **options)


def publish(bus: Bus, number: int) -> str:
    """Publish one event; the names of the errors on its receipt."""
    receipt = bus.publish(Step(number))
    bus.idle(PATIENCE)
    return " ".join(type(error).__name__ for error in receipt.errors)


# Opening.


@pytest.mark.parametrize("kind", KINDS)
def test_so_many_failures_in_a_row_open_it(bus: Bus, pool: ThreadPoolExecutor, kind: str) -> None:
    """While it is open the handler is not called, and the receipt says why."""
    flaky = Flaky()
    subscribe(bus, kind, pool, flaky)
    errors = [publish(bus, number) for number in range(4)]
    assert errors == ["LookupError", "LookupError", "BreakerOpen", "BreakerOpen"]
    assert flaky.calls == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_success_begins_the_count_anew(bus: Bus, pool: ThreadPoolExecutor, kind: str) -> None:
    """Only failures in a row count."""
    flaky = Flaky()
    subscribe(bus, kind, pool, flaky)
    for number in range(6):
        flaky.error = LookupError() if number % 2 == 0 else None
        publish(bus, number)
    assert len(flaky.calls) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_skip_is_recorded_and_the_opening_too(
    bus: Bus,
    records: list[Record],
    pool: ThreadPoolExecutor,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once when it opens, as a warning; and for every event that was skipped, as a failure."""
    flaky = Flaky()
    subscribe(bus, kind, pool, flaky)
    for number in range(4):
        publish(bus, number)
    (changed,) = (record for record in records if isinstance(record, BreakerChanged))
    assert (changed.state, changed.subscription, changed.name) == ("open", "flaky", "Step")
    skipped = [record for record in records if isinstance(record, Skipped)]
    assert [(record.reason, record.subscription) for record in skipped] == [
        ("breaker", "flaky")
    ] * 2
    failed = [record for record in records if isinstance(record, Failed)]
    assert [type(record.error) for record in failed] == [LookupError] * 2 + [BreakerOpen] * 2
    lines = [line for line in caplog.records if line.levelno >= logging.WARNING]
    said = [(line.levelname, line.getMessage().split()[0]) for line in lines]
    assert sorted(said) == sorted(
        [("ERROR", "handler_failed"), ("ERROR", "handler_failed"), ("WARNING", "breaker_open")]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_breaker_belongs_to_one_subscription(
    bus: Bus, pool: ThreadPoolExecutor, kind: str
) -> None:
    """The same policy twice is two breakers, and what has none goes on anyway."""
    flaky, well, plain = Flaky(), Flaky(), list[Step]()
    well.error = None
    subscribe(bus, kind, pool, flaky)
    subscribe(bus, kind, pool, well)
    bus.subscribe(Step, plain.append)
    for number in range(4):
        publish(bus, number)
    assert (flaky.calls, well.calls, len(plain)) == ([0, 1], [0, 1, 2, 3], 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [Reject("odd"), RetryLater(1000)], ids=["Reject", "RetryLater"])
def test_what_says_nothing_about_its_health_does_not_count(
    bus: Bus, pool: ThreadPoolExecutor, kind: str, error: Exception
) -> None:
    """An event that is refused, or wanted later, is no failure of the handler."""
    flaky = Flaky()
    flaky.error = error
    subscribe(bus, kind, pool, flaky)
    for number in range(4):
        bus.publish(Step(number))
    assert sorted(flaky.calls) == [0, 1, 2, 3]


def test_what_ends_everything_does_not_count(bus: Bus) -> None:
    """A KeyboardInterrupt goes through, and says nothing about the handler."""
    flaky = Flaky()
    bus.subscribe(Step, flaky, breaker=Breaker(failures=1))
    flaky.error = KeyboardInterrupt()
    for number in range(2):
        with pytest.raises(KeyboardInterrupt):
            bus.publish(Step(number))
    assert flaky.calls == [0, 1]


def test_a_timeout_counts_as_a_failure(bus: Bus, runtime: VirtualRuntime) -> None:
    """A handler that hangs is not well."""
    began, calls = threading.Event(), list[int]()

    async def handle(step: Step) -> None:
        calls.append(step.number)
        began.set()
        await asyncio.Event().wait()

    bus.subscribe(Step, handle, breaker=Breaker(failures=1), timeout=5)
    publisher = threading.Thread(target=bus.publish, args=(Step(0),))
    publisher.start()
    assert began.wait(PATIENCE)
    runtime.advance(5)
    publisher.join(PATIENCE)
    (error,) = bus.publish(Step(1)).errors
    assert isinstance(error, BreakerOpen)
    assert not isinstance(error, HandlerTimeout)
    assert calls == [0]


def test_what_an_inline_handler_leaves_to_await_counts_when_it_has_ended(bus: Bus) -> None:
    """That the call itself came back is no success yet."""
    calls = list[int]()

    async def work(number: int) -> None:
        calls.append(number)
        raise LookupError

    bus.subscribe(Step, lambda step: work(step.number), breaker=BREAKER)
    errors = [publish(bus, number) for number in range(3)]
    assert errors == ["LookupError", "LookupError", "BreakerOpen"]
    assert calls == [0, 1]


def test_context_and_middleware_make_no_difference_to_an_inline_breaker(bus: Bus) -> None:
    """What middleware swallows is a success, and what it raises is not."""
    swallow, calls = True, list[str]()

    @bus.middleware
    def around(step: object) -> Iterator[None]:
        try:
            yield
        except LookupError:
            if not swallow:
                raise

    def handle(step: Step, context: Context) -> None:
        calls.append(context.name)
        raise LookupError

    bus.subscribe(Step, handle, breaker=BREAKER)
    assert [publish(bus, 0) for _ in range(3)] == ["", "", ""]
    swallow = False
    assert [publish(bus, 0) for _ in range(3)] == ["LookupError", "LookupError", "BreakerOpen"]
    assert len(calls) == 5


# Healing.


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_that_succeeds_closes_it(
    bus: Bus,
    records: list[Record],
    runtime: VirtualRuntime,
    pool: ThreadPoolExecutor,
    kind: str,
) -> None:
    """After the cooldown, and not before; that is recorded as well."""
    flaky = Flaky()
    subscribe(bus, kind, pool, flaky)
    for number in range(2):
        publish(bus, number)
    flaky.error = None
    runtime.advance(29.9)
    assert publish(bus, 2) == "BreakerOpen"
    runtime.advance(0.1)
    assert [publish(bus, number) for number in (3, 4, 5)] == ["", "", ""]
    assert flaky.calls == [0, 1, 3, 4, 5]
    changes = [record.state for record in records if isinstance(record, BreakerChanged)]
    assert changes == ["open", "closed"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_that_fails_opens_it_for_another_cooldown(
    bus: Bus, runtime: VirtualRuntime, pool: ThreadPoolExecutor, kind: str
) -> None:
    """One call per cooldown is all that a handler gets while it is ill."""
    flaky = Flaky()
    subscribe(bus, kind, pool, flaky)
    for number in range(2):
        publish(bus, number)
    runtime.advance(30)
    for _ in range(3):
        assert publish(bus, 7) == "LookupError"
        assert publish(bus, 8) == "BreakerOpen"
        runtime.advance(29)
        assert publish(bus, 9) == "BreakerOpen"
        runtime.advance(1)
    assert flaky.calls == [0, 1, 7, 7, 7]


def test_there_is_one_probe_at_a_time_on_a_loop(bus: Bus, runtime: VirtualRuntime) -> None:
    """While it is on its way the others are skipped, and after it they are not."""
    calls, gate = list[int](), asyncio.Event()

    async def handle(step: Step) -> None:
        calls.append(step.number)
        if step.number == 0:
            raise LookupError
        await gate.wait()

    async def main() -> None:
        await bus.publish(Step(0))
        runtime.advance(30)
        probe = bus.publish(Step(1))
        await asyncio.sleep(0)
        skipped = await bus.publish(Step(2))
        assert [type(error) for error in skipped.errors] == [BreakerOpen]
        gate.set()
        assert (await probe).errors == ()
        assert (await bus.publish(Step(3))).errors == ()

    bus.subscribe(Step, handle, breaker=Breaker(failures=1))
    asyncio.run(main())
    assert calls == [0, 1, 3]


def test_there_is_one_probe_at_a_time_in_threads(bus: Bus, runtime: VirtualRuntime) -> None:
    """However many publish at once when the cooldown is over."""
    calls, gate, skipped = list[int](), threading.Event(), list[str]()
    nine = threading.Semaphore(0)

    def handle(step: Step) -> None:
        calls.append(step.number)
        if step.number == 0:
            raise LookupError
        assert gate.wait(PATIENCE)

    def publish_one(number: int) -> None:
        errors = bus.publish(Step(number)).errors
        skipped.extend(type(error).__name__ for error in errors)
        nine.release()

    bus.subscribe(Step, handle, executor="thread", breaker=Breaker(failures=1))
    bus.publish(Step(0))
    runtime.advance(30)
    threads = [threading.Thread(target=publish_one, args=(number,)) for number in range(1, 11)]
    for thread in threads:
        thread.start()
    for _ in range(9):
        assert nine.acquire(timeout=PATIENCE)
    assert (len(calls), skipped) == (2, ["BreakerOpen"] * 9)
    gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert bus.publish(Step(99)).errors == ()


def test_a_failure_from_before_it_opened_does_not_count_for_the_probe(
    bus: Bus, runtime: VirtualRuntime
) -> None:
    """A call that began in better times and fails late changes nothing."""
    late, probe = asyncio.Event(), asyncio.Event()

    async def handle(step: Step) -> None:
        if step.number == 0:
            await late.wait()
            raise LookupError
        if step.number == 1:
            raise LookupError
        await probe.wait()

    async def main() -> None:
        slow = bus.publish(Step(0))
        await asyncio.sleep(0)
        await bus.publish(Step(1))
        runtime.advance(30)
        probing = bus.publish(Step(2))
        await asyncio.sleep(0)
        late.set()
        await slow
        probe.set()
        assert (await probing).errors == ()
        assert (await bus.publish(Step(3))).errors == ()

    bus.subscribe(Step, handle, breaker=Breaker(failures=1))
    asyncio.run(main())


def test_a_probe_that_is_cancelled_gives_its_place_to_the_next(
    bus: Bus, runtime: VirtualRuntime
) -> None:
    """It has told nothing about the handler."""
    calls, tasks = list[int](), list["asyncio.Task[Any] | None"]()

    async def handle(step: Step) -> None:
        calls.append(step.number)
        if step.number == 0:
            raise LookupError
        if step.number == 1:
            tasks.append(asyncio.current_task())
            await asyncio.Event().wait()

    async def main() -> None:
        await bus.publish(Step(0))
        runtime.advance(30)
        probe = bus.publish(Step(1))
        await asyncio.sleep(0)
        assert tasks[0] is not None
        tasks[0].cancel()
        assert isinstance((await probe).errors[0], asyncio.CancelledError)
        assert (await bus.publish(Step(2))).errors == ()

    bus.subscribe(Step, handle, breaker=Breaker(failures=1))
    asyncio.run(main())
    assert calls == [0, 1, 2]


# With other policies.


def test_an_attempt_that_is_skipped_is_tried_again_later(
    bus: Bus, records: list[Record], runtime: VirtualRuntime
) -> None:
    """With a retry, an open breaker is a failure like others: it costs an attempt."""
    calls = list[int]()

    def handle(step: Step, context: Context) -> None:
        calls.append(context.attempt)
        if len(calls) == 1:
            raise LookupError

    backoff = Backoff(initial=20, factor=1, jitter=False)
    retry = Retry(max_attempts=3, backoff=backoff)
    bus.subscribe(Step, handle, breaker=Breaker(failures=1, cooldown=30), retry=retry)
    receipt = bus.publish(Step())
    runtime.advance(20)  # Still open: skipped.
    runtime.advance(20)
    bus.idle(PATIENCE)
    assert calls == [1, 3]
    errors = [type(record.error) for record in records if isinstance(record, Retried)]
    assert errors == [LookupError, BreakerOpen]
    assert receipt.errors == ()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_pause_held_back_is_skipped_too(
    bus: Bus, pool: ThreadPoolExecutor, kind: str
) -> None:
    """An open breaker is open for what comes late, one after the other."""
    flaky = Flaky()
    subscribe(bus, kind, pool, flaky, **({} if kind == "inline" else {"concurrency": 1}))
    (subscription,) = bus._registry
    subscription.pause()
    receipts = [bus.publish(Step(number)) for number in range(4)]
    subscription.resume()
    bus.idle(PATIENCE)
    assert len(flaky.calls) == 2
    assert sorted(len(receipt.errors) for receipt in receipts) == [1] * 4


@pytest.mark.parametrize("kind", ["inline", "async"])
def test_a_replier_has_a_breaker_as_well(bus: Bus, kind: str) -> None:
    """Whoever asks while it is open hears so at once."""
    calls = list[int]()

    def reply(step: Step) -> None:
        calls.append(step.number)
        raise LookupError

    async def reply_async(step: Step) -> None:
        reply(step)

    async def main() -> None:
        for number in range(4):
            with pytest.raises(RemoteError) as raised:
                await bus.request(Step(number), timeout=PATIENCE)
            kinds.append(raised.value.kind)

    kinds = list[str]()
    replier: Callable[[Step], Awaitable[None] | None] = reply_async if kind == "async" else reply
    bus.reply(Step, breaker=BREAKER)(replier)
    asyncio.run(main())
    assert kinds == ["LookupError", "LookupError", "BreakerOpen", "BreakerOpen"]
    assert calls == [0, 1]


def test_sixteen_threads_and_one_inline_breaker(bus: Bus) -> None:
    """It counts right: no more calls than threads were inside when it opened."""
    calls, skips = list[int](), list[int]()
    together = threading.Barrier(16)

    def handle(step: Step) -> None:
        calls.append(step.number)
        raise LookupError

    def publish_many(number: int) -> None:
        together.wait(PATIENCE)
        for _ in range(50):
            with suppress(LookupError):
                errors = bus.publish(Step(number)).errors
                skips.extend(1 for error in errors if isinstance(error, BreakerOpen))

    bus.subscribe(Step, handle, breaker=Breaker(failures=5, cooldown=30))
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(publish_many, range(16)))
    assert 5 <= len(calls) <= 20
    assert len(calls) + len(skips) == 16 * 50
