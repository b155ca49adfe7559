"""The life of a delivery: it arrives, is attempted, perhaps again, and is settled once.

`Lifecycle` takes deliveries through their subscription's intake, has them started (`colours`),
and decides what follows from each attempt: done, again later, given up, the next in the lane.
"""

import contextlib
import functools
from asyncio import CancelledError
from collections import deque
from collections.abc import Iterable
from typing import Any

from headwater.colours import Colours
from headwater.context import Publisher
from headwater.deliver import NOBODYS, Delivery, Withdrawn, allowed, report
from headwater.errors import (
    Abandonment,
    BreakerOpen,
    ControlFlow,
    OutOfSequence,
    RateExceeded,
    RetryLater,
)
from headwater.intake import Effect, Intake
from headwater.message import current_cause, message_of
from headwater.observers import Observers
from headwater.outcome import Outcomes, log
from headwater.policies.resequence import Gap
from headwater.receipt import delivery_of
from headwater.records import GapSkipped
from headwater.runtime import Executor, Runtime, Timer
from headwater.subscription import Subscription
from headwater.unfinished import Unfinished

Effects = Iterable[Effect[Delivery]]


class Lifecycle:
    """The lives of the deliveries of one bus.

    Args:
        bus: the bus.
        runtime: its clock, timers, threads.
        observers: who is shown records.
        outcomes: what becomes of calls.
        unfinished: what is accepted and not finished.

    Attributes:
        colours: starts the attempts.
    """

    def __init__(
        self,
        bus: Publisher,
        runtime: Runtime,
        observers: Observers,
        outcomes: Outcomes,
        unfinished: "Unfinished[Any]",
    ) -> None:
        self.bus = bus
        self.colours = Colours(runtime, self, observers)
        self._runtime = runtime
        self._observers = observers
        self._outcomes = outcomes
        self._unfinished = unfinished
        self._ticks: dict[Subscription, tuple[float, Timer]] = {}

    # The way in.

    def arrive(self, delivery: Delivery) -> None:
        """Begin the life of a delivery: through the intake of its subscription, if it has one."""
        subscription = delivery.subscription
        if delivery.message.key is None and not subscription.takes_turns:
            effects: Effects = self._start(delivery)
            if effects:
                self.perform(effects)
            return
        sequence, options = 0, subscription.options
        if options.resequence is not None:
            try:
                sequence = options.resequence.sequence_of(delivery.message.event)
            except Exception as error:
                self.perform(self._finish(delivery, error, 0.0))
                return
        assert subscription.lock is not None
        with subscription.lock:
            if subscription.intake is None:
                subscription.intake = Intake(options.resequence, options.rate, options.concurrency)
            now = self._runtime.monotonic()
            effects = subscription.intake.arrive(delivery, delivery.lane, sequence, now)
        self._set_tick(subscription)
        self.perform(effects)

    def _tick(self, subscription: Subscription) -> None:
        self._ticks.pop(subscription, None)
        intake, lock = subscription.intake, subscription.lock
        assert intake is not None
        assert lock is not None
        with lock:
            effects = intake.tick(self._runtime.monotonic())
        self._set_tick(subscription)
        self.perform(effects)

    def _set_tick(self, subscription: Subscription) -> None:
        if subscription.options.rate is None and subscription.options.resequence is None:
            return  # Nothing in it waits for time.
        intake, lock = subscription.intake, subscription.lock
        assert intake is not None
        assert lock is not None
        with lock:
            deadline = intake.deadline()
            set_for = self._ticks.get(subscription)
            if deadline is None or (set_for is not None and set_for[0] <= deadline):
                return
            if set_for is not None:
                set_for[1].cancel()
            tick = functools.partial(self._tick, subscription)
            self._ticks[subscription] = (deadline, self._runtime.call_at(deadline, tick))

    def perform(self, effects: Effects) -> None:
        """Carry out effects, and those that follow from them, one after the other."""
        todo = deque(effects)
        while todo:
            verb, delivery, detail = todo.popleft()
            if verb == "start":
                todo.extend(self._start(delivery))
            elif verb == "queue":
                self._queued(delivery)
            elif verb == "defer":
                delivery.defer(str(detail))
            elif verb == "drop":
                todo.extend(self._finish(delivery, _dropped(delivery, str(detail)), 0.0))
            elif isinstance(detail, Gap):
                self._gap(delivery, detail)

    def _queued(self, delivery: Delivery) -> None:
        """It waits in its lane: defer it if what it waits for is deferred, or waits for it."""
        causes: set[object] = set()
        cause = delivery_of(delivery.message.cause)
        while isinstance(cause, Delivery):
            causes.add(cause)
            cause = delivery_of(cause.message.cause)
        for ahead in delivery.blockers():
            if isinstance(ahead, Delivery) and ahead.resting:
                delivery.defer("retry")
            elif ahead in causes:
                delivery.defer("lane")

    def _gap(self, delivery: Delivery, gap: Gap) -> None:
        key = None if gap.key in (None, "") else str(gap.key)
        subscription = delivery.subscription
        log.warning(
            "gap_skipped handler=%s key=%s first=%d last=%d",
            subscription.name, key, gap.first_missing, gap.last_missing,
        )  # fmt: skip
        if self._observers.all:
            self._observers.emit(
                GapSkipped(
                    time=self._runtime.now(),
                    name=delivery.message.name,
                    event_id=delivery.message.id,
                    subscription=subscription.name,
                    attempt=delivery.attempt,
                    key=key,
                    first=gap.first_missing,
                    last=gap.last_missing,
                )
            )

    # Attempts.

    def _start(self, delivery: Delivery) -> Effects:
        subscription = delivery.subscription
        if delivery.finished:  # Abandoned while it waited for its time.
            return self._leave(delivery)
        if not subscription.may_run:
            return self.drop(delivery, "closed")
        if delivery.resting:
            delivery.resting = False
        refused = self._ask_breaker(delivery)
        if refused is None:
            self.colours.start(delivery)
        return refused or ()

    def run_here(self, delivery: Delivery) -> None:
        """Attempt a delivery to an inline handler now, in this thread."""
        refused = self._ask_breaker(delivery)
        if refused is None:
            self.colours.run_here(delivery)
        else:
            self.perform(refused)

    def _ask_breaker(self, delivery: Delivery) -> Effects | None:
        """None if the attempt may begin; else what follows from its breaker being open."""
        if delivery.subscription.breaker is not None:
            try:
                delivery.period = allowed(delivery.subscription, self._runtime.monotonic)
            except BreakerOpen as error:
                delivery.period = None
                return self._failed(delivery, error, 0.0)
        return None

    def ended(self, delivery: Delivery, error: BaseException | None, result: object) -> None:
        """An attempt has ended, in whatever thread this is."""
        subscription = delivery.subscription
        if isinstance(error, Withdrawn):
            self.perform(self._withdraw(delivery, error))
            return
        seconds = self._runtime.monotonic() - delivery.started if self._observers.all else 0.0
        if subscription.breaker is not None:
            self._tell_breaker(delivery, error)
        if error is None:
            delivery.result = result
            effects = self._finish(delivery, None, seconds)
        else:
            effects = self._failed(delivery, error, seconds)
        if effects:
            self.perform(effects)

    def handled(self, delivery: Delivery, result: object) -> None:
        """An attempt has succeeded on the loop: the short way, if nothing follows from it."""
        subscription = delivery.subscription
        if subscription.intake is not None or not subscription.swift:
            self.ended(delivery, None, result)
            return
        delivery.result = result
        delivery.finished = True
        delivery.variables = NOBODYS
        if self._observers.all:
            seconds = self._runtime.monotonic() - delivery.started
            message, attempt = delivery.message, delivery.attempt
            self._outcomes.handled(message, subscription, attempt, seconds)
        receipt, unfinished = delivery.receipt, self._unfinished
        receipt.pending.discard(delivery)
        if not receipt.pending:
            receipt.complete()
        unfinished.items.discard(delivery)
        if unfinished.gates and not unfinished.items:
            unfinished.open()

    def tell(self, subscription: Subscription, change: str | None) -> None:
        """The breaker of the inline handler that runs here may have changed its state."""
        cause = current_cause.get()
        if change is not None and cause is not None:
            self._outcomes.breaker(message_of(cause), subscription, 1, change)

    def _tell_breaker(self, delivery: Delivery, error: BaseException | None) -> None:
        now = self._runtime.monotonic
        change = report(delivery.subscription, delivery.period, now, error)
        if change is not None:
            self._outcomes.breaker(
                delivery.message, delivery.subscription, delivery.attempt, change
            )

    def _failed(self, delivery: Delivery, error: BaseException, seconds: float) -> Effects:
        if isinstance(error, RetryLater):
            return self.again_after(delivery, error, error.delay, seconds)
        retry = delivery.subscription.options.retry
        if retry is not None and not isinstance(error, ControlFlow):
            delay = retry.delay(error, delivery.attempt, self._runtime.draw())
            if delay is not None:
                return self.again_after(delivery, error, delay, seconds)
        return self._finish(delivery, error, seconds)

    def again_after(
        self, delivery: Delivery, error: BaseException, delay: float, seconds: float
    ) -> Effects:
        """Try again after `delay` seconds; until then it keeps its key, and gives back its turn."""
        message, subscription = delivery.message, delivery.subscription
        self._outcomes.retried(message, subscription, delivery.attempt, seconds, error, delay)
        delivery.resting = True
        effects: Effects = ()
        if subscription.intake is not None and subscription.lock is not None:
            with subscription.lock:
                effects = subscription.intake.rest(delivery)
                followers = subscription.intake.lanes.behind(delivery.lane)
            for follower in followers:
                follower.defer("retry")
        attempt = delivery.attempt + (not isinstance(error, RetryLater))
        again = functools.partial(self._again, delivery, attempt)
        delivery.until = self._runtime.monotonic() + delay
        delivery.timer = self._runtime.call_at(delivery.until, again)
        delivery.defer("retry")
        return effects

    def _again(self, delivery: Delivery, attempt: int) -> None:
        delivery.timer = None
        delivery.attempt = attempt
        intake, lock = delivery.subscription.intake, delivery.subscription.lock
        if delivery.finished:
            return
        if intake is None or lock is None:
            self.perform(self._start(delivery))
            return
        with lock:
            effects = intake.wake(delivery)
        self.perform(effects)

    def _finish(self, delivery: Delivery, error: BaseException | None, seconds: float) -> Effects:
        """Settle a delivery; returns what its leaving sets going."""
        if delivery.finished:
            return ()
        delivery.finish()
        message, subscription, receipt = delivery.message, delivery.subscription, delivery.receipt
        effects = self._leave(delivery)
        if error is None:
            if self._observers.all:
                self._outcomes.handled(message, subscription, delivery.attempt, seconds)
        elif isinstance(error, Withdrawn):
            error = None  # Its owner is gone: it vanishes without an error.
        elif not isinstance(error, Abandonment):
            attempt = delivery.attempt
            self._outcomes.failed(receipt, message, subscription, attempt, seconds, error)
        receipt.settle(delivery, error)
        self._unfinished.discard(delivery)
        return effects

    def _leave(self, delivery: Delivery) -> Effects:
        """Give back its key and its credit; returns what may run now."""
        intake, lock = delivery.subscription.intake, delivery.subscription.lock
        if intake is None or lock is None:
            return ()
        with lock:
            return intake.leave(delivery, delivery.lane)

    def _withdraw(self, delivery: Delivery, error: Withdrawn) -> Effects:
        """There is nobody to call any more."""
        if delivery.subscription.dead:
            return self._finish(delivery, error, 0.0)
        return self.drop(delivery, "closed")

    # Ends.

    def let_go(self) -> None:
        """The bus has stopped, and its timers with it: they are set again when needed again."""
        for _, timer in tuple(self._ticks.values()):
            timer.cancel()
        self._ticks.clear()

    def drop(self, delivery: Delivery, reason: str) -> Effects:
        """Give up on a delivery without calling its handler."""
        if delivery.finished:
            return ()
        if delivery.timer is not None:
            delivery.timer.cancel()
        message, subscription = delivery.message, delivery.subscription
        self._outcomes.abandoned(message, subscription, delivery.attempt, reason)
        text = f"{subscription.name}: the {'bus' if reason == 'stopped' else 'subscription'}"
        return self._finish(delivery, Abandonment(f"{text} was {reason}"), 0.0)

    def abandon(self, delivery: Delivery) -> None:
        """The bus stops: give up on a delivery, running or not."""
        self.colours.cancel(delivery)
        self.perform(self.drop(delivery, "stopped"))

    def gone_on(self, delivery: Delivery) -> None:
        """A handler goes on after its timeout, where it cannot be stopped."""
        self._outcomes.abandoned(
            delivery.message, delivery.subscription, delivery.attempt, "timeout"
        )

    def deferred(self, delivery: Delivery, reason: str) -> None:
        """A delivery waits for something other than its handler."""
        self._outcomes.deferred(delivery.message, delivery.subscription, delivery.attempt, reason)

    def cancelled(self, delivery: Delivery) -> None:
        """The task of an attempt is cancelled before its first step, and so cannot report."""
        self.colours.end(delivery, CancelledError())

    def inside(self, delivery: Delivery) -> Iterable[Delivery]:
        """The deliveries that occupy the threads of its executor."""
        executor = delivery.subscription.options.executor
        return self.colours.inside(executor) if isinstance(executor, Executor) else ()

    def blocking(self) -> contextlib.AbstractContextManager[None]:
        """Around a wait that blocks a thread."""
        return self._runtime.workers.blocked()


def _dropped(delivery: Delivery, reason: str) -> Exception:
    name = delivery.subscription.name
    if reason == "rate":
        return RateExceeded(f"{name} was skipped: its rate is used up")
    said = "is as old as one delivered before" if reason == "older" else "waits already"
    return OutOfSequence(f"{name} was skipped: the event's sequence number {said}", reason)
