"""Rule 11 on a transport, drain: fetch stops, what runs may finish, what is finished is settled."""

import asyncio
import threading
from pathlib import Path

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Placed, Shipped, until, wait_until

from headwater import Bus
from headwater.records import Abandoned, Record


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


def unsettled(log: Log) -> int:
    """How many events are still to be settled."""
    ((count,),) = log.ask(
        "SELECT count(*) FROM log JOIN topic ON topic.number = log.topic JOIN cursor"
        " ON cursor.topic = topic.name AND cursor.lane = log.lane"
        " WHERE names = 'shop.Placed' AND log.position > cursor.position"
        " AND ',' || done || ',' NOT LIKE '%,' || log.position || ',%'"
    )
    return int(count)


def test_what_runs_finishes_and_nothing_else_begins(log: Log) -> None:
    """A backlog is left to the next run of the program."""
    entered, go_on, calls = threading.Semaphore(0), threading.Event(), list[int]()

    def ship(event: Placed) -> None:
        calls.append(event.number)
        entered.release()
        assert go_on.wait(PATIENCE)

    bus = log.bus()
    bus.subscribe(Placed, ship, name="ship", concurrency=3)
    bus.start()
    for number in range(40):
        bus.publish(Placed(number))
    for _ in range(3):
        assert entered.acquire(timeout=PATIENCE)
    stopping = threading.Thread(target=bus.close)
    stopping.start()
    wait_until(lambda: bus._life.stopping, "it drains")  # type: ignore[attr-defined]
    go_on.set()
    stopping.join(PATIENCE)
    assert len(calls) == 3
    assert unsettled(log) == 37
    assert log.ask("SELECT * FROM member") == []
    again = log.bus()
    again.subscribe(Placed, lambda event: calls.append(event.number), name="ship")
    with again:
        again.idle(PATIENCE)
    assert sorted(calls) == list(range(40))


def test_what_does_not_finish_in_time_is_given_up_and_not_settled(log: Log) -> None:
    """It is observed, and comes again."""
    go_on, entered, seen = threading.Event(), threading.Event(), list[Record]()

    def ship(event: Placed) -> None:
        entered.set()
        assert go_on.wait(PATIENCE)

    bus = Bus(log.url(), name="shop", drain_timeout=0.05)
    bus.observe(seen.append)
    bus.subscribe(Placed, ship, name="ship")
    bus.start()
    bus.publish(Placed(1))
    assert entered.wait(PATIENCE)
    bus.stop()
    go_on.set()
    assert unsettled(log) == 1
    (record,) = [record for record in seen if isinstance(record, Abandoned)]
    assert (record.name, record.reason) == ("shop.Placed", "stopped")


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_run_drains_when_it_is_asked_to_end(log: Log, colour: str) -> None:
    """By `stop`, from a handler as well; what it has published is kept."""
    bus = log.bus()

    def ship(event: Placed) -> None:
        bus.publish(Shipped(event.number))
        bus.stop()

    async def ship_soon(event: Placed) -> None:
        ship(event)
        await asyncio.sleep(0)

    async def run() -> None:
        bus.subscribe(Placed, ship if colour == "sync" else ship_soon, name="ship")
        async with asyncio.timeout(PATIENCE):
            running = asyncio.create_task(bus.run())
            await until(lambda: "open" in repr(bus), "it runs")
            await bus.publish(Placed(1))
            await running

    asyncio.run(run())
    assert log.names() == ["shop.Placed", "shop.Shipped"]
    assert log.ask("SELECT * FROM member") == []
    assert unsettled(log) == 0


def test_a_cancelled_run_drains_too(log: Log) -> None:
    """An async handler gets to its end."""
    ended = list[int]()
    bus = log.bus()

    async def run() -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def ship(event: Placed) -> None:
            entered.set()
            await go_on.wait()
            ended.append(event.number)

        bus.subscribe(Placed, ship, name="ship")
        running = asyncio.create_task(bus.run())
        await until(lambda: "open" in repr(bus), "it runs")
        await bus.publish(Placed(1))
        await entered.wait()
        running.cancel()
        await until(lambda: bus._life.stopping, "it drains")  # type: ignore[attr-defined]
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(run())
    assert ended == [1]
    assert unsettled(log) == 0


def test_a_bus_that_was_stopped_can_be_started_again(log: Log) -> None:
    """With another connection to the same log, and the same subscriptions."""
    calls = list[int]()
    bus = log.bus()
    bus.subscribe(Placed, lambda event: calls.append(event.number), name="ship")
    for number in range(5):
        bus.start()
        bus.publish(Placed(number))
        bus.idle(PATIENCE)
        bus.stop()
    bus.close()
    assert calls == list(range(5))
    assert unsettled(log) == 0


def test_an_end_without_a_start_is_no_error(log: Log) -> None:
    """A bus that was never used has no file."""
    log.bus().close()
    assert not log.path.exists()
