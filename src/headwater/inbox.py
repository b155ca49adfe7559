"""Exactly-once effects in the user's own database: what goes around a handler there.

The handler runs in a transaction that first notes, in the inbox, that this subscription handles
this event. If that was noted before, the handler is skipped: it has run, its effects are there, and
all that is left is to settle. What the handler publishes is written into the outbox of the same
transaction, since between its commit and the settlement, which brings the events into the log, the
process may end.

An attempt that was given up meanwhile, by a timeout or because another process took the lane over,
does not commit.
"""

import functools
import logging
from asyncio import Lock
from collections.abc import Callable
from typing import Any

from headwater import failpoint
from headwater.arrival import Arrival
from headwater.context import Context
from headwater.deliver import RIGHT, Ticket
from headwater.errors import (
    HeadwaterError,
    InvalidHandler,
    RetryLater,
    TransactionOver,
    Unsupported,
)
from headwater.foreign import Steps, gives_async, run, run_async, transact
from headwater.handler import Handler
from headwater.message import current_cause
from headwater.receipt import to_await
from headwater.runtime import Rarely
from headwater.store import Store
from headwater.subscription import Subscription

log = logging.getLogger("headwater")

LATER = 1.0
"""Seconds until an event is handled whose database could not be reached."""


class Inbox:
    """One subscription's inbox; see the module.

    Args:
        subscription: whose handler takes ``transaction=factory``.
        store: the database.
        now: the wall clock.

    Raises:
        InvalidHandler: a sync handler, and async connections.
        Unsupported: a handler that runs in another process.
    """

    def __init__(self, subscription: Subscription, store: Store, now: Callable[[], float]) -> None:
        self._handler = subscription.handler
        self._name = subscription.name
        self._store = store
        self._now = now
        self._rarely = Rarely(10.0)
        store.subscriptions.add(subscription.name)
        if subscription.colour == "process":
            raise Unsupported(
                f"{self._handler.name}: transaction= cannot travel to another process: leave"
                f" executor= out, or give it threads"
            )
        if not self._handler.is_async:
            if gives_async(store.factory):
                raise needs_async(self._handler)
            store.is_async = False

    def around(self) -> Handler:
        """The handler, in its transactions."""

        def handle(event: object, context: Context) -> Any:
            return run(self._handle(event, context, None))

        async def handle_async(event: object, context: Context) -> Any:
            return await run_async(self._handle(event, context, self._store.turn()))

        return self._handler.replaced(handle_async if self._handler.is_async else handle)

    def _handle(self, event: object, context: Context, turn: Lock | None) -> Steps[Any]:
        arrival, store = current_cause.get(), self._store
        assert isinstance(arrival, Arrival)
        attempt = _Attempt(arrival, context)
        try:
            if not store.ready:
                yield from transact(store.factory, store.create, turn)
            work = functools.partial(self._work, event, attempt)
            result = yield from transact(store.factory, work, turn)
        except Exception as error:
            store.held.difference_update(attempt.ids)
            if attempt.begun or isinstance(error, HeadwaterError):
                raise
            self._complain(error)
            raise RetryLater(LATER) from error
        failpoint.reach("inbox.committed")
        if attempt.ids:
            arrival.left = functools.partial(store.left, attempt.ids)
        return result

    def _work(self, event: object, attempt: "_Attempt", given: Any) -> Steps[Any]:
        arrival, context, store = attempt.arrival, attempt.context, self._store
        cause = arrival.message.id
        if not (yield from store.note(given, self._name, cause, self._now())):
            arrival.published = yield from store.staged(given, cause, self._name)
            attempt.hold(store)
            return None
        attempt.begun = True
        failpoint.reach("inbox.noted")
        arrival.transaction = context.transaction = given
        try:
            result = yield from self._call(event, context)
        finally:
            context.transaction = None
            if attempt.is_current:
                arrival.transaction = None
        attempt.check()
        attempt.hold(store)
        yield from store.stage(given, cause, self._name, arrival.published or (), self._now())
        return result

    def _call(self, event: object, context: Context) -> Steps[Any]:
        handler = self._handler
        result = handler.call(handler.function, event, context)
        if handler.is_async:
            return (yield result)
        if result is not None and to_await(result):
            close = getattr(result, "close", None)
            if close is not None:
                close()
            raise InvalidHandler(
                f"{handler.name} at {handler.where}: expected a function that is done when it"
                f" returns, got something to be awaited: its transaction would be over by then;"
                f" make it 'async def'"
            )
        return result

    def _complain(self, error: Exception) -> None:
        if self._rarely():
            log.error("inbox_unreachable handler=%s error=%s", self._name, error)


class _Attempt:
    """One attempt at an arrival.

    Attributes:
        begun: whether its handler was called.
        ids: what it has published, or an earlier one had.
    """

    def __init__(self, arrival: Arrival, context: Context) -> None:
        self.arrival, self.context = arrival, context
        self.begun = False
        self.ids: tuple[str, ...] = ()
        self._ticket: Ticket | None = arrival.ticket

    @property
    def is_current(self) -> bool:
        """Whether its end still counts."""
        arrival, ticket = self.arrival, self._ticket
        return arrival.ticket is ticket and ticket is not None and RIGHT in ticket

    def check(self) -> None:
        """See to it that what does not count does not commit.

        Raises:
            TransactionOver: it was given up.
        """
        if self.arrival.recalled or not self.is_current:
            raise TransactionOver(
                f"{self.arrival.subscription.name}: the attempt was given up before its handler"
                f" had ended: what it did is rolled back"
            )

    def hold(self, store: Store) -> None:
        """What is published goes into the log with the settlement: no relay is needed."""
        self.ids = tuple(envelope.id for envelope, _ in self.arrival.published or ())
        store.held.update(self.ids)


def needs_async(handler: Handler) -> InvalidHandler:
    """What a sync handler with async connections is told."""
    return InvalidHandler(
        f"{handler.name} at {handler.where}: transaction= gives async connections, and a sync"
        f" handler cannot await them: make the handler 'async def', or give it a factory of sync"
        f" connections"
    )
