"""Who reads the log, and who owns which lane. Operations of the writer, and reads.

Every process that consumes is a member with a lease. The lanes of a subscription are shared out
evenly among its live readers: whoever has more than its share gives some up, when it has finished
what it began with them, and whoever has less takes what is free. Each change of owner counts the
lane's fence up, and nothing is accepted from an owner with an older one.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from headwater.errors import Fenced
from headwater.transport import Assigned, Event, Interest, Lane, Lost, Revoking
from headwater.transports.sqlite.log import head_of, number_of


class Me(NamedTuple):
    """This process, as a member."""

    owner: str
    byte: int
    port: int
    boot: str
    process: str


def join(connection: sqlite3.Connection, me: Me, lease: float) -> None:
    """Become a member, until `lease` on the machine's steady clock."""
    connection.execute(
        "INSERT OR REPLACE INTO member VALUES(?, ?, ?, ?, ?, ?)",
        (me.owner, me.byte, me.port, me.boot, lease, me.process),
    )


def leave(connection: sqlite3.Connection, owner: str) -> None:
    """Be a member no longer; lanes that were released before are free already."""
    connection.execute("UPDATE cursor SET owner = NULL WHERE owner = ?", (owner,))
    connection.execute("DELETE FROM reader WHERE owner = ?", (owner,))
    connection.execute("DELETE FROM member WHERE owner = ?", (owner,))


def register(connection: sqlite3.Connection, interest: Interest, now: float) -> bool:
    """Remember a subscription and where it begins; true if it was not known.

    A topic that it has come to read since then begins where the log stands now.
    """
    new = connection.execute(
        "INSERT INTO subscription VALUES(?, ?, 0, ?) ON CONFLICT(name) DO UPDATE SET"
        " what = excluded.what WHERE what <> excluded.what RETURNING created = ?",
        (interest.subscription, ", ".join(interest.what), now, now),
    ).fetchone()
    start = interest.start
    position = head_of(connection) if start == "new" else 0 if start == "beginning" else start
    for topic in interest.topics:
        _, lanes = number_of(connection, topic)
        connection.executemany(
            "INSERT INTO cursor VALUES(?, ?, ?, ?, '', ?, NULL, 0, ?) ON CONFLICT DO NOTHING",
            [
                (interest.subscription, topic, lane, position, position, position)
                for lane in range(lanes)
            ],
        )
    return new is not None and bool(new[0])


def read(connection: sqlite3.Connection, subscription: str, owner: str) -> None:
    """Compete for the lanes of a subscription from now on."""
    connection.execute("INSERT OR IGNORE INTO reader VALUES(?, ?)", (subscription, owner))


def renew(
    connection: sqlite3.Connection, me: Me, lease: float, subscriptions: Iterable[str] = ()
) -> None:
    """Prolong the lease; a member that was taken for dead becomes one again, without its lanes.

    It competes again for those of the subscriptions that it reads.
    """
    changed = connection.execute("UPDATE member SET lease = ? WHERE owner = ?", (lease, me.owner))
    if not changed.rowcount:
        join(connection, me, lease)
        for subscription in subscriptions:
            read(connection, subscription, me.owner)


def bury(
    connection: sqlite3.Connection, me: Me, now: float, alive: Callable[[int], bool]
) -> list[str]:
    """Free the lanes of members that are gone; returns their names."""
    dead = [row[0] for row in connection.execute("SELECT owner, byte, boot, lease FROM member")
            if row[0] != me.owner and is_dead(row, me.boot, now, alive)]  # fmt: skip
    for owner in dead:
        connection.execute("UPDATE cursor SET owner = NULL WHERE owner = ?", (owner,))
        connection.execute("DELETE FROM reader WHERE owner = ?", (owner,))
        connection.execute("DELETE FROM member WHERE owner = ?", (owner,))
    return dead


def is_dead(
    row: tuple[str, int, str, float], boot: str, now: float, alive: Callable[[int], bool]
) -> bool:
    """Whether a member is gone: the machine has been restarted, the process ended, or it hangs."""
    _, byte, its_boot, lease = row
    return its_boot != boot or lease < now or not alive(byte)


def living(
    connection: sqlite3.Connection, boot: str, now: float, alive: Callable[[int], bool]
) -> set[str]:
    """The members that are not gone."""
    rows = connection.execute("SELECT owner, byte, boot, lease FROM member").fetchall()
    return {row[0] for row in rows if not is_dead(row, boot, now, alive)}


def share_out(
    connection: sqlite3.Connection,
    owner: str,
    subscriptions: Iterable[str],
    mine: Mapping[Lane, int],
    *,
    write: bool = True,
) -> list[Event]:
    """What changes for one member: lanes it gets, has to give up, or has lost.

    Args:
        connection: in a transaction, if `write`.
        owner: the member.
        subscriptions: those it reads.
        mine: the lanes that it holds, with their epochs.
        write: whether to take lanes, or only to look whether there is something to do.
    """
    events = list[Event]()
    for subscription in subscriptions:
        rows = connection.execute(
            "SELECT topic, lane, owner, fence, position, claim, done FROM cursor"
            " WHERE subscription = ? ORDER BY topic, lane",
            (subscription,),
        ).fetchall()
        if not rows:
            continue
        share = _share(connection, subscription, owner, len(rows))
        held = list[Lane]()
        for row in rows:
            lane = Lane(subscription, row[0], row[1])
            if lane in mine:
                if row[2] == owner and row[3] == mine[lane]:
                    held.append(lane)
                else:
                    events.append(Lost(lane, mine[lane]))
        events.extend(Revoking(lane, mine[lane]) for lane in held[share:])
        lost = {event.lane for event in events if isinstance(event, Lost)}
        free = [
            row
            for row in rows
            if row[2] is None
            or (row[2] == owner and Lane(subscription, row[0], row[1]) not in mine)
        ]
        for row in free[: max(0, share - len(held))]:
            lane = Lane(subscription, row[0], row[1])
            if lane not in lost:
                events.append(_take(connection, lane, owner, row, write=write))
    return events


def _take(
    connection: sqlite3.Connection,
    lane: Lane,
    owner: str,
    row: tuple[str, int, str | None, int, int, int, str],
    *,
    write: bool,
) -> Assigned:
    _, _, _, fence, position, claim, done = row
    if write:
        connection.execute(
            "UPDATE cursor SET owner = ?, fence = ? WHERE subscription = ? AND topic = ?"
            " AND lane = ?",
            (owner, fence + 1, *lane),
        )
    settled = frozenset(int(place) for place in done.split(",") if place)
    return Assigned(lane, fence + 1, position, max(claim, position), settled)


def release(connection: sqlite3.Connection, lane: Lane, owner: str, epoch: int) -> None:
    """Give a lane up, with nothing under way in it."""
    connection.execute(
        "UPDATE cursor SET owner = NULL, claim = position WHERE subscription = ? AND topic = ?"
        " AND lane = ? AND owner = ? AND fence = ?",
        (*lane, owner, epoch),
    )


def check_fence(connection: sqlite3.Connection, lane: Lane, epoch: int) -> None:
    """Refuse who owns a lane no longer.

    Raises:
        Fenced: another process has it, or it is gone.
    """
    row = connection.execute(
        "SELECT fence FROM cursor WHERE subscription = ? AND topic = ? AND lane = ?", lane
    ).fetchone()
    if row is None or row[0] != epoch:
        raise fenced(lane)


def fenced(lane: Lane) -> Fenced:
    """The error of who owns a lane no longer."""
    return Fenced(
        f"{lane.subscription}: another process has taken over {lane.topic}, lane {lane.number}"
    )


def unknown(connection: sqlite3.Connection, prefix: str, known: Sequence[str]) -> list[str]:
    """Stored subscriptions of an application that its code does not have."""
    rows = connection.execute("SELECT name FROM subscription ORDER BY name")
    return [row[0] for row in rows if row[0].startswith(prefix) and row[0] not in known]


def paused(connection: sqlite3.Connection) -> set[str]:
    """Subscriptions that somebody has paused for all processes."""
    return {row[0] for row in connection.execute("SELECT name FROM subscription WHERE paused")}


def _share(connection: sqlite3.Connection, subscription: str, owner: str, lanes: int) -> int:
    """How many lanes a reader should have; those that came first get one more, if need be."""
    rows = connection.execute(
        "SELECT owner FROM reader WHERE subscription = ? ORDER BY owner", (subscription,)
    )
    owners = [row[0] for row in rows]
    if owner not in owners:
        return 0
    each, more = divmod(lanes, len(owners))
    return each + (owners.index(owner) < more)
