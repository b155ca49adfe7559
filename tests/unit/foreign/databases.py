"""Databases of users, one file each, and every way to connect to one that a bus takes."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

PATIENCE = 20.0


class Database:
    """A file with a table of effects, which no constraint keeps free of doubles."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all("CREATE TABLE IF NOT EXISTS effects(number INTEGER)")

    def all(self, statement: str) -> list[tuple[Any, ...]]:
        """What a statement gives, in a connection of its own."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement).fetchall()

    @property
    def effects(self) -> list[int]:
        """What handlers have written, sorted."""
        return sorted(row[0] for row in self.all("SELECT number FROM effects"))

    @property
    def inbox(self) -> int:
        """How many events it knows as handled."""
        return int(self.all("SELECT count(*) FROM headwater_inbox")[0][0])

    @property
    def outbox(self) -> int:
        """How many events wait there."""
        return int(self.all("SELECT count(*) FROM headwater_outbox")[0][0])

    def connect(self) -> sqlite3.Connection:
        """A connection, for `transaction=`."""
        return sqlite3.connect(self.path)


class Way(NamedTuple):
    """One way to connect: what makes its factory, and whether that is SQLAlchemy's."""

    connect: Callable[[Database], Any]
    sqlalchemy: bool

    @contextlib.contextmanager
    def to(self, database: Database) -> Iterator[Any]:
        """Its factory."""
        connected = self.connect(database)
        owner = connected[1] if isinstance(connected, tuple) else None
        try:
            yield connected[0] if isinstance(connected, tuple) else connected
        finally:
            if isinstance(owner, Engine):
                owner.dispose()

    def write(self, transaction: Any, number: int) -> Any:
        """Write an effect; to be awaited if the connection is."""
        statement = "INSERT INTO effects VALUES(:number)"
        values = {"number": number}
        return transaction.execute(text(statement) if self.sqlalchemy else statement, values)


def _engine(pick: Callable[[Engine], Any]) -> Callable[[Database], Any]:
    def connect(database: Database) -> Any:
        engine = create_engine(f"sqlite:///{database.path}")
        return pick(engine), engine

    return connect


def _async_engine(pick: Callable[[AsyncEngine], Any]) -> Callable[[Database], Any]:
    def connect(database: Database) -> Any:
        # Without a pool: one that outlives its loop could not close its connections.
        url = f"sqlite+aiosqlite:///{database.path}"
        return pick(create_async_engine(url, poolclass=NullPool))

    return connect


def _by_hand(database: Database) -> Any:
    @contextlib.contextmanager
    def transaction() -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(database.path, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    return transaction


SYNC = {
    "sqlite3": Way(lambda database: database.connect, sqlalchemy=False),
    "contextmanager": Way(_by_hand, sqlalchemy=False),
    "sessionmaker": Way(_engine(sessionmaker), sqlalchemy=True),
    "Session.begin": Way(_engine(lambda engine: sessionmaker(engine).begin), sqlalchemy=True),
    "Engine.begin": Way(_engine(lambda engine: engine.begin), sqlalchemy=True),
    "Engine.connect": Way(_engine(lambda engine: engine.connect), sqlalchemy=True),
}
ASYNC = {
    "aiosqlite": Way(lambda database: lambda: aiosqlite.connect(database.path), sqlalchemy=False),
    "async_sessionmaker": Way(_async_engine(async_sessionmaker), sqlalchemy=True),
    "AsyncSession.begin": Way(
        _async_engine(lambda engine: async_sessionmaker(engine).begin), sqlalchemy=True
    ),
    "AsyncEngine.begin": Way(_async_engine(lambda engine: engine.begin), sqlalchemy=True),
    "AsyncEngine.connect": Way(_async_engine(lambda engine: engine.connect), sqlalchemy=True),
}
