"""The file of a log: where it may be, how it is opened, and what SQLite's errors about it mean."""

import logging
import os
import sqlite3

from headwater.errors import BadLog, HeadwaterError, LogBusy
from headwater.runtime import Rarely
from headwater.transports.sqlite.settings import Settings

log = logging.getLogger("headwater.sqlite")

_REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph",
     "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "lustre", "gpfs", "ocfs2"}
)  # fmt: skip

_kept: list[sqlite3.Connection] = []
"""Connections that a fork brought along: closing them here would hurt the parent."""


def check_place(path: str, mounts: str = "/proc/self/mountinfo") -> None:
    """Refuse a file system that other machines can reach: their locks do not protect a log.

    Raises:
        BadLog: it is on one.
    """
    kind = file_system_of(path, mounts)
    if kind in _REMOTE:
        raise BadLog(
            f"{path} is on a network file system ({kind}), where SQLite's locks do not hold: put"
            f" the log on a local disk"
        )


def file_system_of(path: str, mounts: str = "/proc/self/mountinfo") -> str:
    """The kind of file system a path is on; empty where that cannot be found out."""
    folder, best, kind = os.path.realpath(os.path.dirname(path) or "."), "", ""
    try:
        with open(mounts, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = fields.split(" ")[4].replace("\\040", " ")
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, rest.split(" ")[0]
    return kind


def connect(settings: Settings) -> sqlite3.Connection:
    """A connection that commits only when told, with everything set that a log relies on.

    Raises:
        BadLog: the file cannot be opened, or is not in WAL mode.
    """
    try:
        connection = sqlite3.connect(
            settings.path,
            timeout=settings.timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    except sqlite3.Error as error:
        raise meaning(error, settings.path) from error
    try:
        for setting in (
            f"synchronous={settings.synchronous}",
            "wal_autocheckpoint=0",
            "mmap_size=0",
            "fullfsync=1",
            "checkpoint_fullfsync=1",
            "temp_store=MEMORY",
        ):
            # Closed at once: a statement that is not finished holds later commits back.
            connection.execute(f"PRAGMA {setting}").close()
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    except sqlite3.Error as error:
        connection.close()
        raise meaning(error, settings.path) from error
    if mode != "wal":
        connection.close()
        raise BadLog(
            f"{settings.path}: expected WAL mode, got {mode}: another program has changed it;"
            f" PRAGMA journal_mode=WAL sets it back"
        )
    return connection


def meaning(error: sqlite3.Error, path: str) -> HeadwaterError:
    """What an error of SQLite says about the file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LogBusy(f"{path}: another program holds the file: {error}")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return BadLog(f"{path} cannot be written: {error}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return BadLog(f"{path} is damaged: {error}: keep a copy of it, and see 'headwater doctor'")
    return BadLog(f"{path}: {error}")


def abandon(*connections: sqlite3.Connection) -> None:
    """Never close these: closing one drops the locks that its other users hold."""
    _kept.extend(connections)


_rarely = Rarely(10.0)


def complain(path: str, error: BaseException) -> None:
    """Log trouble with the file, one line in ten seconds."""
    if _rarely():
        log.error("log_trouble path=%s error=%s", path, error)
