"""A transaction of the log, lent out.

The writer's thread waits while the borrower is at work, so that nobody else writes; afterwards the
savepoint is released, or rolled back. What the borrower was given refuses to work from then on: a
handler that goes on after its timeout cannot touch the next one's transaction.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from headwater import failpoint
from headwater.envelope import Envelope
from headwater.errors import TransactionOver, Unsupported
from headwater.ledgers import sql
from headwater.runtime import Bell
from headwater.transport import Done, Outgoing
from headwater.transports.sqlite.log import Appender

_ENDING = frozenset({"BEGIN", "COMMIT", "END", "ROLLBACK", "ATTACH", "DETACH", "VACUUM", "PRAGMA"})


def refuse_ending(statement: str) -> None:
    """Refuse what would end a transaction that is the bus's, or reach beyond it.

    Raises:
        Unsupported: it would.
    """
    word = statement.lstrip(" \t\r\n;").partition(" ")[0].rstrip(";").upper()
    if word in _ENDING:
        raise Unsupported(
            f"{word} in a lent transaction: the bus ends it, when the handler or the block is done"
        )


class LentCursor(sqlite3.Cursor):
    """A cursor of a lent connection."""

    def execute(self, statement: str, parameters: Any = (), /) -> "LentCursor":
        """Run one statement; as `sqlite3.Cursor.execute`."""
        refuse_ending(statement)
        super().execute(statement, parameters)
        return self

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> "LentCursor":
        """Run one statement for each of `parameters`; as `sqlite3.Cursor.executemany`."""
        refuse_ending(statement)
        super().executemany(statement, parameters)
        return self


class LentConnection:
    """A connection inside a transaction, as its borrower sees it: it cannot end the transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection: sqlite3.Connection | None = connection

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run one statement; as `sqlite3.Connection.execute`.

        Raises:
            TransactionOver: the transaction has ended.
        """
        refuse_ending(statement)
        return self._open().execute(statement, parameters)

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Run one statement for each of `parameters`; as `sqlite3.Connection.executemany`."""
        refuse_ending(statement)
        return self._open().executemany(statement, parameters)

    def cursor(self) -> sqlite3.Cursor:
        """A cursor of its own."""
        return self._open().cursor(LentCursor)

    @property
    def total_changes(self) -> int:
        """Rows changed on this connection so far."""
        return self._open().total_changes

    def end(self) -> None:
        """Refuse everything from now on."""
        self._connection = None

    def check(self) -> None:
        """Refuse if the transaction has ended."""
        self._open()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise TransactionOver("the transaction has ended: its connection cannot be used now")
        return self._connection


class SqliteLoan:
    """One use of the writer's transaction.

    Args:
        granted: called in the writer's thread when the connection is lent, or with the error.
        fenced: called with the connection first; raises Fenced if the borrower's lane is lost.
    """

    def __init__(
        self,
        granted: "Callable[[SqliteLoan | BaseException], None]",
        fenced: Callable[[sqlite3.Connection], None],
    ) -> None:
        self._granted = granted
        self._fenced = fenced
        self._returned = Bell()
        self._commit = False
        self._done: Done | None = None
        self._appender: Appender | None = None
        self._was_granted = False
        self.connection: Any = None

    # The borrower's side.

    def publish(self, envelope: Envelope, due: float | None = None) -> None:
        """Store an event in this transaction."""
        self.connection.check()
        assert self._appender is not None
        self._appender.append([Outgoing(envelope, due, None)])

    def is_new(
        self, subscription: str, event_id: str, topic: str, lane: int, position: int
    ) -> bool:
        """Note that an event is handled in this transaction; false if it was before."""
        return sql.is_new(self.connection, subscription, event_id, topic, lane, position)

    def give_back(self, *, commit: bool, done: Done) -> None:
        """Keep what was done, or undo it; `done` is told once that is safe on the disk."""
        self.connection.end()
        self._commit, self._done = commit, done
        self._returned.ring()

    # The writer's side.

    def run(self, connection: sqlite3.Connection, appender: Appender) -> None:
        """Lend the connection, and wait until it is given back."""
        connection.execute("SAVEPOINT loan")
        try:
            self._fenced(connection)
        except Exception as error:
            connection.execute("RELEASE loan")
            self._was_granted = True
            self._granted(error)
            return
        self._appender = appender
        self.connection = LentConnection(connection)
        self._was_granted = True
        failpoint.reach("loan.granted")
        self._granted(self)
        self._returned.wait()
        failpoint.reach("loan.returned")
        if not self._commit:
            connection.execute("ROLLBACK TO loan")
            appender.forget()
        connection.execute("RELEASE loan")

    def over(self, error: BaseException | None) -> None:
        """The transaction that it was part of has been committed, or has failed."""
        if not self._was_granted:
            self._granted(error or TransactionOver("the log is closed"))
        elif self._done is not None:
            self._done(error)


Values = Sequence[Any]
