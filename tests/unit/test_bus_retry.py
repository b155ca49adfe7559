"""Retries on a direct bus, in virtual time: what is tried again, when, and who waits meanwhile."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from headwater import Backoff, Bus, Context, Reject, Retry, RetryLater, event
from headwater.errors import Abandonment
from headwater.records import Abandoned, Deferred, Failed, Handled, Record, Retried
from headwater.runtime import Timer
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""

KINDS = ["async", "thread", "executor"]
STEADY = Backoff(initial=1, factor=2, jitter=False)

R = TypeVar("R", bound=Record)


@event(key="key")
@dataclass(frozen=True)
class Step:
    key: str | None = None
    number: int = 0


class Clock(VirtualRuntime):
    """A clock that tells when a timer was set."""

    def __init__(self, draws: tuple[float, ...] = (0.0,)) -> None:
        super().__init__(draws=draws)
        self.set = threading.Event()

    def call_at(self, when: float, *args: Any, **options: Any) -> Timer:
        """Set a timer."""
        timer = super().call_at(when, *args, **options)
        self.set.set()
        return timer


class Seen:
    """The records of a bus, which a test may wait for."""

    def __init__(self, bus: Bus, runtime: Clock) -> None:
        self.records = list[Record]()
        self._runtime = runtime
        self._changed = threading.Condition()
        bus.observe(self._note)

    def _note(self, record: Record) -> None:
        with self._changed:
            self.records.append(record)
            self._changed.notify_all()

    def of(self, kind: type[R]) -> list[R]:
        """The records of one kind so far."""
        return [record for record in self.records if isinstance(record, kind)]

    def wait(self, kind: type[R], number: int) -> R:
        """A record of one kind, by its number; if it is of a retry, when its timer is set."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(kind)) >= number, PATIENCE)
        if kind is Retried:
            assert self._runtime.set.wait(PATIENCE)
            self._runtime.set.clear()
        return self.of(kind)[number - 1]


@pytest.fixture
def runtime() -> Clock:
    """The clock of `bus`."""
    return Clock()


@pytest.fixture
def bus(runtime: Clock) -> Iterator[Bus]:
    """A bus in virtual time, which does not wait for what a test left behind."""
    bus = Bus(runtime=runtime)
    yield bus
    bus.stop(0)


@pytest.fixture
def seen(bus: Bus, runtime: Clock) -> Seen:
    """What happens on `bus`."""
    return Seen(bus, runtime)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """An executor of the user."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def subscribe(
    bus: Bus,
    kind: str,
    pool: ThreadPoolExecutor,
    work: Callable[[Step, Context], object],
    **options: Any,
) -> None:
    """Have `work` called in a handler of some kind."""

    async def handle(step: Step, context: Context) -> None:
        work(step, context)

    if kind == "async":
        bus.subscribe(Step, handle, **options)
    else:
        where: Any = {"executor": pool, "inline": None}.get(kind, kind)
        bus.subscribe(Step, work, executor=where, **options)


def failing(times: int, error: type[Exception] = LookupError) -> Callable[[Step, Context], None]:
    """A handler that fails so many times."""

    def handle(step: Step, context: Context) -> None:
        if context.attempt <= times:
            raise error(f"attempt {context.attempt}")

    return handle


# Attempts.


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_attempt_is_made_again_after_the_backoff(
    bus: Bus, seen: Seen, runtime: Clock, pool: ThreadPoolExecutor, kind: str
) -> None:
    """The receipt is done meanwhile, and the second attempt, in time and not before, succeeds."""
    subscribe(bus, kind, pool, failing(1), retry=Retry(backoff=STEADY))
    receipt = bus.publish(Step())
    assert (receipt.done, receipt.deferred, receipt.errors) == (True, 1, ())
    runtime.advance(0.999)
    assert len(bus._unfinished) == 1
    runtime.advance(0.001)
    bus.idle(PATIENCE)
    assert receipt.errors == ()
    assert seen.wait(Handled, 1).attempt == 2
    assert runtime.waiting == []


@pytest.mark.parametrize("kind", KINDS)
def test_attempts_are_counted_from_one_to_max_attempts(
    bus: Bus, seen: Seen, runtime: Clock, pool: ThreadPoolExecutor, kind: str
) -> None:
    """The first try is one of them; after the last one the error is on the receipt."""
    attempts = list[int]()

    def handle(step: Step, context: Context) -> None:
        attempts.append(context.attempt)
        raise LookupError(context.attempt)

    subscribe(bus, kind, pool, handle, retry=Retry(max_attempts=4, backoff=STEADY))
    receipt = bus.publish(Step())
    for number in (1, 2, 3):
        assert seen.wait(Retried, number).attempt == number
        assert receipt.errors == ()
        runtime.advance(2 ** (number - 1))
    bus.idle(PATIENCE)
    assert attempts == [1, 2, 3, 4]
    (error,) = receipt.errors
    assert error.args == (4,)
    (failed,) = seen.of(Failed)
    assert (failed.attempt, failed.error) == (4, error)


def test_the_backoff_grows(bus: Bus, seen: Seen, runtime: Clock) -> None:
    """Each wait is longer than the one before, up to the maximum."""
    backoff = Backoff(initial=1, factor=2, maximum=5, jitter=False)
    bus.subscribe(Step, failing(9), retry=Retry(max_attempts=6, backoff=backoff))
    bus.publish(Step())
    for number, delay in enumerate((1, 2, 4, 5, 5), 1):
        record = seen.wait(Retried, number)
        assert record.delay == delay
        assert runtime.waiting == [runtime.monotonic() + delay]
        runtime.advance(delay)
    bus.idle(PATIENCE)


def test_jitter_is_drawn_by_the_runtime() -> None:
    """A draw of 0.75 leaves a quarter of the longest wait."""
    runtime = Clock(draws=(0.75, 0.5))
    with Bus(runtime=runtime) as bus:
        seen = Seen(bus, runtime)
        bus.subscribe(Step, failing(2), retry=Retry(backoff=Backoff(initial=1, factor=1)))
        bus.publish(Step())
        for number, delay in ((1, 0.25), (2, 0.5)):
            assert seen.wait(Retried, number).delay == delay
            runtime.advance(delay)
        bus.idle(PATIENCE)


def test_a_retry_without_backoff_comes_at_once(bus: Bus, runtime: Clock) -> None:
    """By way of a timer that is due already."""
    attempts = list[int]()

    def handle(step: Step, context: Context) -> None:
        attempts.append(context.attempt)
        failing(1)(step, context)

    bus.subscribe(Step, handle, retry=Retry(backoff=Backoff(initial=0)))
    bus.publish(Step())
    runtime.advance(0)
    bus.idle(PATIENCE)
    assert attempts == [1, 2]


def test_one_attempt_is_no_retry(bus: Bus, seen: Seen) -> None:
    """With max_attempts=1 the first failure is the last."""
    bus.subscribe(Step, failing(1), retry=Retry(max_attempts=1))
    receipt = bus.publish(Step())
    assert (len(receipt.errors), receipt.deferred) == (1, 0)
    assert seen.of(Retried) == []


def test_only_the_handler_that_failed_is_tried_again(bus: Bus, runtime: Clock) -> None:
    """Its neighbours have handled the event."""
    calls = list[str]()

    def handle(step: Step, context: Context) -> None:
        calls.append(f"failing {context.attempt}")
        failing(1)(step, context)

    bus.subscribe(Step, lambda step: calls.append("before"))
    bus.subscribe(Step, handle, retry=Retry(backoff=STEADY))
    bus.subscribe(Step, lambda step: calls.append("after"))
    bus.publish(Step())
    runtime.advance(1)
    bus.idle(PATIENCE)
    assert sorted(calls) == ["after", "before", "failing 1", "failing 2"]


def test_every_attempt_has_a_context_of_its_own(bus: Bus, runtime: Clock) -> None:
    """What middleware left for the first one is gone; the event is the same."""
    contexts = list[tuple[str, int, list[str]]]()

    @bus.middleware
    def around(step: Step, context: Context) -> Iterator[None]:
        context.state[f"attempt {context.attempt}"] = True
        yield

    def handle(step: Step, context: Context) -> None:
        contexts.append((context.event_id, context.attempt, list(context.state)))
        failing(1)(step, context)

    bus.subscribe(Step, handle, retry=Retry(backoff=STEADY))
    bus.publish(Step(), id="e1")
    runtime.advance(1)
    bus.idle(PATIENCE)
    assert contexts == [("e1", 1, ["attempt 1"]), ("e1", 2, ["attempt 2"])]


def test_records_and_log_lines_of_a_retry(
    bus: Bus, seen: Seen, runtime: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """An attempt that is followed by another one is information, the last failure is an error."""
    caplog.set_level(logging.INFO, "headwater")
    bus.subscribe(Step, failing(2), retry=Retry(max_attempts=2, backoff=STEADY), name="steps")
    receipt = bus.publish(Step())
    runtime.advance(1)
    bus.idle(PATIENCE)
    (retried,), (deferred,) = seen.of(Retried), seen.of(Deferred)
    assert (retried.subscription, retried.attempt, retried.delay) == ("steps", 1, 1)
    assert isinstance(retried.error, LookupError)
    assert (deferred.subscription, deferred.reason) == ("steps", "retry")
    assert retried.event_id == deferred.event_id == seen.of(Failed)[0].event_id
    assert [(line.levelname, line.getMessage().split()[0]) for line in caplog.records] == [
        ("INFO", "handler_retried"),
        ("ERROR", "handler_failed"),
    ]
    assert len(receipt.errors) == 1


def test_on_error_raise_raises_the_last_failure(runtime: Clock) -> None:
    """Nobody waits for it any more, so that idle raises it; earlier attempts raise nothing."""
    bus = Bus(runtime=runtime, on_error="raise")
    bus.subscribe(Step, failing(2), retry=Retry(max_attempts=2, backoff=STEADY))
    bus.publish(Step())
    runtime.advance(1)
    with pytest.raises(ExceptionGroup) as raised:
        bus.idle(PATIENCE)
    assert [str(error) for error in raised.value.exceptions] == ["attempt 2"]
    bus.close()


def test_a_retry_on_a_loop(bus: Bus, runtime: Clock) -> None:
    """An async handler is tried again on the publisher's loop."""
    loops = list[asyncio.AbstractEventLoop]()

    async def handle(step: Step, context: Context) -> None:
        loops.append(asyncio.get_running_loop())
        failing(1)(step, context)

    async def main() -> None:
        receipt = await bus.publish(Step())
        assert receipt.deferred == 1
        runtime.advance(1)
        await bus.idle(PATIENCE)
        assert loops == [asyncio.get_running_loop()] * 2

    bus.subscribe(Step, handle, retry=Retry(backoff=STEADY))
    asyncio.run(main())


def test_a_retry_after_the_publishers_loop_has_ended(bus: Bus, runtime: Clock) -> None:
    """The bus's own loop takes over."""
    threads = list[str]()

    async def handle(step: Step, context: Context) -> None:
        threads.append(threading.current_thread().name)
        failing(1)(step, context)

    async def main() -> None:
        await bus.publish(Step())

    bus.subscribe(Step, handle, retry=Retry(backoff=STEADY))
    asyncio.run(main())
    runtime.advance(1)
    bus.idle(PATIENCE)
    assert threads == [threading.current_thread().name, "headwater-loop"]


def test_a_retry_in_real_time() -> None:
    """Without a clock of the test's, the timers are real."""
    attempts = list[int]()

    def handle(step: Step, context: Context) -> None:
        attempts.append(context.attempt)
        failing(2)(step, context)

    with Bus() as bus:
        bus.subscribe(Step, handle, retry=Retry(backoff=Backoff(initial=0.001)))
        bus.publish(Step())
        bus.idle(PATIENCE)
    assert attempts == [1, 2, 3]


# What is tried again.


@pytest.mark.parametrize(
    ("retry", "again"),
    [
        (Retry(backoff=STEADY), True),
        (Retry(backoff=STEADY, on=KeyError), True),
        (Retry(backoff=STEADY, on=(ValueError, LookupError)), True),
        (Retry(backoff=STEADY, on=ValueError), False),
        (Retry(backoff=STEADY, give_up_on=LookupError), False),
        (Retry(backoff=STEADY, on=LookupError, give_up_on=(ValueError, KeyError)), False),
    ],
)
def test_on_and_give_up_on_say_which_errors_are_worth_it(
    bus: Bus,
    seen: Seen,
    retry: Retry,
    again: bool,  # noqa: FBT001 -- a parameter of pytest
) -> None:
    """The handler raises a KeyError."""
    bus.subscribe(Step, failing(9, KeyError), retry=retry)
    receipt = bus.publish(Step())
    assert (len(receipt.errors), receipt.deferred) == ((0, 1) if again else (1, 0))
    assert len(seen.of(Retried)) == (1 if again else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_reject_gives_up_at_once(
    bus: Bus, seen: Seen, pool: ThreadPoolExecutor, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is on the receipt, with its reason, and no traceback is logged."""

    def handle(step: Step, context: Context) -> None:
        raise Reject("no such item")

    subscribe(bus, kind, pool, handle, retry=Retry())
    (error,) = bus.publish(Step()).errors
    assert isinstance(error, Reject)
    assert error.reason == "no such item"
    bus.idle(PATIENCE)
    assert seen.of(Retried) == []
    assert seen.wait(Failed, 1).error is error
    (line,) = caplog.records
    assert (line.levelname, line.exc_info) == ("WARNING", None)


def test_a_cancelled_handler_is_not_tried_again(bus: Bus, seen: Seen) -> None:
    """Whoever cancels means it; the receipt is done, with the cancellation as a failure."""

    async def handle(step: Step) -> None:
        raise asyncio.CancelledError

    bus.subscribe(Step, handle, retry=Retry())
    (error,) = bus.publish(Step()).errors
    assert isinstance(error, asyncio.CancelledError)
    bus.idle(PATIENCE)
    assert seen.of(Retried) == []


# Keys.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("concurrency", [None, 1])
def test_a_retry_holds_its_own_key_only(
    bus: Bus,
    runtime: Clock,
    pool: ThreadPoolExecutor,
    kind: str,
    concurrency: int | None,
) -> None:
    """Other keys go on during the backoff; its own waits, and keeps its order."""
    handled = list[tuple[str | None, int]]()

    def handle(step: Step, context: Context) -> None:
        if step == Step("a", 1):
            failing(1)(step, context)
        handled.append((step.key, step.number))

    subscribe(bus, kind, pool, handle, retry=Retry(backoff=STEADY), concurrency=concurrency)
    receipts = [bus.publish(Step(key, number)) for number in (1, 2, 3) for key in ("a", "b", None)]
    assert all(receipt.done for receipt in receipts)
    assert [receipt.deferred for receipt in receipts] == [1, 0, 0] * 3
    assert handled == [(key, number) for number in (1, 2, 3) for key in ("b", None)]
    runtime.advance(1)
    bus.idle(PATIENCE)
    assert handled[6:] == [("a", 1), ("a", 2), ("a", 3)]


def test_a_key_goes_on_after_the_last_attempt(bus: Bus, runtime: Clock) -> None:
    """An event that is given up does not block those behind it."""
    handled = list[int]()

    def handle(step: Step, context: Context) -> None:
        if step.number == 1:
            raise LookupError
        handled.append(step.number)

    bus.subscribe(Step, handle, retry=Retry(max_attempts=2, backoff=STEADY))
    bus.publish(Step("a", 1))
    bus.publish(Step("a", 2))
    assert handled == []
    runtime.advance(1)
    bus.idle(PATIENCE)
    assert handled == [2]


# Later.


@pytest.mark.parametrize("kind", ["inline", *KINDS, "pump"])
@pytest.mark.parametrize("retry", [None, Retry(max_attempts=2, backoff=STEADY)])
def test_retry_later_costs_no_attempt(
    bus: Bus,
    seen: Seen,
    runtime: Clock,
    pool: ThreadPoolExecutor,
    kind: str,
    retry: Retry | None,
) -> None:
    """With a retry policy or without: it comes again after its own delay, as often as it asks."""
    attempts = list[int]()

    def handle(step: Step, context: Context) -> None:
        attempts.append(context.attempt)
        if len(attempts) < 4:
            raise RetryLater(timedelta(seconds=30))

    subscribe(bus, kind, pool, handle, retry=None if kind == "inline" else retry)
    receipt = bus.publish(Step())
    for number in (1, 2, 3):
        bus.pump()
        assert seen.wait(Retried, number).delay == 30
        runtime.advance(29)
        bus.pump()
        assert len(attempts) == number
        runtime.advance(1)
    bus.pump()
    bus.idle(PATIENCE)
    assert attempts == [1, 1, 1, 1]
    assert (receipt.errors, receipt.deferred) == ((), 1)
    assert seen.wait(Handled, 1).attempt == 1


def test_failures_count_beside_retry_later(bus: Bus, seen: Seen, runtime: Clock) -> None:
    """Two attempts are two failures, however often the handler asked for later in between."""
    calls = list[int]()

    def handle(step: Step, context: Context) -> None:
        calls.append(context.attempt)
        if len(calls) % 2:
            raise RetryLater(1)
        raise LookupError

    bus.subscribe(Step, handle, retry=Retry(max_attempts=2, backoff=STEADY))
    receipt = bus.publish(Step())
    for number in (1, 2, 3):
        seen.wait(Retried, number)
        runtime.advance(1)
    bus.idle(PATIENCE)
    assert calls == [1, 1, 2, 2]
    assert len(receipt.errors) == 1


def test_an_inline_handler_that_asks_for_later_is_called_in_a_worker_then(
    bus: Bus, runtime: Clock
) -> None:
    """Its publisher has gone on, and its neighbours have handled the event."""
    calls = list[str]()

    def handle(step: Step) -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 1:
            raise RetryLater(1)

    bus.subscribe(Step, handle)
    bus.subscribe(Step, lambda step: calls.append("neighbour"))
    receipt = bus.publish(Step())
    assert (receipt.done, receipt.deferred) == (True, 1)
    runtime.advance(1)
    bus.idle(PATIENCE)
    assert calls == [threading.current_thread().name, "neighbour", "headwater-worker"]


def test_retry_later_holds_its_key(bus: Bus, runtime: Clock) -> None:
    """As a retry does."""
    handled = list[int]()

    def handle(step: Step, context: Context) -> None:
        if step.number == 1 and not handled and runtime.monotonic() < 5:
            raise RetryLater(5)
        handled.append(step.number)

    bus.subscribe(Step, handle, executor="thread")
    bus.publish(Step("a", 1))
    bus.publish(Step("a", 2))
    bus.publish(Step("b", 3))
    assert handled == [3]
    runtime.advance(5)
    bus.idle(PATIENCE)
    assert handled == [3, 1, 2]


# Ends.


def test_closing_a_subscription_gives_up_on_its_retries(
    bus: Bus, seen: Seen, runtime: Clock
) -> None:
    """Closed is not called any more, for this event either; that is recorded."""
    calls = list[int]()

    def handle(step: Step, context: Context) -> None:
        calls.append(context.attempt)
        raise LookupError

    subscription = bus.subscribe(Step, handle, retry=Retry(backoff=STEADY))
    receipt = bus.publish(Step())
    subscription.close()
    runtime.advance(1)
    bus.idle(PATIENCE)
    assert calls == [1]
    assert isinstance(receipt.errors[0], Abandonment)
    assert [record.reason for record in seen.of(Abandoned)] == ["closed"]


def test_once_is_one_event_and_all_its_attempts(bus: Bus, runtime: Clock) -> None:
    """The subscription is closed at its first event, which is still retried."""
    calls = list[tuple[int, int]]()

    def handle(step: Step, context: Context) -> None:
        calls.append((step.number, context.attempt))
        failing(1)(step, context)

    bus.subscribe(Step, handle, once=True, retry=Retry(backoff=STEADY))
    bus.publish(Step(None, 1))
    bus.publish(Step(None, 2))
    runtime.advance(1)
    bus.idle(PATIENCE)
    assert calls == [(1, 1), (1, 2)]


def test_a_weak_owner_that_dies_during_the_backoff_is_not_called(bus: Bus, runtime: Clock) -> None:
    """It vanishes without an error."""
    calls = list[int]()

    class Owner:
        def handle(self, step: Step, context: Context) -> None:
            calls.append(context.attempt)
            raise LookupError

    owner = Owner()
    bus.subscribe(Step, owner.handle, weak=True, retry=Retry(backoff=STEADY))
    receipt = bus.publish(Step())
    del owner
    gc.collect()
    runtime.advance(1)
    bus.idle(PATIENCE)
    assert calls == [1]
    assert receipt.errors == ()
