"""What `publish` gives back: the fate of one event on this bus.

A receipt is done when every delivery of its event has finished or has been deferred. Deliveries
finish in any thread; the set of those unfinished is the only state they share, and each of its
operations is atomic, so that no lock is needed: whoever finds it empty completes the receipt,
and completing twice does no harm.

Whoever waits inside a handler may be waiting for itself, by way of a lane that its own delivery
holds, or of two handlers that wait for each other. Before a wait begins, `_break_cycles` looks
for such a ring of waits and defers the delivery that closes it.
"""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Generator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, TypeGuard, cast

from headwater import runtime
from headwater.errors import WouldDeadlock
from headwater.message import CAUSE, Cause, current_cause
from headwater.policies.duration import Duration, seconds
from headwater.runtime import running_loop

AsyncWaiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Receipt]"]


class Pending(Protocol):
    """A delivery, as the receipts it is on and the receipts it waits for see it."""

    @property
    def waits(self) -> "AbstractSet[Receipt]":
        """The receipts its handler is waiting for."""
        ...

    def begin_wait(self, receipt: "Receipt") -> None:
        """Its handler waits for `receipt` from now on."""
        ...

    def end_wait(self, receipt: "Receipt") -> None:
        """It waits for it no longer."""
        ...

    def blockers(self) -> "Iterable[Pending]":
        """The deliveries that must finish before this one can go on."""
        ...

    def defer(self, reason: str) -> None:
        """Let its receipt not wait for it any longer."""
        ...

    def blocking(self) -> contextlib.AbstractContextManager[None]:
        """Around a wait that blocks its thread."""
        ...


class Receipt:
    """The fate of one published event; may be awaited, or waited for.

    Attributes:
        errors: what failed so far, in the order it failed.
        deferred: how many deliveries were not waited for, because they wait for something
            other than a handler: a delay, a rate, resequencing, a retry's backoff, a pump, a
            paused subscription, a lane held by one of the publisher's own causes.
        uncollected: errors that the next wait will raise.
        is_shared: whether it is that of many deliveries, for which nobody waits.
        done: whether every delivery has finished or been deferred.
        pending: what it still waits for; deliveries add themselves.
    """

    # Set when they differ from this: it halves the price of a receipt.
    errors: tuple[BaseException, ...] = ()
    deferred = 0
    uncollected: tuple[BaseException, ...] = ()
    is_shared = False
    done = False
    is_sealed = False  # Until every delivery is on it.
    _waiters: list[AsyncWaiter | runtime.Latch] | None = None

    def __init__(self) -> None:
        self.pending: set[Pending] = set()

    def wait(self, timeout: Duration | None = None) -> "Receipt":
        """Block until done.

        Args:
            timeout: seconds, or a timedelta; None waits for as long as it takes.

        Returns:
            The receipt itself.

        Raises:
            WouldDeadlock: not done, and a loop runs in this thread: await it instead.
            TimeoutError: not done within `timeout`.
            ExceptionGroup: handlers failed, and the bus was made with ``on_error="raise"``.
            InvalidPolicy: a timeout that is no duration.
        """
        limit = None if timeout is None else seconds(timeout, "wait: timeout")
        if not self.done:
            if running_loop() is not None:
                raise WouldDeadlock(
                    "wait() would stop the loop that runs in this thread; await the receipt instead"
                )
            latch = runtime.Latch()
            with self._waiting() as waiter, waiter.blocking() if waiter else _NOTHING:
                self._wake_when_done(latch)
                if not latch.wait(limit):
                    raise TimeoutError(f"not done within {limit:g} s")
        self.collect()
        return self

    def __await__(self) -> Generator[Any, None, "Receipt"]:
        if self.done:
            return self._collected()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = asyncio.Future(loop=loop)
        if current_cause.get() is not None:
            return self._await_in_handler(loop, future)
        if self._waiters is None:
            self._waiters = [(loop, future)]
        else:
            self._waiters.append((loop, future))
        if self.done:  # It may have become so between the look and the append.
            self.complete()
        return future.__await__()

    def _collected(self) -> Generator[Any, None, "Receipt"]:
        self.collect()
        return self
        yield

    def _await_in_handler(
        self, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Receipt]"
    ) -> Generator[Any, None, "Receipt"]:
        with self._waiting():
            self._wake_when_done((loop, future))
            return (yield from future.__await__())

    def collect(self) -> None:
        """Raise what `uncollected` holds, once.

        Raises:
            ExceptionGroup: handlers failed, and the bus was made with ``on_error="raise"``.
            BaseException: a handler raised KeyboardInterrupt, SystemExit or the like.
        """
        errors, self.uncollected = self.uncollected, ()
        raise_errors(errors)

    def detach(self) -> "Receipt":
        """Say that nobody will wait for it; it makes a difference on a transport only."""
        return self

    # What follows is for the deliveries on the receipt.

    def raised(self, error: BaseException) -> None:
        """An error has been raised to somebody: it is collected."""
        self.uncollected = tuple(other for other in self.uncollected if other is not error)

    def seal(self) -> None:
        """Every delivery is on it: from now on it may be done."""
        self.is_sealed = True
        if not self.pending:
            self.complete()

    def sealed(self) -> "Receipt":
        """The same, and gives the receipt."""
        self.seal()
        return self

    def settle(self, delivery: Pending, error: BaseException | None = None) -> None:
        """A delivery has finished."""
        if error is not None:
            self.fail(error)
        self.pending.discard(delivery)
        if not self.pending:
            self.complete()

    def complete(self) -> None:
        """Nothing is pending: if it is sealed, it is done; wake whoever waits."""
        if not self.is_sealed:
            return
        self.done = True
        waiters = self._waiters
        while waiters:
            try:
                waiter = waiters.pop()
            except IndexError:
                return  # Another thread woke the last one.
            if isinstance(waiter, runtime.Latch):
                waiter.set()
                continue
            loop, future = waiter
            if running_loop() is not loop or self.uncollected:
                with contextlib.suppress(RuntimeError):  # The waiter's loop is closed.
                    loop.call_soon_threadsafe(self._resolve, future)
            elif not future.done():
                future.set_result(self)

    def _resolve(self, future: "asyncio.Future[Receipt]") -> None:
        if future.done():
            return  # Whoever awaited it was cancelled.
        try:
            self.collect()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(self)

    def fail(self, error: BaseException) -> None:
        """Put an error on the receipt."""
        self.errors = (*self.errors, error)

    def defer(self, delivery: Pending) -> bool:
        """Do not wait for `delivery` any longer; false if it was not waited for."""
        if delivery not in self.pending:
            return False
        self.deferred += 1
        self.settle(delivery)
        return True

    def _wake_when_done(self, waiter: AsyncWaiter | runtime.Latch) -> None:
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        if self.done:  # It may have become so between the look and the append.
            self.complete()

    @contextlib.contextmanager
    def _waiting(self) -> Generator[Pending | None]:
        """Note that the running handler, if any, waits for this receipt."""
        waiter = delivery_of(current_cause.get())
        if waiter is None:
            yield None
            return
        waiter.begin_wait(self)
        try:
            self._break_cycles(waiter)
            yield waiter
        finally:
            waiter.end_wait(self)

    def _break_cycles(self, waiter: Pending) -> None:
        for delivery in tuple(self.pending):
            if _waits_for(delivery, waiter):
                delivery.defer("lane")

    def __repr__(self) -> str:
        state = "done" if self.done else f"{len(self.pending)} pending"
        return f"<Receipt {state}, {len(self.errors)} errors, {self.deferred} deferred>"


def raise_errors(errors: Sequence[BaseException]) -> None:
    """Raise errors of handlers, if any: one that ends everything as it is, else all in a group.

    Raises:
        ExceptionGroup: of all of them.
        BaseException: one of them is KeyboardInterrupt, SystemExit or the like.
    """
    for error in errors:
        if not isinstance(error, Exception | asyncio.CancelledError):
            raise error
    if errors:
        raise BaseExceptionGroup("handlers failed", errors)


def to_await(result: object) -> TypeGuard[Awaitable[Any]]:
    """Whether what a handler returned is still to be awaited; a receipt that is done is not."""
    if isinstance(result, Receipt):
        return not result.done
    return inspect.isawaitable(result)


def delivery_of(cause: Cause | None) -> Pending | None:
    """The nearest delivery among `cause` and its causes: the one that blocks if this code does."""
    while cause is not None:
        if isinstance(cause, list):
            cause = cause[CAUSE]
        elif hasattr(cause, "begin_wait"):
            return cast("Pending", cause)
        else:
            cause = cause.message.cause
    return None


def _waits_for(delivery: Pending, goal: Pending) -> bool:
    """Whether `delivery` cannot go on before `goal` does: depth first, each delivery once."""
    seen: set[int] = set()
    ahead: list[Pending] = list(delivery.blockers())
    while ahead:
        blocker = ahead.pop()
        if blocker is goal:
            return True
        if id(blocker) not in seen:
            seen.add(id(blocker))
            ahead.extend(blocker.blockers())
    return False


_NOTHING = contextlib.nullcontext()

DONE = Receipt().sealed()
"""The receipt of every publish that was complete when it returned and failed nowhere."""
