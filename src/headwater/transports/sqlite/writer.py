"""The one thread of a process that writes to the log.

Publishers put rows into a queue, and everybody else puts operations there. The writer takes all
that has come while its last commit waited for the disk, and commits it as one transaction: under
load, one sync pays for hundreds of events. No event waits for others to come.

Between the beginning of a transaction and its rows, the connection may be lent: to handlers with
``transaction=True`` and to ``bus.transaction()``, one after the other, each in a savepoint.

What a failed commit means is decided here. A full disk or a lock that cannot be had leaves nothing
behind: it failed, and the next transaction may succeed. An error of the disk leaves it open, and
nothing that was written to this file since can be relied on: the writer refuses all further work
until the bus is opened again.
"""

import contextlib
import logging
import os
import sqlite3
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from headwater import failpoint
from headwater.errors import HeadwaterError, LogBusy, PublishFailed, PublishUnknown
from headwater.runtime import Bell, Worker, running_loop, steady
from headwater.transport import Outgoing
from headwater.transports.sqlite.loan import SqliteLoan
from headwater.transports.sqlite.locks import FileLock
from headwater.transports.sqlite.log import Appender

log = logging.getLogger("headwater.sqlite")

Operation = Callable[[sqlite3.Connection], Any]
Told = Callable[[Any, BaseException | None], None]
"""Is told what an operation returned, once that is committed, or why it was not."""

MOST_ROWS = 10_000
LENDING = 0.02
"""Seconds for which one transaction is lent on to the next borrower."""
CHECKPOINT_AFTER = 4 << 20
"""Bytes that are written to the WAL between two checkpoints, roughly."""
BYTES_PER_TURN = 32 << 10
BYTES_PER_ROW = 160
"""What a transaction, and a row beside its data, add to the WAL, roughly."""
LARGEST_WAL = 64 << 20
"""Bytes from which on the WAL is cut back, which waits a little for those who read."""


class Writer:
    """Writes what it is given.

    Args:
        connection: autocommitting, for this writer alone.
        path: of the log.
        lock: its write lock.
        confirmed: told which events were stored, or why not.
        appended: called after a commit, with its connection's ports to wake.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        lock: FileLock,
        confirmed: Callable[[Sequence[Any], BaseException | None], None],
        appended: Callable[[], None],
    ) -> None:
        self.appender = Appender(connection)
        self.failed: BaseException | None = None
        self.peers: tuple[int, ...] = ()
        self.owner = ""
        self._connection = connection
        self._path = path
        self._lock = lock
        self._confirmed = confirmed
        self._appended = appended
        self._rows: deque[Outgoing] = deque()
        self._operations: deque[tuple[Operation, Told]] = deque()
        self._borrowers: deque[SqliteLoan] = deque()
        self._bell = Bell()
        self._closing = self._ended = False
        self._written = 0
        self._rings_in: AbstractEventLoop | None = None
        self._thread = Worker("headwater-writer", self._run)

    # Any thread.

    def publish(self, outgoing: Outgoing) -> None:
        """Store an event in the next transaction."""
        self._rows.append(outgoing)
        loop = running_loop()
        if loop is None:
            self._ring()
        elif self._rings_in is not loop:
            # Whoever else publishes in this turn of the loop shall be in the same transaction.
            self._rings_in = loop
            loop.call_soon(self._ring_soon)

    def submit(self, operation: Operation, told: Told) -> None:
        """Run an operation in the next transaction."""
        self._operations.append((operation, told))
        self._ring()

    def lend(self, loan: SqliteLoan) -> None:
        """Lend the connection out, in the next transaction."""
        self._borrowers.append(loan)
        self._ring()

    def close(self, seconds: float) -> bool:
        """Write what is queued, and end; false if that takes longer than so many seconds."""
        self._closing = True
        self._bell.ring()
        return self._thread.join(seconds)

    def _ring_soon(self) -> None:
        self._rings_in = None
        self._ring()

    def _ring(self) -> None:
        self._bell.ring()
        if self._ended:  # Nobody else would ever say no.
            self._turn()

    # The writer's thread.

    def _run(self) -> None:
        while True:
            if self._rows or self._operations or self._borrowers:
                self._turn()
            elif self._closing:
                break
            else:
                self._bell.wait()
        self.failed = PublishFailed(f"{self._path}: the log is closed")
        self._ended = True
        self._turn()  # What came in between is refused, as all that comes later.

    def _turn(self) -> None:
        """One transaction."""
        operations, rows, loans = self._take(), list[Outgoing](), list[SqliteLoan]()
        results: list[Any] = []
        error: BaseException | None = self.failed
        if error is None:
            try:
                with self._lock.held():
                    failpoint.reach("turn.locked")
                    self._transact(operations, results, rows, loans)
            except Exception as raised:
                error = self._meaning(raised)
        if error is not None and not rows:
            rows = self._take_rows()
        if rows:
            self._confirmed([row.token for row in rows], error)
            failpoint.reach("publish.confirmed")
        if error is not None and not loans:
            loans.extend(self._borrowers)
            self._borrowers.clear()
        for loan in loans:
            _tell(loan.over, error)
        for number, (_, told) in enumerate(operations):
            result = None if error is not None else results[number]
            if isinstance(result, Refusal):
                _tell(told, None, result.error)
            else:
                _tell(told, result, error)
        if error is None:
            _tell(self._appended)

    def _take(self) -> list[tuple[Operation, Told]]:
        taken = list[tuple[Operation, Told]]()
        with contextlib.suppress(IndexError):  # Another thread took the last one.
            while self._operations:
                taken.append(self._operations.popleft())
        return taken

    def _take_rows(self) -> list[Outgoing]:
        rows = list[Outgoing]()
        take = self._rows.popleft
        for _ in range(min(len(self._rows), MOST_ROWS)):
            rows.append(take())
        return rows

    def _transact(
        self,
        operations: list[tuple[Operation, Told]],
        results: list[Any],
        rows: list[Outgoing],
        loans: list[SqliteLoan],
    ) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            failpoint.reach("turn.begun")
            self.appender.begin()
            self._lend(loans)
            for operation, _ in operations:
                results.append(_run(connection, operation))
            rows.extend(self._take_rows())  # As late as that: what came meanwhile goes along.
            self.appender.append(rows)
            self.peers = _peers(connection, self.owner)
            failpoint.reach("turn.written")
            connection.execute("COMMIT")
            self.appender.committed()
            failpoint.reach("turn.committed")
        except BaseException:
            self.appender.forget()
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise
        self._written += BYTES_PER_TURN + BYTES_PER_ROW * len(rows)
        self._written += sum([len(row.envelope.data) for row in rows])
        if self._written >= CHECKPOINT_AFTER:
            self._checkpoint()

    def _lend(self, loans: list[SqliteLoan]) -> None:
        until = steady() + LENDING
        while self._borrowers:
            loan = self._borrowers.popleft()
            loans.append(loan)
            loan.run(self._connection, self.appender)
            if steady() >= until:
                return

    def _checkpoint(self) -> None:
        self._written = 0
        failpoint.reach("checkpoint.before")
        with contextlib.suppress(OSError, sqlite3.OperationalError):  # A reader is at it: later.
            if os.path.getsize(f"{self._path}-wal") < LARGEST_WAL:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            else:
                self._cut_back()
        failpoint.reach("checkpoint.after")

    def _cut_back(self) -> None:
        wait = self._connection.execute("PRAGMA busy_timeout").fetchone()[0]
        self._connection.execute("PRAGMA busy_timeout=50").fetchone()
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout={wait}").fetchone()

    def _meaning(self, error: Exception) -> BaseException:
        """What an error of a transaction means for those whose work was in it."""
        if isinstance(error, HeadwaterError):
            return error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return LogBusy(f"{self._path}: another program holds the file: {error}")
        if code == sqlite3.SQLITE_FULL:
            return PublishFailed(f"{self._path}: there is no space left: {error}")
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            self.failed = PublishFailed(
                f"{self._path}: the file failed earlier ({error}): nothing is written to it until"
                f" the bus is opened again"
            )
            return PublishUnknown(f"{self._path}: the file failed: {error}")
        return PublishFailed(f"{self._path}: {type(error).__name__}: {error}")


class Refusal:
    """An operation that would not be done; the others of its transaction are."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _run(connection: sqlite3.Connection, operation: Operation) -> Any:
    connection.execute("SAVEPOINT operation")
    try:
        result = operation(connection)
    except Exception as error:
        if not connection.in_transaction:  # SQLite has undone all of it: a full disk, say.
            raise
        connection.execute("ROLLBACK TO operation")
        connection.execute("RELEASE operation")
        return Refusal(error)
    connection.execute("RELEASE operation")
    return result


def _tell(told: Callable[..., None], *what: object) -> None:
    """Nobody who is told may end the thread that everybody needs."""
    try:
        told(*what)
    except Exception:
        log.critical("writer_callback_failed", exc_info=True)


def _peers(connection: sqlite3.Connection, owner: str) -> tuple[int, ...]:
    rows = connection.execute("SELECT port FROM member WHERE owner <> ?", (owner,))
    return tuple(row[0] for row in rows)
