"""What people see of a log: subscriptions and how far they are, events and what became of them."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from headwater.envelope import Envelope, split_names
from headwater.errors import NoSubscription
from headwater.event import did_you_mean
from headwater.ledger import Entry
from headwater.ledgers import sql
from headwater.operations import Chapter, Consumer, Member, Place, Stage, Step
from headwater.topic import matches
from headwater.transports.sqlite.log import COLUMNS, head_of, topic_names

COUNTED = 1_000_000
"""A lag is counted up to here."""
LISTED = 5
LATER = 10_000
"""Events not due yet among which a story is looked for."""

LaneKey = tuple[str, int]


class Wanted:
    """Which events a subscription wants, by what it has registered."""

    def __init__(self, what: str) -> None:
        self.what = tuple(what.split(", "))
        self._known: dict[str, bool] = {}

    def __call__(self, names: str) -> bool:
        """Whether one of an event's names, joined by spaces, is wanted."""
        known = self._known.get(names)
        if known is None:
            known = self._known[names] = any(
                matches(pattern, name) for pattern in self.what for name in split_names(names)
            )
        return known


def check_known(connection: sqlite3.Connection, subscription: str) -> None:
    """Refuse a name that the log does not have.

    Raises:
        NoSubscription: it has none of that name.
    """
    names = [row[0] for row in connection.execute("SELECT name FROM subscription ORDER BY name")]
    if subscription in names:
        return
    hint = did_you_mean(subscription, names)
    if not hint:
        listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
        hint = f": it has {listed}" if names else ": it has none at all"
    raise NoSubscription(f"the log has no subscription {subscription!r}{hint}")


def consumers(connection: sqlite3.Connection, living: Collection[str]) -> list[Consumer]:
    """Every stored subscription; `living` are the owners that live."""
    rows = connection.execute("SELECT name, what, paused, created FROM subscription ORDER BY name")
    return [
        _consumer(connection, living, name, Wanted(what), bool(paused), created)
        for name, what, paused, created in rows.fetchall()
    ]


def _consumer(
    connection: sqlite3.Connection,
    living: Collection[str],
    name: str,
    wanted: Wanted,
    paused: bool,  # noqa: FBT001  as it stands in its row
    created: float,
) -> Consumer:
    lags, oldest = backlog(connection, name, wanted)
    waiting, dead = connection.execute(
        "SELECT coalesce(sum(state IN ('retry', 'blocked')), 0), coalesce(sum(state = 'dead'), 0)"
        " FROM entry WHERE subscription = ?",
        (name,),
    ).fetchone()
    processes = len(readers(connection, name, living))
    lag = sum(lags.values())
    return Consumer(name, wanted.what, created, paused, lag, waiting, dead, oldest, processes)


def readers(connection: sqlite3.Connection, name: str, living: Collection[str]) -> list[str]:
    """The living owners that consume a subscription."""
    rows = connection.execute("SELECT owner FROM reader WHERE subscription = ?", (name,))
    return [row[0] for row in rows if row[0] in living]


def backlog(
    connection: sqlite3.Connection, name: str, wanted: Wanted
) -> tuple[dict[LaneKey, int], float | None]:
    """Events that it wants and has not settled, by lane, and when the oldest was published."""
    numbers = {topic: number for number, topic in topic_names(connection).items()}
    lanes: dict[tuple[int, int], tuple[LaneKey, int, set[int]]] = {}
    for topic, lane, position, done in connection.execute(
        "SELECT topic, lane, position, done FROM cursor WHERE subscription = ?", (name,)
    ):
        settled = {int(place) for place in done.split(",") if place}
        lanes[numbers[topic], lane] = (topic, lane), position, settled
    after = min((position for _, position, _ in lanes.values()), default=head_of(connection))
    lags = {key: 0 for key, _, _ in lanes.values()}
    left, oldest = COUNTED, None
    for topic, lane, at, time, names in connection.execute(
        "SELECT topic, lane, position, time, names FROM log WHERE position > ? ORDER BY position",
        (after,),
    ):
        place = lanes.get((topic, lane))
        if place is not None and at > place[1] and at not in place[2] and wanted(names):
            lags[place[0]] += 1
            left -= 1
            oldest = time if oldest is None else oldest
            if not left:
                break
    return lags, oldest


def places(connection: sqlite3.Connection, name: str) -> list[Place]:
    """How far a subscription is, lane by lane."""
    check_known(connection, name)
    lags, _ = backlog(connection, name, wanted_of(connection, name))
    rows = connection.execute(
        "SELECT topic, lane, position, coalesce(process, '') FROM cursor"
        " LEFT JOIN member ON member.owner = cursor.owner"
        " WHERE subscription = ? ORDER BY topic, lane",
        (name,),
    )
    return [Place(row[0], row[1], row[2], lags[row[0], row[1]], row[3]) for row in rows]


def wanted_of(connection: sqlite3.Connection, name: str) -> Wanted:
    """Which events a stored subscription wants."""
    row = connection.execute("SELECT what FROM subscription WHERE name = ?", (name,)).fetchone()
    return Wanted(row[0])


def members(connection: sqlite3.Connection, living: Collection[str]) -> list[Member]:
    """The processes that consume, or did until they died."""
    rows = connection.execute(
        "SELECT process, member.owner, count(cursor.owner) FROM member LEFT JOIN cursor"
        " ON cursor.owner = member.owner GROUP BY member.owner ORDER BY process"
    )
    return [Member(row[0], row[1] in living, row[2]) for row in rows]


def tally(connection: sqlite3.Connection, after: int, end: int) -> Mapping[str, int]:
    """How many events there are, by names."""
    rows = connection.execute(
        "SELECT names, count(*) FROM log WHERE position > ? AND position <= ? GROUP BY names",
        (after, end),
    )
    return dict(rows.fetchall())


# Events.

_EVENT = f"SELECT position, topic, {COLUMNS} FROM log"


def find(connection: sqlite3.Connection, id: str) -> Chapter | None:
    """The event with an id, or at a position."""
    row = connection.execute(f"{_EVENT} WHERE id = ?", (id,)).fetchone()
    if row is None and id.isdecimal() and int(id) < 1 << 63:
        row = connection.execute(f"{_EVENT} WHERE position = ?", (int(id),)).fetchone()
    if row is not None:
        return _told(connection, [_chapter(row, topic_names(connection))])[0]
    later = connection.execute("SELECT due, envelope FROM later WHERE id = ?", (id,)).fetchone()
    if later is not None:
        return Chapter(0, later[0], Envelope.unpack(later[1]))
    kept = connection.execute(
        "SELECT position, envelope FROM entry WHERE id = ? LIMIT 1", (id,)
    ).fetchone()
    if kept is None:
        return None
    return _told(connection, [Chapter(kept[0], None, Envelope.unpack(kept[1]))])[0]


def story(connection: sqlite3.Connection, correlation: str, limit: int) -> list[Chapter]:
    """The events of a story; its first one carries no correlation, but is it."""
    topics = topic_names(connection)
    rows = connection.execute(
        f"{_EVENT} WHERE id = ? OR correlation = ? ORDER BY position LIMIT ?",
        (correlation, correlation, limit),
    )
    chapters = _told(connection, [_chapter(row, topics) for row in rows.fetchall()])
    later = connection.execute("SELECT due, envelope FROM later ORDER BY due LIMIT ?", (LATER,))
    for due, packed in later:
        envelope = Envelope.unpack(packed)
        if correlation in (envelope.correlation, envelope.id):
            chapters.append(Chapter(0, due, envelope))
    return chapters[:limit]


def _chapter(row: Sequence[Any], topics: dict[int, str]) -> Chapter:
    return Chapter(row[0], None, Envelope(row[2], topics[row[1]], *row[3:]))


def _told(connection: sqlite3.Connection, chapters: list[Chapter]) -> list[Chapter]:
    """With what became of each event."""
    subscriptions = [
        (name, Wanted(what), bool(paused))
        for name, what, paused in connection.execute(
            "SELECT name, what, paused FROM subscription ORDER BY name"
        )
    ]
    return [
        chapter._replace(steps=tuple(_steps(connection, chapter, subscriptions)))
        for chapter in chapters
    ]


def _steps(
    connection: sqlite3.Connection,
    chapter: Chapter,
    subscriptions: list[tuple[str, Wanted, bool]],
) -> list[Step]:
    envelope = chapter.envelope
    entries = _entries(connection, envelope.id)
    lane = _lane_of(connection, chapter, entries)
    steps = list[Step]()
    for name, wanted, paused in subscriptions:
        entry = entries.get(name)
        if entry is not None and entry.state != "count":
            steps.append(Step(name, entry.state, entry))
        elif wanted(envelope.names):
            cursor = connection.execute(
                "SELECT position, done, claim, owner, start FROM cursor"
                " WHERE subscription = ? AND topic = ? AND lane = ?",
                (name, envelope.topic, lane),
            ).fetchone()
            if cursor is not None:
                steps.append(Step(name, _stage(chapter.position, cursor, paused=paused), entry))
    return steps


def _entries(connection: sqlite3.Connection, event_id: str) -> dict[str, Entry]:
    rows = connection.execute(f"SELECT {sql.COLUMNS} FROM entry WHERE id = ?", (event_id,))
    return {entry.subscription: entry for entry in map(sql.entry_of, rows)}


def _lane_of(
    connection: sqlite3.Connection, chapter: Chapter, entries: dict[str, Entry]
) -> int | None:
    row = connection.execute(
        "SELECT lane FROM log WHERE position = ?", (chapter.position,)
    ).fetchone()
    if row is not None:
        lane: int = row[0]
        return lane
    return next((entry.lane for entry in entries.values()), None)


def _stage(at: int, cursor: Sequence[Any], *, paused: bool) -> Stage:
    position, done, claim, owner, start = cursor
    if at <= start:
        return "skipped"
    if at <= position or str(at) in done.split(","):
        return "settled"
    if at <= claim and owner is not None:
        return "underway"
    return "paused" if paused else "waiting"
