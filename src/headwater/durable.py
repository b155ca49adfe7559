"""A bus on a transport: opening, consuming, waiting, winding down.

Everything that talks to the engine runs on the bus's I/O loop, in a thread where no handler ever
runs; what is here in sync clothes passes work to that loop and waits for it.

It is longer than other files because it is the one place where all rooms of a bus on a transport
are opened and shut, in an order that matters.
"""

import asyncio
import contextlib
import logging
import os
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from headwater.answer import Answer
from headwater.arrival import Arrival
from headwater.consume import Consumption
from headwater.consumer import Consumer, wants
from headwater.context import Publisher
from headwater.deadletters import DeadLetters, needs_ledger
from headwater.envelope import Envelope, split_names
from headwater.errors import DuplicateName, InvalidOption, Unsupported
from headwater.event import topic_of
from headwater.foreign import Factory, Steps, file_of
from headwater.guarantees import guarantees_of
from headwater.inbox import Inbox
from headwater.ledger import Ledger
from headwater.naming import durable_name, names_on_the_wire
from headwater.outbox import Outbox
from headwater.policies.field import shown
from headwater.registry import Registry, check_what
from headwater.relay import Relay
from headwater.replay import Replay
from headwater.runtime import Future, Runtime, within
from headwater.settling import SettlingLife
from headwater.subscription import Subscription, What
from headwater.tail import Reader, Tail
from headwater.transactions import TransactionBlock
from headwater.transport import Interest, Transport
from headwater.unfinished import Unfinished

log = logging.getLogger("headwater")
T = TypeVar("T")

LOOK_AGAIN = 0.02
"""Seconds between two looks of `idle`, should nothing wake it."""
LAST_SETTLEMENTS = 10.0
"""Seconds that the last settlements are given when the bus stops."""


class Durable:
    """The engine room of one bus.

    Args:
        bus: the bus.
        name: its name, which durable names begin with.
        make: makes the transport, anew each time the bus is opened.
        runtime: clock, timers, threads.
        registry: who wants what.
        life: drives deliveries.
        outbox: publishes.
        unfinished: what is accepted and not finished.
        factory: connects to a database of the user's whose outbox is relayed, or None.
    """

    def __init__(
        self,
        bus: Publisher,
        name: str,
        make: Callable[[], Transport],
        runtime: Runtime,
        registry: Registry,
        life: SettlingLife,
        outbox: Outbox,
        unfinished: "Unfinished[Any]",
        factory: Factory | None = None,
    ) -> None:
        self.name = name
        self.consuming = False
        self._bus = bus
        self._make = make
        self._runtime = runtime
        self._registry = registry
        self._life = life
        self._outbox = outbox
        self._unfinished = unfinished
        self.transport = make()
        self._consumption: Consumption | None = None
        self._listening: asyncio.Task[None] | None = None
        self._opened = False
        self._tails: weakref.WeakSet[Tail] = weakref.WeakSet()
        outbox.max_bytes = self.transport.capabilities.max_bytes
        outbox.max_delay = self.transport.capabilities.delay
        outbox.name, outbox.guests = name, getattr(self.transport, "guests", None)
        self._relay = Relay(
            name, runtime, self._room, outbox.resend, self._has_settled, self._admit
        )
        if factory is not None:
            self._relay.add(factory)
        self.dead_letters = DeadLetters(self._ledger, self.answer, runtime.now)

    # Names.

    def prepare(self, subscription: Subscription) -> None:
        """Give a subscription its durable name.

        Raises:
            InvalidHandler: it has none that another run of the program would find again.
            DuplicateName: another one has it.
        """
        subscription.name = f"{self.name}:{subscription.options.name or durable_name(subscription)}"
        for other in self._registry:
            if other.name == subscription.name and not other.closed:
                raise DuplicateName(
                    f"two subscriptions are named {subscription.name!r}: a durable name is one"
                    f" place in the log; give one of them another name="
                )
        factory = subscription.options.transaction
        if factory is not None and factory is not True:
            inbox = Inbox(subscription, self._relay.add(factory), self._runtime.now)
            subscription.replace(inbox.around())
        subscription.prepared = True

    def _room(self) -> AbstractEventLoop:
        """The loop where async handlers run."""
        home = self._life.home
        return home if home is not None and home.is_running() else self._runtime.loop

    def _admit(self, given: Any) -> Steps[None]:
        """Refuse a connection to the log's own file, where nobody else may write to that."""
        if self._outbox.guests is not None:
            self._outbox.guests.admits((yield from file_of(given)))

    async def _has_settled(self, name: str) -> bool:
        """Whether nothing of a subscription waits to be handled."""
        (progress,) = await self.transport.probe([name])
        return not progress.lag and not progress.waiting

    # Open and close.

    def open(self) -> None:
        """Open the engine; blocks until it has answered."""
        if not self._opened:
            self.call(self._open())

    async def _open(self) -> None:
        if self._opened:
            return
        transport = self.transport
        await transport.open(self._outbox.confirmed)
        self._outbox.send = transport.publish
        self._consumption = Consumption(
            transport, self._life, self._runtime, asyncio.get_running_loop()
        )
        self._opened = True

    async def consume(self, home: AbstractEventLoop | None) -> None:
        """Register every subscription, and take their events from now on; on the I/O loop."""
        await self._open()
        if self.consuming:
            return
        consumption = self._consumption
        assert consumption is not None
        self._life.home = home
        self._life.stopping = consumption.books.stopping = False
        subscriptions = list(self._registry)
        await self._ensure(subscriptions)
        await self._relay.open()
        for subscription in subscriptions:
            await self._add(subscription)
        self._listening = asyncio.get_running_loop().create_task(consumption.listen())
        self.consuming = True
        self._relay.start()
        await self._report_strangers()

    async def ensure(self) -> Sequence[str]:
        """Register every subscription, and consume nothing; returns those that were new."""
        await self._open()
        await self._relay.make_tables()
        return await self._ensure(list(self._registry))

    async def _ensure(self, subscriptions: Sequence[Subscription]) -> Sequence[str]:
        return await self.transport.ensure([self._interest(each) for each in subscriptions])

    async def _add(self, subscription: Subscription) -> None:
        assert self._consumption is not None
        self._consumption.consumers[subscription.name] = Consumer(
            subscription,
            self._life,
            lambda: self._registry.classes,
            self._runtime.now,
            self._outbox.story_of,
        )
        await self.transport.subscribe(self._interest(subscription))

    def added(self, subscription: Subscription) -> None:
        """A subscription was added while the bus consumes."""
        if self.consuming and not subscription.closed:
            self.call(self._add_late(subscription))

    async def _add_late(self, subscription: Subscription) -> None:
        await self._ensure([subscription])
        await self._relay.open()
        await self._add(subscription)
        self._relay.start()

    def changed(self, subscription: Subscription) -> None:
        """A subscription was resumed, or closed."""
        consumption = self._consumption
        if consumption is None or not self.consuming:
            return
        consumer = consumption.consumers.get(subscription.name)
        if consumer is not None:
            with contextlib.suppress(RuntimeError):
                self._runtime.io.call_soon_threadsafe(consumption.changed, consumer)

    def _interest(self, subscription: Subscription) -> Interest:
        topics: dict[str, None] = {}
        known = set(self._registry.classes.values())
        for what in subscription.what:
            if isinstance(what, type):
                topics[topic_of(what)] = None
                topics |= {topic_of(cls): None for cls in known if issubclass(cls, what)}
            else:
                topics["events"] = None
                topics |= {topic_of(cls): None for cls in known}
        names = [name for what in subscription.what for name in names_on_the_wire(what)]
        start: Any = subscription.options.start
        return Interest(subscription.name, tuple(topics), tuple(names), start)

    async def _report_strangers(self) -> None:
        known = [subscription.name for subscription in self._registry]
        for name in await self.transport.strangers(f"{self.name}:", known):
            (progress,) = await self.transport.probe([name])
            log.warning(
                "subscription_without_handler name=%s backlog=%d it keeps its place until"
                " 'headwater consumers rename' or 'drop'",
                name, progress.lag + progress.waiting,
            )  # fmt: skip

    async def wind_down(self, timeout: float) -> None:
        """Begin nothing more, let what runs finish, settle it, and close; on the I/O loop."""
        consumption = self._consumption
        if not self._opened or consumption is None:
            return
        self._life.stopping = True
        consumption.stop()
        try:
            async with within(timeout):
                await self._unfinished.empty()
        except TimeoutError:
            for item in self._unfinished:
                if isinstance(item, Arrival):
                    self._life.abandon(item)
        await self._last_settlements(consumption)
        await self._relay.stop()
        with contextlib.suppress(Exception):
            await consumption.release_all()
        for tail in tuple(self._tails):
            await tail.finish()
        await self.transport.close()
        if self._listening is not None:
            self._listening.cancel()  # It may be waiting for an answer that will not come.
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        self._forget()

    async def _last_settlements(self, consumption: Consumption) -> None:
        settled = asyncio.Event()
        stop = consumption.on_progress(settled.set)
        with contextlib.suppress(TimeoutError):
            async with within(LAST_SETTLEMENTS):
                while consumption.unsettled:
                    settled.clear()
                    consumption.work()
                    with contextlib.suppress(TimeoutError):
                        async with within(LOOK_AGAIN):
                            await settled.wait()
        stop()

    def _forget(self) -> None:
        self._consumption = self._listening = None
        self._opened = self.consuming = False
        self._tails.clear()
        self.transport = self._make()

    def collect(self) -> None:
        """Raise what publishes failed with that nobody waited for.

        Raises:
            ExceptionGroup: of all of it.
        """
        lost, self._outbox.lost = self._outbox.lost, []
        if lost:
            raise BaseExceptionGroup("events were not stored", lost)

    def after_fork(self) -> None:
        """In the child of a fork: the parent goes on with the engine."""
        if self._opened:
            self.transport.abandon()
            self._relay.abandon()
            self._outbox.abandon()
            self._forget()

    # Wait and ask.

    async def idle(self, limit: float | None) -> None:
        """Wait until everything in the log is settled by this bus's subscriptions.

        Raises:
            TimeoutError: it is not after `limit` seconds.
        """
        async with within(limit):
            await self._open()
            await self._relay.sweep()
            await self._idle()
            while await self._relay.sweep():  # Handlers may have put more into an outbox.
                await self._idle()

    async def _idle(self) -> None:
        consumption = self._consumption
        assert consumption is not None
        moved = asyncio.Event()
        stop = consumption.on_progress(moved.set)
        try:
            while not await self._is_idle(consumption):
                moved.clear()
                with contextlib.suppress(TimeoutError):
                    async with within(LOOK_AGAIN):
                        await moved.wait()
        finally:
            stop()

    async def _is_idle(self, consumption: Consumption) -> bool:
        if self._unfinished.items or consumption.unsettled or consumption.busy:
            return False
        if not self.consuming:
            return True
        names = [subscription.name for subscription in self._registry]
        for progress in await self.transport.probe(names):
            if progress.lag or progress.waiting:
                return False
        return not self._unfinished.items and not consumption.unsettled

    def guarantees(self) -> str:
        """What the engine promises."""
        return guarantees_of(self.transport.capabilities)

    def transaction(self) -> TransactionBlock:
        """A transaction of the log."""
        if not self.transport.capabilities.transaction:
            raise Unsupported(
                f"transaction() needs an engine that is a database, and"
                f" {self.transport.capabilities.name} is none"
            )
        self.open()
        return TransactionBlock(lambda granted: self.transport.borrow(None, 0, granted))

    def replay(
        self,
        what: type[Any] | str,
        start: object,
        end: object,
        into: Callable[..., Any],
        told: Callable[[int, int], None] | None,
        *,
        may_publish: bool,
    ) -> Coroutine[Any, Any, int]:
        """Past events again; see `Bus.replay`."""
        (wanted,) = check_what([what])
        if not self.transport.capabilities.replay:
            raise Unsupported(f"replay: {self.transport.capabilities.name} keeps no past events")
        if isinstance(wanted, type):
            self._registry.claim(wanted)
        self.open()

        async def read(after: int) -> Any:
            work = self.transport.read(None, after, None, 1_000)
            return await asyncio.wrap_future(self.submit(work))

        async def run() -> int:
            first = await asyncio.wrap_future(self.submit(self._place(start, "start")))
            last = await asyncio.wrap_future(self.submit(self._place(end, "end")))
            replay = Replay(
                self._bus, _wanting(wanted), read, self._registry.classes, self._runtime.now, into,
                may_publish=may_publish,
            )  # fmt: skip
            return await replay.run(first, last, told)

        return run()

    async def _place(self, place: object, noun: str) -> int:
        if place == "beginning":
            return 0
        if place is None:
            return await self.transport.locate(None)
        if isinstance(place, datetime):
            if place.tzinfo is None:
                raise InvalidOption(f"replay: {noun}: expected a datetime with a time zone")
            return await self.transport.locate(place.timestamp())
        if type(place) is int and place >= 0:
            return place
        raise InvalidOption(
            f"replay: {noun}: expected 'beginning', a position or a datetime, got {shown(place)}"
        )

    def follow(self, what: object, reader: Reader) -> Tail:
        """Let a reader have what comes from now on."""
        (wanted,) = check_what([what])

        def classes() -> Mapping[str, type[Any]]:
            if isinstance(wanted, type):
                self._registry.claim(wanted)
            return self._registry.classes

        async def begin() -> Tail:
            await self._open()
            position = await self.transport.locate(None)
            tail = Tail(self.transport, position, _wanting(wanted), classes, reader)
            self._tails.add(tail)
            return tail

        classes()
        return self.call(begin())

    def _ledger(self) -> Ledger:
        if self.transport.ledger is None:
            raise needs_ledger(self.transport.capabilities.name)
        return self.transport.ledger

    # The I/O loop.

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run something on the I/O loop."""
        return asyncio.run_coroutine_threadsafe(work, self._runtime.io)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the I/O loop, and wait for it."""
        return self.submit(work).result()

    def answer(self, work: Coroutine[Any, Any, T]) -> Answer[T]:
        """Run something on the I/O loop, opening the engine first if need be."""

        async def opened() -> T:
            try:
                await self._open()
            except BaseException:
                work.close()  # It will not be awaited now.
                raise
            return await work

        return Answer(self.submit(opened()))


def _wanting(what: What) -> Callable[[Envelope], bool]:
    known: dict[str, bool] = {}

    def wanted(envelope: Envelope) -> bool:
        answer = known.get(envelope.names)
        if answer is None:
            answer = known[envelope.names] = wants((what,), split_names(envelope.names))
        return answer

    return wanted


def process_name() -> str:
    """What this process is called among those that share a log."""
    return f"{os.getpid()}"
