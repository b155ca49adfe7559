"""Handlers in the user's executors and pumps; how many run at once; pause and resume."""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Backoff, Bus, Receipt, Retry
from headwater.errors import Abandonment, InvalidHandler, InvalidOption
from headwater.records import Abandoned, Record
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


@dataclass(frozen=True)
class Placed:
    number: int = 0


@dataclass(frozen=True)
class Job:
    """What a handler in another process is to do."""

    verb: str = "succeed"
    extra: object = None


class FailedIn(Exception):
    """A handler's failure that says in which process it was."""

    def __init__(self, process: int) -> None:
        self.process = process
        super().__init__(process)


def work(job: Job) -> int:
    """The handler in another process; module-level, so that it may travel there by name."""
    if job.verb == "fail":
        raise FailedIn(os.getpid())
    if job.verb == "die":
        os._exit(1)
    return os.getpid()


def kinds(receipt: Receipt) -> list[type[BaseException]]:
    """The classes of the errors on a receipt."""
    return [type(error) for error in receipt.errors]


# Threads of the user.


def test_events_share_the_threads_of_an_executor() -> None:
    """As many run at once as it has threads, and publish waits for all."""

    async def main() -> None:
        receipts = [bus.publish(Placed(number)) for number in range(4)]
        for receipt in receipts:
            assert (await asyncio.wait_for(receipt, PATIENCE)).errors == ()

    def handle(placed: Placed) -> None:
        together.wait(PATIENCE)
        seen.append((placed.number, threading.current_thread().name))

    bus, seen, together = Bus(), list[tuple[int, str]](), threading.Barrier(4)
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="mine") as pool:
        bus.subscribe(Placed, handle, executor=pool)
        asyncio.run(main())
    assert sorted(number for number, _ in seen) == [0, 1, 2, 3]
    assert {name for _, name in seen} == {"mine_0", "mine_1", "mine_2", "mine_3"}


def test_an_executor_that_is_shut_down_is_a_failure_on_the_receipt() -> None:
    """The other handlers are called all the same."""
    bus, seen = Bus(), list[object]()
    pool = ThreadPoolExecutor()
    bus.subscribe(Placed, seen.append, executor=pool)
    bus.subscribe(Placed, seen.append)
    pool.shutdown()
    receipt = bus.publish(Placed(1))
    assert kinds(receipt) == [RuntimeError]
    assert "shutdown" in str(receipt.errors[0])
    assert seen == [Placed(1)]
    bus.idle(0)


def test_what_an_executor_cancels_while_it_shuts_down_is_a_failure_on_the_receipt() -> None:
    """What has begun goes on; what has not is over."""

    async def main() -> None:
        first, second = bus.publish(Placed(1)), bus.publish(Placed(2))
        assert began.wait(PATIENCE)
        pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.wait_for(second, PATIENCE)
        assert kinds(second) == [asyncio.CancelledError]
        assert not first.done
        gate.set()
        assert (await asyncio.wait_for(first, PATIENCE)).errors == ()

    def handle(placed: Placed) -> None:
        began.set()
        assert gate.wait(PATIENCE)

    bus, began, gate = Bus(), threading.Event(), threading.Event()
    pool = ThreadPoolExecutor(max_workers=1)
    bus.subscribe(Placed, handle, executor=pool)
    asyncio.run(main())


def test_a_bus_does_not_shut_down_an_executor_it_was_given() -> None:
    """It belongs to the user."""
    bus = Bus()
    with ThreadPoolExecutor() as pool:
        bus.subscribe(Placed, lambda placed: None, executor=pool)
        bus.publish(Placed())
        bus.close()
        assert pool.submit(lambda: 1).result(PATIENCE) == 1


def test_a_handler_in_an_executor_is_retried_there() -> None:
    """Each attempt is submitted anew."""
    bus, names = Bus(), list[str]()

    def handle(placed: Placed) -> None:
        names.append(threading.current_thread().name)
        if len(names) < 3:
            raise OSError

    retry = Retry(max_attempts=3, backoff=Backoff(initial=0))
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mine") as pool, bus:
        bus.subscribe(Placed, handle, executor=pool, retry=retry)
        bus.publish(Placed())
        bus.idle(PATIENCE)
    assert names == ["mine_0"] * 3


def test_an_async_handler_takes_no_executor() -> None:
    """It runs on a loop."""

    async def handle(placed: Placed) -> None: ...

    with pytest.raises(InvalidOption, match="runs on the loop"):
        Bus().subscribe(Placed, handle, executor="thread")


# Processes of the user.

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


@pytest.fixture(params=["spawn", "fork"])
def processes(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    """A pool of one process, started in each way there is."""
    if request.param not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform does not {request.param}")
    context = multiprocessing.get_context(request.param)
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        yield pool


def test_a_handler_runs_in_another_process(processes: ProcessPoolExecutor) -> None:
    """It takes the event there, and its result, or its error, comes back."""

    async def main() -> int:
        process: int = await bus.request(Job(), timeout=PATIENCE)
        return process

    with Bus() as bus:
        bus.subscribe(Job, work, executor=processes)
        bus.reply(Job, executor=processes)(work)
        assert bus.publish(Job()).errors == ()
        receipt = bus.publish(Job("fail"))
        (error,) = receipt.errors
        assert isinstance(error, FailedIn)
        process = asyncio.run(main())
    assert error.process == process
    assert process != os.getpid()


def test_an_event_that_cannot_travel_is_a_failure_on_the_receipt(
    processes: ProcessPoolExecutor,
) -> None:
    """And the next one does travel."""
    with Bus() as bus:
        bus.subscribe(Job, work, executor=processes)
        receipt = bus.publish(Job(extra=threading.Lock()))
        (error,) = receipt.errors
        assert isinstance(error, TypeError)
        assert "pickle" in str(error)
        assert bus.publish(Job()).errors == ()


def test_a_process_that_dies_is_a_failure_on_the_receipt(processes: ProcessPoolExecutor) -> None:
    """So is every later event, for the pool is broken; other handlers do not notice."""
    seen = list[object]()
    with Bus() as bus:
        bus.subscribe(Job, work, executor=processes)
        bus.subscribe(Job, seen.append)
        assert kinds(bus.publish(Job("die"))) == [BrokenProcessPool]
        assert kinds(bus.publish(Job())) == [BrokenProcessPool]
        bus.idle(PATIENCE)
    assert seen == [Job("die"), Job()]


def test_middleware_goes_around_a_handler_in_another_process(
    processes: ProcessPoolExecutor,
) -> None:
    """Here, in this process; and it meets the error that comes back."""
    met = list[object]()
    with Bus() as bus:

        @bus.middleware
        def note(job: Job) -> Iterator[None]:
            met.append(os.getpid())
            try:
                yield
            except FailedIn as error:
                met.append(error)
                raise

        bus.subscribe(Job, work, executor=processes)
        receipt = bus.publish(Job("fail"))
    assert met == [os.getpid(), *receipt.errors]


def test_a_handler_in_another_process_cannot_take_a_context() -> None:
    """It holds the bus, which does not travel."""

    def handle(job: Job, context: object) -> None: ...

    with ProcessPoolExecutor() as pool, pytest.raises(InvalidHandler, match="Context"):
        Bus().subscribe(Job, handle, executor=pool)


# Pump.


def test_a_pump_begins_nothing_more_when_its_budget_is_used_up() -> None:
    """What is left waits for the next pump, in order; here each handler takes a second."""
    clock, seen = VirtualRuntime(), list[int]()
    bus = Bus(runtime=clock)

    def handle(placed: Placed) -> None:
        seen.append(placed.number)
        clock.advance(1)

    bus.subscribe(Placed, handle, executor="pump")
    for number in range(5):
        bus.publish(Placed(number))
    assert bus.pump(budget=1.5) == 2
    assert seen == [0, 1]
    assert bus.pump(budget=0) == 0
    assert bus.pump(budget=2) == 2
    assert bus.pump() == 1
    assert seen == [0, 1, 2, 3, 4]


def test_what_is_published_during_a_pump_waits_for_the_next_one() -> None:
    """So that a pump ends, and the window is drawn again."""
    bus, seen = Bus(), list[int]()

    def handle(placed: Placed) -> None:
        seen.append(placed.number)
        if placed.number < 3:
            bus.publish(Placed(placed.number + 1))

    bus.subscribe(Placed, handle, executor="pump")
    bus.publish(Placed(1))
    assert [bus.pump() for _ in range(4)] == [1, 1, 1, 0]
    assert seen == [1, 2, 3]


def test_a_pumped_handler_that_fails_stops_neither_the_others_nor_the_pump() -> None:
    """Its error is on the receipt of its event, which was done before."""
    bus, seen = Bus(), list[int]()

    def handle(placed: Placed) -> None:
        if placed.number == 1:
            raise ZeroDivisionError
        seen.append(placed.number)

    bus.subscribe(Placed, handle, executor="pump")
    first, second = bus.publish(Placed(1)), bus.publish(Placed(2))
    assert (first.done, first.deferred) == (True, 1)
    assert bus.pump() == 2
    assert kinds(first) == [ZeroDivisionError]
    assert (second.errors, seen) == ((), [2])


def test_what_ends_everything_is_raised_by_pump_and_the_rest_may_be_pumped_later() -> None:
    """A `KeyboardInterrupt` in a handler is nobody's to swallow."""
    bus, seen = Bus(), list[int]()

    def handle(placed: Placed) -> None:
        if placed.number == 1:
            raise KeyboardInterrupt
        seen.append(placed.number)

    bus.subscribe(Placed, handle, executor="pump")
    bus.publish(Placed(1))
    bus.publish(Placed(2))
    with pytest.raises(KeyboardInterrupt):
        bus.pump()
    assert bus.pump() == 1
    assert seen == [2]
    bus.idle(0)


def test_pumped_handlers_of_many_threads_all_run_in_the_pumping_one() -> None:
    """Each event once."""
    bus, seen = Bus(), list[tuple[int, int]]()
    bus.subscribe(
        Placed,
        lambda placed: seen.append((placed.number, threading.get_ident())),
        executor="pump",
    )
    publishers = [
        threading.Thread(target=bus.publish, args=(Placed(number),)) for number in range(8)
    ]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join(PATIENCE)
    assert bus.pump() == 8
    assert sorted(seen) == [(number, threading.get_ident()) for number in range(8)]


def test_a_pumped_handler_that_was_closed_meanwhile_is_not_called() -> None:
    """Closed is closed, also for what waits."""
    bus, seen = Bus(), list[object]()
    subscription = bus.subscribe(Placed, seen.append, executor="pump")
    bus.publish(Placed())
    subscription.close()
    bus.pump()
    assert seen == []
    bus.idle(0)


# How many at once.


def test_concurrency_bounds_how_many_async_handlers_run_at_once() -> None:
    """The others wait, begin in order, and all are handled."""

    async def main() -> None:
        async def handle(placed: Placed) -> None:
            running.add(placed.number)
            most.append(len(running))
            begun.append(placed.number)
            await asyncio.sleep(0)
            running.discard(placed.number)

        bus.subscribe(Placed, handle, concurrency=2)
        receipts = [bus.publish(Placed(number)) for number in range(6)]
        for receipt in receipts:
            await asyncio.wait_for(receipt, PATIENCE)
        assert max(most) == 2
        assert begun == [0, 1, 2, 3, 4, 5]

    bus, running, most, begun = Bus(), set[int](), list[int](), list[int]()
    asyncio.run(main())


@pytest.mark.parametrize("where", ["thread", "executor"])
def test_concurrency_bounds_how_many_thread_handlers_run_at_once(where: str) -> None:
    """Two at a time meet at the barrier, however many threads there are."""

    async def main() -> None:
        receipts = [bus.publish(Placed(number)) for number in range(6)]
        for receipt in receipts:
            assert (await asyncio.wait_for(receipt, PATIENCE)).errors == ()

    def handle(placed: Placed) -> None:
        with lock:
            running.add(placed.number)
            most.append(len(running))
        together.wait(PATIENCE)
        with lock:
            running.discard(placed.number)

    running, most = set[int](), list[int]()
    lock, together = threading.Lock(), threading.Barrier(2)
    with ThreadPoolExecutor(max_workers=4) as pool, Bus() as bus:
        executor: Any = pool if where == "executor" else "thread"
        bus.subscribe(Placed, handle, executor=executor, concurrency=2)
        asyncio.run(main())
    assert max(most) == 2


def test_concurrency_of_one_keeps_the_order_without_a_key() -> None:
    """One thread at a time is a queue."""

    async def main() -> None:
        for number in range(50):
            bus.publish(Placed(number))
        await bus.idle(PATIENCE)

    bus, seen = Bus(), list[int]()
    bus.subscribe(Placed, lambda placed: seen.append(placed.number), concurrency=1)
    asyncio.run(main())
    assert seen == list(range(50))
    bus.close()


def test_a_failing_handler_gives_its_place_to_the_next() -> None:
    """A place is never lost."""

    async def main() -> None:
        async def handle(placed: Placed) -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError

        bus.subscribe(Placed, handle, concurrency=1)
        receipts = [bus.publish(Placed(number)) for number in range(3)]
        for receipt in receipts:
            await asyncio.wait_for(receipt, PATIENCE)
            assert kinds(receipt) == [ZeroDivisionError]

    bus = Bus()
    asyncio.run(main())


# Pause and resume.

PLACES: list[dict[str, Any]] = [
    {"executor": "inline"},
    {"executor": "pump"},
    {"concurrency": 1},
]


@pytest.mark.parametrize("options", PLACES, ids=str)
def test_what_was_held_back_is_handled_in_order_on_resume(options: dict[str, Any]) -> None:
    """Before what is published later."""
    bus, seen = Bus(), list[int]()
    subscription = bus.subscribe(Placed, lambda placed: seen.append(placed.number), **options)
    subscription.pause()
    receipts = [bus.publish(Placed(number)) for number in range(5)]
    assert [(receipt.done, receipt.deferred) for receipt in receipts] == [(True, 1)] * 5
    assert seen == []
    subscription.resume()
    bus.publish(Placed(5))
    bus.pump()
    bus.idle(PATIENCE)
    assert seen == [0, 1, 2, 3, 4, 5]
    bus.close()


def test_what_was_held_back_from_an_async_handler_is_handled_in_order_on_resume() -> None:
    """On the publisher's loop, which still runs."""

    async def main() -> None:
        async def handle(placed: Placed) -> None:
            loops.add(asyncio.get_running_loop())
            seen.append(placed.number)

        subscription = bus.subscribe(Placed, handle)
        subscription.pause()
        for number in range(5):
            await bus.publish(Placed(number))
        subscription.resume()
        await bus.publish(Placed(5))
        await bus.idle(PATIENCE)
        assert seen == [0, 1, 2, 3, 4, 5]
        assert loops == {asyncio.get_running_loop()}

    bus, seen, loops = Bus(), list[int](), set[object]()
    asyncio.run(main())


def test_a_pause_holds_back_one_subscription_only() -> None:
    """The others are called as ever, in the same publish."""
    bus, held, seen = Bus(), list[object](), list[object]()
    subscription = bus.subscribe(Placed, held.append)
    bus.subscribe(Placed, seen.append)
    subscription.pause()
    bus.publish(Placed(1))
    assert (held, seen) == ([], [Placed(1)])
    subscription.resume()
    assert (held, seen) == ([Placed(1)], [Placed(1)])


def test_closing_a_paused_subscription_gives_up_what_it_holds() -> None:
    """With a record, and `Abandonment` on the receipt."""
    bus, seen, records = Bus(), list[object](), list[Record]()
    bus.observe(records.append)
    subscription = bus.subscribe(Placed, seen.append)
    subscription.pause()
    receipt = bus.publish(Placed())
    subscription.close()
    assert kinds(receipt) == [Abandonment]
    assert [record.reason for record in records if isinstance(record, Abandoned)] == ["closed"]
    assert seen == []
    bus.idle(0)


def test_pausing_again_while_resuming_holds_back_the_rest() -> None:
    """A handler may pause its own subscription; what comes next waits for the next resume."""
    bus, seen = Bus(), list[int]()

    def handle(placed: Placed) -> None:
        seen.append(placed.number)
        if placed.number == 0:
            subscription.pause()

    subscription = bus.subscribe(Placed, handle)
    bus.publish(Placed(0))
    bus.publish(Placed(1))
    assert seen == [0]
    subscription.resume()
    assert seen == [0, 1]


def test_a_handler_that_pauses_itself_while_it_catches_up_gets_no_more() -> None:
    """Of what was held back, the rest is held back again."""
    bus, seen = Bus(), list[int]()

    def handle(placed: Placed) -> None:
        seen.append(placed.number)
        subscription.pause()

    subscription = bus.subscribe(Placed, handle)
    subscription.pause()
    for number in range(3):
        bus.publish(Placed(number))
    subscription.resume()
    assert seen == [0]
    subscription.resume()
    assert seen == [0, 1]
    subscription.close()
