"""Rule 8 on a transport, exactly-once effects: rows, events and settlement in one transaction."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Paid, Placed, Shipped

from headwater import Bus, Context, Retry, WouldDeadlock
from headwater.errors import TransactionOver, Unsupported
from headwater.policies import Backoff

SOON = Retry(max_attempts=3, backoff=Backoff(initial=0.001, maximum=0.001, jitter=False))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test, with a table of the user's in it."""
    log = Log(tmp_path)
    with log.bus() as bus, bus.transaction() as transaction:
        transaction.execute("CREATE TABLE stock(number INTEGER)")
    return log


def stock(log: Log) -> list[int]:
    """What is in the user's table."""
    return [row[0] for row in log.ask("SELECT number FROM stock ORDER BY number")]


# bus.transaction().


def test_a_block_is_kept_as_a_whole(log: Log) -> None:
    """Rows and events, once it is left."""
    with log.bus() as bus:
        with bus.transaction() as transaction:
            transaction.execute("INSERT INTO stock VALUES(?)", (1,))
            transaction.executemany("INSERT INTO stock VALUES(?)", [(2,), (3,)])
            receipt = bus.publish(Placed(1), transaction=transaction)
            assert receipt.done
            assert transaction.execute("SELECT count(*) FROM stock").fetchone() == (3,)
            assert stock(log) == [], "nobody else sees it yet"
            assert log.ids() == []
        assert stock(log) == [1, 2, 3]
        assert log.names() == ["shop.Placed"]


def test_a_block_that_raises_leaves_nothing(log: Log) -> None:
    """And its error goes on."""
    with log.bus() as bus:
        with pytest.raises(ZeroDivisionError), bus.transaction() as transaction:  # noqa: PT012
            transaction.execute("INSERT INTO stock VALUES(1)")
            bus.publish(Placed(1), transaction=transaction)
            _ = 1 / 0
        assert (stock(log), log.ids()) == ([], [])
        bus.publish(Placed(2))
    assert len(log.ids()) == 1


def test_a_block_of_async_code_is_the_same(log: Log) -> None:
    """Without stopping the loop, which goes on meanwhile."""

    async def run() -> None:
        async with log.bus() as bus:
            async with bus.transaction() as transaction:
                transaction.execute("INSERT INTO stock VALUES(1)")
                await bus.publish(Placed(1), transaction=transaction)
                await asyncio.sleep(0)
            assert stock(log) == [1]
            with pytest.raises(ZeroDivisionError):  # noqa: PT012
                async with bus.transaction() as transaction:
                    transaction.execute("INSERT INTO stock VALUES(2)")
                    _ = 1 / 0
            assert stock(log) == [1]

    asyncio.run(run())
    assert len(log.ids()) == 1


def test_a_delayed_event_of_a_transaction_is_part_of_it(log: Log) -> None:
    """It waits for its time only if the transaction was kept."""
    with log.bus() as bus:
        for number in (1, 2):
            try:
                with bus.transaction() as transaction:
                    bus.publish(Placed(number), transaction=transaction, delay=60, id=f"e{number}")
                    _ = 1 / (number - 1)
            except ZeroDivisionError:
                pass
    assert log.ask("SELECT id FROM later") == [("e2",)]


def test_blocks_of_several_threads_take_turns(log: Log) -> None:
    """None of them sees half of another one."""
    from concurrent.futures import ThreadPoolExecutor

    with log.bus() as bus, ThreadPoolExecutor(4) as pool:

        def add(number: int) -> None:
            with bus.transaction() as transaction:
                (count,) = transaction.execute("SELECT count(*) FROM stock").fetchone()
                transaction.execute("INSERT INTO stock VALUES(?)", (count,))
                bus.publish(Placed(count), transaction=transaction)

        list(pool.map(add, range(40)))
    assert stock(log) == list(range(40))
    assert len(log.ids()) == 40


# What would wait for itself.


def test_a_publish_beside_the_transaction_is_refused(log: Log) -> None:
    """It would wait for the lock that this very code holds; the text says what to do."""
    with log.bus() as bus:
        with bus.transaction() as transaction:
            with pytest.raises(WouldDeadlock, match="publish with transaction="):
                bus.publish(Placed(1))
            transaction.execute("INSERT INTO stock VALUES(1)")
        bus.publish(Placed(2))
    assert stock(log) == [1]
    assert len(log.ids()) == 1


def test_the_same_in_async_code(log: Log) -> None:
    """Other tasks are not in the transaction, and only wait for it."""

    async def other(bus: Bus) -> None:
        await bus.publish(Placed(9))

    async def run() -> None:
        async with log.bus() as bus:
            task = asyncio.create_task(other(bus))
            async with bus.transaction():
                with pytest.raises(WouldDeadlock):
                    await bus.publish(Placed(1))
            await task

    asyncio.run(run())
    assert len(log.ids()) == 1


def test_a_second_transaction_within_one_is_refused(log: Log) -> None:
    """It would wait for the first."""
    with log.bus() as bus:
        with bus.transaction(), pytest.raises(WouldDeadlock, match="a second one"):
            bus.transaction().__enter__()
        with bus.transaction() as transaction:
            transaction.execute("INSERT INTO stock VALUES(1)")

    async def run() -> None:
        async with log.bus() as bus, bus.transaction():
            with pytest.raises(WouldDeadlock, match="a second one"):
                await bus.transaction().__aenter__()

    asyncio.run(run())
    assert stock(log) == [1]


def test_blocking_a_loop_for_a_transaction_is_refused(log: Log) -> None:
    """A handler that runs on it may hold the transaction."""

    async def run() -> None:
        async with log.bus() as bus:
            with pytest.raises(WouldDeadlock, match="async with"), bus.transaction():
                pass

    asyncio.run(run())


def test_a_transaction_that_is_over_is_over(log: Log) -> None:
    """Neither statements nor events."""
    with log.bus() as bus:
        with bus.transaction() as transaction:
            pass
        with pytest.raises(TransactionOver):
            transaction.execute("INSERT INTO stock VALUES(1)")
        with pytest.raises(TransactionOver):
            bus.publish(Placed(1), transaction=transaction)
    assert (stock(log), log.ids()) == ([], [])


def test_a_direct_bus_has_no_transactions() -> None:
    """Said with what has them."""
    with pytest.raises(Unsupported, match="stores events in a database"):
        Bus().transaction()


# transaction=True.


def test_a_handler_and_its_settlement_are_one(log: Log) -> None:
    """Each attempt begins without what the one before did; its events are staged as ever."""
    bus = log.bus()

    def reserve(event: Paid, context: Context) -> None:
        context.transaction.execute("INSERT INTO stock VALUES(?)", (event.number,))
        bus.publish(Shipped(event.number))
        bus.publish(Placed(event.number), transaction=context.transaction)
        assert context.transaction.execute("SELECT count(*) FROM stock").fetchone()[0] <= 3
        if context.attempt < 3:
            raise ValueError("not yet")

    bus.subscribe(Paid, reserve, name="reserve", transaction=True, retry=SOON)
    with bus:
        for number in range(3):
            bus.publish(Paid(f"o{number}", number))
        bus.idle(PATIENCE)
    assert stock(log) == [0, 1, 2]
    assert sorted(log.names()) == ["shop.Paid"] * 3 + ["shop.Placed"] * 3 + ["shop.Shipped"] * 3


def test_an_event_that_was_handled_in_a_transaction_is_not_handled_again(log: Log) -> None:
    """As after a kill between its commit and its settlement: the inbox knows it."""
    seen = list[int]()
    bus = log.bus()
    bus.subscribe(Paid, lambda event: seen.append(event.number), name="reserve", transaction=True)
    with bus:
        pass
    with log.bus("till") as till:
        for number in range(3):
            till.publish(Paid("o1", number), id=f"e{number}")
    log.ask(
        "INSERT INTO inbox SELECT 'shop:reserve', id, 'events', lane, position FROM log"
        " WHERE id = 'e1'"
    )
    bus = log.bus()
    bus.subscribe(Paid, lambda event: seen.append(event.number), name="reserve", transaction=True)
    with bus:
        bus.idle(PATIENCE)
    assert seen == [0, 2]


def test_the_inbox_does_not_grow(log: Log) -> None:
    """What is settled need not be remembered."""
    bus = log.bus()
    bus.subscribe(Paid, lambda event: None, name="reserve", transaction=True)
    with bus:
        for number in range(100):
            bus.publish(Paid(f"o{number}", number))
        bus.idle(PATIENCE)
        for number in range(8 * 8):  # One more settlement for each lane, and then some.
            bus.publish(Paid(f"p{number}", number))
        bus.idle(PATIENCE)
    ((left,),) = log.ask("SELECT count(*) FROM inbox")
    assert left <= 64


def test_the_connection_of_an_attempt_is_over_with_it(log: Log) -> None:
    """A handler that has kept it cannot touch the next one's transaction."""
    kept = list[object]()
    bus = log.bus()

    def reserve(event: Placed, context: Context) -> None:
        kept.append(context.transaction)

    bus.subscribe(Placed, reserve, name="reserve", transaction=True)
    with bus:
        bus.publish(Placed(1))
        bus.idle(PATIENCE)
        with pytest.raises(TransactionOver):
            kept[0].execute("INSERT INTO stock VALUES(1)")  # type: ignore[attr-defined]
    assert stock(log) == []


def test_a_failing_statement_is_the_handlers_failure(log: Log) -> None:
    """It hurts no other handler that shares the commit."""
    bus = log.bus()

    def reserve(event: Placed, context: Context) -> None:
        context.transaction.execute("INSERT INTO stock VALUES(?)", (event.number,))
        if event.number == 3:
            context.transaction.execute("INSERT INTO nothing VALUES(1)")

    bus.subscribe(Placed, reserve, name="reserve", transaction=True)
    with bus:
        for number in range(6):
            bus.publish(Placed(number))
        bus.idle(PATIENCE)
        (letter,) = bus.dead_letters.list().result(PATIENCE)
    assert letter.kind == sqlite3.OperationalError.__name__
    assert stock(log) == [0, 1, 2, 4, 5]


def test_a_plain_handler_has_no_transaction(log: Log) -> None:
    """It is lent where it is asked for."""
    seen = list[object]()
    bus = log.bus()

    def reserve(event: Placed, context: Context) -> None:
        seen.append(context.transaction)

    bus.subscribe(Placed, reserve, name="reserve")
    with bus:
        bus.publish(Placed(1))
        bus.idle(PATIENCE)
    assert seen == [None]
