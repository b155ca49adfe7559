"""What people do with a log beside publishing and handling: look, count, move, remove."""

import sqlite3

from headwater.transport import Progress
from headwater.transports.sqlite.log import head_of

CHUNK = 5_000
COUNTED = 1_000_000
_WAITING = """
SELECT coalesce(sum(state = 'retry' OR (state = 'blocked' AND NOT EXISTS (
    SELECT 1 FROM entry AS first WHERE first.subscription = entry.subscription
    AND first.key = entry.key AND first.topic = entry.topic
    AND first.state = 'dead' AND first.parked))), 0)
  + (SELECT count(*) FROM later),
  coalesce(sum(state = 'dead'), 0)
FROM entry WHERE subscription = :subscription
"""
"""What will be handled some day without anybody's doing, delayed events included."""


def progress(connection: sqlite3.Connection, subscription: str) -> Progress:
    """How far a subscription is; its lag is counted up to a million."""
    lag, oldest = 0, None
    cursors = connection.execute(
        "SELECT number, lane, position, done FROM cursor JOIN topic ON topic.name = cursor.topic"
        " WHERE subscription = ?",
        (subscription,),
    ).fetchall()
    lanes = {(topic, lane): (position, {int(p) for p in done.split(",") if p})
             for topic, lane, position, done in cursors}  # fmt: skip
    after = min((position for position, _ in lanes.values()), default=head_of(connection))
    for topic, lane, at, time in connection.execute(
        "SELECT topic, lane, position, time FROM log WHERE position > ? ORDER BY position", (after,)
    ):
        place = lanes.get((topic, lane))
        if place is not None and at > place[0] and at not in place[1]:
            lag += 1
            oldest = time if oldest is None else oldest
            if lag >= COUNTED:
                break
    waiting, dead = connection.execute(_WAITING, {"subscription": subscription}).fetchone()
    row = connection.execute(
        "SELECT paused FROM subscription WHERE name = ?", (subscription,)
    ).fetchone()
    return Progress(subscription, lag, waiting, dead, bool(row and row[0]), oldest)


def prune(connection: sqlite3.Connection, before: float, *, force: bool) -> int:
    """Remove the old ones among the first events; unless forced, none that is not settled by all.

    Returns:
        How many; 0 if there is nothing to remove, for now.
    """
    head = head_of(connection)
    connection.execute("INSERT OR REPLACE INTO meta VALUES('head', ?)", (head,))
    places: dict[tuple[int, int], int] = {
        (topic, lane): position
        for topic, lane, position in connection.execute(
            "SELECT number, lane, min(position) FROM cursor JOIN topic"
            " ON topic.name = cursor.topic GROUP BY number, lane"
        )
    }
    rows = connection.execute(
        "SELECT position, topic, lane, time FROM log ORDER BY position LIMIT ?", (CHUNK,)
    ).fetchall()
    old = [
        (position,)
        for position, topic, lane, time in rows
        if time < before and (force or position <= places.get((topic, lane), head))
    ]
    connection.executemany("DELETE FROM log WHERE position = ?", old)
    return len(old)


def locate(connection: sqlite3.Connection, time: float | None) -> int:
    """The position before the first event of a time, or the head."""
    head = head_of(connection)
    if time is None:
        return head
    low, high = 0, head
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT time FROM log WHERE position > ? ORDER BY position LIMIT 1", (middle,)
        ).fetchone()
        if row is None or row[0] >= time:
            high = middle
        else:
            low = middle + 1
    return low
