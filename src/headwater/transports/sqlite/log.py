"""Rows of the log: how events are appended to it and read from it."""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from headwater.envelope import Envelope
from headwater.transport import Outgoing, Received

LANES = 8
COLUMNS = "id, key, names, version, time, correlation, causation, depth, headers, data"
_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT = f"INSERT INTO log(position, topic, lane, {COLUMNS}) VALUES "
_CHUNKS = (250, 50, 10, 1)
"""Rows per statement. SQLite inserts all rows of one statement while Python's other threads run;
with one row each, the writer would have to come back for its turn after every single row."""
_CONFLICT = " ON CONFLICT(id) DO NOTHING"
_STATEMENTS = {size: _INSERT + ", ".join([_ROW] * size) + _CONFLICT for size in _CHUNKS}
_LATER = "INSERT INTO later(due, id, envelope) VALUES(?, ?, ?) ON CONFLICT(id) DO NOTHING"


class Appender:
    """Appends to the log, inside transactions of its connection.

    It remembers the numbers of topics and the lane that the next event without a key gets; what it
    remembers is asked anew after a transaction that did not succeed.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.head = 0
        """The latest position that has been committed."""
        self.put_by = False
        """Whether events have been put by for later."""
        self._topics: dict[str, tuple[int, int]] = {}
        self._head = 0
        self._turn = 0

    def begin(self) -> None:
        """A transaction has begun: others may have written since the last one."""
        row = self._connection.execute("SELECT max(position) FROM log").fetchone()
        self._head = max(row[0] or 0, self._kept_head())

    def committed(self) -> None:
        """The transaction has been committed."""
        self.head = self._head

    def forget(self) -> None:
        """The transaction, or a part of it, was undone."""
        self._topics.clear()
        if self._connection.in_transaction:
            self.begin()

    def append(self, rows: Sequence[Outgoing]) -> None:
        """Store events; an id that is there already is passed over."""
        values = list[object]()
        count, head, turn = 0, self._head, self._turn
        topics, crc32 = self._topics, zlib.crc32
        for envelope, due, _ in rows:
            if due is not None:
                self._put_by(envelope, due)
                continue
            id_, topic, key, names, version, time, correlation, causation, depth, headers, data = (
                envelope
            )
            number, lanes = topics.get(topic) or self._topic(topic)
            if key is None:
                turn += 1
                lane = turn % lanes
            else:
                lane = crc32(key.encode()) % lanes
            head += 1
            count += 1
            values += (
                head, number, lane, id_, key, names, version, time, correlation, causation, depth,
                headers, data,
            )  # fmt: skip
        self._head, self._turn = head, turn
        if self._insert(values, count) < count:
            self.begin()  # An id was there already, and its position will be another event's.

    def _insert(self, values: list[object], count: int) -> int:
        """Write rows; returns how many were new."""
        width, at, new = 13, 0, 0
        for size in _CHUNKS:
            while count >= size:
                chunk = values[at : at + size * width]
                new += self._connection.execute(_STATEMENTS[size], chunk).rowcount
                at += size * width
                count -= size
        return new

    def _put_by(self, envelope: Envelope, due: float) -> None:
        there = self._connection.execute("SELECT 1 FROM log WHERE id = ?", (envelope.id,))
        if there.fetchone() is None:
            self.put_by = True
            self._connection.execute(_LATER, (due, envelope.id, envelope.pack()))

    def _topic(self, name: str) -> tuple[int, int]:
        found = number_of(self._connection, name)
        self._topics[name] = found
        return found

    def _kept_head(self) -> int:
        """The highest position there ever was: the rows may have been removed since."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'head'").fetchone()
        return 0 if row is None else int(row[0])


def number_of(connection: sqlite3.Connection, name: str) -> tuple[int, int]:
    """The number of a topic and how many lanes it has; a new one gets them now."""
    find = "SELECT number, lanes FROM topic WHERE name = ?"
    row = connection.execute(find, (name,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO topic(name, lanes) VALUES(?, ?)", (name, LANES))
        row = connection.execute(find, (name,)).fetchone()
    return row[0], row[1]


def move_due(connection: sqlite3.Connection, appender: Appender, now: float, limit: int) -> int:
    """Put events whose time has come into the log; returns how many."""
    rows = connection.execute(
        "SELECT number, envelope FROM later WHERE due <= ? ORDER BY due, number LIMIT ?",
        (now, limit),
    ).fetchall()
    appender.append([Outgoing(Envelope.unpack(row[1]), None, None) for row in rows])
    connection.executemany("DELETE FROM later WHERE number = ?", [(row[0],) for row in rows])
    return len(rows)


_SCAN = (
    f"SELECT topic, lane, position, {COLUMNS} FROM log WHERE position > ? AND position <= ?"
    " ORDER BY position"
)

_new: Any = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def scan(
    connection: sqlite3.Connection, topics: dict[int, str], after: int, end: int
) -> Iterator[tuple[str, int, Received]]:
    """Rows of the log after a position, in order: topic, lane, event."""
    for topic, lane, position, id_, *rest in connection.execute(_SCAN, (after, end)):
        name = topics.get(topic)
        if name is None:
            topics.update(topic_names(connection))
            name = topics[topic]
        # As `Received(position, Envelope(...))`, without the calls in between.
        yield name, lane, _new(Received, (position, _new(Envelope, (id_, name, *rest))))


def head_of(connection: sqlite3.Connection) -> int:
    """The position of the latest event; 0 if there never was one."""
    row = connection.execute(
        "SELECT max(coalesce((SELECT max(position) FROM log), 0),"
        " coalesce((SELECT value FROM meta WHERE name = 'head'), 0))"
    ).fetchone()
    return int(row[0])


def topic_names(connection: sqlite3.Connection) -> dict[int, str]:
    """The names of the topics by number."""
    return dict(connection.execute("SELECT number, name FROM topic").fetchall())
