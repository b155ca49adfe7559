"""The life of a delivery out of a log.

It is the life of every delivery (`lifecycle`) with other ends. Success is settled with the engine,
together with what the handler has published; a failure is tried again, and in the end kept as a
dead letter; what could not be finished is not settled, and comes again.

Handlers end in any thread. What then has to be done with lanes, ledgers and settlements is passed
on to the bus's I/O loop (`consume`), where all of that lives.
"""

from asyncio import AbstractEventLoop, CancelledError
from collections.abc import Callable, Sequence
from typing import Protocol

from headwater import failpoint
from headwater.arrival import Arrival
from headwater.deliver import Delivery, Withdrawn
from headwater.errors import (
    Abandonment,
    BreakerOpen,
    EventStorm,
    Fenced,
    OutOfSequence,
    RateExceeded,
    RetryLater,
)
from headwater.intake import Intake
from headwater.lifecycle import Effects, Lifecycle
from headwater.outcome import log
from headwater.runtime import Rarely, running_loop
from headwater.transactions import Transaction
from headwater.transport import Loan

SHORT = 1.0
"""Seconds: a retry this soon is waited for in memory, a later one in the ledger."""
INTERRUPTED_AGAIN = 1.0
"""Seconds after which a handler is tried again that was cancelled or wanted the program to end."""
CRASHES = 5
"""How often an event may take the process down, or be interrupted; ``retry`` may say otherwise."""


class Core(Protocol):
    """The room on the I/O loop that settles."""

    def post(self, work: Callable[[Arrival], None], arrival: Arrival) -> None:
        """Do something with a delivery there, soon; in any thread."""
        ...

    def done(self, arrival: Arrival) -> None:
        """It is handled, and nothing but its place in the log is to be settled."""
        ...

    def publish_and_settle(self, arrival: Arrival) -> None:
        """It is handled: store what it published, settle it, then `SettlingLife.release` it."""
        ...

    def retry(self, arrival: Arrival, error: BaseException, delay: float) -> None:
        """Try it again after so long, by way of the ledger."""
        ...

    def count(self, arrival: Arrival, error: BaseException, delay: float) -> None:
        """An attempt has failed, and the next one is near: note how many there were."""
        ...

    def bury(self, arrival: Arrival, error: BaseException) -> None:
        """Give it up, and keep it as a dead letter."""
        ...

    def attempted(self, arrival: Arrival) -> None:
        """An attempt that ran alone has ended."""
        ...

    def left(self, arrival: Arrival) -> None:
        """It has ended without being settled, and comes again."""
        ...

    def borrow(self, arrival: Arrival, granted: Callable[[Loan | BaseException], None]) -> None:
        """Borrow a transaction for its handler."""
        ...


class SettlingLife(Lifecycle):
    """The lives of the deliveries of a bus that has a transport; see `Lifecycle`."""

    core: Core
    home: AbstractEventLoop | None = None
    """Where async handlers run; None: on the bus's own loop."""
    io: AbstractEventLoop | None = None
    """Where the core lives."""
    stopping = False
    _rarely = Rarely(10.0)

    def handled(self, delivery: Delivery, result: object) -> None:
        """An attempt has succeeded on the loop: the short way, if nothing follows from it."""
        assert isinstance(delivery, Arrival)
        subscription, intake = delivery.subscription, delivery.subscription.intake
        if (
            delivery.published
            or delivery.special
            or delivery.finished
            or subscription.breaker is not None
            or self._observers.all
            or intake is None
            or subscription.lock is None
        ):
            self.ended(delivery, None, result)
            return
        failpoint.reach("handle.after")
        delivery.published = None
        delivery.finish()
        self.core.done(delivery)
        with subscription.lock:
            effects = intake.leave(delivery, delivery.lane)
        unfinished = self._unfinished
        unfinished.items.discard(delivery)
        if unfinished.gates and not unfinished.items:
            unfinished.open()
        if effects:
            self.perform(effects)

    def arrive_all(self, arrivals: Sequence[Arrival]) -> None:
        """Begin the lives of deliveries of one subscription, on the I/O loop.

        Their handlers start together.
        """
        subscription = arrivals[0].subscription
        options, lock = subscription.options, subscription.lock
        for arrival in arrivals:
            arrival.loop = self.home
            self._unfinished.add(arrival)
        if options.rate or options.resequence or self._observers.all or lock is None:
            self._arrive_slowly(arrivals)
            return
        with lock:
            if subscription.intake is None:
                subscription.intake = Intake(None, None, options.concurrency)
            enter = subscription.intake.lanes.enter
            starting = [arrival for arrival in arrivals if enter(arrival, arrival.message.key)]
        if subscription.colour == "async":
            self.start_together(starting)
        else:
            self._start_here(starting)

    def _arrive_slowly(self, arrivals: Sequence[Arrival]) -> None:
        """Past everything that a subscription may have in its intake."""
        starting = list[Arrival]()
        for arrival in arrivals:
            if arrival.refused is not None:
                self.perform(self._finish(arrival, arrival.refused, 0.0))
                continue
            self._starting = starting
            try:
                self.arrive(arrival)
            finally:
                self._starting = None
        if starting:
            self.start_together(starting)

    _starting: list[Arrival] | None = None

    def _queued(self, delivery: Delivery) -> None:
        """It waits in its lane; nobody waits for it, so only observers care why."""
        if self._observers.all:
            super()._queued(delivery)

    def start_together(self, arrivals: Sequence[Arrival]) -> None:
        """Start async handlers with one call to their loop."""
        loop = self.home if self.home is not None and self.home.is_running() else self._runtime.loop
        try:
            loop.call_soon_threadsafe(self._start_here, arrivals)
        except RuntimeError:  # It was closed meanwhile.
            self._runtime.loop.call_soon_threadsafe(self._start_here, arrivals)

    def _start_here(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self.perform(self._start_now(arrival))

    def _start(self, delivery: Delivery) -> Effects:
        starting = self._starting
        if starting is not None and running_loop() is self.io:
            assert isinstance(delivery, Arrival)
            if delivery.subscription.colour == "async" and not delivery.finished:
                starting.append(delivery)
                return ()
        return self._start_now(delivery)

    def _start_now(self, delivery: Delivery) -> Effects:
        assert isinstance(delivery, Arrival)
        if delivery.finished or delivery.recalled or not delivery.subscription.may_run:
            return super()._start(delivery)
        if delivery.refused is not None:  # In its turn, so that the order of its key is kept.
            return self._finish(delivery, delivery.refused, 0.0)
        delivery.begin_attempt()
        if delivery.subscription.options.transaction is True:
            self.core.borrow(delivery, lambda loan: self._granted(delivery, loan))
            return ()
        failpoint.reach("handle.before")
        return super()._start(delivery)

    # Transactions.

    def _granted(self, arrival: Arrival, loan: Loan | BaseException) -> None:
        """In the engine's thread: the transaction is there, or cannot be had."""
        if isinstance(loan, Fenced):
            self.core.post(self.recall, arrival)
        elif isinstance(loan, BaseException):
            self.perform(self.again_after(arrival, RetryLater(SHORT), SHORT, 0.0))
        elif arrival.finished or arrival.recalled:
            loan.give_back(commit=False, done=_ignore)
        else:
            self._begin_with(arrival, loan)

    def _begin_with(self, arrival: Arrival, loan: Loan) -> None:
        lane, message = arrival.strand.lane, arrival.message
        try:
            place = lane.topic, lane.number, arrival.position
            new = loan.is_new(lane.subscription, message.id, *place)
        except Exception as error:
            loan.give_back(commit=False, done=_ignore)
            self.perform(self.again_after(arrival, RetryLater(SHORT), SHORT, 0.0))
            if self._rarely():
                log.warning("transaction_trouble handler=%s error=%r", lane.subscription, error)
            return
        if not new:
            loan.give_back(commit=True, done=lambda error: self._skip(arrival, error))
            return
        arrival.loan, arrival.transaction = loan, Transaction(loan)
        failpoint.reach("handle.before")
        self.perform(super()._start(arrival))
        if arrival.finished:  # Taken back at this very moment.
            self._roll_back(arrival)

    def _skip(self, arrival: Arrival, error: BaseException | None) -> None:
        """It was handled before: settle it, without its handler."""
        if arrival.alone:
            self.core.attempted(arrival)
        self._committed(arrival, error)

    def _commit(self, arrival: Arrival, seconds: float) -> None:
        loan, arrival.loan = arrival.loan, None
        assert loan is not None
        try:
            for envelope, due in arrival.take_published():
                loan.publish(envelope, due)
        except Exception as error:
            loan.give_back(commit=False, done=_ignore)
            self.perform(self._failed(arrival, error, seconds))
            return
        loan.give_back(commit=True, done=lambda error: self._committed(arrival, error))

    def _committed(self, arrival: Arrival, error: BaseException | None) -> None:
        if error is None:
            self.core.done(arrival)
            self.release(arrival)
        else:
            self.perform(self.again_after(arrival, RetryLater(SHORT), SHORT, arrival.lasted))

    def _roll_back(self, arrival: Arrival) -> None:
        loan, arrival.loan = arrival.loan, None
        if loan is not None:
            loan.give_back(commit=False, done=_ignore)
        arrival.published = []

    # Ends.

    def _finish(self, delivery: Delivery, error: BaseException | None, seconds: float) -> Effects:
        assert isinstance(delivery, Arrival)
        if delivery.finished:  # Taken back while its handler was on its way.
            self._roll_back(delivery)
            return ()
        failpoint.reach("handle.after")
        if delivery.alone:
            self.core.attempted(delivery)
        if delivery.recalled:
            return self._leave_unsettled(delivery, Abandonment("taken back"), seconds)
        if error is None:
            return self._succeeded(delivery, seconds)
        self._roll_back(delivery)
        if isinstance(error, RateExceeded | OutOfSequence):
            self.core.done(delivery)  # By the user's own policy: it is not to be handled.
            return super()._finish(delivery, error, seconds)
        if isinstance(error, Abandonment | Withdrawn):
            return self._leave_unsettled(delivery, error, seconds)
        delivery.lasted = seconds
        self.core.bury(delivery, error)
        return ()

    def _leave_unsettled(self, arrival: Arrival, error: Exception, seconds: float) -> Effects:
        """It comes again."""
        self._roll_back(arrival)
        self.core.left(arrival)
        return super()._finish(arrival, error, seconds)

    def _succeeded(self, arrival: Arrival, seconds: float) -> Effects:
        arrival.lasted = seconds
        if arrival.loan is not None:
            self._commit(arrival, seconds)
            return ()
        if arrival.published:
            self.core.publish_and_settle(arrival)
            return ()
        arrival.published = None
        self.core.done(arrival)
        return super()._finish(arrival, None, seconds)

    def release(self, arrival: Arrival) -> None:
        """It is settled: let the next one of its key go on."""
        self.perform(super()._finish(arrival, None, arrival.lasted))

    def buried(self, arrival: Arrival, error: BaseException) -> None:
        """It is kept as a dead letter."""
        effects = super()._finish(arrival, error, arrival.lasted)
        message, subscription = arrival.message, arrival.subscription
        self._outcomes.dead(message, subscription, arrival.attempt, error)
        self.perform(effects)

    def recall(self, arrival: Arrival) -> None:
        """Take a delivery back: it is not settled, and comes again here or elsewhere."""
        if arrival.finished or arrival.recalled:
            return
        arrival.recalled = True
        if arrival.timer is not None and arrival.ticket is None:
            arrival.timer.cancel()
        if arrival.waits_to_begin or not arrival.ticket:
            if arrival.alone:
                self.core.attempted(arrival)
            effects = super()._finish(arrival, Abandonment("taken back"), 0.0)
            self._roll_back(arrival)  # The engine waits for whoever it has lent to.
            self.perform(effects)

    def limit_of(self, arrival: Arrival) -> int:
        """How many attempts an event has that ends them by force."""
        retry = arrival.subscription.options.retry
        return CRASHES if retry is None else retry.max_attempts

    def _failed(self, delivery: Delivery, error: BaseException, seconds: float) -> Effects:
        assert isinstance(delivery, Arrival)
        if isinstance(error, BreakerOpen):
            breaker = delivery.subscription.breaker
            now = self._runtime.monotonic()
            wait = SHORT if breaker is None else max(0.01, breaker.opens_again(now))
            return self.again_after(delivery, error, wait, seconds)
        if not isinstance(error, Exception):
            return self._interrupted(delivery, error, seconds)
        if isinstance(error, EventStorm):
            return self._finish(delivery, error, seconds)
        return super()._failed(delivery, error, seconds)

    def _interrupted(self, arrival: Arrival, error: BaseException, seconds: float) -> Effects:
        """It was cancelled, or wants the program to end: no fault of the event's, perhaps."""
        if self.stopping or arrival.recalled:
            return self._finish(arrival, Abandonment("the bus was stopped"), seconds)
        if arrival.attempt >= self.limit_of(arrival) and not isinstance(error, CancelledError):
            return self._finish(arrival, error, seconds)
        if arrival.attempt >= CRASHES:
            return self._finish(arrival, error, seconds)
        return self.again_after(arrival, error, INTERRUPTED_AGAIN, seconds)

    def again_after(
        self, delivery: Delivery, error: BaseException, delay: float, seconds: float
    ) -> Effects:
        """Try again after `delay` seconds: in memory if that is soon, else by the ledger."""
        assert isinstance(delivery, Arrival)
        self._roll_back(delivery)
        if delivery.alone:
            self.core.attempted(delivery)
        if delivery.recalled:
            return self._leave_unsettled(delivery, Abandonment("taken back"), seconds)
        free = isinstance(error, RetryLater | BreakerOpen)
        if delay <= SHORT or not self.has_ledger:
            if not free:
                self.core.count(delivery, error, delay)
            if isinstance(error, BreakerOpen):  # Which costs no attempt here.
                error = RetryLater(delay)
            return super().again_after(delivery, error, delay, seconds)
        message, subscription = delivery.message, delivery.subscription
        self._outcomes.retried(message, subscription, delivery.attempt, seconds, error, delay)
        if free:
            delivery.attempt -= 1
        self.core.retry(delivery, error, delay)
        return ()

    has_ledger = True

    def abandon(self, delivery: Delivery) -> None:
        """The bus stops: it is not settled, and comes again."""
        assert isinstance(delivery, Arrival)
        delivery.recalled = True
        self.colours.cancel(delivery)
        self._roll_back(delivery)
        message, subscription = delivery.message, delivery.subscription
        if not delivery.finished:
            if delivery.ticket is not None and not delivery.resting:
                self._outcomes.abandoned(message, subscription, delivery.attempt, "stopped")
            self.perform(super()._finish(delivery, Abandonment("the bus was stopped"), 0.0))


def _ignore(error: BaseException | None) -> None:
    """Nobody has to know."""
