"""Events as an async iterator, and the next event as an awaitable.

On a direct bus a subscription fills the stream, in the publisher's thread. On a transport the end
of the log does (`tail`), on the bus's I/O loop.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, Protocol, TypeVar

from headwater.errors import BusClosed, InvalidOption, StreamOverflow, Unsupported
from headwater.runtime import running_loop, within
from headwater.subscription import Subscription

E = TypeVar("E")

Overflow = Literal["close", "drop_oldest", "block"]
Subscribe = Callable[[Callable[[Any], None]], Subscription]


class Source(Protocol):
    """What fills a stream."""

    def close(self) -> None:
        """Fill it no longer."""
        ...


class Log(Source, Protocol):
    """A source that keeps what there is no room for."""

    def go_on(self) -> None:
        """There is room again."""
        ...


class Stream(Generic[E]):
    """Events from the moment of the call on; an async iterator and an async context manager.

    It ends when it is closed, when nothing refers to it any more, or when it overflows.

    Args:
        buffer: events it may hold that nobody has read yet.
        overflow: ``close`` ends it with `StreamOverflow` after what it holds was read;
            ``drop_oldest`` forgets the oldest event; ``block`` reads the log no further until
            there is room.

    Raises:
        InvalidOption: a buffer below 1, or an unknown overflow.
    """

    def __init__(self, buffer: int, overflow: Overflow) -> None:
        if type(buffer) is not int or buffer < 1:
            raise InvalidOption(f"stream: buffer: expected an int >= 1, got {buffer!r}")
        if overflow not in ("close", "drop_oldest", "block"):
            raise InvalidOption(
                f"stream: overflow: expected 'close', 'drop_oldest' or 'block', got {overflow!r}"
            )
        self._buffer = buffer
        self._blocks = overflow == "block"
        self._drop_oldest = overflow == "drop_oldest"
        self._events: deque[E] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._overflowed = False
        self._closed = False
        self._source: Source | None = None
        self._log: Log | None = None

    @staticmethod
    def of_publishes(subscribe: Subscribe, buffer: int, overflow: Overflow) -> "Stream[Any]":
        """A stream of what is published on a direct bus.

        Args:
            subscribe: makes the subscription for the function that fills the stream.
            buffer: see `Stream`.
            overflow: see `Stream`.

        Raises:
            Unsupported: ``block``.
        """
        stream: Stream[Any] = Stream(buffer, overflow)
        if overflow == "block":
            raise Unsupported(
                "stream: overflow='block' needs a transport, which keeps the events meanwhile; on"
                " a direct Bus() it would block publishers: use 'close' or 'drop_oldest'"
            )
        stream._source = subscribe(stream._put)
        return stream

    @staticmethod
    def of_log(
        follow: Callable[["Stream[Any]"], Log], buffer: int, overflow: Overflow
    ) -> "Stream[Any]":
        """A stream of what is stored in a log.

        Args:
            follow: makes what reads the log into the stream.
            buffer: see `Stream`.
            overflow: see `Stream`.
        """
        stream: Stream[Any] = Stream(buffer, overflow)
        stream._source = stream._log = follow(stream)
        if stream._closed or stream._overflowed:
            stream._source.close()  # It was full before it could be told.
        return stream

    def __aiter__(self) -> "Stream[E]":
        return self

    async def __anext__(self) -> E:
        while True:
            with contextlib.suppress(IndexError):
                return self._take()
            if self._overflowed:
                self._closed = True
                self._overflowed = False
                raise StreamOverflow(self._buffer)
            if self._closed:
                raise StopAsyncIteration
            await self._wait()

    async def aclose(self) -> None:
        """End it; what it holds can still be read."""
        self.end()

    def end(self) -> None:
        """The same, from sync code and any thread: so does a bus that is closed."""
        self._closed = True
        self._end_source()
        self._wake()

    def abandon(self) -> None:
        """In the child of a fork: what fills it, and who waits, are in the parent."""
        self._closed = True
        self._source = self._log = None
        self._waiting.clear()

    def _end_source(self) -> None:
        if self._source is not None:
            self._source.close()

    def offer(self, event: E) -> bool:
        """For the log: take an event, unless it must wait until there is room."""
        if self._closed or self._overflowed:
            return True  # Nobody will read it.
        if self._blocks and len(self._events) >= self._buffer:
            return False
        self._put(event)
        return True

    def _take(self) -> E:
        event = self._events.popleft()
        if self._blocks and self._log is not None and len(self._events) <= self._buffer // 2:
            self._log.go_on()
        return event

    async def __aenter__(self) -> "Stream[E]":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def _wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._events or self._closed or self._overflowed:
            self._wake()  # It came between the look and the append.
        try:
            await future
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)

    def _put(self, event: E) -> None:
        """Take an event, in whatever thread it was published."""
        if len(self._events) >= self._buffer:
            if self._drop_oldest:
                with contextlib.suppress(IndexError):
                    self._events.popleft()
            else:
                self._overflowed = True
                self._end_source()
                self._wake()
                return
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        for future in tuple(self._waiting):
            call_on(future.get_loop(), resolve, future, None)


def call_on(
    loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object
) -> None:
    """Call `function` on `loop`, now if it runs in this thread; a closed loop is left alone."""
    if running_loop() is loop:
        function(*args)
        return
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)


def resolve(future: "asyncio.Future[Any]", value: object) -> None:
    """Set a future's result unless it has one."""
    if not future.done():
        future.set_result(value)


def next_event(subscribe: Subscribe, timeout: float | None) -> Coroutine[Any, Any, Any]:
    """The next event, from the moment of the call on.

    Args:
        subscribe: makes the subscription for the function that takes the event.
        timeout: seconds; None waits for as long as it takes.

    Returns:
        A coroutine that gives the event, or raises TimeoutError; it ends the subscription.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    subscription = subscribe(lambda event: call_on(loop, resolve, future, event))

    async def wait() -> Any:
        try:
            async with within(timeout):
                return await future
        finally:
            subscription.close()

    return wait()


def next_of(
    stream: Stream[E], where: Callable[[E], bool] | None, timeout: float | None
) -> Coroutine[Any, Any, E]:
    """The next event of a stream; the stream ends with it.

    Args:
        stream: of a log.
        where: only an event for which this is true; called on the loop that waits.
        timeout: seconds; None waits for as long as it takes.

    Returns:
        A coroutine that gives the event, or raises TimeoutError; BusClosed if the bus ends first.
    """

    async def wait() -> E:
        try:
            async with within(timeout):
                async for event in stream:
                    if where is None or where(event):
                        return event
        finally:
            stream.end()
        raise BusClosed("wait_for: the bus was stopped before the event came")

    return wait()
