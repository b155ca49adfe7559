"""The ledger in a database: its tables and statements, for a connection that is in a transaction.

One implementation for every database: what differs between them (how a parameter is written, how
rows are returned) is the connection's business.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from headwater.envelope import Envelope
from headwater.ledger import Change, Entry, Erase, Handled, Held, Letters, Put

TABLES = """
CREATE TABLE entry(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  subscription TEXT NOT NULL, id TEXT NOT NULL, topic TEXT NOT NULL, lane INTEGER NOT NULL,
  position INTEGER NOT NULL, key TEXT, name TEXT NOT NULL, state TEXT NOT NULL, due REAL NOT NULL,
  attempts INTEGER NOT NULL, parked INTEGER NOT NULL, kind TEXT NOT NULL, error TEXT NOT NULL,
  traceback TEXT NOT NULL, time REAL NOT NULL, envelope BLOB NOT NULL,
  UNIQUE(subscription, id)
) STRICT;
CREATE INDEX entry_due ON entry(subscription, due) WHERE state = 'retry';
CREATE INDEX entry_key ON entry(subscription, key, number) WHERE key IS NOT NULL;
CREATE TABLE inbox(
  subscription TEXT NOT NULL, id TEXT NOT NULL, topic TEXT NOT NULL, lane INTEGER NOT NULL,
  position INTEGER NOT NULL, PRIMARY KEY(subscription, id)
) WITHOUT ROWID, STRICT;
CREATE INDEX inbox_lane ON inbox(subscription, topic, lane, position);
"""

COLUMNS = (
    "subscription, position, lane, state, due, attempts, parked, kind, error, traceback, time,"
    " envelope, number"
)
_PUT = """
INSERT INTO entry(subscription, id, topic, lane, position, key, name, state, due, attempts, parked,
  kind, error, traceback, time, envelope) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(subscription, id) DO UPDATE SET
  state = excluded.state, due = excluded.due, attempts = excluded.attempts,
  parked = excluded.parked, kind = excluded.kind, error = excluded.error,
  traceback = excluded.traceback, time = excluded.time
"""
_ARM = """
UPDATE entry SET state = 'retry', due = 0 WHERE number = (
  SELECT min(number) FROM entry WHERE subscription = ? AND key = ? AND topic = ?
  AND state <> 'count' AND (state <> 'dead' OR parked)
) AND state = 'blocked'
"""


class Connection(Protocol):
    """A connection to a database, as this module uses it."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Run one statement."""
        ...


def apply(connection: Connection, changes: Iterable[Change]) -> None:
    """Write changes, in order."""
    for change in changes:
        if isinstance(change, Put):
            _put(connection, change.entry)
        elif isinstance(change, Erase):
            erase(connection, change.subscription, change.event_id)
        else:
            _forget_handled(connection, change)


def _put(connection: Connection, entry: Entry) -> None:
    envelope = entry.envelope
    connection.execute(
        _PUT,
        (
            entry.subscription, envelope.id, envelope.topic, entry.lane, entry.position,
            envelope.key, envelope.name, entry.state, entry.due, entry.attempts, entry.parked,
            entry.kind, entry.error, entry.traceback, entry.time, envelope.pack(),
        ),
    )  # fmt: skip
    if entry.state == "blocked":  # What it was to wait behind may be gone by now.
        row = connection.execute(
            "SELECT key, topic FROM entry WHERE subscription = ? AND id = ?",
            (entry.subscription, envelope.id),
        ).fetchone()
        connection.execute(_ARM, (entry.subscription, *row))


def erase(connection: Connection, subscription: str, event_id: str) -> None:
    """Forget an entry, and arm the next one of its key if nothing else holds that."""
    row = connection.execute(
        "SELECT number, key, topic, state FROM entry WHERE subscription = ? AND id = ?",
        (subscription, event_id),
    ).fetchone()
    if row is None:
        return
    number, key, topic, state = row
    connection.execute("DELETE FROM entry WHERE number = ?", (number,))
    if key is not None and state != "count":
        connection.execute(_ARM, (subscription, key, topic))


def _forget_handled(connection: Connection, change: Handled) -> None:
    """Forget what cannot come again; what is in the ledger can, wherever its lane is by now."""
    connection.execute(
        "DELETE FROM inbox WHERE subscription = ? AND topic = ? AND lane = ? AND position <= ?"
        " AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.subscription = inbox.subscription"
        " AND entry.id = inbox.id)",
        change,
    )


def is_new(
    connection: Connection, subscription: str, event_id: str, topic: str, lane: int, position: int
) -> bool:
    """Note in the inbox that an event is handled in this transaction; false if it was before."""
    cursor = connection.execute(
        "INSERT INTO inbox VALUES(?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (subscription, event_id, topic, lane, position),
    )
    new: bool = cursor.rowcount == 1
    return new


def entry_of(row: Sequence[Any]) -> Entry:
    """The entry in a row of `COLUMNS`."""
    fields = list(row)
    fields[6] = bool(fields[6])
    fields[11] = Envelope.unpack(fields[11])
    return Entry._make(fields)


def held(connection: Connection, subscription: str, topic: str, lane: int) -> Held:
    """What a new owner of a lane must know."""
    where = "subscription = ? AND topic = ? AND lane = ?"
    place = (subscription, topic, lane)
    counts = connection.execute(
        f"SELECT id, attempts FROM entry WHERE {where} AND state = 'count'", place
    )
    keys = connection.execute(
        f"SELECT DISTINCT key FROM entry WHERE {where} AND key IS NOT NULL"
        f" AND (state IN ('retry', 'blocked') OR parked)",
        place,
    )
    return Held(dict(counts.fetchall()), frozenset(row[0] for row in keys.fetchall()))


def due(
    connection: Connection,
    subscription: str,
    topic: str,
    lanes: Sequence[int],
    now: float,
    limit: int,
) -> tuple[list[Entry], float | None]:
    """Entries whose time has come, and when the next one's does."""
    marks = ", ".join("?" * len(lanes))
    where = f"subscription = ? AND state = 'retry' AND topic = ? AND lane IN ({marks})"
    place = (subscription, topic, *lanes)
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM entry WHERE {where} AND due <= ? ORDER BY due, number LIMIT ?",
        (*place, now, limit),
    ).fetchall()
    later = connection.execute(
        f"SELECT min(due) FROM entry WHERE {where} AND due > ?", (*place, now)
    ).fetchone()[0]
    return [entry_of(row) for row in rows], later


def followers(connection: Connection, first: Entry, limit: int) -> list[Entry]:
    """The entries blocked behind `first`, in order."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM entry WHERE subscription = ? AND key = ? AND topic = ?"
        f" AND number > ? AND state = 'blocked' ORDER BY number LIMIT ?",
        (first.subscription, first.envelope.key, first.envelope.topic, first.number, limit),
    ).fetchall()
    return [entry_of(row) for row in rows]


def waiting(connection: Connection, letter: Entry) -> int:
    """How many entries wait behind a parked dead letter."""
    count: int = connection.execute(
        "SELECT count(*) FROM entry WHERE subscription = ? AND key = ? AND topic = ?"
        " AND state = 'blocked'",
        (letter.subscription, letter.envelope.key, letter.envelope.topic),
    ).fetchone()[0]
    return count


def _which(which: Letters) -> tuple[str, list[Any]]:
    clauses, values = ["state = 'dead'"], list[Any]()
    if which.numbers is not None:
        clauses.append(f"number IN ({', '.join('?' * len(which.numbers))})")
        values.extend(which.numbers)
    for column in ("subscription", "name", "kind", "key"):
        value = getattr(which, column)
        if value is not None:
            clauses.append(f"{column} = ?")
            values.append(value)
    if which.before is not None:
        clauses.append("time < ?")
        values.append(which.before)
    return " AND ".join(clauses), values


def letters(connection: Connection, which: Letters, limit: int) -> list[Entry]:
    """Dead letters, latest first."""
    where, values = _which(which)
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM entry WHERE {where} ORDER BY number DESC LIMIT ?",
        (*values, limit),
    ).fetchall()
    return [entry_of(row) for row in rows]


def retry(connection: Connection, which: Letters, now: float) -> int:
    """Let dead letters be handled again, from their first attempt."""
    where, values = _which(which)
    count: int = connection.execute(
        f"UPDATE entry SET state = 'retry', due = ?, attempts = 0 WHERE {where}", (now, *values)
    ).rowcount
    return count


def discard(connection: Connection, which: Letters) -> int:
    """Forget dead letters; what waited behind one goes on."""
    where, values = _which(which)
    rows = connection.execute(f"SELECT subscription, id FROM entry WHERE {where}", values)
    found = rows.fetchall()
    for subscription, event_id in found:
        erase(connection, subscription, event_id)
    return len(found)


def edit(connection: Connection, number: int, data: bytes, now: float) -> bool:
    """Give a dead letter other data and let it be handled again."""
    row = connection.execute(
        "SELECT envelope FROM entry WHERE number = ? AND state = 'dead'", (number,)
    ).fetchone()
    if row is None:
        return False
    envelope = Envelope.unpack(row[0])._replace(data=data)
    connection.execute(
        "UPDATE entry SET envelope = ?, state = 'retry', due = ?, attempts = 0 WHERE number = ?",
        (envelope.pack(), now, number),
    )
    return True
