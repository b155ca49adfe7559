"""Events that were put by for later: they are moved into the log when their time has come.

Any process that consumes does it; the move is one transaction, and whoever comes second finds
nothing to do. On the bus's I/O loop.
"""

import contextlib
import sqlite3
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable

from headwater import failpoint
from headwater.errors import HeadwaterError
from headwater.runtime import Runtime
from headwater.transports.sqlite import files
from headwater.transports.sqlite.log import Appender, move_due
from headwater.transports.sqlite.writer import Operation

AT_ONCE = 500


class Later:
    """The delayed events of a log.

    Args:
        reader: reads the log.
        ask: runs an operation of the writer.
        appender: appends to the log, in the writer's transactions.
        runtime: clock and timers.
        loop: the bus's I/O loop.
        path: of the log.
        moved: called when events were moved.
    """

    def __init__(
        self,
        reader: sqlite3.Connection,
        ask: Callable[[Operation], Awaitable[object]],
        appender: Appender,
        runtime: Runtime,
        loop: AbstractEventLoop,
        path: str,
        moved: Callable[[], None],
    ) -> None:
        self.closed = False
        self._reader = reader
        self._ask = ask
        self._appender = appender
        self._runtime = runtime
        self._loop = loop
        self._path = path
        self._moved = moved
        self._next: float | None = None

    def look(self) -> None:
        """See when the next one is due, and come back then."""
        due = self._first()
        if due is not None and due != self._next:
            self._next = due
            when = self._runtime.monotonic() + max(0.0, due - self._runtime.calendar())
            self._runtime.call_at(when, self._due, self._loop)

    async def move(self) -> None:
        """Move what is due."""
        now, appender = self._runtime.calendar(), self._appender
        due = self._first()
        if due is None or due > now:
            return
        self._next = None
        await self._ask(lambda connection: move_due(connection, appender, now, AT_ONCE))
        failpoint.reach("delayed.moved")
        self._moved()

    def _first(self) -> float | None:
        due: float | None = self._reader.execute("SELECT min(due) FROM later").fetchone()[0]
        return due

    def _due(self) -> None:  # Who moves time by hand does so in a thread of its own.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if not self.closed:
            self._loop.create_task(self._move())

    async def _move(self) -> None:
        try:
            await self.move()
        except HeadwaterError as error:
            files.complain(self._path, error)
            return
        if not self.closed:  # By the wall clock it may be too early, or there may be more.
            self._next = None
            self.look()
