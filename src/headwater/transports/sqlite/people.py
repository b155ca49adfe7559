"""The operations of a SQLite log (`headwater.operations`).

Who looks goes to the connection that reads, who moves something to the writer.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from headwater.errors import HeadwaterError
from headwater.operations import Chapter, Consumer, Finding, Member, Place
from headwater.transports.sqlite import checkup, lookout, moves, operations
from headwater.transports.sqlite.settings import Settings

Operation = Callable[[sqlite3.Connection], Any]
Run = Callable[[Operation], Awaitable[Any]]


class SqliteOperations:
    """See `headwater.operations.Operations`.

    Args:
        write: runs a function of a connection in the writer's next transaction.
        read: runs one on the connection that reads.
        living: the owners that live, in the eyes of a connection.
        settings: of the log.
        now: the wall clock.
    """

    def __init__(
        self,
        write: Run,
        read: Run,
        living: Callable[[sqlite3.Connection], set[str]],
        settings: Settings,
        now: Callable[[], float],
    ) -> None:
        self._write = write
        self._read = read
        self._living = living
        self._settings = settings
        self._now = now

    async def consumers(self) -> Sequence[Consumer]:
        """Every stored subscription, by name."""
        found: list[Consumer] = await self._read(lambda c: lookout.consumers(c, self._living(c)))
        return found

    async def places(self, subscription: str) -> Sequence[Place]:
        """How far it is, lane by lane."""
        found: list[Place] = await self._read(lambda c: lookout.places(c, subscription))
        return found

    async def members(self) -> Sequence[Member]:
        """The processes that consume."""
        found: list[Member] = await self._read(lambda c: lookout.members(c, self._living(c)))
        return found

    async def pause(self, subscription: str, *, paused: bool) -> bool:
        """Pause or resume it in all processes."""
        changed: bool = await self._change(lambda c: moves.pause(c, subscription, paused=paused))
        return changed

    async def reset(self, subscription: str, position: int, *, force: bool) -> int:
        """Move its place."""
        ended: int = await self._change(
            lambda c: moves.reset(c, self._living(c), subscription, position, force=force)
        )
        return ended

    async def rename(self, old: str, new: str, *, force: bool) -> None:
        """Give its place, its entries and its inbox to another name."""
        await self._change(lambda c: moves.rename(c, self._living(c), old, new, force=force))

    async def drop(self, subscription: str, *, force: bool) -> int:
        """Forget it."""
        left: int = await self._change(
            lambda c: moves.drop(c, self._living(c), subscription, force=force)
        )
        return left

    async def find(self, id: str) -> Chapter | None:
        """The event with an id, or at a position."""
        found: Chapter | None = await self._read(lambda c: lookout.find(c, id))
        return found

    async def story(self, correlation: str, limit: int) -> Sequence[Chapter]:
        """The events of a story, in order, and what became of each."""
        found: list[Chapter] = await self._read(lambda c: lookout.story(c, correlation, limit))
        return found

    async def tally(self, after: int, end: int) -> Mapping[str, int]:
        """How many events there are, by their names."""
        found: dict[str, int] = await self._read(lambda c: lookout.tally(c, after, end))
        return found

    async def prune(self, before: float, *, force: bool) -> int:
        """Remove some settled events that are older."""
        count: int = await self._change(lambda c: operations.prune(c, before, force=force))
        return count

    async def _change(self, operation: Operation) -> Any:
        """Run an operation; its refusal is its own, and not that of its whole transaction."""

        def guarded(connection: sqlite3.Connection) -> Any:
            try:
                return operation(connection)
            except HeadwaterError as error:  # All of them refuse before they write.
                return error

        result = await self._write(guarded)
        if isinstance(result, HeadwaterError):
            raise result
        return result

    async def check(self, *, quick: bool) -> Sequence[Finding]:
        """Look whether the log is in order."""
        found: list[Finding] = await self._read(
            lambda c: checkup.check(c, self._settings, self._now(), quick=quick)
        )
        return found
