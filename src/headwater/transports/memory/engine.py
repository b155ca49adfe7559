"""The memory transport: one bus's view of a log in this process, behind the seam.

What is published or settled is put into a queue and stored on the bus's I/O loop, all that has come
together at once, and is confirmed from there: a receipt is no sooner done than on other engines.
Nothing polls: who appends wakes those who read, and delayed events have a timer.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from headwater.capabilities import Capabilities
from headwater.errors import InvalidOption, PublishFailed, TransactionOver
from headwater.event import did_you_mean
from headwater.lane import Event, Interest, Lane, Outgoing, Progress, Received, Settlement
from headwater.runtime import Runtime, Timer
from headwater.transport import Confirmed, Granted, Settled
from headwater.transports.memory.loan import MemoryLoan
from headwater.transports.memory.log import SHELF

MAX_BYTES = 1 << 20


class MemoryTransport:
    """See the module.

    Args:
        url: ``memory://``, or ``memory://name`` for a log that buses of this process share;
            ``?max_bytes=`` says how large an encoded event may be, 1 MiB unless told;
            ``?lease=`` is taken as elsewhere and has no effect: no owner can vanish unseen.
        runtime: its clock and timers.
        process: the bus's name.

    Raises:
        InvalidOption: the URL has a path, an unknown setting, or a value that makes no sense.
    """

    def __init__(self, url: str, runtime: Runtime, process: str) -> None:
        self._name, max_bytes = _settings_of(url)
        self._log = SHELF.take(self._name, runtime, process)
        self.capabilities = _capabilities(max_bytes)
        self.ledger = self._log.ledger
        self._runtime = runtime
        self._process = process
        self._loop: asyncio.AbstractEventLoop | None = None
        self._confirmed: Confirmed | None = None
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._rows: deque[Outgoing] = deque()
        self._looks: list[Callable[[], None]] = []
        self._storing = self._looking = False
        self._waits_for: float | None = None
        self._timer: Timer | None = None
        self._closed = True

    # Life.

    async def open(self, confirmed: Confirmed) -> None:
        """Join those who have the log open."""
        self._loop = asyncio.get_running_loop()
        self._confirmed = confirmed
        self._closed = False
        with self._log.lock:
            self._log.members.append(self)
        self._wait()

    async def close(self) -> None:
        """Store what was given, and give every lane back."""
        if self._closed:
            return
        self._store()
        self._closed = True
        self._log.leave(self, clean=True)
        self._log.desk.turn_away(self._call)
        if self._timer is not None:
            self._timer.cancel()
        if not self._name:
            SHELF.keep(self._log, self._runtime, self._process)
        self._events.put_nowait(None)

    def abandon(self) -> None:
        """In the child of a fork: the log is the parent's, and its lock may be held for ever."""
        self._closed = True

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call something on the I/O loop; here, if that has ended."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            function(*arguments)

    # What the log says, in any thread.

    def tell(self, event: Event) -> None:
        """Something has happened to one of its lanes."""
        self._call(self._events.put_nowait, event)

    def wake(self) -> None:
        """There may be events for it."""
        if not self._looking:
            self._looking = True
            self._call(self._look)

    def wait(self) -> None:
        """There may be another delayed event to wait for."""
        self._call(self._wait)

    def _look(self) -> None:
        self._looking = False
        if self._closed:
            return
        for batch in self._log.take(self):
            self._events.put_nowait(batch)
        for look in tuple(self._looks):
            look()

    def _wait(self) -> None:
        due = self._log.next_due
        if self._closed or due is None or due == self._waits_for:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._waits_for = due
        when = self._runtime.monotonic() + max(0.0, due - self._runtime.calendar())
        self._timer = self._runtime.call_at(when, lambda: self._call(self._come), self._loop)

    def _come(self) -> None:
        """A delayed event is due."""
        self._waits_for = self._timer = None
        if not self._closed:
            self._log.move_due(self._runtime.calendar())
            self._wait()

    # Write.

    def publish(self, outgoing: Outgoing) -> None:
        """Store an event, once for each id."""
        self._rows.append(outgoing)
        if not self._storing:
            self._storing = True
            self._call(self._store)

    def _store(self) -> None:
        self._storing = False
        rows = list[Outgoing]()
        while self._rows:
            rows.append(self._rows.popleft())
        error = None
        if self._closed:
            error = PublishFailed("the log is closed")
        else:
            self._log.append((envelope, due) for envelope, due, _ in rows)
        assert self._confirmed is not None
        if rows:
            self._confirmed([row.token for row in rows], error)

    def settle(self, settlements: Sequence[Settlement], done: Settled) -> None:
        """Settle, each lane all or nothing; `Fenced` for a lane that another bus has."""
        self._call(self._settle, settlements, done)

    def _settle(self, settlements: Sequence[Settlement], done: Settled) -> None:
        done([self._log.settle(settlement) for settlement in settlements])

    def borrow(self, lane: Lane | None, epoch: int, granted: Granted) -> None:
        """Lend a transaction; `Fenced` if the borrower's lane is another bus's."""
        if self._closed:
            granted(TransactionOver("the log is closed"))
        else:
            self._log.desk.lend(MemoryLoan(self._log.desk, lane, epoch, granted, self._call))

    # Read.

    async def ensure(self, interests: Sequence[Interest]) -> Sequence[str]:
        """Register subscriptions; returns the names of those that were new."""
        return [it.subscription for it in interests if self._log.register(it)]

    async def subscribe(self, interest: Interest) -> None:
        """Compete for the lanes of a registered subscription."""
        self._log.read(interest.subscription, self)

    async def unsubscribe(self, subscription: str) -> None:
        """Compete for them no longer."""
        self._log.read_no_more(subscription, self)

    async def release(self, lane: Lane, epoch: int) -> None:
        """Give up a lane in which nothing is under way."""
        self._log.release(lane, epoch, self)

    async def events(self) -> AsyncIterator[Event]:
        """What happens, in order, until the transport is closed."""
        while (event := await self._events.get()) is not None:
            yield event

    def credit(self, lane: Lane, more: int) -> None:
        """Hand out so many events of a lane more."""
        with self._log.lock:
            cursor = self._log.cursors[lane]
            if cursor.owner is self:
                cursor.credit += more
        self.wake()

    def watch(self, look: Callable[[], None]) -> Callable[[], None]:
        """Call something on the I/O loop when there may be new events; returns how to end it."""
        self._looks.append(look)
        return lambda: self._looks.remove(look)

    async def read(
        self, topics: Sequence[str] | None, after: int, end: int | None, limit: int
    ) -> tuple[Sequence[Received], int]:
        """Past events after a position, and up to where these are all."""
        last = len(self._log.events) if end is None else min(end, len(self._log.events))
        covered = max(min(last, after + limit), after)
        rows = self._log.events[after:covered]
        return [row for row in rows if topics is None or row.envelope.topic in topics], covered

    async def locate(self, time: float | None) -> int:
        """The position before the first event of a time; None: before what is still to come."""
        return self._log.locate(time)

    async def probe(self, subscriptions: Sequence[str]) -> Sequence[Progress]:
        """How far subscriptions are."""
        return [self._log.progress(name) for name in subscriptions]

    async def strangers(self, prefix: str, known: Sequence[str]) -> Sequence[str]:
        """Registered subscriptions whose names begin so and that are not known."""
        return [it for it in self._log.names() if it.startswith(prefix) and it not in known]


def _settings_of(url: str) -> tuple[str, int]:
    """The log's name, and how large an event may be."""
    parts = urlsplit(url)
    if parts.path:
        raise InvalidOption(
            f"Bus: expected memory:// or memory://name, got memory://{parts.netloc}{parts.path}:"
            f" a log in memory has a name, and no path"
        )
    settings: dict[str, float] = {"max_bytes": MAX_BYTES, "lease": 0}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in settings:
            meant = did_you_mean(name, settings)
            raise InvalidOption(f"Bus: memory: unknown setting {name!r}{meant}")
        settings[name] = _number(name, text)
    return unquote(parts.netloc), int(settings["max_bytes"])


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf or (name == "max_bytes" and not text.isdecimal()):
        raise InvalidOption(f"Bus: memory: {name}: expected a number > 0, got {text!r}")
    return value


def _capabilities(max_bytes: int) -> Capabilities:
    return Capabilities(
        name="Memory",
        persistent=False,
        shared=False,
        ordered="key",
        deduplicates="as long as the bus lives",
        delay=float(10 * 365 * 86400),
        replay=True,
        transaction=True,
        ledger=True,
        max_bytes=max_bytes,
        survives=(),
        notes=("every event stays in memory as long as the bus lives",),
    )
