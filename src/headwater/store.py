"""Two tables in a user's database: ``headwater_inbox`` and ``headwater_outbox``.

The inbox holds which events were handled by which subscription; its row is written in the same
transaction as the handler's effects. The outbox holds events that a transaction has published and
that the log may not have yet. A `Store` is one such database, known by the factory that connects
to it; what it does are steps of somebody's transaction (`foreign`).
"""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from headwater.envelope import Envelope
from headwater.errors import PublishFailed, Unsupported
from headwater.foreign import Factory, Steps, dialect, execute

Published = tuple[Envelope, float | None]
"""An event, and when it is due, in seconds since 1970; None: at once."""

TABLES = (
    """CREATE TABLE IF NOT EXISTS headwater_inbox(
  subscription TEXT NOT NULL, id TEXT NOT NULL, time DOUBLE PRECISION NOT NULL,
  PRIMARY KEY(subscription, id))""",
    """CREATE TABLE IF NOT EXISTS headwater_outbox(
  number {number}, bus TEXT NOT NULL, id TEXT NOT NULL, cause TEXT, subscription TEXT,
  due DOUBLE PRECISION, time DOUBLE PRECISION NOT NULL, envelope {bytes} NOT NULL,
  UNIQUE(bus, id))""",
)
"""With the two things that databases call by different names."""
_WORDS = {
    "sqlite": {"number": "INTEGER PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB"},
    "postgresql": {"number": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "bytes": "BYTEA"},
}

_NOTE = (
    "INSERT INTO headwater_inbox(subscription, id, time) VALUES(:subscription, :id, :time)"
    " ON CONFLICT DO NOTHING RETURNING id"
)
_STAGE = (
    "INSERT INTO headwater_outbox(bus, id, cause, subscription, due, time, envelope)"
    " VALUES(:bus, :id, :cause, :subscription, :due, :time, :envelope) ON CONFLICT DO NOTHING"
)
_STAGED = (
    "SELECT envelope, due FROM headwater_outbox"
    " WHERE bus = :bus AND cause = :cause AND subscription = :subscription ORDER BY number"
)
_WAITING = (
    "SELECT number, id, due, time, envelope FROM headwater_outbox"
    " WHERE bus = :bus AND number > :after ORDER BY number LIMIT :most"
)
_PRUNE = "DELETE FROM headwater_inbox WHERE subscription = :subscription AND time < :before"


class Waiting(NamedTuple):
    """One row of the outbox."""

    number: int
    id: str
    due: float | None
    time: float
    packed: bytes


class Store:
    """One database of the user's; see the module.

    Args:
        factory: gives a context manager around a connection or session.
        bus: the name of the bus.

    Attributes:
        is_async: what the factory gives is entered with ``async with``; None: not known yet.
        ready: whether the tables are there.
        subscriptions: whose inbox it is.
        held: ids in the outbox that are on their way into the log by a settlement.
        stored: ids that have arrived there.
        changed: is called, in any thread, when one of the two has changed.
        check: is given a connection before the tables are made, and may refuse it.
    """

    def __init__(self, factory: Factory, bus: str, check: Callable[[Any], Steps[None]]) -> None:
        self.factory = factory
        self.is_async: bool | None = None
        self.ready = False
        self.subscriptions: set[str] = set()
        self.held: set[str] = set()
        self.stored: list[str] = []
        self.changed: Callable[[], None] = _nobody
        self._bus = bus
        self._check = check
        self._turns: WeakKeyDictionary[AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    def turn(self) -> asyncio.Lock:
        """What async handlers on the loop that runs here take, one after the other."""
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def create(self, given: Any) -> Steps[None]:
        """Make the tables, unless they are there.

        Raises:
            Unsupported: in a database that is neither SQLite nor PostgreSQL.
        """
        yield from self._check(given)
        words = _WORDS.get(dialect(given))
        if words is None:
            raise Unsupported(
                f"transaction: expected a database of SQLite or PostgreSQL, got {dialect(given)}"
            )
        for table in TABLES:
            yield from execute(given, table.format_map(words))
        self.ready = True

    def note(self, given: Any, subscription: str, event_id: str, now: float) -> Steps[bool]:
        """Note that an event is handled in this transaction; false if it was in an earlier one."""
        values = {"subscription": subscription, "id": event_id, "time": now}
        return bool((yield from execute(given, _NOTE, values)))

    def stage(
        self, given: Any, cause: str, subscription: str, events: Iterable[Published], now: float
    ) -> Steps[None]:
        """Keep what a handler has published."""
        for envelope, due in events:
            yield from keep(given, self._bus, envelope, due, now, cause, subscription)

    def staged(self, given: Any, cause: str, subscription: str) -> Steps[list[Published]]:
        """What it has published and what may not be in the log."""
        values = {"bus": self._bus, "cause": cause, "subscription": subscription}
        rows = yield from execute(given, _STAGED, values)
        return [(Envelope.unpack(bytes(row[0])), row[1]) for row in rows]

    def waiting(self, given: Any, after: int, most: int) -> Steps[list[Waiting]]:
        """What the outbox holds, in order."""
        values = {"bus": self._bus, "after": after, "most": most}
        rows = yield from execute(given, _WAITING, values)
        return [Waiting._make([*row[:4], bytes(row[4])]) for row in rows]

    def remove(self, given: Any, ids: Sequence[str]) -> Steps[None]:
        """Forget what has arrived in the log."""
        marks = ", ".join(f":id{number}" for number in range(len(ids)))
        statement = f"DELETE FROM headwater_outbox WHERE bus = :bus AND id IN ({marks})"  # noqa: S608  # Names of ours.
        values = {f"id{number}": id_ for number, id_ in enumerate(ids)}
        yield from execute(given, statement, {"bus": self._bus, **values})

    def prune(self, given: Any, subscription: str, before: float) -> Steps[None]:
        """Forget what was handled before a time."""
        yield from execute(given, _PRUNE, {"subscription": subscription, "before": before})

    def left(self, ids: Sequence[str], stored: bool) -> None:  # noqa: FBT001  # One of two ends.
        """Events of the outbox are in the log; or are not, and the relay is to see to them."""
        if stored:
            self.stored.extend(ids)
        self.held.difference_update(ids)
        self.changed()


def keep(
    given: Any,
    bus: str,
    envelope: Envelope,
    due: float | None,
    now: float,
    cause: str | None = None,
    subscription: str | None = None,
) -> Steps[None]:
    """Put an event into the outbox.

    Raises:
        PublishFailed: that cannot be done; the cause says why.
    """
    try:
        yield from execute(
            given,
            _STAGE,
            {
                "bus": bus, "id": envelope.id, "cause": cause, "subscription": subscription,
                "due": due, "time": now, "envelope": envelope.pack(),
            },
        )  # fmt: skip
    except Exception as error:
        raise PublishFailed(
            f"{envelope.name}: headwater_outbox cannot be written: {error}: the table is made by"
            f" 'headwater ensure', or when a bus starts that knows the database by its outbox= or"
            f" by a subscription's transaction=",
            envelope.id,
        ) from error


def _nobody() -> None:
    """Nobody relays yet."""
