"""The ledger of a SQLite log: tables in the same file."""

import sqlite3
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from headwater.ledger import Entry, Held, Letters
from headwater.ledgers import sql

Run = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]


class SqliteLedger:
    """See `headwater.ledger.Ledger`.

    Args:
        write: runs a function of a connection in the writer's next transaction.
        read: runs one on the connection that reads.
        paused: the subscriptions that somebody has paused for all processes.
    """

    def __init__(self, write: Run, read: Run, paused: Callable[[], Collection[str]]) -> None:
        self._write = write
        self._read = read
        self._paused = paused

    async def held(self, subscription: str, topic: str, lane: int) -> Held:
        """What a new owner of a lane must know."""
        held: Held = await self._read(lambda c: sql.held(c, subscription, topic, lane))
        return held

    async def due(
        self, subscription: str, topic: str, lanes: Sequence[int], now: float, limit: int
    ) -> tuple[Sequence[Entry], float | None]:
        """Entries whose time has come, and when the next one's does."""
        if subscription in self._paused():
            return [], None
        found: tuple[list[Entry], float | None] = await self._read(
            lambda c: sql.due(c, subscription, topic, lanes, now, limit)
        )
        return found

    async def followers(self, first: Entry, limit: int) -> Sequence[Entry]:
        """The entries blocked behind one, in order."""
        found: list[Entry] = await self._read(lambda c: sql.followers(c, first, limit))
        return found

    async def letters(self, which: Letters, limit: int) -> Sequence[Entry]:
        """Dead letters, latest first."""
        found: list[Entry] = await self._read(lambda c: sql.letters(c, which, limit))
        return found

    async def retry(self, which: Letters, now: float) -> int:
        """Let dead letters be handled again."""
        count: int = await self._write(lambda c: sql.retry(c, which, now))
        return count

    async def discard(self, which: Letters) -> int:
        """Forget dead letters."""
        count: int = await self._write(lambda c: sql.discard(c, which))
        return count

    async def edit(self, number: int, data: bytes, now: float) -> bool:
        """Give a dead letter other data, and let it be handled again."""
        found: bool = await self._write(lambda c: sql.edit(c, number, data, now))
        return found

    async def waiting(self, letter: Entry) -> int:
        """How many entries wait behind a parked dead letter."""
        count: int = await self._read(lambda c: sql.waiting(c, letter))
        return count
