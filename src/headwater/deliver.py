"""A delivery, and one attempt at it: middleware, context, colour.

Shared by direct delivery and delivery from a transport. Who decides what follows from an attempt
(retry, give up, the next in the lane) is not known here.
"""

import contextlib
import contextvars
import functools
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextvars import copy_context
from typing import Any, Protocol

from headwater.context import Context, Publisher
from headwater.errors import BreakerOpen, ControlFlow
from headwater.message import Message, current_cause, message_of
from headwater.middleware import Middleware, around, around_async
from headwater.receipt import Pending, Receipt, to_await
from headwater.runtime import Timer
from headwater.subscription import Subscription

Ticket = list[str]
"""The right to say how one attempt ended: whoever pops it may, in whatever thread, and the next
one comes too late. A worker that was given up on finds `LOST` in its place."""

RIGHT, LOST = "right", "lost"

Tell = Callable[[Subscription, str | None], None]
"""Is told whether the breaker of an inline handler has changed its state, and to what."""

NOBODYS = contextvars.Context()


class Withdrawn(Exception):
    """The subscription was closed, or its owner died, after the attempt was started."""


class Deliverer(Protocol):
    """Who drives a delivery."""

    @property
    def bus(self) -> Publisher:
        """The bus it is on."""
        ...

    def deferred(self, delivery: "Delivery", reason: str) -> None:
        """It waits for something other than its handler."""
        ...

    def blocking(self) -> contextlib.AbstractContextManager[None]:
        """Around a wait that blocks a thread."""
        ...

    def inside(self, delivery: "Delivery") -> "Iterable[Delivery]":
        """The deliveries that occupy the threads of its executor."""
        ...

    def cancelled(self, delivery: "Delivery") -> None:
        """The task of an attempt is cancelled before its first step, and so cannot report."""
        ...


class Delivery:
    """One message on its way to one subscription, attempt after attempt, settled once.

    Attributes:
        message: what is delivered.
        subscription: to whom.
        receipt: who waits for it.
        loop: the publisher's loop, where an async handler runs; None: the bus's own.
        variables: the context variables as they were at publish.
        attempt: which try this is, from 1.
        ticket: the right to report how the attempt under way ends; None before the first.
        finished: whether it is settled.
        resting: whether it waits for its next attempt, keeping its key.
        until: monotonic time of that attempt.
        waits: receipts that its handler is waiting for.
        period: of the breaker, when its attempt began.
        started: monotonic time when its attempt began.
        begun: whether the task of its attempt has taken its first step.
        result: what its handler returned, for a request's reply.
    """

    # Set when they differ from this: a delivery is made for every event and most never do.
    _context: Context | None = None
    attempt = 1
    finished = False
    resting = False
    timed_out = False
    until = 0.0
    waits: "AbstractSet[Receipt]" = frozenset()
    period: int | None = None
    ticket: Ticket | None = None
    task: "Task[None] | None" = None
    timer: Timer | None = None
    started = 0.0
    begun = False
    result: object = None

    def __init__(
        self,
        driver: Deliverer,
        message: Message,
        subscription: Subscription,
        receipt: Receipt,
        loop: AbstractEventLoop | None,
    ) -> None:
        self._driver = driver
        self.message = message
        self.subscription = subscription
        self.receipt = receipt
        self.loop = loop
        self.variables = copy_context()

    def finish(self) -> None:
        """It is settled."""
        self.finished = True
        # Its variables know it as the current cause, and would keep it until the next garbage
        # collection.
        self.variables = NOBODYS

    @property
    def orphaned(self) -> bool:
        """Whether its loop was closed under it: nobody will finish it."""
        return self.task is not None and self.task.get_loop().is_closed()

    def begin_wait(self, receipt: Receipt) -> None:
        """Its handler waits for `receipt` from now on."""
        self.waits = self.waits | {receipt}

    def end_wait(self, receipt: Receipt) -> None:
        """It waits for it no longer."""
        self.waits = self.waits - {receipt}

    @property
    def context(self) -> Context:
        """What the handler and its middleware see; the same object for one attempt."""
        context = self._context
        if context is None or context.attempt != self.attempt:
            context = Context(self.message, self._driver.bus, self.subscription, self.attempt)
            self._context = context
        return context

    @property
    def lane(self) -> str | None:
        """What it is ordered by; with ``resequence``, what has no key shares one lane."""
        key = self.message.key
        return "" if key is None and self.subscription.options.resequence is not None else key

    def defer(self, reason: str) -> None:
        """Let its receipt not wait for it any longer."""
        if self.receipt.defer(self):
            self._driver.deferred(self, reason)

    def blocking(self) -> contextlib.AbstractContextManager[None]:
        """Around a wait in its handler that blocks its thread."""
        return self._driver.blocking()

    def cancelled(self) -> None:
        """Its task is cancelled before the first step, and so cannot report."""
        self._driver.cancelled(self)

    def blockers(self) -> Iterable[Pending]:
        """What must finish before it can go on.

        Those ahead of it in its lane or in its executor's threads, or those its handler waits for.
        """
        intake, lock = self.subscription.intake, self.subscription.lock
        if intake is not None and lock is not None:
            with lock:
                ahead = intake.lanes.blockers(self, self.lane)
            if ahead:
                return ahead
        if self.subscription.colour == "executor" and self.ticket and not self.begun:
            return self._driver.inside(self)
        return [pending for receipt in tuple(self.waits) for pending in tuple(receipt.pending)]

    def __repr__(self) -> str:
        return f"<Delivery of {self.message.name} to {self.subscription.name}, {self.attempt}>"


def inline_call(
    subscription: Subscription,
    bus: Publisher,
    middleware: Sequence[Middleware],
    now: Callable[[], float],
    tell: Tell,
) -> Callable[[Any], Any]:
    """What the hot path calls for a subscription: the function itself wherever that is enough."""
    if subscription.plain and not middleware:
        return subscription.handler.function
    return functools.partial(_call_inline, subscription, bus, middleware, now, tell)


def _call_inline(
    subscription: Subscription,
    bus: Publisher,
    middleware: Sequence[Middleware],
    now: Callable[[], float],
    tell: Tell,
    event: object,
) -> Any:
    if not subscription.admits(event):
        return None
    return call_admitted(subscription, bus, middleware, now, tell, event)


def call_admitted(
    subscription: Subscription,
    bus: Publisher,
    middleware: Sequence[Middleware],
    now: Callable[[], float],
    tell: Tell,
    event: object,
) -> Any:
    """Call an inline handler with an event that its subscription has admitted."""
    function = subscription.function()
    if function is None:
        return None  # Its owner died between the look at the subscriptions and this call.
    if subscription.breaker is None:
        return _call_with_context(subscription, bus, middleware, event, function)
    period = allowed(subscription, now)
    try:
        result = _call_with_context(subscription, bus, middleware, event, function)
    except BaseException as error:
        tell(subscription, report(subscription, period, now, error))
        raise
    if not to_await(result):  # Else whoever awaits it reports how that ended.
        tell(subscription, report(subscription, period, now, None))
    return result


def _call_with_context(
    subscription: Subscription,
    bus: Publisher,
    middleware: Sequence[Middleware],
    event: object,
    function: Callable[..., Any],
) -> Any:
    handler = subscription.handler
    if handler.pass_context is None and not middleware:
        return function(event)
    cause = current_cause.get()
    assert cause is not None  # An inline call is always made inside a publish.
    context = Context(message_of(cause), bus, subscription)
    token = current_cause.set(context)
    try:
        return around(middleware, event, context, lambda: handler.call(function, event, context))
    finally:
        current_cause.reset(token)


def allowed(subscription: Subscription, now: Callable[[], float]) -> int | None:
    """Ask the breaker of a subscription, if any, for one call.

    Returns:
        The breaker's period, to be reported with.

    Raises:
        BreakerOpen: not now.
    """
    breaker = subscription.breaker
    if breaker is None or subscription.lock is None:
        return None
    with subscription.lock:
        if breaker.allows(now()):
            return breaker.period
    raise BreakerOpen(
        f"{subscription.name} was skipped: its breaker is open after"
        f" {breaker.failures} failures in a row"
    )


def report(
    subscription: Subscription,
    period: int | None,
    now: Callable[[], float],
    error: BaseException | None,
) -> str | None:
    """Tell the breaker of a subscription, if any, how a call ended.

    A call that was cancelled, or asked for later, has no answer.

    Returns:
        ``open`` or ``closed`` when that changed its state.
    """
    breaker = subscription.breaker
    if breaker is None or subscription.lock is None:
        return None
    with subscription.lock:
        if error is None:
            return "closed" if breaker.succeeded(period) else None
        if isinstance(error, Exception) and not isinstance(error, ControlFlow):
            return "open" if breaker.failed(now(), period) else None
        breaker.abandoned(period)
    return None


def _function_of(delivery: Delivery) -> Callable[..., Any]:
    subscription = delivery.subscription
    function = subscription.function()
    if function is None or not subscription.may_run:
        raise Withdrawn
    return function


def attempt(delivery: Delivery, middleware: Sequence[Middleware]) -> Any:
    """Call a sync handler once, in this thread.

    Returns:
        What it returned, which may be awaitable.

    Raises:
        Withdrawn: there is nobody to call any more.
    """
    function = _function_of(delivery)
    handler, event = delivery.subscription.handler, delivery.message.event
    if not middleware and handler.pass_context is None:
        return function(event)
    context = delivery.context
    return around(middleware, event, context, lambda: handler.call(function, event, context))


async def attempt_async(
    delivery: Delivery,
    middleware: Sequence[Middleware],
    call: Callable[[Callable[[], Any]], Any] | None = None,
) -> Any:
    """Call a handler once and await what it returns.

    Args:
        delivery: the delivery.
        middleware: around the call.
        call: how to call a sync handler and get an awaitable: in a worker thread, say.

    Raises:
        Withdrawn: there is nobody to call any more.
    """
    function = _function_of(delivery)
    handler, event = delivery.subscription.handler, delivery.message.event
    if not middleware and call is None:
        if handler.pass_context is None:
            return await function(event)
        return await handler.call(function, event, delivery.context)
    context = delivery.context

    async def inner() -> Any:
        if call is not None:
            return await call(lambda: handler.call(function, event, context))
        return await handler.call(function, event, context)

    return await around_async(middleware, event, context, inner)
