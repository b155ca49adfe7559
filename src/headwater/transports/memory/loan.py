"""Transactions of a log in memory: a database beside it, lent to one borrower at a time.

The connection is that of an SQLite database in memory, so that a handler which writes its effects
through ``context.transaction`` runs here as it does on a log that is a database. It belongs to the
log: it is made at the first loan, and forgotten with the log.

What is published in a transaction, and the note that its event was handled, are stored when it is
committed. A borrower whose lane was taken over meanwhile is refused then, and its work is undone.
"""

import sqlite3
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from headwater.envelope import Envelope
from headwater.errors import Fenced, PublishFailed, TransactionOver
from headwater.lane import Lane
from headwater.transport import Done, Granted

Call = Callable[..., object]
"""Calls a function on the borrower's I/O loop, soon."""


class MemoryConnection:
    """A connection inside a transaction, as its borrower sees it: it cannot end the transaction.

    It has ``execute``, ``executemany``, ``cursor`` and ``total_changes`` of `sqlite3.Connection`,
    and refuses with `TransactionOver` once the transaction has ended.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection: sqlite3.Connection | None = connection

    def __getattr__(self, name: str) -> Any:
        if name not in ("execute", "executemany", "cursor", "total_changes"):
            raise AttributeError(f"a lent connection has no {name!r}")
        return getattr(self.check(), name)

    def check(self) -> sqlite3.Connection:
        """The connection, while it is lent.

        Raises:
            TransactionOver: the transaction has ended.
        """
        if self._connection is None:
            raise TransactionOver("the transaction has ended: its connection cannot be used now")
        return self._connection

    def end(self) -> None:
        """Refuse everything from now on."""
        self._connection = None


class MemoryLoan:
    """One use of the database; see `headwater.transport.Loan`.

    Args:
        desk: which lends it.
        lane: the borrower's, as owner `epoch`; None: it handles no event.
        epoch: see `lane`.
        granted: told when it is lent, or why not.
        call: how the borrower is told.

    Attributes:
        published: events that were published in it.
        handled: for the inbox, which events were handled in it.
    """

    def __init__(
        self, desk: "Desk", lane: Lane | None, epoch: int, granted: Granted, call: Call
    ) -> None:
        self.lane = lane
        self.epoch = epoch
        self.granted = granted
        self.call = call
        self.connection: Any = None
        self.published: list[tuple[Envelope, float | None]] = []
        self.handled: list[tuple[str, str, str, int, int]] = []
        self._desk = desk

    def publish(self, envelope: Envelope, due: float | None) -> None:
        """Store an event in this transaction."""
        self.connection.check()
        self.published.append((envelope, due))

    def is_new(
        self, subscription: str, event_id: str, topic: str, lane: int, position: int
    ) -> bool:
        """Note that an event is handled in this transaction; false if it was before."""
        if self._desk.was_handled(subscription, event_id):
            return False
        self.handled.append((subscription, event_id, topic, lane, position))
        return True

    def give_back(self, *, commit: bool, done: Done) -> None:
        """Commit or roll back; `done` is told when that has happened."""
        self._desk.take_back(self, commit=commit, done=done)


class Desk:
    """Lends the database of one log.

    Args:
        lock: the log's.
        fenced: what is wrong with the owner of a lane; None: nothing.
        was_handled: whether an event was handled by a subscription in a transaction.
        commit: stores what was published and handled in a loan.
    """

    def __init__(
        self,
        lock: AbstractContextManager[Any],
        fenced: Callable[[Lane, int], Fenced | None],
        was_handled: Callable[[str, str], bool],
        commit: Callable[[MemoryLoan], None],
    ) -> None:
        self.was_handled = was_handled
        self._lock = lock
        self._fenced = fenced
        self._commit = commit
        self._connection: sqlite3.Connection | None = None
        self._waiting: deque[MemoryLoan] = deque()
        self._lent: MemoryLoan | None = None

    def lend(self, loan: MemoryLoan) -> None:
        """Lend the database, as soon as it is there."""
        with self._lock:
            self._waiting.append(loan)
            self._lend_next()

    def take_back(self, loan: MemoryLoan, *, commit: bool, done: Done) -> None:
        """The borrower has finished."""
        with self._lock:
            error: BaseException | None = TransactionOver("this transaction has ended already")
            if self._lent is loan:
                loan.connection.end()
                error = self._end(loan, commit=commit)
                self._lent = None
                self._lend_next()
        loan.call(done, error)

    def turn_away(self, call: Call) -> None:
        """The bus of these borrowers is closed: what they wait for will not come."""
        with self._lock:
            gone = [loan for loan in self._waiting if loan.call == call]
            self._waiting = deque(loan for loan in self._waiting if loan.call != call)
        for loan in gone:
            loan.call(loan.granted, TransactionOver("the log is closed"))

    def _lend_next(self) -> None:
        while self._lent is None and self._waiting:
            loan = self._waiting.popleft()
            fenced = self._check(loan)
            if fenced is None:
                self._lent = loan
                self._database().execute("SAVEPOINT loan")
                loan.connection = MemoryConnection(self._database())
            loan.call(loan.granted, fenced or loan)

    def _check(self, loan: MemoryLoan) -> Fenced | None:
        return None if loan.lane is None else self._fenced(loan.lane, loan.epoch)

    def _end(self, loan: MemoryLoan, *, commit: bool) -> BaseException | None:
        """Keep what was done, or undo it; what went wrong with that."""
        database = self._database()
        error: BaseException | None = self._check(loan) if commit else None
        try:
            if not commit or error is not None:
                database.execute("ROLLBACK TO loan")
            database.execute("RELEASE loan")
        except sqlite3.Error as failure:  # A constraint that is deferred to this moment, say.
            if database.in_transaction:
                database.execute("ROLLBACK")
            error = PublishFailed(f"the transaction cannot be committed: {failure}")
        if commit and error is None:
            self._commit(loan)
        return error

    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, self._connection.close)
        return self._connection
