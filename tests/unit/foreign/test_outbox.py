"""Events that a transaction of the user's publishes: `publish(event, transaction=...)`."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from tests.unit.foreign.databases import ASYNC, PATIENCE, SYNC, Database, Way

from headwater import Bus, Context
from headwater.errors import (
    InvalidOption,
    PublishFailed,
    UnconfirmedPublish,
    Unsupported,
    WouldDeadlock,
)
from headwater.foreign import Steps, run, run_async, transact


def bus_of(url: str, factory: Any) -> tuple[Bus, list[int]]:
    """A bus that relays, and what its handler has seen."""
    bus, seen = Bus(url, name="shop", outbox=factory), list[int]()
    bus.subscribe("sold", seen.append, name="see")
    return bus, seen


def sell(bus: Bus, way: Way, number: int, *, fails: bool = False) -> Any:
    """The work of one transaction: an effect and an event."""

    def work(given: Any) -> Steps[None]:
        yield way.write(given, number)
        receipt = bus.publish("sold", number, transaction=given)
        if not receipt.done:
            yield receipt
        assert receipt.done
        assert receipt.deferred == 1
        if fails:
            raise ZeroDivisionError

    return work


@pytest.mark.parametrize("way", SYNC.values(), ids=SYNC)
def test_an_event_shares_the_fate_of_its_transaction(
    way: Way, database: Database, url: str
) -> None:
    """Committed, it is relayed; rolled back, it never was."""
    with way.to(database) as factory:
        bus, seen = bus_of(url, factory)
        with bus:
            for number in range(5):
                run(transact(factory, sell(bus, way, number)))
            with pytest.raises(ZeroDivisionError):
                run(transact(factory, sell(bus, way, 9, fails=True)))
            bus.idle(PATIENCE)
    assert seen == database.effects == list(range(5))
    assert database.outbox == 0


@pytest.mark.parametrize("way", ASYNC.values(), ids=ASYNC)
def test_async_connections_write_when_the_receipt_is_awaited(
    way: Way, database: Database, url: str
) -> None:
    """The same through connections that have to be awaited."""

    async def main() -> list[int]:
        with way.to(database) as factory:
            bus, seen = bus_of(url, factory)
            async with bus:
                await bus.idle(PATIENCE)  # The tables are there.
                for number in range(5):
                    await run_async(transact(factory, sell(bus, way, number)))
                with pytest.raises(ZeroDivisionError):
                    await run_async(transact(factory, sell(bus, way, 9, fails=True)))
                await bus.idle(PATIENCE)
        return seen

    assert asyncio.run(main()) == database.effects == list(range(5))
    assert database.outbox == 0


def test_what_is_committed_while_no_bus_runs_is_relayed_at_start(
    database: Database, url: str
) -> None:
    """A publisher that never consumes leaves it in the outbox."""
    way = SYNC["sqlite3"]
    bus, seen = bus_of(url, database.connect)
    with bus:
        pass  # The tables are there.
    publisher = Bus(url, name="shop")
    for number in range(250):
        run(transact(database.connect, sell(publisher, way, number)))
    publisher.close()
    assert database.outbox == 250
    with bus:
        bus.idle(PATIENCE)
    assert sorted(seen) == list(range(250))
    assert database.outbox == 0


def test_two_relays_store_an_event_once(database: Database, url: str, tmp_path: Path) -> None:
    """Both publish it, and the log keeps its id once."""
    way, copy = SYNC["sqlite3"], Database(tmp_path / "copy.db")
    bus, seen = bus_of(url, database.connect)
    with bus:
        run(transact(database.connect, sell(bus, way, 1)))
        with (
            contextlib.closing(database.connect()) as source,
            contextlib.closing(copy.connect()) as target,
        ):
            source.backup(target)
        bus.idle(PATIENCE)
    again = Bus(url, name="shop", outbox=copy.connect)
    again.subscribe("sold", seen.append, name="see")
    with again:
        again.idle(PATIENCE)
        again.publish("sold", 2)
        again.idle(PATIENCE)
    assert seen == [1, 2]
    assert copy.outbox == 0


def test_a_spoilt_row_blocks_nobody(
    database: Database, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays where it is, and is told once."""
    way = SYNC["sqlite3"]
    bus, seen = bus_of(url, database.connect)
    with bus:
        pass
    database.all(
        "INSERT INTO headwater_outbox(bus, id, time, envelope) VALUES('shop', 'x', 0, x'00')"
    )
    with bus:
        run(transact(database.connect, sell(bus, way, 1)))
        bus.idle(PATIENCE)
        bus.idle(PATIENCE)
    assert seen == [1]
    assert database.outbox == 1
    assert sum("outbox_row_spoilt" in message for message in caplog.messages) == 1


def test_rows_of_another_bus_are_left_alone(database: Database, url: str, tmp_path: Path) -> None:
    """Two buses may share one database."""
    way = SYNC["sqlite3"]
    bus, seen = bus_of(url, database.connect)
    other = Bus(f"sqlite:///{tmp_path}/other.db", name="other")
    with bus:
        run(transact(database.connect, sell(other, way, 1)))
        bus.idle(PATIENCE)
    other.close()
    assert seen == []
    assert database.outbox == 1


def test_in_a_handler_its_own_transaction_is_meant_anyway(database: Database, url: str) -> None:
    """`transaction=context.transaction` is what publishing there does by itself."""
    bus, seen = bus_of(url, None)

    def handle(number: int, context: Context) -> None:
        bus.publish("sold", number)
        bus.publish("sold", number + 1, transaction=context.transaction)

    bus.subscribe("cause", handle, name="handle", transaction=database.connect)
    with bus:
        bus.publish("cause", 1)
        bus.idle(PATIENCE)
    assert sorted(seen) == [1, 2]
    assert database.outbox == 0


def test_a_delay_is_kept(database: Database, url: str) -> None:
    """An event that waits in an outbox waits for its time in the log."""
    bus, seen = bus_of(url, database.connect)
    with bus:
        with database.connect() as connection:
            bus.publish("sold", 1, transaction=connection, delay=3600)
        connection.close()
        with pytest.raises(TimeoutError):
            bus.idle(2)
    assert seen == []
    assert database.outbox == 0


@pytest.mark.parametrize("way", [SYNC["sqlite3"], ASYNC["aiosqlite"]], ids=["sync", "async"])
def test_the_tables_can_be_made_without_consuming(way: Way, database: Database, url: str) -> None:
    """As `headwater ensure` does."""
    with way.to(database) as factory:
        bus, _ = bus_of(url, factory)
        durable = bus._durable
        assert durable is not None
        durable.call(durable.ensure())
        assert database.outbox == database.inbox == 0
        bus.close()


# What is refused.


def test_a_connection_that_autocommits_is_refused(database: Database, url: str) -> None:
    """The event would be stored, whatever becomes of the transaction."""
    bus, _ = bus_of(url, database.connect)
    with bus:
        with contextlib.closing(sqlite3.connect(database.path, isolation_level=None)) as connection:
            with pytest.raises(Unsupported, match="autocommit"):
                bus.publish("sold", 1, transaction=connection)
            connection.execute("BEGIN")
            bus.publish("sold", 1, transaction=connection)
            connection.execute("ROLLBACK")
        engine = create_engine(f"sqlite:///{database.path}", isolation_level="AUTOCOMMIT")
        with engine.connect() as alchemy, pytest.raises(Unsupported, match="autocommit"):
            bus.publish("sold", 1, transaction=alchemy)
        engine.dispose()


def test_the_logs_own_file_is_refused(tmp_path: Path, url: str) -> None:
    """Two connections that write could damage it: the bus lends its own."""
    bus, _ = bus_of(url, None)
    with bus, contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        if sqlite3.sqlite_version_info >= (3, 51, 3):
            pytest.skip("this SQLite allows it")
        with pytest.raises(Unsupported, match=r"bus\.transaction\(\)"):
            bus.publish("sold", 1, transaction=connection)
    own = Bus(url, name="shop", outbox=lambda: sqlite3.connect(tmp_path / "log.db"))
    with pytest.raises(Unsupported, match=r"bus\.transaction\(\)"):
        own.start()
    own.close()


def test_a_safe_sqlite_writes_the_log_directly(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of the log is part of the guest's transaction; no relay is needed."""
    monkeypatch.setattr("headwater.transports.sqlite.guest.SAFE", (3, 0, 0))
    bus, seen = bus_of(url, None)
    with bus:
        with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as connection:
            bus.publish("sold", 1, transaction=connection)
            connection.rollback()
            bus.publish("sold", 2, transaction=connection)
            connection.commit()
        bus.publish("sold", 3)
        bus.idle(PATIENCE)
    assert sorted(seen) == [2, 3]


def test_a_missing_table_is_explained(database: Database, url: str) -> None:
    """Whoever only publishes cannot make it in the midst of a transaction."""
    bus = Bus(url, name="shop")
    with (
        contextlib.closing(database.connect()) as connection,
        pytest.raises(PublishFailed, match="headwater ensure"),
    ):
        bus.publish("sold", 1, transaction=connection)
    bus.close()


def test_what_is_no_connection_is_refused(url: str) -> None:
    """With what would be one."""
    bus = Bus(url, name="shop")
    with pytest.raises(InvalidOption, match="SQLAlchemy"):
        bus.publish("sold", 1, transaction=object())
    bus.close()


def test_a_receipt_that_was_not_awaited_warns(database: Database, url: str) -> None:
    """Its event was not written, and the line that published it is told."""

    async def main() -> None:
        with ASYNC["aiosqlite"].to(database) as factory:
            bus, _ = bus_of(url, factory)
            async with bus:
                await bus.idle(PATIENCE)
                async with factory() as connection:
                    receipt = bus.publish("sold", 1, transaction=connection)
                    with pytest.raises(WouldDeadlock):
                        receipt.wait()
                    with pytest.warns(UnconfirmedPublish, match="test_outbox"):
                        del receipt  # Nothing else holds it.

    asyncio.run(main())


def test_an_outbox_must_be_a_factory(url: str, database: Database) -> None:
    """And a direct bus has no use for one."""
    with pytest.raises(InvalidOption, match="factory"):
        Bus(url, name="shop", outbox="app.db")  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match="URL"):
        Bus(outbox=database.connect)
    wrong = Bus(url, name="shop", outbox=object)
    with pytest.raises(InvalidOption, match="context managers"):
        wrong.start()
    wrong.close()
