"""The tables of a log, and how a file becomes one.

A new file is made beside its place and linked there when it is complete, so that a crash in the
midst leaves no half of a log. An existing file is looked at before it is written: it must be a
database, ours, and of a version this program knows. Nothing is ever made anew in the place of what
cannot be read.
"""

import contextlib
import os
import sqlite3
from collections.abc import Mapping

from headwater.errors import BadLog
from headwater.ledgers import sql
from headwater.runtime import new_id, new_token

APPLICATION = 0x48574C31
VERSION = 1
PAGE = 4096
HEADER = 100
"""Bytes of the head of every SQLite file."""

TABLES = f"""
CREATE TABLE meta(name TEXT PRIMARY KEY, value ANY) WITHOUT ROWID, STRICT;
CREATE TABLE topic(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, lanes INTEGER NOT NULL)
  STRICT;
CREATE TABLE log(
  position INTEGER PRIMARY KEY,
  topic INTEGER NOT NULL,
  lane INTEGER NOT NULL,
  id TEXT NOT NULL,
  key TEXT,
  names TEXT NOT NULL,
  version INTEGER NOT NULL,
  time REAL NOT NULL,
  correlation TEXT,
  causation TEXT,
  depth INTEGER NOT NULL,
  headers BLOB,
  data BLOB NOT NULL,
  stream INTEGER,
  stream_version INTEGER
) STRICT;
CREATE UNIQUE INDEX log_id ON log(id);
CREATE INDEX log_story ON log(correlation) WHERE correlation IS NOT NULL;
CREATE UNIQUE INDEX log_stream ON log(stream, stream_version) WHERE stream IS NOT NULL;
CREATE TABLE later(
  number INTEGER PRIMARY KEY, due REAL NOT NULL, id TEXT NOT NULL UNIQUE, envelope BLOB NOT NULL
) STRICT;
CREATE INDEX later_due ON later(due);
CREATE TABLE subscription(
  name TEXT PRIMARY KEY, what TEXT NOT NULL, paused INTEGER NOT NULL, created REAL NOT NULL
) WITHOUT ROWID, STRICT;
CREATE TABLE cursor(
  subscription TEXT NOT NULL, topic TEXT NOT NULL, lane INTEGER NOT NULL,
  position INTEGER NOT NULL, done TEXT NOT NULL, claim INTEGER NOT NULL,
  owner TEXT, fence INTEGER NOT NULL, start INTEGER NOT NULL,
  PRIMARY KEY(subscription, topic, lane)
) WITHOUT ROWID, STRICT;
CREATE TABLE member(
  owner TEXT PRIMARY KEY, byte INTEGER NOT NULL, port INTEGER NOT NULL, boot TEXT NOT NULL,
  lease REAL NOT NULL, process TEXT NOT NULL
) WITHOUT ROWID, STRICT;
CREATE TABLE reader(
  subscription TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY(subscription, owner)
) WITHOUT ROWID, STRICT;
{sql.TABLES}
"""

MIGRATIONS: Mapping[int, str] = {}
"""By version, the statements that make a file of that version one version newer."""


def look_at(path: str) -> bool:
    """Whether there is a log to open; false if there is nothing.

    Raises:
        BadLog: there is something else, or the folder is missing.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise BadLog(f"{path}: expected the folder {folder} to exist; make it first")
    if not os.path.lexists(path):
        if os.path.exists(f"{path}-wal"):
            raise BadLog(
                f"{path} is missing, but {path}-wal is there and may hold events: put the file"
                f" back, or move the -wal file away to begin anew"
            )
        return False
    if os.path.isdir(path):
        raise BadLog(f"{path}: expected a file, got a folder")
    try:
        with open(path, "rb") as file:
            head = file.read(HEADER)
    except OSError as error:
        raise BadLog(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise BadLog(f"{path} is empty, which no log ever is: delete it to begin anew")
    if not head.startswith(b"SQLite format 3\0"):
        raise BadLog(f"{path}: expected a log of headwater, got a file that is no database")
    # Looked at without SQLite, which might write to what it opens.
    _check_application(path, int.from_bytes(head[68:72], "big"))
    return True


def _check_application(path: str, application: int) -> None:
    if application != APPLICATION:
        raise BadLog(
            f"{path} is a database of another program (application id {application:#x}): give the"
            f" log a file of its own"
        )


def create(path: str) -> None:
    """Make a new log, whole or not at all; another process may make it at the same time."""
    draft = f"{path}.new-{new_token():x}"
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            for setting in (
                f"page_size={PAGE}",
                "auto_vacuum=INCREMENTAL",
                f"application_id={APPLICATION}",
                f"user_version={VERSION}",
            ):
                connection.execute(f"PRAGMA {setting}").close()
            connection.executescript(f"BEGIN; {TABLES}; COMMIT")
            connection.execute("INSERT INTO meta VALUES('log', ?)", (new_id(),))
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            if mode != "wal":  # Without this look, an error of the disk would go unseen.
                raise BadLog(f"{path}: expected WAL mode to be possible there, got {mode}")
        sync(draft)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        sync(os.path.dirname(path) or ".")
    except sqlite3.Error as error:
        raise BadLog(f"{path} cannot be made: {error}") from error
    except OSError as error:
        raise BadLog(f"{path} cannot be made: {error.strerror}") from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                os.unlink(draft + suffix)


def check(connection: sqlite3.Connection, path: str) -> int:
    """The version of the log that was opened.

    Raises:
        BadLog: it is none of ours, of a newer version, or damaged.
    """
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    except sqlite3.DatabaseError as error:
        raise BadLog(
            f"{path} cannot be read: {error}: keep a copy of it, and see 'headwater doctor'"
        ) from error
    _check_application(path, application)
    if version > VERSION:
        raise BadLog(
            f"{path} is of version {version}, and this headwater knows up to {VERSION}: upgrade"
            f" headwater"
        )
    missing = {"log", "cursor", "member", "entry"} - tables
    if missing:
        raise BadLog(f"{path} has lost its table {missing.pop()!r}: restore it from a backup")
    return version


def migrate(
    connection: sqlite3.Connection,
    version: int,
    newest: int = VERSION,
    steps: Mapping[int, str] = MIGRATIONS,
) -> None:
    """Bring a log up to date, in one transaction."""
    if version == newest:
        return
    statements = "; ".join(steps[number] for number in range(version, newest))
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE; {statements}; PRAGMA user_version={newest}; COMMIT"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def sync(path: str) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
