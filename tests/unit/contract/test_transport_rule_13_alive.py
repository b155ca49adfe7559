"""Rule 13 on a transport, alive: the bus's own thread keeps its place while user code blocks."""

import asyncio
import logging
import threading
from pathlib import Path

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Paid, Placed, wait_until


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


def leases(log: Log) -> dict[str, float]:
    """Until when each member counts as alive."""
    return dict(log.ask("SELECT owner, lease FROM member"))


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_blocked_loop_does_not_lose_the_lease(
    log: Log, colour: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The user's loop stands still for longer than the lease: nobody else gets the event."""
    calls, others = list[int](), list[int]()

    def block(event: Placed) -> None:
        """Stay until a whole lease has gone by, as the log sees it."""
        calls.append(event.number)
        begun = max(leases(log).values())
        wait_until(lambda: max(leases(log).values()) > begun + 1.2, "renewed beyond a lease")

    async def block_loop(event: Placed) -> None:
        block(event)

    async def run() -> None:
        bus = log.bus(lease=1)
        bus.subscribe(Placed, block_loop if colour == "async" else block, name="ship")
        async with bus:
            other = log.bus(lease=1)
            other.subscribe(Placed, lambda event: others.append(event.number), name="ship")
            await bus.publish(Placed(1), key="k")
            await asyncio.to_thread(wait_until, lambda: calls, "the handler")
            await asyncio.to_thread(other.start)
            await bus.idle(PATIENCE)
            await other.aclose()

    with caplog.at_level(logging.WARNING, "headwater"):
        asyncio.run(run())
    assert calls == [1]
    assert others == []
    assert not [record for record in caplog.records if "lane_lost" in record.getMessage()]


def test_async_handlers_run_on_the_loop_that_entered(log: Log) -> None:
    """And sync ones in workers; none of them in a thread of the engine."""
    where = dict[str, object]()

    async def run() -> None:
        bus = log.bus()

        async def ship(event: Placed) -> None:
            where["async"] = (threading.current_thread(), asyncio.get_running_loop())

        def book(event: Placed) -> None:
            where["sync"] = threading.current_thread().name

        bus.subscribe(Placed, ship, name="ship")
        bus.subscribe(Placed, book, name="book")
        async with bus:
            await bus.publish(Placed())
            await bus.idle(PATIENCE)
            assert where["async"] == (threading.current_thread(), asyncio.get_running_loop())

    asyncio.run(run())
    assert where["sync"] == "headwater-worker"


def test_without_a_loop_of_the_users_the_bus_has_its_own(log: Log) -> None:
    """For async handlers, apart from the one that talks to the engine."""
    names = list[str]()

    async def ship(event: Placed) -> None:
        names.append(threading.current_thread().name)

    bus = log.bus()
    bus.subscribe(Placed, ship, name="ship")
    with bus:
        bus.publish(Placed())
        bus.idle(PATIENCE)
    assert names == ["headwater-loop"]


def test_an_outage_is_waited_out_and_said_once(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """What is done is settled when that is possible again; nothing is done twice."""
    calls, go_on = list[int](), threading.Event()

    def ship(event: Paid) -> None:
        assert go_on.wait(PATIENCE)
        calls.append(event.number)

    bus = log.bus(timeout=0.01)
    bus.subscribe(Paid, ship, name="ship")
    with caplog.at_level(logging.ERROR, "headwater"), bus:
        for number in range(6):
            bus.publish(Paid("o1", number))
        with log.busy():
            go_on.set()
            with pytest.raises(TimeoutError):
                bus.idle(0.8)  # It tries to settle a few times meanwhile.
            said = [record.getMessage() for record in caplog.records]
        bus.idle(PATIENCE)
    assert calls == list(range(6))
    kinds = [text.split(" ")[0] for text in said if "trouble" in text]
    assert len(kinds) == len(set(kinds)) >= 1


def test_a_slow_handler_is_not_handled_twice(log: Log) -> None:
    """Its process lives, and shows it, for as long as it takes."""
    go_on, calls = threading.Event(), list[int]()

    def ship(event: Placed) -> None:
        calls.append(event.number)
        assert go_on.wait(PATIENCE)

    one, other = log.bus(lease=0.3, poll=0.02), log.bus(lease=0.3, poll=0.02)
    for bus in (one, other):
        bus.subscribe(Placed, ship, name="ship")
    with one:
        one.publish(Placed(1), key="k")
        wait_until(lambda: calls, "the handler")
        with other:
            first = leases(log)
            wait_until(
                lambda: len(leases(log)) == 2 and min(leases(log).values()) > max(first.values()),
                "both have renewed",
            )
            assert calls == [1]
            go_on.set()
            one.idle(PATIENCE)
    assert calls == [1]
