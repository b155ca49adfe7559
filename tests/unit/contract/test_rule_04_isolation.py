"""Rule 4, isolation: a handler's failure is its own; who wants it raised says so.

Failures are logged with their traceback, shown to observers and put on the receipt, and nobody
else suffers. What is no `Exception` is never swallowed: it is on the receipt, and it is raised.
"""

import asyncio
import functools
import gc
import logging
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from headwater import Bus, Context, Receipt, event
from headwater.records import Failed, Handled, Record

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


def fail(event: object) -> None:
    """A handler that fails."""
    raise ValueError("out of stock")


async def fail_async(event: object) -> None:
    """One that fails after a turn of its loop."""
    await asyncio.sleep(0)
    raise ValueError("out of stock")


COLOURS = ["inline", "observed", "async", "awaitable", "thread", "pool", "pump"]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """An executor of the user's own."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


def subscribe(bus: Bus, colour: str, pool: Any, handler: Callable[[Any], Any]) -> None:
    """Subscribe a sync handler in one of the `COLOURS`."""

    async def handle(event: object) -> None:
        await asyncio.sleep(0)
        handler(event)

    if colour == "observed":
        bus.observe(lambda record: None)
    if colour in ("inline", "observed"):
        bus.subscribe(Placed, handler)
    elif colour == "async":
        bus.subscribe(Placed, handle)
    elif colour == "awaitable":

        def returns_awaitable(event: object) -> Awaitable[None]:
            return handle(event)

        bus.subscribe(Placed, returns_awaitable)
    else:
        bus.subscribe(Placed, handler, executor=pool if colour == "pool" else colour)  # type: ignore[arg-type]


def finish(bus: Bus) -> None:
    """Let all that was published be handled."""
    bus.pump()
    bus.idle(PATIENCE)


def note(seen: list[str], name: str, event: object) -> None:
    """With its first two arguments, a handler that leaves a name."""
    seen.append(name)


# One failure is one failure.


@pytest.mark.parametrize("colour", COLOURS)
def test_a_failing_handler_stops_neither_the_others_nor_the_publisher(
    colour: str, pool: ThreadPoolExecutor
) -> None:
    """Before it, between failures and after: every other handler gets every event."""
    with Bus() as bus:
        seen: list[list[object]] = [[], [], []]
        subscribe(bus, colour, pool, seen[0].append)
        subscribe(bus, colour, pool, fail)
        subscribe(bus, colour, pool, seen[1].append)
        subscribe(bus, colour, pool, fail)
        subscribe(bus, colour, pool, seen[2].append)
        for number in range(3):
            receipt = bus.publish(Placed(number))
            finish(bus)
            assert [type(error) for error in receipt.errors] == [ValueError, ValueError]
    assert seen == [[Placed(0), Placed(1), Placed(2)]] * 3


@pytest.mark.parametrize("colour", COLOURS)
def test_a_failure_does_not_cross_colours(colour: str, pool: ThreadPoolExecutor) -> None:
    """Handlers of all other colours are called all the same."""
    with Bus() as bus:
        seen = list[str]()
        subscribe(bus, colour, pool, fail)
        for other in COLOURS:
            subscribe(bus, other, pool, functools.partial(note, seen, other))
        bus.publish(Placed())
        finish(bus)
    assert sorted(seen) == sorted(COLOURS)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_failure_is_logged_with_its_traceback_and_where_it_happened(
    colour: str, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """One line of level ERROR: the event, its id, the handler, its file and line; and how."""
    with Bus() as bus:
        subscribe(bus, colour, pool, fail)
        bus.publish(Placed())
        finish(bus)
    (line,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert (line.name, line.levelno) == ("headwater", logging.ERROR)
    message = line.getMessage()
    assert message.startswith("handler_failed event=Placed id=")
    assert __file__ in message
    assert "ValueError('out of stock')" in message
    assert line.exc_info
    assert "raise ValueError" in "".join(traceback.format_exception(line.exc_info[1]))


@pytest.mark.parametrize("colour", COLOURS)
def test_a_failure_is_observed(colour: str, pool: ThreadPoolExecutor) -> None:
    """As a record that holds the very error, beside the records of those that succeeded."""
    with Bus() as bus:
        seen = list[Record]()
        bus.observe(seen.append)
        subscribe(bus, colour, pool, fail)
        subscribe(bus, colour, pool, lambda placed: None)
        receipt = bus.publish(Placed())
        finish(bus)
    (failed,) = (record for record in seen if isinstance(record, Failed))
    assert (failed.error,) == receipt.errors
    assert (failed.name, failed.attempt) == ("Placed", 1)
    assert sum(isinstance(record, Handled) for record in seen) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_an_error_keeps_its_traceback_and_says_which_handler_failed_on_what(
    colour: str, pool: ThreadPoolExecutor
) -> None:
    """Whoever takes it from the receipt sees the line that raised, and a note on the rest."""
    with Bus() as bus:
        subscribe(bus, colour, pool, fail)
        receipt = bus.publish(Placed(), id="event-1")
        finish(bus)
    (error,) = receipt.errors
    assert "fail" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    (note,) = error.__notes__
    assert __file__ in note
    assert note.endswith("handled Placed event-1")


def test_one_error_raised_by_two_handlers_is_two_failures() -> None:
    """Even if it is the same object."""
    error = ValueError("shared")

    def fail(placed: Placed) -> None:
        raise error

    bus = Bus()
    bus.subscribe(Placed, fail)
    bus.subscribe(Placed, fail)
    assert bus.publish(Placed()).errors == (error, error)


def test_failures_of_many_threads_at_one_moment_are_all_on_the_receipt() -> None:
    """None of them is lost to another one that was written at the same time."""
    together = threading.Barrier(8)

    def fail_together(placed: Placed) -> None:
        together.wait(PATIENCE)
        raise ValueError(placed)

    with Bus(max_workers=8) as bus:
        for _ in range(8):
            bus.subscribe(Placed, fail_together, executor="thread")
        for number in range(20):
            assert len(bus.publish(Placed(number)).errors) == 8


@pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration(), RecursionError()])
@pytest.mark.parametrize("colour", COLOURS)
def test_an_exception_that_means_something_to_python_is_a_failure_like_any_other(
    colour: str, error: Exception, pool: ThreadPoolExecutor
) -> None:
    """None of them ends the loop over the handlers; Python wraps some of them in coroutines."""

    def fail(placed: Placed) -> None:
        raise error

    with Bus() as bus:
        seen = list[object]()
        subscribe(bus, colour, pool, fail)
        subscribe(bus, colour, pool, seen.append)
        receipt = bus.publish(Placed())
        finish(bus)
    assert seen == [Placed()]
    assert len(receipt.errors) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_a_condition_that_fails_is_a_failure_of_its_handler(
    colour: str, pool: ThreadPoolExecutor
) -> None:
    """The handler is not called, and the others are."""
    with Bus() as bus:
        seen = list[str]()
        where: Any = {"inline": "inline", "pool": pool, "thread": "thread", "pump": "pump"}
        bus.subscribe(
            Placed,
            lambda placed: seen.append("failing"),
            where=lambda placed: 1 // placed.number == 1,
            executor=where.get(colour),
        )
        subscribe(bus, colour, pool, lambda placed: seen.append("other"))
        receipt = bus.publish(Placed(0))
        finish(bus)
    assert seen == ["other"]
    assert [type(error) for error in receipt.errors] == [ZeroDivisionError]


def test_a_nested_publish_does_not_fail_because_a_handler_of_its_did() -> None:
    """The failure is on the inner receipt; the outer handler goes on."""
    bus, inner = Bus(), list[Receipt]()
    bus.subscribe(Placed, lambda placed: inner.append(bus.publish(Paid())))
    bus.subscribe(Paid, fail)
    assert bus.publish(Placed()).errors == ()
    assert [type(error) for error in inner[0].errors] == [ValueError]


def test_an_observer_that_fails_is_nobody_elses_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the handlers, the other observers and the publisher go on."""
    bus, seen, records = Bus(), list[object](), list[Record]()

    @bus.observe
    def broken(record: Record) -> None:
        raise LookupError

    bus.observe(records.append)
    bus.subscribe(Placed, seen.append)
    receipt = bus.publish(Placed())
    assert (receipt.errors, seen) == ((), [Placed()])
    assert [type(record).__name__ for record in records] == ["Published", "Handled"]
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("colour", ["async", "awaitable", "thread"])
def test_what_runs_handlers_survives_their_failures(colour: str) -> None:
    """The bus's loop and its workers: the same thread goes on after a hundred failures."""
    with Bus(max_workers=1) as bus:
        threads = set[int | None]()

        def fail(placed: Placed) -> None:
            threads.add(threading.get_ident())
            raise ValueError

        subscribe(bus, colour, None, fail)
        for number in range(100):
            assert len(bus.publish(Placed(number)).errors) == 1
    assert len(threads) == 1


# on_error="raise".


def test_raise_all_run_and_then_one_group_has_all_failures() -> None:
    """In sync code at publish: whatever the colours, the last handler has run before."""
    with ThreadPoolExecutor(2) as pool, Bus(on_error="raise") as bus:
        seen = list[object]()
        for colour in ("inline", "async", "thread", "pool"):
            subscribe(bus, colour, pool, fail)
        bus.subscribe(Placed, seen.append)
        bus.subscribe(Placed, seen.append, executor="thread")
        failures = list[BaseException]()
        try:
            bus.publish(Placed())
        except* ValueError as group:
            failures.extend(group.exceptions)
        # What had failed when publish was to return was raised there; the rest is for idle().
        try:
            bus.idle(PATIENCE)
        except* ValueError as group:
            failures.extend(group.exceptions)
        assert len(failures) == 4
        assert seen == [Placed(), Placed()]


def test_raise_what_fails_inline_raises_at_publish() -> None:
    """One ExceptionGroup of all, in the order of failing, after the last handler."""
    bus, seen = Bus(on_error="raise"), list[object]()

    def fail_differently(placed: Placed) -> None:
        raise KeyError(placed.number)

    bus.subscribe(Placed, fail)
    bus.subscribe(Placed, fail_differently)
    bus.subscribe(Placed, seen.append)
    with pytest.raises(ExceptionGroup) as caught:
        bus.publish(Placed())
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]
    assert seen == [Placed()]
    bus.idle(PATIENCE)


@pytest.mark.parametrize("colour", ["async", "awaitable", "thread", "pool"])
def test_raise_in_sync_code_publish_raises_what_failed_elsewhere(
    colour: str, pool: ThreadPoolExecutor
) -> None:
    """It has waited for it."""
    with Bus(on_error="raise") as bus:
        subscribe(bus, colour, pool, fail)
        with pytest.raises(ExceptionGroup) as caught:
            bus.publish(Placed())
        assert len(caught.value.exceptions) == 1


def test_raise_what_fails_inline_raises_at_publish_on_a_loop_too() -> None:
    """And what is not finished then goes on."""

    async def main() -> None:
        async def handle(placed: Placed) -> None:
            await asyncio.sleep(0)
            seen.append(placed)

        bus.subscribe(Placed, handle)
        bus.subscribe(Placed, fail)
        bus.subscribe(Placed, handle)
        with pytest.raises(ExceptionGroup):
            bus.publish(Placed())
        await bus.idle(PATIENCE)
        assert seen == [Placed(), Placed()]

    bus, seen = Bus(on_error="raise"), list[object]()
    asyncio.run(main())


@pytest.mark.parametrize("colour", ["async", "awaitable", "thread", "pool"])
def test_raise_what_fails_later_raises_where_the_receipt_is_awaited(
    colour: str, pool: ThreadPoolExecutor
) -> None:
    """Once: who awaits again, waits until the bus is idle or leaves it, gets nothing more."""

    async def main() -> None:
        async with Bus(on_error="raise") as bus:
            gate = threading.Event()

            def fail_at_the_gate(placed: Placed) -> None:
                assert gate.wait(PATIENCE)
                raise ValueError(placed)

            handler = fail if colour in ("async", "awaitable") else fail_at_the_gate
            subscribe(bus, colour, pool, handler)
            receipt = bus.publish(Placed())
            gate.set()
            with pytest.raises(ExceptionGroup) as caught:
                await receipt
            assert caught.value.exceptions == receipt.errors
            assert await receipt is receipt
            await bus.idle(PATIENCE)

    asyncio.run(main())


def test_raise_what_fails_later_raises_where_a_thread_waits_for_the_receipt() -> None:
    """In the thread that waits."""

    async def main() -> None:
        def wait() -> None:
            with pytest.raises(ExceptionGroup):
                receipt.wait(PATIENCE)

        bus.subscribe(Placed, fail_async)
        receipt = bus.publish(Placed())
        await asyncio.to_thread(wait)
        await bus.idle(PATIENCE)

    bus = Bus(on_error="raise")
    asyncio.run(main())


def test_raise_what_nobody_collected_raises_from_idle() -> None:
    """All of it in one group, once; the receipts have nothing left to raise."""

    async def main() -> None:
        for _ in range(2):
            bus.subscribe(Placed, fail_async)
        receipts = [bus.publish(Placed(number)) for number in range(3)]
        with pytest.raises(ExceptionGroup) as caught:
            await bus.idle(PATIENCE)
        assert len(caught.value.exceptions) == 6
        await bus.idle(PATIENCE)
        for receipt in receipts:
            assert len((await receipt).errors) == 2

    bus = Bus(on_error="raise")
    asyncio.run(main())


def test_raise_what_nobody_collected_raises_from_idle_in_sync_code() -> None:
    """What failed in a pump was on nobody's way back."""
    bus = Bus(on_error="raise")
    bus.subscribe(Placed, fail, executor="pump")
    bus.publish(Placed())
    bus.pump()
    with pytest.raises(ExceptionGroup):
        bus.idle(PATIENCE)
    bus.idle(PATIENCE)


def test_raise_what_nobody_collected_raises_on_leaving_the_bus() -> None:
    """`async with` ends when all is finished, with what has failed."""

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  leaving is what raises
            async with Bus(on_error="raise") as bus:
                bus.subscribe(Placed, fail_async)
                bus.publish(Placed(1))
                bus.publish(Placed(2))
        assert len(caught.value.exceptions) == 2

    asyncio.run(main())


@pytest.mark.parametrize("leave", ["with", "stop", "close"])
def test_raise_what_nobody_collected_raises_on_leaving_the_bus_in_sync_code(leave: str) -> None:
    """So do `with`, `stop` and `close`; the pump runs once more before."""
    bus = Bus(on_error="raise")
    bus.subscribe(Placed, fail, executor="pump")
    bus.publish(Placed())
    with pytest.raises(ExceptionGroup):
        bus.__exit__() if leave == "with" else getattr(bus, leave)()
    bus.stop()


def test_raise_a_receipt_that_is_dropped_keeps_its_errors_for_idle() -> None:
    """Fire and forget does not lose them."""

    async def main() -> None:
        bus.subscribe(Placed, fail_async)
        bus.publish(Placed())
        gc.collect()
        with pytest.raises(ExceptionGroup):
            await bus.idle(PATIENCE)

    bus = Bus(on_error="raise")
    asyncio.run(main())


def test_raise_a_nested_failure_is_raised_inside_the_handler_that_published() -> None:
    """It may catch it; if it does not, that is its own failure, with the inner group inside."""

    def catches(placed: Placed) -> None:
        with pytest.raises(ExceptionGroup):
            bus.publish(Paid())

    def does_not(placed: Placed) -> None:
        bus.publish(Paid())

    bus = Bus(on_error="raise")
    bus.subscribe(Placed, catches)
    bus.subscribe(Placed, does_not)
    bus.subscribe(Paid, fail)
    with pytest.raises(ExceptionGroup) as caught:
        bus.publish(Placed())
    (inner,) = caught.value.exceptions
    assert isinstance(inner, ExceptionGroup)
    assert [type(error) for error in inner.exceptions] == [ValueError]


def test_raise_failures_are_logged_and_observed_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Raising is beside isolation, not instead of it."""
    bus, records = Bus(on_error="raise"), list[Record]()
    bus.observe(records.append)
    bus.subscribe(Placed, fail)
    with pytest.raises(ExceptionGroup):
        bus.publish(Placed())
    assert [type(record) for record in records[1:]] == [Failed]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# on_error=function.

Decision = Literal["log", "raise", "ignore"]


def fail_with(error: Exception) -> Callable[[Placed], None]:
    """A handler that fails in a certain way."""

    def handler(placed: Placed) -> None:
        raise error

    return handler


def test_a_function_decides_about_each_failure(caplog: pytest.LogCaptureFixture) -> None:
    """One is raised, one is only logged, one not even that; all are on the receipt."""
    decisions: dict[type, Decision | None] = {
        ValueError: "raise",
        KeyError: "log",
        OSError: "ignore",
        LookupError: None,
    }
    bus, records = Bus(on_error=lambda error, context: decisions[type(error)]), list[Record]()
    bus.observe(records.append)
    for cls in decisions:
        bus.subscribe(Placed, fail_with(cls(cls.__name__)))
    with pytest.raises(ExceptionGroup) as caught:
        bus.publish(Placed())
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    logged = [type(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert logged == [ValueError, KeyError, LookupError]
    failed = [type(record.error) for record in records if isinstance(record, Failed)]
    assert failed == list(decisions)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_function_is_told_of_the_event_and_the_handler(
    colour: str, pool: ThreadPoolExecutor
) -> None:
    """By the context that the handler had, or could have had."""

    def decide(error: BaseException, context: Context) -> Decision:
        told.append((error, context))
        return "ignore"

    told = list[tuple[BaseException, Context]]()
    with Bus(on_error=decide) as bus:
        subscribe(bus, colour, pool, fail)
        receipt = bus.publish(Placed(), id="event-1", headers={"tenant": "t1"})
        finish(bus)
    ((error, context),) = told
    assert (error,) == receipt.errors
    assert (context.event_id, context.headers) == ("event-1", {"tenant": "t1"})
    assert (context.attempt, context.bus) == (1, bus)
    assert context.subscription is not None


def test_a_function_may_have_errors_raised_later() -> None:
    """Where they are collected, as with `on_error="raise"`."""

    async def main() -> None:
        bus.subscribe(Placed, fail_async)
        with pytest.raises(ExceptionGroup):
            await bus.publish(Placed())

    bus = Bus(on_error=lambda error, context: "raise")
    asyncio.run(main())


def decides_and_fails(error: BaseException, context: Context) -> Decision:
    """An `on_error` that fails itself."""
    raise RuntimeError("undecided")


def decides_nonsense(error: BaseException, context: Context) -> Any:
    """An `on_error` that gives none of the three answers."""
    return "explode"


@pytest.mark.parametrize("decide", [decides_and_fails, decides_nonsense])
def test_a_function_that_cannot_decide_has_the_failure_logged(
    decide: Callable[[BaseException, Context], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """And its own trouble too; neither reaches the publisher."""
    bus, seen = Bus(on_error=decide), list[object]()
    bus.subscribe(Placed, fail)
    bus.subscribe(Placed, seen.append)
    receipt = bus.publish(Placed())
    assert ([type(error) for error in receipt.errors], seen) == ([ValueError], [Placed()])
    messages = [record.getMessage().split()[0] for record in caplog.records]
    assert messages == ["on_error_failed", "handler_failed"]


# What is no Exception is never swallowed.


class Stop(BaseException):
    """Neither Exception nor known to Python."""


ENDS: list[type[BaseException]] = [KeyboardInterrupt, SystemExit, Stop]
ends = pytest.mark.parametrize("end", ENDS)


def ending(end: type[BaseException]) -> Callable[[Any], None]:
    """A handler that ends everything."""

    def handler(event: object) -> None:
        raise end

    return handler


def others_of(bus: Bus, seen: list[object]) -> None:
    """Handlers of every colour that can have been started before a handler ends everything."""

    async def handle(event: Placed) -> None:
        await asyncio.sleep(0)
        seen.append(event)

    bus.subscribe(Placed, seen.append, priority=1)
    bus.subscribe(Placed, handle, priority=1)
    bus.subscribe(Placed, seen.append, priority=1, executor="thread")


def works_afterwards(bus: Bus) -> None:
    """The bus, its loop and its workers are as good as new."""
    seen = list[object]()
    bus.subscribe(Paid, seen.append)
    bus.subscribe(Paid, seen.append, executor="thread")
    receipt = bus.publish(Paid())
    assert (receipt.done, receipt.errors, seen) == (True, (), [Paid(), Paid()])


@pytest.mark.parametrize("colour", ["inline", "observed", "async", "awaitable", "thread", "pool"])
@ends
def test_a_handler_that_ends_everything_does_so_in_sync_code(
    colour: str, end: type[BaseException], pool: ThreadPoolExecutor
) -> None:
    """Wherever it ran, publish raises it as it is; what was started before is finished."""
    with Bus() as bus:
        seen = list[object]()
        others_of(bus, seen)
        subscribe(bus, colour, pool, ending(end))
        with pytest.raises(end):
            bus.publish(Placed())
        bus.idle(PATIENCE)
        assert seen == [Placed()] * 3
        works_afterwards(bus)


@pytest.mark.parametrize("colour", ["inline", "observed", "thread", "pool"])
@ends
def test_a_handler_that_ends_everything_does_so_on_a_loop(
    colour: str, end: type[BaseException], pool: ThreadPoolExecutor
) -> None:
    """An inline one at publish, one in another thread where its receipt is awaited."""

    async def main() -> None:
        async with Bus() as bus:
            subscribe(bus, colour, pool, ending(end))
            with pytest.raises(end):
                await bus.publish(Placed())

    asyncio.run(main())


@ends
def test_an_async_handler_that_ends_everything_ends_its_loop(end: type[BaseException]) -> None:
    """As any task would: what Python lets through a loop, `asyncio.run` raises."""

    async def main() -> None:
        async with Bus() as bus:
            subscribe(bus, "async", None, ending(end))
            receipts.append(receipt := bus.publish(Placed()))
            await receipt

    receipts = list[Receipt]()
    with pytest.raises(end):
        asyncio.run(main())
    (receipt,) = receipts
    assert receipt.done
    assert [type(error) for error in receipt.errors] == [end]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_async_handler_ends_its_loop_even_if_nobody_awaits_the_receipt(
    end: type[BaseException],
) -> None:
    """Ctrl-C is not for the publisher alone."""

    async def main() -> None:
        subscribe(bus, "async", None, ending(end))
        bus.publish(Placed())
        await asyncio.wait_for(asyncio.get_running_loop().create_future(), PATIENCE)

    bus = Bus()
    with pytest.raises(end):
        asyncio.run(main())


@ends
def test_an_async_handler_that_ends_everything_at_once_ends_its_loop(
    end: type[BaseException],
) -> None:
    """Before it waits for anything: where tasks start eagerly that is inside publish."""

    async def main() -> None:
        async def handle(placed: Placed) -> None:
            raise end

        async with Bus() as bus:
            bus.subscribe(Placed, handle)
            await bus.publish(Placed())

    with pytest.raises(end):
        asyncio.run(main())


@ends
def test_a_pumped_handler_that_ends_everything_does_so_where_it_is_pumped(
    end: type[BaseException],
) -> None:
    """`pump` raises it, once; what waits behind it is for the next pump."""
    with Bus() as bus:
        seen = list[object]()
        bus.subscribe(Placed, ending(end), executor="pump")
        bus.subscribe(Placed, seen.append, executor="pump")
        receipt = bus.publish(Placed())
        with pytest.raises(end):
            bus.pump()
        assert [type(error) for error in receipt.errors] == [end]
        assert bus.pump() == 1
        assert seen == [Placed()]


@ends
def test_what_ends_everything_in_an_unawaited_handler_is_raised_by_idle(
    end: type[BaseException],
) -> None:
    """As it is, not in a group: `except KeyboardInterrupt` would not look inside one."""

    async def main() -> None:
        subscribe(bus, "thread", None, ending(end))
        bus.publish(Placed())
        with pytest.raises(end):
            await bus.idle(PATIENCE)
        await bus.idle(PATIENCE)

    bus = Bus()
    asyncio.run(main())


@ends
def test_what_ends_everything_is_on_the_receipt_logged_and_observed(
    end: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the handler had a delivery of its own, it has failed like any other."""
    with Bus() as bus:
        records = list[Record]()
        bus.observe(records.append)
        subscribe(bus, "thread", None, ending(end))
        with pytest.raises(end):
            bus.publish(Placed())
    (failed,) = (record for record in records if isinstance(record, Failed))
    assert isinstance(failed.error, end)
    assert any("handler_failed" in record.getMessage() for record in caplog.records)


# Cancelled tasks.


async def until(reached: asyncio.Event, work: list["asyncio.Task[Any] | None"]) -> None:
    """What handlers do that are to be cancelled."""
    work.append(asyncio.current_task())
    reached.set()
    await asyncio.get_running_loop().create_future()


def handler_tasks() -> set["asyncio.Task[Any]"]:
    """All tasks but this one."""
    tasks = asyncio.all_tasks()
    current = asyncio.current_task()
    return {task for task in tasks if task is not current}


def test_a_handler_cancelled_before_its_first_step_completes_the_receipt() -> None:
    """Its coroutine never ran, and yet its end is reported: as a failure.

    Where tasks start eagerly there is no such moment, unless the publisher is elsewhere.
    """

    async def main() -> None:
        began = list[object]()

        async def handle(placed: Placed) -> None:
            began.append(placed)
            await asyncio.get_running_loop().create_future()

        bus.subscribe(Placed, handle)
        receipt = bus.publish(Placed())
        (task,) = handler_tasks()
        task.cancel()
        await receipt
        assert [type(error) for error in receipt.errors] == [asyncio.CancelledError]
        await bus.idle(PATIENCE)
        await asyncio.sleep(0)
        assert handler_tasks() == set()
        assert len(began) <= 1

    bus = Bus()
    asyncio.run(main())


def test_a_handler_cancelled_on_its_way_completes_the_receipt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As a failure, logged and observed; the other handlers are not cancelled."""

    async def main() -> None:
        reached, gate = asyncio.Event(), asyncio.Event()
        tasks = list["asyncio.Task[Any] | None"]()

        async def other(placed: Placed) -> None:
            await gate.wait()
            seen.append(placed)

        bus.subscribe(Placed, lambda placed: until(reached, tasks))
        bus.subscribe(Placed, other)
        receipt = bus.publish(Placed())
        await reached.wait()
        (task,) = tasks
        assert task is not None
        task.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(receipt.errors), receipt.done) == (1, False)
        gate.set()
        await receipt
        assert [type(error) for error in receipt.errors] == [asyncio.CancelledError]
        assert (task.done(), seen) == (True, [Placed()])

    bus, seen, records = Bus(), list[object](), list[Record]()
    bus.observe(records.append)
    asyncio.run(main())
    assert [type(record) for record in records[1:]] == [Failed, Handled]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_handler_that_survives_its_cancellation_has_not_failed() -> None:
    """What it makes of the request is its own affair."""

    async def main() -> None:
        reached = asyncio.Event()
        tasks = list["asyncio.Task[Any] | None"]()

        async def handle(placed: Placed) -> None:
            try:
                await until(reached, tasks)
            except asyncio.CancelledError:
                seen.append(placed)

        bus.subscribe(Placed, handle)
        receipt = bus.publish(Placed())
        await reached.wait()
        (task,) = tasks
        assert task is not None
        task.cancel()
        await receipt
        assert (receipt.errors, seen) == ((), [Placed()])

    bus, seen = Bus(), list[object]()
    asyncio.run(main())


def test_a_handler_that_raises_cancelled_itself_has_failed() -> None:
    """Cancelled is cancelled, by whomever; the waiters are not cancelled with it."""

    async def main() -> None:
        async def handle(placed: Placed) -> None:
            await asyncio.sleep(0)
            raise asyncio.CancelledError

        bus.subscribe(Placed, handle)
        receipt = await bus.publish(Placed())
        assert [type(error) for error in receipt.errors] == [asyncio.CancelledError]

    bus = Bus()
    asyncio.run(main())


def test_a_cancelled_handler_is_raised_in_a_group_where_errors_are_raised() -> None:
    """Not as a bare CancelledError: that would cancel whoever waits."""

    async def main() -> None:
        reached = asyncio.Event()
        tasks = list["asyncio.Task[Any] | None"]()
        bus.subscribe(Placed, lambda placed: until(reached, tasks))
        receipt = bus.publish(Placed())
        await reached.wait()
        (task,) = tasks
        assert task is not None
        task.cancel()
        with pytest.raises(BaseExceptionGroup) as caught:
            await receipt
        assert [type(error) for error in caught.value.exceptions] == [asyncio.CancelledError]

    bus = Bus(on_error="raise")
    asyncio.run(main())


@pytest.mark.parametrize("is_async", [True, False], ids=["async handler", "returned awaitable"])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_handler_whose_loop_ends_completes_the_receipt(
    steps: int,
    is_async: bool,  # noqa: FBT001  parametrized
) -> None:
    """`asyncio.run` cancels what is left when it ends; nobody waits for ever."""

    async def never(placed: Placed) -> None:
        await asyncio.get_running_loop().create_future()

    def returns_awaitable(placed: Placed) -> Awaitable[None]:
        return never(placed)

    async def main() -> Receipt:
        bus.subscribe(Placed, never if is_async else returns_awaitable)
        receipt = bus.publish(Placed())
        for _ in range(steps):
            await asyncio.sleep(0)
        return receipt

    bus = Bus()
    receipt = asyncio.run(main())
    assert receipt.wait(PATIENCE).done
    assert [type(error) for error in receipt.errors] == [asyncio.CancelledError]
    bus.idle(PATIENCE)


def test_a_handler_that_a_closed_loop_left_behind_is_ended_when_the_bus_is_waited_for() -> None:
    """The end of one event starts the next of its key, which asyncio no longer cancels.

    It is finished as if it had, when the bus is waited for; its followers go on elsewhere.
    """

    async def handle(paid: Paid) -> None:
        began.append(paid.number)
        if paid.number < 2:
            await asyncio.get_running_loop().create_future()

    async def main() -> list[Receipt]:
        bus.subscribe(Paid, handle)
        receipts = [bus.publish(Paid(number=number)) for number in range(5)]
        await asyncio.sleep(0)
        return receipts

    began = list[int]()
    with Bus() as bus:
        receipts = asyncio.run(main())
        bus.idle(PATIENCE)
    assert all(receipt.done for receipt in receipts)
    assert [len(receipt.errors) for receipt in receipts] == [1, 1, 0, 0, 0]
    assert {type(error) for error in receipts[1].errors} == {asyncio.CancelledError}
    assert began == [0, 1, 2, 3, 4]


def test_leaving_a_bus_does_not_wait_for_what_a_closed_loop_left_behind() -> None:
    """It would be in vain, up to the whole time that draining may take."""

    async def never(paid: Paid) -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> list[Receipt]:
        bus.subscribe(Paid, never)
        receipts = [bus.publish(Paid(number=number)) for number in range(2)]
        await asyncio.sleep(0)
        return receipts

    with Bus(drain_timeout=3600) as bus:
        receipts = asyncio.run(main())
    assert all(receipt.done for receipt in receipts)


def test_work_that_its_executor_cancels_completes_the_receipt() -> None:
    """A pool that is shut down with work still queued: a failure, and nobody waits for ever."""
    busy, gate = threading.Event(), threading.Event()

    def handle(placed: Placed) -> None:
        busy.set()
        gate.wait(PATIENCE)

    async def main() -> None:
        bus.subscribe(Placed, handle, executor=pool)
        running, queued = bus.publish(Placed(1)), bus.publish(Placed(2))
        assert busy.wait(PATIENCE)
        pool.shutdown(wait=False, cancel_futures=True)
        gate.set()
        await running
        await queued
        assert running.errors == ()
        assert [type(error).__name__ for error in queued.errors] == ["CancelledError"]
        refused = await bus.publish(Placed(3))
        assert [type(error) for error in refused.errors] == [RuntimeError]

    with ThreadPoolExecutor(1) as pool, Bus() as bus:
        asyncio.run(main())


# Outstanding work is accounted for.


def test_outstanding_work_can_be_awaited_and_is_counted() -> None:
    """`idle` ends when nothing is outstanding, and not before."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()

        bus.subscribe(Placed, handle)
        for number in range(3):
            bus.publish(Placed(number))
        assert "3 unfinished" in repr(bus)
        idle = asyncio.ensure_future(bus.idle(PATIENCE))
        await asyncio.sleep(0)
        assert not idle.done()
        gate.set()
        await idle
        assert "0 unfinished" in repr(bus)

    bus = Bus()
    asyncio.run(main())


def test_outstanding_work_is_given_up_with_an_error_when_the_bus_is_left() -> None:
    """After the time that draining may take: cancelled, and on its receipt."""

    async def main() -> None:
        cancelled = list[object]()

        async def never(placed: Placed) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.append(placed)
                raise

        async with Bus(drain_timeout=0) as bus:
            bus.subscribe(Placed, never)
            receipt = bus.publish(Placed())
            await asyncio.sleep(0)
        assert [type(error).__name__ for error in receipt.errors] == ["Abandonment"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert cancelled == [Placed()]

    asyncio.run(main())
