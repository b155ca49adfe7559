"""What becomes of handlers' calls: records, log lines, errors on receipts.

Failures are isolated here: a failed handler is logged with its traceback, shown to observers and
put on the receipt, and `on_error` says whether it is also raised where somebody waits.
"""

import logging
from collections.abc import Callable
from typing import Literal, cast

from headwater.context import Context, Publisher
from headwater.errors import (
    Abandonment,
    BreakerOpen,
    ControlFlow,
    EventStorm,
    InvalidOption,
    OutOfSequence,
    Overloaded,
    RateExceeded,
)
from headwater.message import Message
from headwater.observers import Observers
from headwater.policies.field import shown, takes
from headwater.policies.storm import DEEP
from headwater.receipt import Receipt, raise_errors
from headwater.records import (
    Abandoned,
    BreakerChanged,
    DeadLettered,
    Deferred,
    DeliveryRecord,
    Failed,
    Handled,
    Retried,
    Skipped,
)
from headwater.runtime import Runtime
from headwater.subscription import Subscription

log = logging.getLogger("headwater")

Decision = Literal["log", "raise", "ignore"]
OnError = Literal["log", "raise"] | Callable[[BaseException, Context], Decision | None]

MAX_OWING = 1000
"""Receipts with uncollected errors that a bus keeps for `idle` and its end."""

_SKIPS = (BreakerOpen, RateExceeded, OutOfSequence)
_QUIET = (*_SKIPS, EventStorm, Overloaded, ControlFlow, Abandonment)


class Outcomes:
    """What becomes of the deliveries of one bus.

    Args:
        bus: the bus, for contexts.
        runtime: the clock.
        observers: who is shown records.
        on_error: ``log``, ``raise``, or a function of the error and its context that returns
            ``log``, ``raise`` or ``ignore``.
    """

    def __init__(
        self, bus: Publisher, runtime: Runtime, observers: Observers, on_error: OnError
    ) -> None:
        if on_error not in ("log", "raise") and not takes(on_error, 2):
            raise InvalidOption(
                f"Bus: on_error: expected 'log', 'raise' or a function of (error, context),"
                f" got {shown(on_error)}"
            )
        self._bus = bus
        self._runtime = runtime
        self._observers = observers
        self._on_error = on_error
        self._owing: list[Receipt] = []

    def handled(self, message: Message, to: Subscription, attempt: int, seconds: float) -> None:
        """A handler succeeded."""
        self._emit(Handled, message, to, attempt, seconds=seconds)

    def failed(
        self,
        receipt: Receipt,
        message: Message,
        to: Subscription,
        attempt: int,
        seconds: float,
        error: BaseException,
    ) -> None:
        """A handler failed for good; the caller puts the error on the receipt."""
        if isinstance(error, RecursionError) and message.depth >= DEEP:
            message.story.overflowed = True
        _note(error, message, to)
        decision = self._decide(error, message, to, attempt)
        if decision != "ignore":
            self._log(error, message, to, attempt)
        if isinstance(error, _SKIPS):
            self._emit(Skipped, message, to, attempt, reason=_reason(error))
        self._emit(Failed, message, to, attempt, error=error, seconds=seconds)
        fatal = not isinstance(error, Exception) and type(error).__name__ != "CancelledError"
        if decision == "raise" or fatal:
            if receipt.is_shared:
                receipt = Receipt()  # One for this error alone: others must not collect it.
            receipt.uncollected = (*receipt.uncollected, error)
            self._owing.append(receipt)
            if len(self._owing) > MAX_OWING:
                self._owing = [owing for owing in self._owing if owing.uncollected][-MAX_OWING:]

    def retried(
        self,
        message: Message,
        to: Subscription,
        attempt: int,
        seconds: float,
        error: BaseException,
        delay: float,
    ) -> None:
        """An attempt failed, and there will be another one."""
        log.info(
            "handler_retried event=%s id=%s handler=%s attempt=%d delay=%.3f error=%r",
            message.name, message.id, to.name, attempt, delay, error,
        )  # fmt: skip
        self._emit(Retried, message, to, attempt, error=error, delay=delay, seconds=seconds)

    def dead(self, message: Message, to: Subscription, attempt: int, error: BaseException) -> None:
        """A delivery was given up, and is kept."""
        log.warning(
            "dead_lettered event=%s id=%s handler=%s attempt=%d error=%r",
            message.name, message.id, to.name, attempt, error,
        )  # fmt: skip
        self._emit(DeadLettered, message, to, attempt, error=error)

    def deferred(self, message: Message, to: Subscription, attempt: int, reason: str) -> None:
        """A delivery waits for something other than its handler."""
        self._emit(Deferred, message, to, attempt, reason=reason)

    def abandoned(self, message: Message, to: Subscription, attempt: int, reason: str) -> None:
        """A delivery does not finish."""
        log.warning(
            "delivery_abandoned event=%s id=%s handler=%s reason=%s",
            message.name, message.id, to.name, reason,
        )  # fmt: skip
        self._emit(Abandoned, message, to, attempt, reason=reason)

    def breaker(self, message: Message, to: Subscription, attempt: int, state: str) -> None:
        """The breaker of a subscription opened or closed."""
        log.warning("breaker_%s handler=%s", state, to.name)
        self._emit(BreakerChanged, message, to, attempt, state=state)

    def collect(self) -> None:
        """Raise what was to be raised and nobody collected.

        Raises:
            ExceptionGroup: of all of it.
            BaseException: a handler raised KeyboardInterrupt, SystemExit or the like.
        """
        owing, self._owing = self._owing, []
        errors: list[BaseException] = []
        for receipt in owing:  # It is there once for each of its errors.
            errors.extend(receipt.uncollected)
            receipt.uncollected = ()
        raise_errors(errors)

    def _decide(
        self, error: BaseException, message: Message, to: Subscription, attempt: int
    ) -> Decision:
        if not callable(self._on_error):
            return cast("Decision", self._on_error)
        try:
            context = Context(message, self._bus, to, attempt)
            decision = self._on_error(error, context) or "log"
        except Exception:
            log.exception("on_error_failed handler=%s", to.name)
            return "log"
        if decision not in ("log", "raise", "ignore"):
            log.error(
                "on_error_failed handler=%s expected 'log', 'raise' or 'ignore', got %r",
                to.name, decision,
            )  # fmt: skip
            return "log"
        return decision

    def _log(self, error: BaseException, message: Message, to: Subscription, attempt: int) -> None:
        quiet = isinstance(error, _QUIET)
        level = logging.ERROR
        if quiet:
            # The opening of a breaker and the end of a story have been logged where they happened.
            known = isinstance(error, BreakerOpen | EventStorm | Abandonment)
            level = logging.DEBUG if known else logging.WARNING
        if not log.isEnabledFor(level):
            return
        log.log(
            level,
            "handler_%s event=%s id=%s handler=%s (%s) attempt=%d error=%r",
            "skipped" if isinstance(error, _SKIPS) else "failed",
            message.name, message.id, to.name, to.handler.where, attempt, error,
            exc_info=None if quiet else error,
            extra={"event": message.name, "event_id": message.id, "handler": to.name},
        )  # fmt: skip

    def _emit(
        self,
        kind: Callable[..., DeliveryRecord],
        message: Message,
        to: Subscription,
        attempt: int,
        **fields: object,
    ) -> None:
        """Show a record of `kind`, if anybody looks."""
        if self._observers.all:
            self._observers.emit(
                kind(
                    time=self._runtime.now(),
                    name=message.name,
                    event_id=message.id,
                    subscription=to.name,
                    attempt=attempt,
                    **fields,
                )
            )


def _reason(error: BaseException) -> str:
    if isinstance(error, BreakerOpen):
        return "breaker"
    if isinstance(error, RateExceeded):
        return "rate"
    return error.reason if isinstance(error, OutOfSequence) else "unknown"


def _note(error: BaseException, message: Message, to: Subscription) -> None:
    """Say on the error itself which handler failed on which event."""
    note = f"while {to.name} ({to.handler.where}) handled {message.name} {message.id}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
