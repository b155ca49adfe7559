"""Rule 10 on a transport, bounded: whatever waits has a limit, and the limit can be seen."""

import asyncio
import inspect
import threading
from pathlib import Path

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Placed, wait_until

from headwater import Bus, Overloaded
from headwater.options import CONCURRENCY, OPTIONS
from headwater.strand import LONGEST, WIDEST
from headwater.transports.sqlite.log import LANES
from headwater.transports.sqlite.settings import Settings


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


def test_every_limit_has_a_finite_default_that_can_be_seen() -> None:
    """In a signature, or in the table of options."""
    assert inspect.signature(Bus).parameters["max_pending"].default == 10_000
    assert OPTIONS["concurrency"].transport == str(CONCURRENCY) == "32"
    assert Settings("/a.db").max_bytes == 1 << 20
    assert (WIDEST, LONGEST) == (256, 4096)


def test_publishes_that_nobody_confirms_are_bounded(log: Log) -> None:
    """The one too many is refused before it is queued; those before it are stored."""

    async def run() -> None:
        async with Bus(log.url(), name="shop", max_pending=50) as bus:
            with log.busy():
                receipts = [bus.publish(Placed(number)) for number in range(50)]
                with pytest.raises(Overloaded) as caught:
                    bus.publish(Placed(99))
                assert (caught.value.pending, caught.value.limit) == (50, 50)
            for receipt in receipts:
                await receipt
            await bus.publish(Placed(50))

    asyncio.run(run())
    assert len(log.ids()) == 51


def in_memory(bus: Bus) -> int:
    """How many events a bus has taken out of its log and not settled."""
    durable = bus._durable
    assert durable is not None
    consumption = durable._consumption
    assert consumption is not None
    (consumer,) = consumption.consumers.values()
    return sum(len(strand.window) for strand in tuple(consumer.strands.values()))


@pytest.mark.parametrize("concurrency", [1, 5])
def test_a_backlog_stays_in_the_log(log: Log, concurrency: int) -> None:
    """A handler that hangs has as many events as it may have at once, and a window before it."""
    entered, go_on = threading.Semaphore(0), threading.Event()
    calls = list[int]()

    def ship(event: Placed) -> None:
        calls.append(event.number)
        entered.release()
        assert go_on.wait(PATIENCE)

    count = (WIDEST + 50) * LANES
    bus = log.bus()
    bus.subscribe(Placed, ship, name="ship", concurrency=concurrency)

    async def publish() -> None:
        receipts = [bus.publish(Placed(number)) for number in range(count)]
        for receipt in receipts:
            await receipt

    with bus:
        asyncio.run(publish())
        for _ in range(concurrency):
            assert entered.acquire(timeout=PATIENCE)
        wait_until(lambda: in_memory(bus) > WIDEST * LANES // 2, "the windows are full")
        assert in_memory(bus) <= WIDEST * LANES < count
        assert len(calls) == concurrency
        go_on.set()
        bus.idle(PATIENCE)
    assert sorted(calls) == list(range(count))


def test_one_event_that_hangs_holds_back_no_more_than_a_window(log: Log) -> None:
    """What is settled behind it is remembered, up to a limit."""
    go_on, calls, lock = threading.Event(), [0], threading.Lock()

    def ship(event: Placed) -> None:
        with lock:
            calls[0] += 1
        if event.number == 0:
            assert go_on.wait(PATIENCE)

    bus = log.bus()
    bus.subscribe(Placed, ship, name="ship", concurrency=4)

    async def publish() -> None:
        for receipt in [bus.publish(Placed(number), key="one") if number == 0 else
                        bus.publish(Placed(number)) for number in range(2_000)]:  # fmt: skip
            await receipt

    with bus:
        asyncio.run(publish())
        wait_until(lambda: calls[0] == 2_000, "all the others")
        ((longest,),) = log.ask("SELECT max(length(done)) FROM cursor")
        assert longest < 10 * LONGEST
        go_on.set()
        bus.idle(PATIENCE)
    assert log.ask("SELECT DISTINCT done FROM cursor") == [("",)]


def test_a_story_is_bounded_over_handlers(log: Log) -> None:
    """A circle of events comes to its end in a dead letter that shows the circle."""
    bus = Bus(log.url(), name="shop", max_depth=5)
    bus.subscribe(Placed, lambda event: bus.publish(Placed(event.number + 1)), name="again")
    with bus:
        bus.publish(Placed(0))
        bus.idle(PATIENCE)
        (letter,) = bus.dead_letters.list().result(PATIENCE)
    assert letter.kind == "EventStorm"
    assert "shop.Placed → shop.Placed" in letter.error
    assert len(log.ids()) == 6
