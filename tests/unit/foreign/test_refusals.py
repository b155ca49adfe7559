"""What `transaction=factory` cannot do is refused, as early as it can be told."""

from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import aiosqlite
import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from tests.unit.foreign.databases import PATIENCE, Database

from headwater import Backoff, Bus, Context, Retry
from headwater.errors import InvalidHandler, InvalidOption, Unsupported
from headwater.foreign import dialect
from headwater.store import Store


def handle(number: int) -> None:
    """Do nothing."""


@asynccontextmanager
async def by_hand() -> AsyncIterator[None]:
    """Nothing is connected: a registration does not call it."""
    yield


def test_a_sync_handler_with_async_connections_is_refused(url: str) -> None:
    """At registration, where the factory tells what it is."""
    engine = create_async_engine("sqlite+aiosqlite://")
    sessions = async_sessionmaker(engine)
    bus = Bus(url, name="shop")
    for factory in (engine.begin, engine.connect, sessions, sessions.begin, by_hand):
        with pytest.raises(InvalidHandler, match="async def"):
            bus.subscribe("cause", handle, name="handle", transaction=factory)
    bus.close()


def test_an_async_connection_is_found_out_at_the_start(database: Database, url: str) -> None:
    """A function does not tell before it is called."""
    bus = Bus(url, name="shop")
    connect: Any = lambda: aiosqlite.connect(database.path)  # noqa: E731  # As users write it.
    bus.subscribe("cause", handle, name="handle", transaction=connect)
    with pytest.raises(InvalidHandler, match="async def"):
        bus.start()
    bus.close()


def test_another_process_cannot_have_a_transaction(database: Database, url: str) -> None:
    """A connection does not travel."""
    bus = Bus(url, name="shop")
    with ProcessPoolExecutor(1) as pool, pytest.raises(Unsupported, match="process"):
        bus.subscribe("cause", handle, name="handle", executor=pool, transaction=database.connect)
    bus.close()


def test_a_factory_that_gives_no_connection_is_refused(url: str) -> None:
    """With what it gave, when the bus starts."""
    bus = Bus(url, name="shop")
    bus.subscribe("cause", handle, name="handle", transaction=lambda: open(__file__))  # noqa: SIM115, PTH123
    with pytest.raises(InvalidOption, match="TextIOWrapper"):
        bus.start()
    bus.close()


def test_another_database_is_refused() -> None:
    """Its dialect has not been tried."""

    class Elsewhere:
        __module__ = "sqlalchemy.engine"

        class dialect:  # noqa: N801
            name = "oracle"

    given = Elsewhere()
    assert dialect(given) == "oracle"
    with pytest.raises(Unsupported, match="oracle"):
        next(Store(object, "shop", lambda given: iter(())).create(given))  # type: ignore[arg-type, return-value]


def test_a_handler_must_be_done_when_it_returns(database: Database, url: str) -> None:
    """What is to be awaited would outlive its transaction: it is a failure, and rolled back."""
    bus = Bus(url, name="shop")

    async def later() -> None:
        """Never awaited."""

    def wrong(number: int, context: Context) -> Any:
        context.transaction.execute("INSERT INTO effects VALUES(1)")
        return later()

    bus.subscribe("cause", wrong, name="handle", transaction=database.connect)
    with bus:
        bus.publish("cause", 1)
        bus.idle(PATIENCE)
        (letter,) = bus.dead_letters.list().result()
    assert letter.kind == "InvalidHandler"
    assert database.effects == []


def test_an_inbox_forgets_what_is_long_settled(database: Database, url: str) -> None:
    """What is older than a day, at the start of a bus that has nothing left to do."""
    bus = Bus(url, name="shop")
    retry = Retry(max_attempts=2, backoff=Backoff(initial=0))
    bus.subscribe("cause", handle, name="handle", transaction=database.connect, retry=retry)
    with bus:
        for number in range(3):
            bus.publish("cause", number)
        bus.idle(PATIENCE)
    database.all("UPDATE headwater_inbox SET time = time - 90000 WHERE rowid < 3")
    with bus:
        bus.idle(PATIENCE)
    assert database.inbox == 1
