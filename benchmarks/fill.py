"""Fills a log with copies of its last event: millions of rows in seconds, past the library.

All it knows of the table is that SQLite gives the positions, and that ids are unique and grow.
Nobody else may have the file open meanwhile.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

LANES = 8
PORTION = 50_000
"""Rows to a transaction."""


def fill(path: Path, rows: int) -> None:
    """Add `rows` events to the table `log` of the file at `path`."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = off")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(log)")]
    columns.remove("position")
    names = ", ".join(columns)
    last = connection.execute(f"SELECT {names} FROM log ORDER BY position DESC LIMIT 1").fetchone()  # noqa: S608
    insert = f"INSERT INTO log({names}) VALUES ({', '.join('?' for _ in columns)})"  # noqa: S608
    for start in range(1, rows + 1, PORTION):
        portion = range(start, min(start + PORTION, rows + 1))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, copies(columns, last, portion))
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(truncate)")
    connection.close()


def copies(columns: Sequence[str], last: Sequence[Any], numbers: range) -> Iterator[list[Any]]:
    """Yield rows like the last one, with ids behind its own, spread over the lanes."""
    id_at, lane_at = columns.index("id"), columns.index("lane")
    for number in numbers:
        row = list(last)
        row[id_at] = behind(last[id_at], number)
        row[lane_at] = number % LANES
        yield row


def behind(id: bytes | str, number: int) -> bytes | str:
    """Return an id that is greater by `number`, written the same way."""
    if isinstance(id, bytes):
        return (int.from_bytes(id, "big") + number).to_bytes(len(id), "big")
    greater = UUID(int=UUID(id).int + number)
    return str(greater) if "-" in id else greater.hex
