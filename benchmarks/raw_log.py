"""The raw limit: the least that any log in one SQLite file must do, and nothing else.

Publishers encode their row and await a future. One thread owns the connection: it takes whatever
has gathered while the last commit ran, inserts it, commits, and resolves the futures in one
callback on the loop. There is no subscription, no settling, no check, no error, no other process:
what this reaches is what Python's sqlite3, asyncio and the disk leave possible.

What makes it fast: many rows to a statement, because a row of its own costs two switches of the
interpreter lock; the writer is woken once per batch, after all publishers that are ready have had
their turn; ids grow, so the unique index is written at its right end.
"""

import asyncio
import sqlite3
import time
import zlib
from asyncio import Future
from collections.abc import Iterator
from itertools import chain
from os import urandom
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from durable_log import DurableLog, Synchronous
from order import OrderPlaced, decode, encode

SCHEMA = """\
CREATE TABLE IF NOT EXISTS log(
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    lane INTEGER NOT NULL,
    key TEXT,
    names TEXT NOT NULL,
    time INTEGER NOT NULL,
    headers BLOB,
    data BLOB NOT NULL
)"""
INSERT = "INSERT INTO log(id, topic, lane, key, names, time, headers, data) VALUES "
PLACES = "(?, ?, ?, ?, ?, ?, ?, ?)"
TOGETHER = 100
"""Rows to a statement; more gain nothing."""
INSERT_MANY = INSERT + ", ".join([PLACES] * TOGETHER)

Row = tuple[bytes, str, int, str, str, int, bytes, bytes]
Pending = list[tuple[Row, "Future[None]"]]


def connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute(SCHEMA)
    return connection


def insert(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Insert rows in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    whole = len(rows) - len(rows) % TOGETHER
    for start in range(0, whole, TOGETHER):
        values = tuple(chain.from_iterable(rows[start : start + TOGETHER]))
        connection.execute(INSERT_MANY, values)
    connection.executemany(INSERT + PLACES, rows[whole:])
    connection.execute("COMMIT")


class RawLog(DurableLog):
    name = "raw limit"
    role = "raw"
    used = (
        "sqlite3, one writer thread with group commit, 100 rows to a statement, a future for each"
    )
    lacks = "everything but storing and reading: no handlers, no errors, no second process"
    synchronous = ("full", "normal")
    handles = False
    replays = True
    sample = 10_000

    async def open(self) -> None:
        self._connection = connect(self.path, self.chosen)
        self._loop = asyncio.get_running_loop()
        self._pending: Pending = []
        self._closing = False
        self._work = Lock()
        self._work.acquire()
        self._writer = Thread(target=self._write, name="raw-writer")
        self._writer.start()
        self._random = int.from_bytes(urandom(9), "big")

    async def close(self) -> None:
        self._closing = True
        self._work.release()
        self._writer.join()
        self._connection.close()

    def row(self, event: OrderPlaced) -> Row:
        """Encode an event, with an id that grows as those of version 7 do."""
        now = time.time_ns()
        self._random += 1
        grows = (now // 1_000_000 << 80 | self._random).to_bytes(16, "big")
        key = event.order_id
        lane = zlib.crc32(key.encode()) % 8
        return grows, "events", lane, key, "order_placed", now, b"{}", encode(event)

    def publish(self, event: OrderPlaced) -> "Future[None]":  # type: ignore[override] # no frame
        future = self._loop.create_future()
        self._pending.append((self.row(event), future))
        if len(self._pending) == 1:
            self._loop.call_soon(self._work.release)
        return future

    def _write(self) -> None:
        while True:
            self._work.acquire()
            if self._closing:
                return
            batch, self._pending = self._pending, []
            insert(self._connection, [row for row, _ in batch])
            self._loop.call_soon_threadsafe(resolve, batch)

    async def replay(self) -> None:
        for data in self.read():
            self.handle(decode(data))

    def read(self, after: int = 0) -> Iterator[bytes]:
        """Yield the data of all rows behind a position, a thousand at a time."""
        statement = "SELECT position, data FROM log WHERE position > ? ORDER BY position LIMIT 1000"
        while rows := self._connection.execute(statement, (after,)).fetchall():
            after = rows[-1][0]
            yield from (data for _, data in rows)

    async def level(self) -> int | None:
        return number(self._connection.execute("PRAGMA synchronous"))

    async def stored(self) -> int | None:
        return number(self._connection.execute("SELECT count(*) FROM log"))


def resolve(batch: Pending) -> None:
    for _, future in batch:
        future.set_result(None)


def number(cursor: Any) -> int:
    """Return the one number that a query found."""
    return int(cursor.fetchone()[0])
