"""What people move in a log: places, names, old events. Operations of the writer."""

import sqlite3
from collections.abc import Collection

from headwater.errors import Refused
from headwater.ledgers import sql
from headwater.transports.sqlite.log import head_of
from headwater.transports.sqlite.lookout import backlog, check_known, readers, wanted_of

_TABLES = ("cursor", "entry", "inbox", "reader")


def pause(connection: sqlite3.Connection, subscription: str, *, paused: bool) -> bool:
    """Pause or resume a subscription everywhere; false if it was so already."""
    check_known(connection, subscription)
    changed = connection.execute(
        "UPDATE subscription SET paused = ? WHERE name = ? AND paused <> ?",
        (paused, subscription, paused),
    )
    return changed.rowcount == 1


def reset(
    connection: sqlite3.Connection,
    living: Collection[str],
    subscription: str,
    position: int,
    *,
    force: bool,
) -> int:
    """Move a place; returns how many of its entries ended.

    The fences are counted up, so that whoever consumes it now loses its lanes and what it has
    under way does not count. What lies before the new place and beyond the old one was never
    handled: `start` remembers that for whoever asks what became of it.
    """
    check_known(connection, subscription)
    _check_quiet(connection, living, subscription, force=force)
    head = head_of(connection)
    if position > head:
        raise Refused(
            f"{subscription}: expected a position up to {head}, where the log ends, got {position}"
        )
    connection.execute(
        "UPDATE cursor SET start = CASE WHEN position < ? THEN ? ELSE min(start, ?) END,"
        " position = ?, done = '', claim = ?, owner = NULL, fence = fence + 1"
        " WHERE subscription = ?",
        (position, position, position, position, position, subscription),
    )
    connection.execute(
        "DELETE FROM inbox WHERE subscription = ? AND position > ?", (subscription, position)
    )
    ended = connection.execute(
        "SELECT id FROM entry WHERE subscription = ? AND position > ? ORDER BY number DESC",
        (subscription, position),
    ).fetchall()
    for (event_id,) in ended:
        sql.erase(connection, subscription, event_id)
    return len(ended)


def rename(
    connection: sqlite3.Connection, living: Collection[str], old: str, new: str, *, force: bool
) -> None:
    """Give everything of one subscription to another name."""
    check_known(connection, old)
    _check_quiet(connection, living, old, force=force)
    if old == new:
        raise Refused(f"{old}: expected a new name, got the same one")
    there = connection.execute("SELECT 1 FROM subscription WHERE name = ?", (new,)).fetchone()
    if there is not None:
        _check_quiet(connection, living, new, force=force)
        if not force:
            raise Refused(
                f"{new} has a place of its own already: with --force it takes that of {old}"
                f" instead, and what it has handled since may come to it again"
            )
        _move_over(connection, old, new)
        return
    # Its lanes keep their fences: whoever owned them finds no cursor under the old name.
    for table in _TABLES:
        connection.execute(
            f"UPDATE {table} SET subscription = ? WHERE subscription = ?", (new, old)
        )
    connection.execute("UPDATE cursor SET owner = NULL, fence = fence + 1 WHERE subscription = ?",
                       (new,))  # fmt: skip
    connection.execute("DELETE FROM reader WHERE subscription = ?", (new,))
    connection.execute("UPDATE subscription SET name = ? WHERE name = ?", (new, old))


def _move_over(connection: sqlite3.Connection, old: str, new: str) -> None:
    """The new name is there: it gets the old one's places, and keeps what it has in the ledger."""
    connection.execute(
        "UPDATE cursor SET owner = NULL, fence = max(cursor.fence, there.fence) + 1,"
        " position = there.position, done = there.done, claim = there.claim, start = there.start"
        " FROM cursor AS there WHERE cursor.subscription = ? AND there.subscription = ?"
        " AND there.topic = cursor.topic AND there.lane = cursor.lane",
        (new, old),
    )
    for table in ("cursor", "entry", "inbox"):
        connection.execute(
            f"UPDATE OR IGNORE {table} SET subscription = ? WHERE subscription = ?", (new, old)
        )
    _forget(connection, old)


def drop(
    connection: sqlite3.Connection, living: Collection[str], subscription: str, *, force: bool
) -> int:
    """Forget a subscription; returns how much it had not settled."""
    check_known(connection, subscription)
    _check_quiet(connection, living, subscription, force=force)
    lags, _ = backlog(connection, subscription, wanted_of(connection, subscription))
    (entries,) = connection.execute(
        "SELECT count(*) FROM entry WHERE subscription = ? AND state <> 'count'", (subscription,)
    ).fetchone()
    left: int = sum(lags.values()) + entries
    if left and not force:
        raise Refused(
            f"{subscription} has unsettled events, dead letters included: {left:,}; let it handle"
            f" them, rename it, or lose them with --force"
        )
    _forget(connection, subscription)
    return left


def _forget(connection: sqlite3.Connection, subscription: str) -> None:
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table} WHERE subscription = ?", (subscription,))
    connection.execute("DELETE FROM subscription WHERE name = ?", (subscription,))


def _check_quiet(
    connection: sqlite3.Connection, living: Collection[str], subscription: str, *, force: bool
) -> None:
    """Refuse what somebody consumes.

    Raises:
        Refused: somebody does, and it is not forced.
    """
    if force:
        return
    count = len(readers(connection, subscription, living))
    if count:
        processes = "a process consumes" if count == 1 else f"{count} processes consume"
        raise Refused(
            f"{processes} {subscription} now: stop that first, or use --force, and what is under"
            f" way there may be handled again"
        )
