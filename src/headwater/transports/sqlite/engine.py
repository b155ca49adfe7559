"""The SQLite transport: a log in one file, behind the seam.

Two connections, each in a thread of its own: the writer's, and one that only reads, on the bus's
I/O loop. Nobody is told of events; who reads is woken and looks. A wake-up comes from this
process's own commits, as a datagram from another process's, or from the poll that notices what
was lost.

It is a little longer than other files: every member of the seam has its few lines here.
"""

import asyncio
import contextlib
import os
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from headwater import failpoint
from headwater.errors import BadLog, HeadwaterError, LogBusy, PublishFailed
from headwater.runtime import Runtime, boot_id, call_after, new_id, steady
from headwater.transport import (
    Event,
    Interest,
    Lane,
    Loan,
    Nudge,
    Outgoing,
    Progress,
    Received,
    Settlement,
)
from headwater.transports.sqlite import files, membership, operations, schema
from headwater.transports.sqlite.attendance import Attendance
from headwater.transports.sqlite.blocks import Blocks
from headwater.transports.sqlite.guest import Guests
from headwater.transports.sqlite.holds import Holds
from headwater.transports.sqlite.later import Later
from headwater.transports.sqlite.ledger import SqliteLedger
from headwater.transports.sqlite.loan import SqliteLoan
from headwater.transports.sqlite.locks import FileLock, Presence
from headwater.transports.sqlite.log import head_of, scan
from headwater.transports.sqlite.people import SqliteOperations
from headwater.transports.sqlite.promises import capabilities_of
from headwater.transports.sqlite.settings import Settings, settings_of
from headwater.transports.sqlite.settlement import settle
from headwater.transports.sqlite.writer import Operation, Writer

LOOK_AFTER = 0.5
"""Seconds between two looks at who is still alive."""


class SqliteTransport:
    """See the module.

    Args:
        url: ``sqlite:///...``; see `settings`.
        runtime: its clock, timers and threads.
        process: what this process is called among the members.
    """

    def __init__(self, url: str, runtime: Runtime, process: str) -> None:
        self.settings: Settings = settings_of(url)
        self.capabilities = capabilities_of(self.settings)
        self.guests = Guests(self.settings.path)
        self.ledger = SqliteLedger(self.ask, self.look, lambda: self._paused)
        self.operations = SqliteOperations(
            self.ask, self.look, self._living, self.settings, runtime.now
        )
        self._runtime = runtime
        self._process = process
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: Writer | None = None
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._holds = Holds(self._events.put_nowait)
        self._interests: dict[str, Interest] = {}
        self._topics: dict[int, str] = {}
        self._paused: set[str] = set()
        self._watchers: list[Callable[[], None]] = []
        self._woken = False
        self._head = 0
        """The latest position that this process knows of."""
        self._seen = 0
        self._next_look = 0.0
        self._put_by = False
        self._next_cleaning = 0.0
        self._busy = False
        self._closed = True

    # Life.

    async def open(self, confirmed: Callable[[Sequence[Any], BaseException | None], None]) -> None:
        """Open the log, or make it.

        Raises:
            BadLog: the file is no log of ours, damaged, of a newer version, read-only, or on a
                file system that cannot hold one.
        """
        path = self.settings.path
        files.check_place(path)
        if not schema.look_at(path):
            schema.create(path)
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            try:
                self._lock = FileLock(f"{path}-lock", self.settings.timeout)
                undo.callback(self._lock.close)
                self._presence = Presence(f"{path}-lock")
                undo.callback(self._presence.close)
            except OSError as error:
                raise BadLog(f"{path}-lock cannot be written: {error.strerror}") from error
            connections = list[sqlite3.Connection]()
            undo.callback(self._let_go, connections)
            self._reader = files.connect(self.settings)
            connections.append(self._reader)
            writing = files.connect(self.settings)
            connections.append(writing)
            self._prepare(writing)
            undo.pop_all()
        self._reader.execute("PRAGMA query_only=ON").close()
        self._blocks = Blocks(self._reader)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0)
        self._me = membership.Me(
            new_id(), self._presence.byte, self._socket.getsockname()[1], boot_id(), self._process
        )
        self._closed = False
        self._writer = Writer(writing, path, self._lock, confirmed, self._appended)
        self._writer.owner = self._me.owner
        self._connection = writing
        self._attendance = Attendance(
            self._me, self._presence, self._holds, self.settings.lease, self._reader, self.ask
        )
        self._later = Later(
            self._reader, self.ask, self._writer.appender, self._runtime, self._loop, path,
            self._wake,
        )  # fmt: skip
        self._loop.add_reader(self._socket, self._rung)
        self._poll()

    def _let_go(self, connections: Sequence[sqlite3.Connection]) -> None:
        """Close connections under the lock, because closing may write."""
        try:
            with self._lock.held():
                for connection in connections:
                    connection.close()
        except LogBusy:
            files.abandon(*connections)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Look at what is there, and see that it can be written."""
        path = self.settings.path
        try:
            with self._lock.held():
                schema.migrate(connection, schema.check(connection, path))
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT OR REPLACE INTO meta VALUES('opened', 1)")
                connection.execute("COMMIT")
            # SQLite does not say if this fails: then a power cut could take the whole WAL away.
            schema.sync(os.path.dirname(path) or ".")
        except sqlite3.Error as error:
            raise files.meaning(error, path) from error

    async def close(self) -> None:
        """Write what is queued, be a member no longer, and let go of the file."""
        if self._closed:
            return
        self._closed = True
        assert self._loop is not None
        assert self._writer is not None
        self._loop.remove_reader(self._socket)
        self._later.closed = True
        if self._interests or self._watchers:
            owner = self._me.owner
            with contextlib.suppress(HeadwaterError):
                await self.ask(lambda connection: membership.leave(connection, owner))
        self._writer.close(self.settings.timeout + 5)
        try:
            with self._lock.held():
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self._reader.close()
                self._connection.close()
        except LogBusy:
            files.abandon(self._reader, self._connection)
        self._presence.close()
        self._lock.close()
        self._socket.close()
        self._events.put_nowait(None)

    async def ensure(self, interests: Sequence[Interest]) -> Sequence[str]:
        """Register subscriptions; returns those that were new."""
        now = self._runtime.now()

        def operation(connection: sqlite3.Connection) -> list[str]:
            return [
                interest.subscription
                for interest in interests
                if membership.register(connection, interest, now)
            ]

        new: list[str] = await self.ask(operation)
        return new

    async def subscribe(self, interest: Interest) -> None:
        """Compete for the lanes of a subscription that was registered."""
        me, lease = self._me, steady() + self.settings.lease

        def operation(connection: sqlite3.Connection) -> None:
            membership.renew(connection, me, lease)
            membership.read(connection, interest.subscription, me.owner)

        await self.ask(operation)
        self._interests[interest.subscription] = interest
        await self._share_out()

    async def unsubscribe(self, subscription: str) -> None:
        """Compete no longer."""
        self._interests.pop(subscription, None)
        owner = self._me.owner
        await self.ask(
            lambda connection: connection.execute(
                "DELETE FROM reader WHERE subscription = ? AND owner = ?", (subscription, owner)
            )
        )

    async def events(self) -> AsyncIterator[Event]:
        """What happens, in order, until the transport is closed."""
        while (event := await self._events.get()) is not None:
            yield event

    # Write.

    def publish(self, outgoing: Outgoing) -> None:
        """Store an event."""
        assert self._writer is not None
        self._writer.publish(outgoing)

    def settle(
        self,
        settlements: Sequence[Settlement],
        done: Callable[[Sequence[BaseException | None]], None],
    ) -> None:
        """Settle, each lane all or nothing."""
        assert self._writer is not None
        writer = self._writer

        def operation(connection: sqlite3.Connection) -> list[BaseException | None]:
            return [settle(connection, writer.appender, each) for each in settlements]

        def told(results: list[BaseException | None], error: BaseException | None) -> None:
            done(results if error is None else [error] * len(settlements))

        writer.submit(operation, told)

    async def release(self, lane: Lane, epoch: int) -> None:
        """Give a lane up."""
        if self._closed:
            return  # It went with all the others.
        failpoint.reach("release.before")
        owner = self._me.owner
        self._holds.drop(lane)
        await self.ask(lambda connection: membership.release(connection, lane, owner, epoch))

    def borrow(
        self, lane: Lane | None, epoch: int, granted: Callable[[Loan | BaseException], None]
    ) -> None:
        """Lend a transaction."""
        assert self._writer is not None

        def fenced(connection: sqlite3.Connection) -> None:
            if lane is not None:
                membership.check_fence(connection, lane, epoch)

        self._writer.lend(SqliteLoan(granted, fenced))

    async def ask(self, operation: Operation) -> Any:
        """Run an operation in the writer's next transaction; returns what it gave."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def told(result: Any, error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, error)

        if self._writer is None:
            raise PublishFailed(f"{self.settings.path}: the log is not open")
        self._writer.submit(operation, told)
        return await future

    async def look(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        """Read, on the I/O loop."""
        try:
            return query(self._reader)
        except sqlite3.Error as error:
            raise files.meaning(error, self.settings.path) from error

    # Read.

    def credit(self, lane: Lane, more: int) -> None:
        """Hand out so many events more."""
        if self._holds.credit(lane, more):
            self._wake()

    def _appended(self) -> None:
        """A commit: wake this process and the others. In the writer's thread."""
        assert self._writer is not None
        if self._writer.appender.put_by:  # Not before it is committed, and can be seen.
            self._writer.appender.put_by = False
            self._put_by = True
        for port in self._writer.peers:
            with contextlib.suppress(OSError):
                self._socket.sendto(b"!", ("127.0.0.1", port))
        # Who only publishes has nobody to wake: another thread would only be in the way.
        reads = self._interests or self._watchers
        if reads and not self._woken and self._loop is not None:
            self._woken = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._look)

    def _rung(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(64):
                pass
        self._look_up()

    def _wake(self) -> None:
        if not self._woken and self._loop is not None:
            self._woken = True
            self._loop.call_soon(self._look)

    def _poll(self) -> None:
        """Look, should a wake-up have been lost, and see who is alive."""
        if self._closed:
            return
        try:
            version: int = self._reader.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            version = self._seen
        now = steady()
        if version != self._seen or now >= self._next_look:
            if version != self._seen:
                self._events.put_nowait(Nudge())
            self._seen = version
            self._next_look = now + LOOK_AFTER
            self._look_up()
            if self._interests or self._watchers:
                self._keep_soon()
        if self._loop is not None:
            call_after(self._loop, self.settings.poll, self._poll)

    def _keep_soon(self) -> None:
        if not self._busy and self._loop is not None:
            self._busy = True
            self._loop.create_task(self._keep())

    async def _keep(self) -> None:
        """Do what a member has to do."""
        try:
            await self._share_out()
            await self._later.move()
            await self._clean()
        except (HeadwaterError, sqlite3.Error) as error:
            if not self._closed:
                files.complain(self.settings.path, error)
        finally:
            self._busy = False

    async def _share_out(self) -> None:
        self._paused = membership.paused(self._reader)
        await self._attendance.share_out(self._interests)

    def _look_up(self) -> None:
        """Another process may have written: look how far the log goes, and hand that out."""
        if self._closed:
            return
        with contextlib.suppress(sqlite3.Error):  # `_look` meets it again, and says it.
            self._head = head_of(self._reader)
            if self._interests:
                self._later.look()
        self._look()

    def _look(self) -> None:
        """Hand out what is there, as far as there is credit."""
        self._woken = False
        if self._closed:
            return
        for look in tuple(self._watchers):
            look()
        assert self._writer is not None
        appender = self._writer.appender
        self._head = max(self._head, appender.head)
        try:
            if self._holds.hand_out(self._blocks, self._head, self._paused):
                self._wake()  # Others shall have their turn first.
            if self._put_by:
                self._put_by = False
                self._later.look()
        except sqlite3.Error as error:
            files.complain(self.settings.path, files.meaning(error, self.settings.path))

    async def _clean(self) -> None:
        """Remove settled events that are older than they have to be kept."""
        if not self.settings.retain or steady() < self._next_cleaning:
            return
        self._next_cleaning = steady() + min(60.0, self.settings.retain)
        before = self._runtime.now() - self.settings.retain
        while await self.ask(lambda c: operations.prune(c, before, force=False)):
            pass

    def watch(self, look: Callable[[], None]) -> Callable[[], None]:
        """Call something whenever there may be new events."""
        self._watchers.append(look)
        self._keep_soon()  # Who watches is a member, for the others to wake.
        return lambda: self._watchers.remove(look)

    async def read(
        self, topics: Sequence[str] | None, after: int, end: int | None, limit: int
    ) -> tuple[Sequence[Received], int]:
        """Events after a position, and up to where that is all of them."""
        last = min(head_of(self._reader), end if end is not None else 1 << 62)
        covered = min(last, after + limit)
        rows = scan(self._reader, self._topics, after, covered)
        return [row for topic, _, row in rows if topics is None or topic in topics], covered

    async def locate(self, time: float | None) -> int:
        """The position before the first event of a time, or of all that come from now on."""
        return operations.locate(self._reader, time)

    async def probe(self, subscriptions: Sequence[str]) -> Sequence[Progress]:
        """How far subscriptions are."""
        return [operations.progress(self._reader, name) for name in subscriptions]

    def _living(self, connection: sqlite3.Connection) -> set[str]:
        return self._attendance.living(connection)

    async def strangers(self, prefix: str, known: Sequence[str]) -> Sequence[str]:
        """Stored subscriptions that the program does not have."""
        return membership.unknown(self._reader, prefix, known)

    def abandon(self) -> None:
        """In the child of a fork: leave everything alone that the parent goes on using."""
        if not self._closed:
            self._closed = True
            files.abandon(self._reader, self._connection)
            # Copies of the parent's: as long as one is open, it would seem to live, and to write.
            self._presence.close()
            self._lock.close()
