"""Direct delivery: an event goes to its handlers in this process.

The hot path, an event whose handlers all run inline, is in `Bus.publish`; everything else comes
here. Inline handlers are called at once; for every other one a delivery sets out on its life
(`lifecycle`).
"""

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Awaitable, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

from headwater.context import Publisher
from headwater.deliver import Delivery, call_admitted
from headwater.errors import (
    RetryLater,
)
from headwater.lifecycle import Lifecycle
from headwater.message import CALLS, EVENT, MESSAGE, Frame, Message, message_of
from headwater.observers import Observers
from headwater.outcome import Outcomes
from headwater.receipt import DONE, Receipt, to_await
from headwater.runtime import Runtime, running_loop
from headwater.subscription import Subscription
from headwater.unfinished import Unfinished


class Direct:
    """Direct delivery of one bus.

    Args:
        bus: the bus.
        runtime: its clock.
        observers: who is shown records.
        outcomes: what becomes of calls.
        unfinished: what is accepted and not finished.
        life: the lives of its deliveries.
    """

    def __init__(
        self,
        bus: Publisher,
        runtime: Runtime,
        observers: Observers,
        outcomes: Outcomes,
        unfinished: "Unfinished[Any]",
        life: Lifecycle,
    ) -> None:
        self.life = life
        self._bus = bus
        self._runtime = runtime
        self._observers = observers
        self._outcomes = outcomes
        self._unfinished = unfinished
        self._held: MutableMapping[Subscription, deque[Delivery]] = WeakKeyDictionary()

    def deliver(self, frame: Frame, receipt: Receipt | None) -> Receipt:
        """Deliver to every subscription that the frame still holds, in order.

        Called inside the frame: `current_cause` is set to it.

        Returns:
            A receipt, sealed; with no loop running in this thread, also done.
        """
        loop = running_loop()
        try:
            for subscription in frame[CALLS]:
                if subscription.paused:
                    receipt = self._accept(frame, subscription, receipt, loop)
                elif subscription.colour == "inline":
                    receipt = self._inline(frame, subscription, receipt)
                else:
                    receipt = self._accept(frame, subscription, receipt, loop)
        except BaseException:
            if receipt is not None:
                receipt.seal()
            raise
        if receipt is None:
            return DONE
        if receipt.done:
            return receipt  # A delayed event's: its publisher has long gone on.
        receipt.seal()
        if loop is None:
            return receipt.wait()
        if receipt.uncollected:
            receipt.collect()
        return receipt

    def start_all(
        self, message: Message, subscriptions: tuple[Subscription, ...], loop: AbstractEventLoop
    ) -> Receipt:
        """The short way of `deliver`, if all handlers are async and nothing holds them up."""
        receipt = Receipt()
        for subscription in subscriptions:
            if not subscription.closed:
                delivery = Delivery(self.life, message, subscription, receipt, loop)
                receipt.pending.add(delivery)
                self._unfinished.add(delivery)
                self.life.colours.spawn(delivery, loop)
        receipt.is_sealed = True
        if not receipt.pending:
            receipt.complete()
        if receipt.uncollected:  # From Python 3.12 on, a handler may have failed already.
            receipt.collect()
        return receipt

    def go_on(
        self, frame: Frame, subscription: Subscription, error: Exception | None, result: object
    ) -> Receipt:
        """Go on where the hot path met an error, or a result that may be awaitable."""
        receipt: Receipt | None = None
        if error is not None:
            receipt = self._inline_failed(frame, subscription, receipt, 0.0, error)
        elif to_await(result):
            receipt = self._adopt(frame, subscription, receipt, result)
        return self.deliver(frame, receipt)

    def ask(self, message: Message, subscription: Subscription, receipt: Receipt) -> Delivery:
        """Deliver to one subscription, whose result counts."""
        delivery = self._new(message, subscription, receipt, running_loop())
        if subscription.colour == "inline":
            self.life.run_here(delivery)
        else:
            self.life.arrive(delivery)
        receipt.sealed()
        return delivery

    def resume(self, subscription: Subscription) -> None:
        """Deliver what was held back while the subscription was paused, or drop it if it ended."""
        held = self._held.get(subscription)
        while held and not subscription.holds:  # A handler may pause it again.
            try:
                delivery = held.popleft()
            except IndexError:
                return  # Another thread resumes too.
            if delivery.finished:
                continue  # The bus was stopped meanwhile.
            if not subscription.may_run:
                self.life.perform(self.life.drop(delivery, "closed"))
            elif subscription.colour == "inline":
                self.life.run_here(delivery)
            else:
                self.life.arrive(delivery)

    def _inline(
        self, frame: Frame, subscription: Subscription, receipt: Receipt | None
    ) -> Receipt | None:
        if self._observers.all:
            return self._inline_observed(frame, subscription, receipt)
        try:
            result = subscription.call(frame[EVENT])
        except Exception as error:
            return self._inline_failed(frame, subscription, receipt, 0.0, error)
        if result is not None and to_await(result):
            return self._adopt(frame, subscription, receipt, result)
        return receipt

    def _inline_observed(
        self, frame: Frame, subscription: Subscription, receipt: Receipt | None
    ) -> Receipt | None:
        """The same, timed, and knowing whether the handler was called."""
        event, now = frame[EVENT], self._runtime.monotonic
        started = now()
        try:
            if not subscription.admits(event):
                return receipt
            middleware = self.life.colours.middleware
            result = call_admitted(subscription, self._bus, middleware, now, self.life.tell, event)
        except Exception as error:
            return self._inline_failed(frame, subscription, receipt, now() - started, error)
        if result is not None and to_await(result):
            return self._adopt(frame, subscription, receipt, result)
        self._outcomes.handled(message_of(frame), subscription, 1, now() - started)
        return receipt

    def _inline_failed(
        self,
        frame: Frame,
        subscription: Subscription,
        receipt: Receipt | None,
        seconds: float,
        error: Exception,
    ) -> Receipt:
        receipt = receipt or Receipt()
        message = message_of(frame)
        if isinstance(error, RetryLater):
            delivery = self._new(message, subscription, receipt, running_loop())
            self.life.perform(self.life.again_after(delivery, error, error.delay, seconds))
            return receipt
        self._outcomes.failed(receipt, message, subscription, 1, seconds, error)
        receipt.fail(error)
        return receipt

    def _adopt(
        self,
        frame: Frame,
        subscription: Subscription,
        receipt: Receipt | None,
        result: Awaitable[Any],
    ) -> Receipt:
        """An inline handler returned something awaitable: await it, as for an async handler."""
        receipt = receipt or Receipt()
        delivery = self._new(message_of(frame), subscription, receipt, running_loop())
        self.life.colours.adopt(delivery, result)
        return receipt

    def _accept(
        self,
        frame: Frame,
        subscription: Subscription,
        receipt: Receipt | None,
        loop: AbstractEventLoop | None,
    ) -> Receipt | None:
        if subscription.choosy:
            try:
                if not subscription.admits(frame[EVENT]) or subscription.dead:
                    return receipt
            except Exception as error:  # Its where= failed.
                return self._inline_failed(frame, subscription, receipt, 0.0, error)
        elif subscription.closed:
            return receipt
        if receipt is None:
            receipt = Receipt()
        message: Message = frame[MESSAGE] if len(frame) > MESSAGE else message_of(frame)
        delivery = Delivery(self.life, message, subscription, receipt, loop)
        receipt.pending.add(delivery)
        self._unfinished.add(delivery)
        if subscription.paused:
            self._held.setdefault(subscription, deque()).append(delivery)
            delivery.defer("pause")
            if not subscription.holds:  # Resumed, or closed, while we looked.
                self.resume(subscription)
        else:
            self.life.arrive(delivery)
        return receipt

    def _new(
        self,
        message: Message,
        subscription: Subscription,
        receipt: Receipt,
        loop: AbstractEventLoop | None,
    ) -> Delivery:
        delivery = Delivery(self.life, message, subscription, receipt, loop)
        receipt.pending.add(delivery)
        self._unfinished.add(delivery)
        return delivery
