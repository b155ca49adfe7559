"""A bus opens, runs, stops, drains, closes and opens again; and what an ending program does.

A drain begins by pumping: several tests let a pumped handler open a gate, which therefore opens
only once the drain has begun.
"""

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headwater import (
    Backoff,
    Bus,
    Context,
    Rate,
    Receipt,
    Resequence,
    Retry,
    RetryLater,
    WouldDeadlock,
    event,
)
from headwater.errors import Abandonment, BusClosed
from headwater.records import Abandoned, Handled, Record
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""
SOURCES = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Placed:
    number: int = 0


@dataclass(frozen=True)
class Numbered:
    number: int


@dataclass(frozen=True)
class DrainBegan:
    pass


@event(key="order_id")
@dataclass(frozen=True)
class Paid:
    order_id: str = "o1"
    number: int = 1


def abandoned(bus: Bus) -> list[Abandoned]:
    """A list that fills with what the bus gives up."""
    seen: list[Abandoned] = []

    @bus.observe
    def note(record: Record) -> None:
        if isinstance(record, Abandoned):
            seen.append(record)

    return seen


def when_drain_begins(bus: Bus, do: Callable[[], object]) -> None:
    """Have `do` called by the pump that begins a drain."""
    bus.subscribe(DrainBegan, lambda _: (do(), None)[1], executor="pump")
    bus.publish(DrainBegan())


class Worker:
    """A thread handler that has begun its work and goes on when told."""

    def __init__(self) -> None:
        self.began, self.gate = threading.Event(), threading.Event()
        self.done = list[object]()
        self.thread: threading.Thread | None = None
        self.receipts = list[Receipt]()

    def handle(self, placed: Placed) -> None:
        self.thread = threading.current_thread()
        self.began.set()
        assert self.gate.wait(PATIENCE)
        self.done.append(placed)

    def publish_to(self, bus: Bus) -> threading.Thread:
        """Publish from another thread, which waits for the handler; it has begun on return."""
        bus.subscribe(Placed, self.handle, executor="thread")
        publisher = threading.Thread(target=lambda: self.receipts.append(bus.publish(Placed(1))))
        publisher.start()
        assert self.began.wait(PATIENCE)
        return publisher


# Open and closed.


def test_a_bus_opens_at_its_first_event() -> None:
    """Nobody has to start it."""
    bus, seen = Bus(), list[object]()
    bus.subscribe(Placed, seen.append)
    assert ", new," in repr(bus)
    bus.publish(Placed(1))
    assert ", open," in repr(bus)
    assert seen == [Placed(1)]


def test_with_opens_a_bus_and_closes_it() -> None:
    """And the block's bus is the bus itself."""
    bus = Bus()
    with bus as entered:
        assert entered is bus
        assert ", open," in repr(bus)
    with pytest.raises(BusClosed):
        bus.publish(Placed())


def test_async_with_opens_a_bus_and_closes_it() -> None:
    """The same on a loop."""

    async def main() -> None:
        async with bus as entered:
            assert entered is bus
            assert ", open," in repr(bus)
        with pytest.raises(BusClosed):
            bus.publish(Placed())

    bus = Bus()
    asyncio.run(main())


def test_an_error_in_the_block_gets_out_of_it() -> None:
    """A bus closes and swallows nothing."""
    bus = Bus()
    with pytest.raises(ZeroDivisionError), bus:
        raise ZeroDivisionError
    assert ", closed," in repr(bus)


@pytest.mark.parametrize("options", [{}, {"delay": 1}, {"key": "o1"}])
@pytest.mark.parametrize("what", [Placed(), Paid(), "order_placed"])
def test_a_closed_bus_refuses_events_on_every_path(what: object, options: dict[str, Any]) -> None:
    """Hot, keyed, named, or for later; and no handler is called."""
    bus, seen = Bus(), list[object]()
    bus.subscribe("**", seen.append)
    bus.publish(what)
    bus.close()
    with pytest.raises(BusClosed, match=r"start\(\)"):
        bus.publish(what, **options)
    assert len(seen) == 1


def test_a_closed_bus_refuses_events_for_async_and_thread_handlers() -> None:
    """Also on the swift route, where a loop runs."""

    async def main() -> None:
        await bus.publish(Placed(1))
        await bus.aclose()
        with pytest.raises(BusClosed):
            bus.publish(Placed(2))

    async def handle(placed: Placed) -> None:
        seen.append(placed)

    bus, seen = Bus(), list[object]()
    bus.subscribe(Placed, handle)
    asyncio.run(main())
    assert seen == [Placed(1)]


def test_a_closed_bus_refuses_requests() -> None:
    """Asking is publishing."""
    bus = Bus()
    bus.reply("price")(lambda data: 1)
    bus.close()
    with pytest.raises(BusClosed):
        asyncio.run(bus.request("price"))


@pytest.mark.parametrize("executor", ["inline", "thread", "async"])
def test_a_closed_bus_starts_again_with_its_subscriptions(executor: Any) -> None:
    """Its loop and its workers are made anew; as often as wanted."""
    bus, seen = Bus(), list[int]()

    async def handle(placed: Placed) -> None:
        seen.append(placed.number)

    if executor == "async":
        bus.subscribe(Placed, handle)
    else:
        bus.subscribe(Placed, lambda placed: seen.append(placed.number), executor=executor)
    for number in range(3):
        with bus:
            bus.publish(Placed(number))
    assert seen == [0, 1, 2]


def test_a_stopped_bus_opens_at_its_next_event() -> None:
    """`stop` lets go of threads; only `close` refuses."""
    bus, seen = Bus(), list[object]()
    bus.subscribe(Placed, seen.append, executor="thread")
    bus.publish(Placed(1))
    bus.stop()
    assert ", new," in repr(bus)
    bus.publish(Placed(2))
    assert seen == [Placed(1), Placed(2)]
    bus.close()


def test_ends_may_be_asked_for_twice() -> None:
    """Of a bus that never opened, too."""

    async def main() -> None:
        await bus.aclose()
        await bus.aclose()

    bus = Bus()
    bus.stop()
    bus.stop()
    bus.close()
    bus.close()
    asyncio.run(main())
    assert ", closed," in repr(bus)


def test_the_threads_of_a_bus_end_with_it() -> None:
    """Its loop's and its workers'."""
    threads = set[threading.Thread]()

    async def on_loop(placed: Placed) -> None:
        threads.add(threading.current_thread())

    with Bus() as bus:
        bus.subscribe(Placed, on_loop)
        bus.subscribe(
            Placed, lambda placed: threads.add(threading.current_thread()), executor="thread"
        )
        bus.publish(Placed())
    assert {thread.name for thread in threads} == {"headwater-loop", "headwater-worker"}
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_bus_that_is_dropped_without_being_closed_leaves_no_threads() -> None:
    """Forgetting it is enough."""
    threads = set[threading.Thread]()

    async def on_loop(placed: Placed) -> None:
        threads.add(threading.current_thread())

    def use_and_forget() -> None:
        bus = Bus()
        bus.subscribe(Placed, on_loop)
        bus.subscribe(
            Placed, lambda placed: threads.add(threading.current_thread()), executor="thread"
        )
        bus.publish(Placed())

    use_and_forget()
    gc.collect()
    assert len(threads) == 2
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


# Run.


def test_run_ends_when_an_async_handler_stops_the_bus() -> None:
    """And what the handler still does after asking is waited for."""

    async def main() -> None:
        async def handle(placed: Placed) -> None:
            bus.stop()
            await asyncio.sleep(0)
            seen.append(placed)

        bus.subscribe(Placed, handle)
        running = asyncio.create_task(bus.run())
        await asyncio.sleep(0)
        bus.publish(Placed(1))
        await asyncio.wait_for(running, PATIENCE)
        assert seen == [Placed(1)]

    bus, seen = Bus(), list[object]()
    asyncio.run(main())


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_run_ends_when_a_sync_handler_stops_the_bus(executor: Any) -> None:
    """In the loop's thread or in a worker."""

    async def main() -> None:
        bus.subscribe(Placed, lambda placed: bus.stop(), executor=executor)
        running = asyncio.create_task(bus.run())
        await asyncio.sleep(0)
        await bus.publish(Placed(1))
        await asyncio.wait_for(running, PATIENCE)

    bus = Bus()
    asyncio.run(main())


def test_run_ends_when_another_thread_stops_the_bus() -> None:
    """Which wakes the loop from its sleep."""

    async def main() -> None:
        loop.append(asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(runs.set)
        await asyncio.wait_for(bus.run(), PATIENCE)

    bus, runs, loop = Bus(), threading.Event(), list[object]()
    runner = threading.Thread(target=lambda: asyncio.run(main()))
    runner.start()
    assert runs.wait(PATIENCE)
    bus.stop()
    runner.join(PATIENCE)
    assert not runner.is_alive()


def test_run_that_is_cancelled_drains_and_is_cancelled() -> None:
    """Ctrl-C under `asyncio.run` is such a cancellation."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()
            seen.append(placed)

        bus.subscribe(Placed, handle)
        running = asyncio.create_task(bus.run())
        await asyncio.sleep(0)
        bus.publish(Placed(1))
        when_drain_begins(bus, gate.set)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert seen == [Placed(1)]

    bus, seen = Bus(), list[object]()
    asyncio.run(main())


def test_aclose_ends_run() -> None:
    """Whoever closes the bus ends its run too."""

    async def main() -> None:
        running = asyncio.create_task(bus.run())
        await asyncio.sleep(0)
        await bus.aclose()
        await asyncio.wait_for(running, PATIENCE)
        assert ", closed," in repr(bus)

    bus = Bus()
    asyncio.run(main())


# Stopping where a loop runs.


@pytest.mark.parametrize("end", [Bus.stop, Bus.close])
def test_a_busy_bus_cannot_be_stopped_where_a_loop_runs(end: Callable[[Bus], None]) -> None:
    """Blocking would stop the very loop that has the work to do."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()
            seen.append(placed)

        bus.subscribe(Placed, handle)
        receipt = bus.publish(Placed(1))
        with pytest.raises(WouldDeadlock, match="aclose"):
            end(bus)
        gate.set()
        await receipt
        await bus.aclose()
        assert seen == [Placed(1)]

    bus, seen = Bus(), list[object]()
    asyncio.run(main())


def test_a_bus_with_nothing_to_do_can_be_stopped_where_a_loop_runs() -> None:
    """There is nothing to wait for."""

    async def main() -> None:
        bus.publish(Placed())
        bus.stop()
        assert ", new," in repr(bus)

    bus = Bus()
    bus.subscribe(Placed, lambda placed: None)
    asyncio.run(main())


# Drain.


def test_leaving_a_bus_waits_for_a_running_thread_handler() -> None:
    """The publisher in another thread gets its receipt, without an error."""
    bus, worker = Bus(), Worker()
    lost = abandoned(bus)
    publisher = worker.publish_to(bus)
    when_drain_begins(bus, worker.gate.set)
    bus.close()
    assert worker.done == [Placed(1)]
    publisher.join(PATIENCE)
    assert [receipt.errors for receipt in worker.receipts] == [()]
    assert lost == []


def test_leaving_a_bus_waits_for_a_running_async_handler() -> None:
    """Its loop goes on meanwhile."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handle(placed: Placed) -> None:
            await gate.wait()
            seen.append(placed)

        async with bus:
            bus.subscribe(Placed, handle)
            receipt = bus.publish(Placed(1))
            when_drain_begins(bus, gate.set)
        assert seen == [Placed(1)]
        assert (receipt.done, receipt.errors) == (True, ())

    bus, seen = Bus(), list[object]()
    asyncio.run(main())


def test_leaving_a_bus_waits_for_what_handlers_publish_meanwhile() -> None:
    """Until the last effect is handled, the bus accepts events."""

    async def main() -> None:
        async def placed(placed: Placed) -> None:
            bus.publish(Paid())

        async def paid(paid: Paid) -> None:
            await asyncio.sleep(0)
            seen.append(paid)

        async with bus:
            bus.subscribe(Placed, placed)
            bus.subscribe(Paid, paid)
            bus.publish(Placed())
        assert seen == [Paid()]

    bus, seen = Bus(), list[object]()
    asyncio.run(main())


def test_a_thread_handler_that_outlasts_the_drain_is_given_up_with_a_record() -> None:
    """Its event failed with `Abandonment`, and its later result changes nothing."""
    bus, worker, handled = Bus(), Worker(), list[Record]()
    lost = abandoned(bus)
    bus.observe(lambda record: handled.append(record) if isinstance(record, Handled) else None)
    publisher = worker.publish_to(bus)
    bus.stop(0)
    publisher.join(PATIENCE)
    ((error,),) = [receipt.errors for receipt in worker.receipts]
    assert isinstance(error, Abandonment)
    assert [(record.reason, record.name, record.attempt) for record in lost] == [
        ("stopped", "Placed", 1)
    ]
    worker.gate.set()
    assert worker.thread is not None
    worker.thread.join(PATIENCE)
    assert not worker.thread.is_alive()
    assert worker.done == [Placed(1)]
    assert handled == []


def test_an_async_handler_that_outlasts_the_drain_is_cancelled_with_a_record() -> None:
    """It may clean up; the receipt says `Abandonment`."""

    async def main() -> None:
        began, cleaned = asyncio.Event(), asyncio.Event()

        async def handle(placed: Placed) -> None:
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                cleaned.set()

        bus.subscribe(Placed, handle)
        async with bus:
            receipt = bus.publish(Placed(1))
            await began.wait()
        await asyncio.wait_for(cleaned.wait(), PATIENCE)
        (error,) = receipt.errors
        assert isinstance(error, Abandonment)
        assert [record.reason for record in lost] == ["stopped"]

    bus = Bus(drain_timeout=0)
    lost = abandoned(bus)
    asyncio.run(main())


def test_a_retry_that_is_due_before_the_deadline_still_happens() -> None:
    """A drain waits for it."""
    bus, attempts = Bus(), list[int]()
    retry = Retry(max_attempts=2, backoff=Backoff(initial=0.01, jitter=False))

    def handle(placed: Placed, context: Context) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise OSError

    bus.subscribe(Placed, handle, retry=retry)
    lost = abandoned(bus)
    with bus:
        receipt = bus.publish(Placed())
        assert receipt.deferred == 1
    assert attempts == [1, 2]
    assert lost == []


def test_a_retry_that_is_due_after_the_deadline_is_given_up_at_once() -> None:
    """Waiting would not help it, so nobody waits; time stands still here."""
    clock = VirtualRuntime()
    bus = Bus(runtime=clock, drain_timeout=PATIENCE)
    attempts = list[int]()

    def handle(placed: Placed, context: Context) -> None:
        attempts.append(context.attempt)
        raise RetryLater(PATIENCE + 1)

    bus.subscribe(Placed, handle, executor="thread")
    lost = abandoned(bus)
    receipt = bus.publish(Placed())
    bus.close()
    assert [record.reason for record in lost] == ["stopped"]
    assert isinstance(receipt.errors[-1], Abandonment)
    clock.advance(2 * PATIENCE)
    assert attempts == [1]


def test_the_followers_of_a_retry_that_is_given_up_are_still_handled() -> None:
    """Only what cannot be done in time is given up, not its key."""
    bus, seen = Bus(runtime=VirtualRuntime(), drain_timeout=PATIENCE), list[int]()

    def handle(paid: Paid) -> None:
        seen.append(paid.number)
        if paid.number == 1:
            raise RetryLater(PATIENCE + 1)

    bus.subscribe(Paid, handle, executor="thread")
    lost = abandoned(bus)
    for number in (1, 2, 3):
        bus.publish(Paid(number=number))
    assert seen == [1]
    bus.close()
    assert seen == [1, 2, 3]
    assert len(lost) == 1


def test_a_delayed_event_that_is_due_before_the_deadline_still_happens() -> None:
    """A drain waits for it as well."""
    bus, seen = Bus(), list[object]()
    bus.subscribe(Placed, seen.append)
    with bus:
        bus.publish(Placed(1), delay=0.01)
    assert seen == [Placed(1)]


def test_a_delayed_event_that_is_due_after_the_deadline_is_given_up_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At once; the receipt, done long ago, shows it."""
    clock = VirtualRuntime()
    bus, seen = Bus(runtime=clock), list[object]()
    bus.subscribe(Placed, seen.append)
    receipt = bus.publish(Placed(), delay=3600)
    bus.close()
    (error,) = receipt.errors
    assert isinstance(error, Abandonment)
    assert "event_abandoned event=Placed" in caplog.text
    clock.advance(3600)
    bus.idle(PATIENCE)
    assert seen == []


@pytest.mark.parametrize("executor", ["inline", "thread", "pump"])
def test_what_a_paused_subscription_holds_is_given_up(executor: Any) -> None:
    """Nobody is going to resume it; and a later resume finds nothing."""
    bus, seen = Bus(), list[object]()
    subscription = bus.subscribe(Placed, seen.append, executor=executor)
    lost = abandoned(bus)
    subscription.pause()
    receipt = bus.publish(Placed(1))
    bus.stop()
    assert isinstance(receipt.errors[-1], Abandonment)
    assert [record.reason for record in lost] == ["stopped"]
    subscription.resume()
    bus.publish(Placed(2))
    bus.pump()
    bus.idle(PATIENCE)
    assert seen == [Placed(2)]
    bus.close()


def test_what_waits_behind_a_gap_is_given_up_and_its_line_goes_on() -> None:
    """After the bus starts again, the gap may still be filled."""
    clock = VirtualRuntime()
    bus, seen = Bus(runtime=clock), list[int]()
    resequence = Resequence(by="number", timeout=5)
    bus.subscribe(Paid, lambda paid: seen.append(paid.number), resequence=resequence)
    lost = abandoned(bus)
    bus.publish(Paid(number=1))
    receipt = bus.publish(Paid(number=3))
    bus.stop(0)
    assert isinstance(receipt.errors[-1], Abandonment)
    assert [record.reason for record in lost] == ["stopped"]
    bus.publish(Paid(number=2))
    bus.publish(Paid(number=4))
    bus.idle(PATIENCE)
    assert seen == [1, 2, 4]
    bus.close()


def test_what_waits_for_a_rate_is_given_up_and_the_rate_goes_on() -> None:
    """Credit and timers are right after the bus starts again."""
    clock = VirtualRuntime()
    bus, seen = Bus(runtime=clock), list[int]()
    bus.subscribe(Placed, lambda placed: seen.append(placed.number), rate=Rate(1, per=60))
    bus.publish(Placed(1))
    receipt = bus.publish(Placed(2))
    assert receipt.deferred == 1
    bus.stop(0)
    assert isinstance(receipt.errors[-1], Abandonment)
    clock.advance(120)
    bus.publish(Placed(3))
    clock.advance(0)  # The timer that was set again is due.
    bus.idle(PATIENCE)
    assert seen == [1, 3]
    bus.close()


def test_what_waits_for_a_pump_is_pumped() -> None:
    """By whoever ends the bus, in that thread."""
    bus, threads = Bus(), list[int]()
    bus.subscribe(Placed, lambda placed: threads.append(threading.get_ident()), executor="pump")
    bus.publish(Placed())
    bus.close()
    assert threads == [threading.get_ident()]


def test_stop_in_a_handler_does_not_wait_for_itself() -> None:
    """It only asks; the handler goes on, and the bus with it."""
    bus, seen = Bus(), list[object]()

    def handle(placed: Placed) -> None:
        bus.stop()
        seen.append(placed)

    bus.subscribe(Placed, handle, executor="thread")
    bus.publish(Placed(1))
    bus.publish(Placed(2))
    assert seen == [Placed(1), Placed(2)]
    bus.close()


def test_leaving_a_bus_raises_what_nobody_collected() -> None:
    """With `on_error="raise"`, after everything has been let go."""

    async def main() -> None:
        async def handle(placed: Placed) -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError

        bus.subscribe(Placed, handle)
        with pytest.raises(ExceptionGroup) as caught:
            async with bus:
                bus.publish(Placed())
        assert caught.group_contains(ZeroDivisionError)
        assert ", closed," in repr(bus)

    bus = Bus(on_error="raise")
    asyncio.run(main())


# Idle.


def test_idle_in_a_handler_raises() -> None:
    """It would wait for that very handler, on a loop or in a worker."""

    async def on_loop(placed: Placed) -> None:
        await bus.idle(PATIENCE)

    def in_worker(placed: Placed) -> None:
        bus.idle(PATIENCE)

    with Bus() as bus:
        bus.subscribe(Placed, on_loop)
        bus.subscribe(Placed, in_worker, executor="thread")
        receipt = bus.publish(Placed())
    assert [type(error) for error in receipt.errors] == [WouldDeadlock, WouldDeadlock]


def test_idle_gives_up_after_its_timeout() -> None:
    """In sync code and on a loop; the work itself is not given up."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await bus.idle(0)

    bus, seen = Bus(), list[object]()
    subscription = bus.subscribe(Placed, seen.append)
    subscription.pause()
    bus.publish(Placed(1))
    with pytest.raises(TimeoutError):
        bus.idle(0)
    asyncio.run(main())
    subscription.resume()
    bus.idle(0)
    assert seen == [Placed(1)]


def test_idle_of_a_bus_that_never_opened_is_at_once() -> None:
    """And may be awaited."""

    async def main() -> None:
        await bus.idle(0)

    bus = Bus()
    bus.idle(0)
    asyncio.run(main())


# The end of the program.


def ran(program: str) -> "subprocess.CompletedProcess[str]":
    """A program that has run to its end; one that waits for its drain timeout is too slow."""
    prelude = """
        import logging, sys
        sys.path.insert(0, sys.argv[1])
        from headwater import Backoff, Bus, Retry
        logging.basicConfig(level=logging.WARNING)
        bus = Bus()
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(program), str(SOURCES)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_pending_retry_still_happens_when_the_program_ends() -> None:
    """Nobody closed the bus; an ending program drains it."""
    done = ran(
        """
        @bus.on("placed", retry=Retry(2, backoff=Backoff(initial=0.05, jitter=False)))
        def handle(placed, context):
            print("attempt", context.attempt, flush=True)
            if context.attempt == 1:
                raise OSError

        bus.publish("placed", {})
        print("end", flush=True)
        """
    )
    assert (done.returncode, done.stdout) == (0, "attempt 1\nend\nattempt 2\n")


def test_a_far_delayed_event_is_given_up_when_the_program_ends() -> None:
    """With a warning, and the program ends long before the drain timeout of 25 s."""
    done = ran(
        """
        bus.on("placed")(lambda placed: print("handled"))
        bus.publish("placed", {}, delay=3600)
        """
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "event_abandoned event=placed" in done.stderr


def test_a_near_delayed_event_is_handled_when_the_program_ends() -> None:
    """By a worker, or whoever is left to do the work."""
    done = ran(
        """
        bus.on("placed")(lambda placed: print("handled"))
        bus.publish("placed", {}, delay=0.05)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "handled\n", "")


def test_a_program_that_used_every_colour_ends_quietly() -> None:
    """Threads and loops are daemons: nothing is printed, nothing hangs."""
    done = ran(
        """
        @bus.on("placed")
        async def on_loop(placed): ...

        @bus.on("placed", executor="thread")
        def in_worker(placed): ...

        bus.publish("placed", {})
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "options",
    [{"rate": Rate(1, per=3600)}, {"resequence": Resequence(by="number", timeout=3600)}],
    ids=["rate", "resequence"],
)
def test_what_waits_for_a_time_beyond_the_drain_is_given_up_at_once(
    options: dict[str, Any],
) -> None:
    """Waiting for it would only hold up whoever stops the bus."""
    runtime, seen = VirtualRuntime(), list[int]()
    bus = Bus(runtime=runtime, drain_timeout=600)
    bus.subscribe(Numbered, lambda event: seen.append(event.number), **options)
    bus.publish(Numbered(1)).wait(PATIENCE)
    late = bus.publish(Numbered(3))
    closing = threading.Thread(target=bus.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert seen == [1]
    assert [type(error) for error in late.errors] == [Abandonment]
