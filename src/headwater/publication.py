"""The receipt of an event that goes to an engine, and who is told what became of it.

The queue to the engine holds a `Fate`; the user holds the `Publication` that looks at it. So a
receipt that nobody keeps is gone at once, and can say that it was dropped unconfirmed.
"""

import asyncio
import contextlib
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator, Sequence
from types import CodeType
from typing import Any

from headwater.errors import PublishFailed, UnconfirmedPublish, WouldDeadlock
from headwater.policies.duration import Duration, seconds
from headwater.receipt import Receipt
from headwater.runtime import Latch, running_loop

Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Publication]", "Publication"] | Latch


class Fate:
    """What becomes of one published event.

    Attributes:
        id: the event's.
        done: whether the engine has answered.
        error: why it was not stored; None if it was.
        waiters: who is woken when it is done.
        watched: whether somebody will look at it; else a failure is said in the log.
    """

    # Set when they differ from this: it halves the price of a fate.
    done = False
    error: BaseException | None = None
    waiters: "list[Waiter] | None" = None
    watched = True

    def __init__(self, id: str) -> None:
        self.id = id

    def raise_error(self) -> None:
        """Raise why it was not stored, if it was not."""
        error = self.error
        if error is None:
            return
        self.error = error = _for_event(error, self.id)
        raise error


class Publication(Receipt):
    """The receipt of one event on a transport: done when the engine has confirmed it."""

    is_sealed = True

    def __init__(self, fate: Fate, where: tuple[CodeType, int]) -> None:
        self.fate = fate
        self._where = where

    @property
    def done(self) -> bool:  # type: ignore[override]
        """Whether the engine has answered."""
        return self.fate.done

    @property
    def errors(self) -> tuple[BaseException, ...]:  # type: ignore[override]
        """Why it was not stored."""
        error = self.fate.error
        return () if error is None else (error,)

    @property
    def event_id(self) -> str:
        """The event's id."""
        return self.fate.id

    def detach(self) -> "Publication":
        """Say that nobody will wait for it: a failure is logged, and raised when the bus drains."""
        self.fate.watched = False
        return self

    def collect(self) -> None:
        """Raise why it was not stored, if it was not."""
        self.fate.raise_error()

    def wait(self, timeout: Duration | None = None) -> "Publication":
        """Block until the engine has confirmed it; see `Receipt.wait`.

        Raises:
            PublishFailed, PublishUnknown: it was not stored, or that is not known.
            TimeoutError: there is no answer within `timeout`; it may still be stored.
            WouldDeadlock: a loop runs in this thread: await it instead.
        """
        limit = None if timeout is None else seconds(timeout, "wait: timeout")
        if not self.fate.done:
            if running_loop() is not None:
                raise WouldDeadlock(
                    "wait() would stop the loop that runs in this thread; await the receipt instead"
                )
            latch = Latch()
            self._add(latch)
            if not latch.wait(limit):
                raise TimeoutError(f"not confirmed within {limit:g} s")
        self.fate.raise_error()
        return self

    def __await__(self) -> Generator[Any, None, "Publication"]:
        fate = self.fate
        if fate.done:
            return self._answered()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Publication] = loop.create_future()
        self._add((loop, future, self))
        return future.__await__()

    def _answered(self) -> Generator[Any, None, "Publication"]:
        self.fate.raise_error()
        return self
        yield

    def _add(self, waiter: Waiter) -> None:
        fate = self.fate
        if fate.waiters is None:
            fate.waiters = [waiter]
        else:
            fate.waiters.append(waiter)
        if fate.done:  # It may have become so between the look and the append.
            wake([fate])

    def __del__(self) -> None:
        fate = self.fate
        if fate.done or fate.waiters is not None or not fate.watched:
            return
        fate.watched = False
        if sys.is_finalizing():
            return
        _warn(
            self._where,
            f"the receipt of publish was dropped before the engine had confirmed event {fate.id}:"
            f" await it, or .detach() it",
        )

    def __repr__(self) -> str:
        state = "unconfirmed" if not self.done else "failed" if self.errors else "confirmed"
        return f"<Receipt of {self.fate.id}, {state}>"


class Staged(Receipt):
    """The receipt of an event that leaves when its handler has succeeded."""

    def __init__(self) -> None:
        super().__init__()
        self.deferred = 1
        self.seal()

    def detach(self) -> "Staged":
        """Nothing to do: whoever publishes in a handler need not wait."""
        return self


STAGED = Staged()


class Unwritten(Receipt):
    """The receipt of an event that goes into a transaction whose connection has to be awaited.

    It is written when the receipt is awaited, and not before.
    """

    is_sealed = True

    def __init__(
        self,
        write: Callable[[], Coroutine[Any, Any, None]],
        event_id: str,
        where: tuple[CodeType, int],
    ) -> None:
        super().__init__()
        self.event_id = event_id
        self._write: Callable[[], Coroutine[Any, Any, None]] | None = write
        self._where = where

    def wait(self, timeout: Duration | None = None) -> "Unwritten":
        """Refused, unless it was awaited.

        Raises:
            WouldDeadlock: it was not.
        """
        if not self.done:
            raise WouldDeadlock("wait() cannot write through an async connection: await it")
        return self

    def __await__(self) -> Generator[Any, None, "Unwritten"]:
        write, self._write = self._write, None
        if write is not None:
            yield from write().__await__()
            self.deferred = 1
            self.done = True
        return self

    def __del__(self) -> None:
        if self._write is not None and not sys.is_finalizing():
            _warn(
                self._where,
                f"event {self.event_id} was not written: its receipt was dropped:"
                f" with an async connection, await what publish returns",
            )


def wake(fates: Sequence[Fate]) -> None:
    """Wake whoever waits for fates that are done: one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Any]] = {}
    for fate in fates:
        waiters = fate.waiters
        while waiters:
            try:
                waiter = waiters.pop()
            except IndexError:
                break  # Another thread woke the last one.
            if isinstance(waiter, Latch):
                waiter.set()
            else:
                by_loop.setdefault(waiter[0], []).append(waiter)
    for loop, told in by_loop.items():
        with contextlib.suppress(RuntimeError):  # The waiters' loop is closed.
            loop.call_soon_threadsafe(_resolve, told)


def confirm(
    fates: Sequence[Fate | None],
    error: BaseException | None,
    lost: Callable[[Fate, BaseException], None],
) -> None:
    """The engine has answered; `lost` is told of failures that nobody looks at."""
    told = list[Fate]()
    for fate in fates:
        if fate is not None:
            if error is not None:
                fate.error = error
            fate.done = True
            if fate.waiters:
                told.append(fate)
            elif error is not None and not fate.watched:
                lost(fate, _for_event(error, fate.id))
    wake(told)


def _resolve(
    told: Sequence[tuple[object, "asyncio.Future[Publication]", Publication]],
) -> None:
    """On the waiters' loop: each gets its receipt, or the error."""
    for _, future, publication in told:
        if future.done():
            continue  # Whoever awaited it was cancelled.
        if publication.fate.error is None:
            future.set_result(publication)
            continue
        try:
            publication.collect()
        except BaseException as error:
            future.set_exception(error)


def _warn(where: tuple[CodeType, int], text: str) -> None:
    code, instruction = where
    line = _line_of(code, instruction)
    text = f"{code.co_filename}:{line}: {text}"
    warnings.warn_explicit(text, UnconfirmedPublish, code.co_filename, line)


def _line_of(code: CodeType, instruction: int) -> int:
    """The line of an instruction."""
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


def _for_event(error: BaseException, event_id: str) -> BaseException:
    """The same error, for one of the events that it has hit."""
    if isinstance(error, PublishFailed) and error.event_id != event_id:
        own = type(error)(f"{error}", event_id)
        own.__cause__ = error
        return own
    return error
