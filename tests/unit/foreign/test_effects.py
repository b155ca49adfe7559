"""Exactly-once effects in a database of the user's: `transaction=factory`."""

import asyncio
import inspect
import sqlite3
import threading
from typing import Any

import pytest
from tests.unit.foreign.databases import ASYNC, PATIENCE, SYNC, Database, Way

from headwater import Backoff, Bus, Context, Retry

AT_ONCE = Retry(max_attempts=3, backoff=Backoff(initial=0))


def subscribe(bus: Bus, way: Way, factory: Any) -> list[int]:
    """A sync handler that writes and publishes, and fails at its first attempt."""
    seen: list[int] = []

    def handle(number: int, context: Context) -> None:
        way.write(context.transaction, number)
        bus.publish("effect", number)
        if context.attempt == 1:
            raise RuntimeError("not yet")

    bus.subscribe("cause", handle, name="handle", transaction=factory, retry=AT_ONCE)
    bus.subscribe("effect", seen.append, name="see")
    return seen


def subscribe_async(bus: Bus, way: Way, factory: Any) -> list[int]:
    """The same with an async handler."""
    seen: list[int] = []

    async def handle(number: int, context: Context) -> None:
        written = way.write(context.transaction, number)
        if inspect.isawaitable(written):
            await written
        await asyncio.sleep(0)
        await bus.publish("effect", number)
        if context.attempt == 1:
            raise RuntimeError("not yet")

    bus.subscribe("cause", handle, name="handle", transaction=factory, retry=AT_ONCE)
    bus.subscribe("effect", seen.append, name="see")
    return seen


def check(database: Database, seen: list[int]) -> None:
    """Every effect and every event is there once, and nothing is left to relay."""
    assert database.effects == list(range(8))
    assert sorted(seen) == list(range(8))
    assert database.inbox == 8
    assert database.outbox == 0


@pytest.mark.parametrize("way", SYNC.values(), ids=SYNC)
def test_a_failed_attempt_leaves_nothing(way: Way, database: Database, url: str) -> None:
    """Rows and events of the attempt that failed are undone, those of the next one are kept."""
    bus = Bus(url, name="shop")
    with way.to(database) as factory:
        seen = subscribe(bus, way, factory)
        with bus:
            for number in range(8):
                bus.publish("cause", number)
            bus.idle(PATIENCE)
    check(database, seen)


@pytest.mark.parametrize("way", [*ASYNC.values(), *SYNC.values()], ids=[*ASYNC, *SYNC])
def test_async_handlers_have_transactions_too(way: Way, database: Database, url: str) -> None:
    """Of async connections, and of sync ones, which take turns."""

    async def main() -> list[int]:
        bus = Bus(url, name="shop")
        with way.to(database) as factory:
            seen = subscribe_async(bus, way, factory)
            async with bus:
                for number in range(8):
                    await bus.publish("cause", number)
                await bus.idle(PATIENCE)
        return seen

    check(database, asyncio.run(main()))


def test_a_duplicate_skips_the_handler(database: Database, url: str) -> None:
    """What the inbox knows was handled; what the outbox has of it is published all the same."""
    bus = Bus(url, name="shop")
    calls: list[int] = []
    seen: list[int] = []

    def handle(number: int, context: Context) -> None:
        calls.append(number)
        database_write(context.transaction, number)
        bus.publish("effect", number)

    @bus.middleware
    def lose(event: object, context: Context) -> Any:
        yield
        if context.name == "cause" and context.attempt == 1:
            raise RuntimeError("after the commit")

    bus.subscribe("cause", handle, name="handle", transaction=database.connect, retry=AT_ONCE)
    bus.subscribe("effect", seen.append, name="see")
    with bus:
        bus.publish("cause", 1)
        bus.idle(PATIENCE)
    assert calls == [1]
    assert database.effects == [1]
    assert seen == [1]
    assert database.outbox == 0


def database_write(transaction: Any, number: int) -> None:
    """Write an effect with sqlite3."""
    transaction.execute("INSERT INTO effects VALUES(?)", (number,))


def test_an_attempt_that_timed_out_does_not_commit(database: Database, url: str) -> None:
    """Its thread goes on, and finds out at its end."""
    bus = Bus(url, name="shop")
    tries: list[int] = []

    def handle(number: int, context: Context) -> None:
        tries.append(context.attempt)
        bus.publish("effect", context.attempt)
        if context.attempt == 1:
            context.transaction.rollback()  # So that the next attempt finds the file free.
            until_two()
        database_write(context.transaction, context.attempt)

    def until_two() -> None:
        while len(tries) < 2:
            released.wait(0.01)

    released = threading.Event()
    seen: list[int] = []
    bus.subscribe(
        "cause", handle, name="handle", transaction=database.connect, retry=AT_ONCE, timeout=0.2
    )
    bus.subscribe("effect", seen.append, name="see")
    with bus:
        bus.publish("cause", 1)
        bus.idle(PATIENCE)
    assert database.effects == [2]
    assert seen == [2]


def test_a_database_that_is_busy_costs_no_attempt(database: Database, url: str) -> None:
    """Whoever holds the file lets the handler wait; it is tried again, without `retry=`."""
    bus = Bus(url, name="shop")

    def handle(number: int, context: Context) -> None:
        database_write(context.transaction, context.attempt)

    bus.subscribe("cause", handle, name="handle", transaction=lambda: impatient(database))
    with bus:
        holder = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN IMMEDIATE")
        retried = watch(bus)
        bus.publish("cause", 1)
        assert retried.wait(PATIENCE)
        holder.execute("COMMIT")
        holder.close()
        bus.idle(PATIENCE)
    assert database.effects == [1]


def impatient(database: Database) -> sqlite3.Connection:
    """A connection that does not wait for a lock."""
    return sqlite3.connect(database.path, timeout=0)


def watch(bus: Bus) -> threading.Event:
    """An event that is set at the first retry."""
    latch = threading.Event()

    @bus.observe
    def look(record: object) -> None:
        if type(record).__name__ == "Retried":
            latch.set()

    return latch
