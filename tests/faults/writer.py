"""A program that stores rows with the standard library alone: the fault tools are tried on it.

    python writer.py [OPTIONS] DATABASE ACKNOWLEDGEMENTS

It commits one row after another and appends the row's number as a line to ACKNOWLEDGEMENTS when the
row is stored, one write for each. Halfway it checkpoints. An error ends it with exit code 1. Some
options plant a defect that a tool must find.

Two errors may pass unseen, and after either a power cut takes what was committed, so both are
looked after here. If WAL mode cannot be entered, SQLite goes on with a rollback journal, and says
so only to those who fetch the answer. If the folder cannot be synced, it says nothing.
"""

import argparse
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

SIZE = 300  # bytes of data in a row


def main() -> None:
    """Store the rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--synchronous", default="full")
    parser.add_argument("--journal", default="wal")
    parser.add_argument("--thread", action="store_true", help="acknowledge in a thread of its own")
    parser.add_argument("--early", action="store_true", help="defect: acknowledge before COMMIT")
    parser.add_argument("--stubborn", action="store_true", help="defect: acknowledge what failed")
    parser.add_argument("--trusting", action="store_true", help="defect: believe SQLite's set-up")
    parser.add_argument("database", type=Path)
    parser.add_argument("acknowledgements", type=Path)
    options = parser.parse_args()
    acknowledge, finish = _acknowledger(options.acknowledgements, threaded=options.thread)
    try:
        _store(options, acknowledge)
    finally:
        finish()


def stored(database: Path) -> set[str]:
    """Return the rows in `database` in the words of the acknowledgements.

    Raises:
        ValueError: A row's data is not what was written.
    """
    connection = sqlite3.connect(database)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'log'").fetchone():
            return set()
        rows = connection.execute("SELECT position, data FROM log").fetchall()
    finally:
        connection.close()
    if altered := [position for position, data in rows if data != _data(position)]:
        raise ValueError(f"altered: {altered}")
    return {str(position) for position, _ in rows}


def _data(position: int) -> str:
    return f"row {position} ".ljust(SIZE, "x")


def _acknowledger(
    path: Path, *, threaded: bool
) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Return what acknowledges a row, and what waits until all acknowledgements are written."""
    file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def acknowledge(position: int) -> None:
        os.write(file, b"%d\n" % position)

    if not threaded:
        return acknowledge, lambda: None
    waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def work() -> None:
        while (position := waiting.get()) is not None:
            acknowledge(position)

    thread = threading.Thread(target=work)
    thread.start()

    def finish() -> None:
        waiting.put(None)
        thread.join()

    return waiting.put, finish


def _store(options: argparse.Namespace, acknowledge: Callable[[int], None]) -> None:
    connection = _open(options)
    for position in range(options.first, options.first + options.rows):
        if position == options.first + options.rows // 2:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            _store_row(connection, position, acknowledge if options.early else _wait)
        except sqlite3.Error:
            if not options.stubborn:
                raise
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if not options.early:
            acknowledge(position)
    connection.close()


def _open(options: argparse.Namespace) -> sqlite3.Connection:
    connection = sqlite3.connect(options.database, isolation_level=None)
    connection.execute(f"PRAGMA synchronous = {options.synchronous}")
    enter = f"PRAGMA journal_mode = {options.journal}"
    if options.trusting:
        connection.execute(enter)
    elif (answer := connection.execute(enter).fetchall()) != [(options.journal,)]:
        raise sqlite3.OperationalError(f"journal_mode is {answer}, not {options.journal}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE IF NOT EXISTS log (position INTEGER PRIMARY KEY, data TEXT)")
    if not options.trusting:
        _sync_folder(options.database.parent)
    return connection


def _sync_folder(path: Path) -> None:
    """Make the names of the files beside the database durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _wait(position: int) -> None:
    """Acknowledge nothing yet."""


def _store_row(
    connection: sqlite3.Connection, position: int, before_commit: Callable[[int], None]
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO log VALUES (?, ?)", (position, _data(position)))
    before_commit(position)
    connection.execute("COMMIT")


if __name__ == "__main__":
    main()
