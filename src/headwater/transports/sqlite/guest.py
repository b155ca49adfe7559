"""Guests: connections to the log's own file that belong to the user.

Before SQLite 3.51.3, two connections that write to a WAL or copy it back at the same moment can
damage the file. Ours take turns by a lock on a side file, of which others know nothing. So a guest
is let in from 3.51.3 on, and below that sent to `bus.transaction()`, which lends our own.
"""

import sqlite3
from typing import Any

from headwater.envelope import Envelope
from headwater.errors import Unsupported
from headwater.foreign import same_file
from headwater.transport import Outgoing
from headwater.transports.sqlite.log import Appender

SAFE = 3, 51, 3


class Guests:
    """Who may write to the log beside its writer.

    Args:
        path: of the log.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def admits(self, file: str) -> bool:
        """Whether a file is the log itself.

        Raises:
            Unsupported: it is, and this SQLite is too old for that.
        """
        if not same_file(file, self._path):
            return False
        if sqlite3.sqlite_version_info < SAFE:
            needed = ".".join(map(str, SAFE))
            raise Unsupported(
                f"transaction: the connection is one to the log's own file, and SQLite"
                f" {sqlite3.sqlite_version} can damage a file that two connections write; that"
                f" takes {needed}: use 'with bus.transaction() as transaction:', or a handler with"
                f" transaction=True"
            )
        return True

    def append(self, connection: Any, envelope: Envelope, due: float | None) -> bool:
        """Store an event through a guest, in its transaction; false if that cannot be done."""
        if not isinstance(connection, sqlite3.Connection):
            return False
        if not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE")
        appender = Appender(connection)
        appender.begin()
        appender.append([Outgoing(envelope, due, None)])
        return True
