"""Whether a log is in order: the file, its place, its settings, and what is in it."""

import os
import shutil
import sqlite3
from collections.abc import Callable

from headwater.operations import Finding
from headwater.transports.sqlite import files
from headwater.transports.sqlite.log import head_of
from headwater.transports.sqlite.schema import VERSION
from headwater.transports.sqlite.settings import Settings

SAFE = (3, 51, 3)
"""The first SQLite whose WAL cannot be corrupted by two connections that write or checkpoint."""
LARGE_WAL = 256 << 20
LITTLE_SPACE = 100 << 20
LATE = 60.0
MIB = 1 << 20


def check(
    connection: sqlite3.Connection, settings: Settings, now: float, *, quick: bool
) -> list[Finding]:
    """Look at everything; what is too damaged to be read is said where it should have been."""
    path = settings.path
    looks: list[Callable[[], list[Finding]]] = [
        lambda: [_library()],
        lambda: [_integrity(connection, path, quick=quick)],
        lambda: [_schema(connection)],
        lambda: [_size(connection, path)],
        lambda: [_wal(path), _place(path), _settings(settings)],
        lambda: _late(connection, now),
    ]
    found = list[Finding]()
    for look in looks:
        try:
            found += look()
        except sqlite3.DatabaseError as error:
            found.append(Finding("wrong", "reading", str(error)))
    return found


def _library() -> Finding:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= SAFE:
        return Finding("fine", "SQLite", version)
    return Finding(
        "note",
        "SQLite",
        f"{version} has a defect that two writers can damage a WAL with; headwater writes under"
        f" a lock of its own, which keeps it out",
        "let no other program write to this file or checkpoint it while a bus uses it; SQLite"
        " 3.51.3 is the first without the defect",
    )


def _integrity(connection: sqlite3.Connection, path: str, *, quick: bool) -> Finding:
    kind = "quick_check" if quick else "integrity_check"
    try:
        rows = [str(row[0]) for row in connection.execute(f"PRAGMA {kind}(5)")]
    except sqlite3.DatabaseError as error:
        rows = [str(error)]
    if rows == ["ok"]:
        return Finding("fine", "integrity", "sound, at a quick look" if quick else "sound")
    text = "; ".join(" ".join(row.split()) for row in rows)
    return Finding(
        "wrong",
        "integrity",
        f"damaged: {text}",
        f"stop everything that uses it, copy {path}* to a safe place, and restore a backup or try"
        f" 'sqlite3 {os.path.basename(path)} .recover'",
    )


def _schema(connection: sqlite3.Connection) -> Finding:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    return Finding("fine", "version of the log", f"{version}; this headwater writes {VERSION}")


def _size(connection: sqlite3.Connection, path: str) -> Finding:
    (first,) = connection.execute("SELECT min(position) FROM log").fetchone()
    head = head_of(connection)
    free, page = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("freelist_count", "page_size")
    )
    events = "no events" if first is None else f"positions {first:,} to {head:,}"
    size = os.path.getsize(path)
    return Finding(
        "fine", "size", f"{size / MIB:,.1f} MiB, {free * page / MIB:,.1f} free; {events}"
    )


def _wal(path: str) -> Finding:
    try:
        size = os.path.getsize(f"{path}-wal")
    except OSError:
        size = 0
    text = f"{size / MIB:,.1f} MiB"
    if size < LARGE_WAL:
        return Finding("fine", "WAL", text)
    return Finding(
        "wrong",
        "WAL",
        f"{text}: it cannot be written back into the file",
        "some program keeps a read transaction open: find it with 'fuser' and end that",
    )


def _place(path: str) -> Finding:
    kind = files.file_system_of(path) or "unknown"
    free = shutil.disk_usage(os.path.dirname(path) or ".").free
    text = f"{kind}, {free / MIB:,.0f} MiB free"
    if free >= LITTLE_SPACE:
        return Finding("fine", "file system", text)
    return Finding(
        "wrong", "file system", f"{text}: soon nothing can be stored", "make room, or prune the log"
    )


def _settings(settings: Settings) -> Finding:
    kept = f"settled events for {settings.retain:g} s" if settings.retain else "everything"
    text = f"synchronous={settings.synchronous}, lease {settings.lease:g} s, keeps {kept}"
    if settings.synchronous == "full":
        return Finding("fine", "settings", text)
    return Finding("note", "settings", f"{text}: a power cut may take the latest events back")


def _late(connection: sqlite3.Connection, now: float) -> list[Finding]:
    count, due = connection.execute("SELECT count(*), min(due) FROM later").fetchone()
    if not count:
        return []
    text = f"{count:,} waiting for their time"
    if due >= now - LATE:
        return [Finding("fine", "delayed", text)]
    return [
        Finding(
            "wrong", "delayed",
            f"{count:,} events, the first of which was due {now - due:,.0f} s ago",
            "no running process moves them into the log: start a bus on it",
        )
    ]  # fmt: skip
