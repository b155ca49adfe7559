"""The relay: brings what waits in outboxes of the user's databases into the log.

It looks when the bus starts, when it is told that something has changed, and every second. What is
there is published in order, and removed once the engine has confirmed it. A relay that is stopped
in between, or two at once, publish something twice; the log keeps an id once.

It lives on the bus's I/O loop and never touches a database there: sync connections are used in a
worker thread, async ones on the loop where async handlers run.
"""

import asyncio
import contextlib
import functools
import logging
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from headwater import failpoint
from headwater.envelope import Envelope
from headwater.errors import HeadwaterError, TooLarge
from headwater.foreign import Factory, Steps, is_async, run, run_async, transact
from headwater.receipt import Receipt
from headwater.runtime import Future, Rarely, Runtime, within
from headwater.store import Store, Waiting

log = logging.getLogger("headwater")
T = TypeVar("T")

POLL = 1.0
"""Seconds between two looks at an outbox, should nothing wake the relay."""
AT_ONCE = 100
HOLD = 10.0
"""Seconds for which events are left to the settlement that is to bring them into the log."""
PRUNE_EVERY, KEEP = 3_600.0, 86_400.0
"""Seconds between two prunings of an inbox, and for which it remembers a settled event."""
LAST_LOOK = 1.0
"""Seconds that removing what has arrived may take when the bus stops."""


class Relay:
    """The relay of one bus.

    Args:
        bus: its name.
        runtime: clock and threads.
        home: the loop where async handlers run.
        send: gives an event to the engine.
        settled: whether nothing of a subscription waits to be handled.
        check: is given a connection to each database, and may refuse it.
    """

    def __init__(
        self,
        bus: str,
        runtime: Runtime,
        home: Callable[[], AbstractEventLoop],
        send: Callable[[Envelope, float | None], Receipt],
        settled: Callable[[str], Awaitable[bool]],
        check: Callable[[Any], Steps[None]],
    ) -> None:
        self._bus = bus
        self._runtime = runtime
        self._home = home
        self._send = send
        self._settled = settled
        self._check = check
        self._stores: dict[Factory, Store] = {}
        self._watches: dict[Store, _Watch] = {}
        self._rarely = Rarely(10.0)
        self._running = False

    def add(self, factory: Factory) -> Store:
        """The database that a factory connects to."""
        store = self._stores.get(factory)
        if store is None:
            store = self._stores[factory] = Store(factory, self._bus, self._check)
        return store

    async def open(self) -> None:
        """Make the tables, where that can be done without the loop of async handlers."""
        for store in self._stores.values():
            if not store.ready:
                await self._in_worker(functools.partial(self._look_at, store))

    async def make_tables(self) -> None:
        """Make all tables, where the bus does not start: async connections are not kept then."""
        await self.open()
        for store in self._stores.values():
            if not store.ready:
                await self._do(store, store.create)

    def _look_at(self, store: Store) -> None:
        if store.is_async is None:
            store.is_async = is_async(store.factory())
        if not store.is_async:
            run(transact(store.factory, store.create))

    def start(self) -> None:
        """Relay from now on; again after a database was added."""
        self._running = True
        for store in self._stores.values():
            if store not in self._watches:
                watch = self._watches[store] = _Watch()
                store.changed = functools.partial(_ring, self._runtime.io, watch.bell)
                watch.task = asyncio.get_running_loop().create_task(self._watch(store, watch))

    async def stop(self) -> None:
        """End what is under way."""
        self._running = False
        for watch in self._watches.values():
            watch.bell.set()
        tasks = [watch.task for watch in self._watches.values() if watch.task is not None]
        self._watches = {}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LAST_LOOK)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def abandon(self) -> None:
        """In the child of a fork: the parent goes on with it."""
        self._running = False
        self._watches = {}

    async def sweep(self) -> int:
        """Relay all there is now; returns how many events."""
        relayed = 0
        for store, watch in tuple(self._watches.items()):
            relayed += await self._try_to_sweep(store, watch)
        return relayed

    async def _watch(self, store: Store, watch: "_Watch") -> None:
        while self._running:
            watch.bell.clear()
            await self._try_to_sweep(store, watch)
            if self._running:
                with contextlib.suppress(TimeoutError):
                    async with within(POLL):
                        await watch.bell.wait()
        while store.stored:  # The last settlements have been made meanwhile.
            if not await self._try_to_sweep(store, watch):
                return

    async def _try_to_sweep(self, store: Store, watch: "_Watch") -> int:
        try:
            async with watch.turn:
                return await self._sweep(store, watch)
        except Exception as error:
            if self._rarely():
                log.error(  # noqa: TRY400  # An outage is one line.
                    "outbox_trouble bus=%s error=%s", self._bus, error
                )
            return 0

    async def _sweep(self, store: Store, watch: "_Watch") -> int:
        if not store.ready:
            await self._do(store, store.create)
        while store.stored:
            ids = store.stored[:AT_ONCE]
            await self._do(store, functools.partial(store.remove, ids=ids))
            del store.stored[: len(ids)]
        relayed, after = 0, 0
        while True:
            look = functools.partial(store.waiting, after=after, most=AT_ONCE)
            rows = await self._do(store, look)
            relayed += await self._relay(store, watch, rows)
            if len(rows) < AT_ONCE:
                break
            after = rows[-1].number
        await self._prune(store, watch)
        return relayed

    async def _relay(self, store: Store, watch: "_Watch", rows: Sequence[Waiting]) -> int:
        """Publish rows, in order, and remove those that the engine confirms."""
        sent = list[tuple[str, Receipt]]()
        now, arrived = self._runtime.now(), set(store.stored)
        for row in rows:
            settling = row.id in store.held and now - row.time < HOLD
            if settling or row.id in arrived or row.number in watch.spoilt:
                continue
            try:
                sent.append((row.id, self._send(Envelope.unpack(row.packed), row.due)))
            except Exception as error:
                if isinstance(error, HeadwaterError) and not isinstance(error, TooLarge):
                    break  # The bus is full: what comes after this one waits for it.
                watch.spoilt.add(row.number)
                log.error(  # noqa: TRY400  # It says all there is, and is the row's, not ours.
                    "outbox_row_spoilt number=%d id=%s error=%s it stays in headwater_outbox",
                    row.number, row.id, error,
                )  # fmt: skip
        confirmed, trouble = await _confirmed(sent)
        if confirmed:
            failpoint.reach("outbox.relayed")
            await self._do(store, functools.partial(store.remove, ids=confirmed))
        if trouble is not None:
            raise trouble
        return len(confirmed)

    async def _prune(self, store: Store, watch: "_Watch") -> None:
        """Forget settled events. What waits may come again, and its row is older than it looks."""
        now = self._runtime.now()
        if now < watch.next_prune:
            return
        watch.next_prune = now + PRUNE_EVERY
        for name in tuple(store.subscriptions):
            if await self._settled(name):
                prune = functools.partial(store.prune, subscription=name, before=now - KEEP)
                await self._do(store, prune)
            else:
                watch.next_prune = now + POLL

    async def _do(self, store: Store, work: Callable[[Any], Steps[T]]) -> T:
        steps = transact(store.factory, work)
        if not store.is_async:
            return await self._in_worker(functools.partial(run, steps))
        coroutine = run_async(steps)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._home())
        except RuntimeError:  # It was closed this very moment.
            coroutine.close()
            raise
        return await asyncio.wrap_future(future)

    async def _in_worker(self, function: Callable[[], T]) -> T:
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)

        self._runtime.workers.submit(work)
        return await asyncio.wrap_future(future)


class _Watch:
    """What the relay knows of one database, from its start to its stop."""

    def __init__(self) -> None:
        self.bell = asyncio.Event()
        self.turn = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None
        self.spoilt: set[int] = set()
        self.next_prune = 0.0


async def _confirmed(
    sent: Sequence[tuple[str, Receipt]],
) -> tuple[list[str], BaseException | None]:
    """The ids that the engine confirms, and what went wrong with another one."""
    errors = await asyncio.gather(*(_error_of(receipt) for _, receipt in sent))
    confirmed = [id_ for (id_, _), error in zip(sent, errors, strict=True) if error is None]
    return confirmed, next((error for error in errors if error is not None), None)


async def _error_of(receipt: Receipt) -> BaseException | None:
    try:
        await receipt
    except HeadwaterError as error:
        return error
    return None


def _ring(loop: AbstractEventLoop, bell: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # The bus is closed.
        loop.call_soon_threadsafe(bell.set)
