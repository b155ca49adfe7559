"""This process among those that read the log: its lease, who has gone, its share of the lanes."""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable

from headwater import failpoint
from headwater.runtime import steady
from headwater.transport import Event
from headwater.transports.sqlite import membership
from headwater.transports.sqlite.holds import Holds
from headwater.transports.sqlite.locks import Presence
from headwater.transports.sqlite.membership import Me
from headwater.transports.sqlite.writer import Operation


class Attendance:
    """One member's.

    Args:
        me: the member.
        presence: tells who lives.
        holds: the lanes it has.
        lease: seconds.
        reader: reads the log.
        ask: runs an operation of the writer.
    """

    def __init__(
        self,
        me: Me,
        presence: Presence,
        holds: Holds,
        lease: float,
        reader: sqlite3.Connection,
        ask: Callable[[Operation], Awaitable[list[Event]]],
    ) -> None:
        self._me = me
        self._presence = presence
        self._holds = holds
        self._lease = lease
        self._reader = reader
        self._ask = ask
        self._next_renewal = 0.0

    async def share_out(self, names: Iterable[str]) -> None:
        """Renew the lease, free the lanes of who has gone, take and give up lanes.

        Args:
            names: the subscriptions that this member reads.
        """
        now, me, lease, wanted = steady(), self._me, self._lease, tuple(names)
        mine, alive = self._holds.epochs, self._presence.alive
        if now < self._next_renewal and not self._is_news(now, wanted):
            return

        def operation(connection: sqlite3.Connection) -> list[Event]:
            membership.renew(connection, me, now + lease, wanted)
            membership.bury(connection, me, now, alive)
            return membership.share_out(connection, me.owner, wanted, mine)

        events = await self._ask(operation)
        failpoint.reach("lease.acquired")
        self._next_renewal = now + lease / 3
        for event in events:
            self._holds.change(event)

    def living(self, connection: sqlite3.Connection) -> set[str]:
        """The members that are not gone."""
        return membership.living(connection, self._me.boot, steady(), self._presence.alive)

    def _is_news(self, now: float, names: tuple[str, ...]) -> bool:
        """Whether there is something to write."""
        me, alive = self._me, self._presence.alive
        rows = self._reader.execute("SELECT owner, byte, boot, lease FROM member").fetchall()
        if not any(row[0] == me.owner for row in rows):
            return True
        others = (row for row in rows if row[0] != me.owner)
        if any(membership.is_dead(row, me.boot, now, alive) for row in others):
            return True
        mine = self._holds.epochs
        found = membership.share_out(self._reader, me.owner, names, mine, write=False)
        return any(not self._holds.is_known(event) for event in found)
