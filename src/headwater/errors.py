"""Every error headwater raises, in one tree.

::

    HeadwaterError
    ├── InvalidEvent (TypeError)         what was published cannot be an event
    ├── InvalidData (ValueError)         data that does not fit its event's class
    ├── InvalidName (ValueError)         a name or pattern that is not dotted tokens
    ├── InvalidHandler (TypeError)       a handler that cannot take the event
    ├── InvalidOption (TypeError)        an option that is unknown or has a wrong value
    ├── InvalidPolicy (ValueError)       a policy with nonsense values
    ├── DuplicateName (ValueError)       two classes, or two repliers, with one name
    ├── Unsupported (ValueError)         this bus, on this engine, cannot do that
    │   └── UnknownTransport             no transport for this URL
    ├── PublishFailed (RuntimeError)     the engine did not store the event
    │   ├── TooLarge                     the event is larger than the limit
    │   ├── LogBusy                      another process holds the log for too long
    │   └── PublishUnknown               whether it was stored is not known
    ├── BadLog (RuntimeError)            a log file that cannot be used: foreign, corrupt, newer
    ├── Fenced (RuntimeError)            another process has taken over
    ├── ProcessDied (RuntimeError)       a handler took its process down, again and again
    ├── Undecodable (ValueError)         what came does not decode; it is a dead letter
    ├── ReplayFailed (RuntimeError)      the handler of a replay failed; says where to resume
    ├── TransactionOver (RuntimeError)   a lent transaction, used after its end
    ├── NoSubscription (LookupError)     the log has no subscription of this name
    ├── Refused (RuntimeError)           would lose or repeat events, and was not forced
    ├── Overloaded (RuntimeError)        too many unfinished deliveries
    ├── EventStorm (RuntimeError)        a story grew too deep or too long
    ├── WouldDeadlock (RuntimeError)     waiting here would stop the loop that has to do the work
    ├── BusClosed (RuntimeError)         published after close()
    ├── UsedAfterFork (RuntimeError)     a bus opened before a fork, used after it
    ├── HandlerTimeout (TimeoutError)    a handler ran longer than its timeout
    ├── BreakerOpen (RuntimeError)       the breaker of a subscription is open
    ├── RateExceeded (RuntimeError)      the rate of a subscription sheds
    ├── OutOfSequence (RuntimeError)     resequencing dropped an old or doubled event
    ├── Abandonment (RuntimeError)       the bus stopped before the delivery finished
    ├── StreamOverflow (RuntimeError)    a stream was read slower than it was filled
    ├── NoReplier (LookupError)          nobody replies to this request
    ├── RequestTimeout (TimeoutError)    the reply did not come in time
    └── RemoteError (RuntimeError)       the replier failed

    ControlFlow                          raised by handlers, never logged as a failure
    ├── RetryLater                       deliver again after a delay, at no cost of an attempt
    └── Reject                           give up at once
"""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any


def _made_again(kind: type[Exception], args: tuple[Any, ...], fields: dict[str, Any]) -> Exception:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(fields)
    return error


def _reduced(self: Exception) -> tuple[Callable[..., Exception], tuple[object, ...]]:
    """How to pickle an error that is not made from its text, but its text from its fields.

    A handler in another process may raise it, and here is where it is wanted.
    """
    return _made_again, (type(self), self.args, vars(self))


class HeadwaterError(Exception):
    """The root of every error that headwater raises."""

    __reduce__ = _reduced


class InvalidEvent(HeadwaterError, TypeError):
    """What was published cannot be an event: None, a class, a plain built-in value."""


class InvalidData(HeadwaterError, ValueError):
    """Data that does not fit the class that is registered under the published name."""


class InvalidName(HeadwaterError, ValueError):
    """A name or pattern that is not made of dotted, non-empty tokens."""


class InvalidHandler(HeadwaterError, TypeError):
    """A handler that cannot be called with one event, or cannot be held as asked."""


class InvalidOption(HeadwaterError, TypeError):
    """An option that is unknown, has a value of the wrong kind, or contradicts another."""


class InvalidPolicy(HeadwaterError, ValueError):
    """A policy with values that make no sense."""


class DuplicateName(HeadwaterError, ValueError):
    """Two different classes, or two repliers, claim one name."""


class Unsupported(HeadwaterError, ValueError):
    """This bus, on this engine, cannot do what was asked; the text names what can."""


class UnknownTransport(Unsupported):
    """There is no transport for the scheme of this URL."""


class PublishFailed(HeadwaterError, RuntimeError):
    """The engine did not store the event: nobody will get it.

    Attributes:
        event_id: the id of the event that was refused.
    """

    def __init__(self, text: str, event_id: str = "") -> None:
        self.event_id = event_id
        super().__init__(text)


class TooLarge(PublishFailed):
    """The event, encoded, is larger than the engine takes; it was refused before it was sent."""


class LogBusy(PublishFailed):
    """Another process held the log's write lock for longer than the timeout."""


class PublishUnknown(PublishFailed):
    """The engine failed in the midst of storing: the event may be there or not.

    Publish it again with ``id=error.event_id``: it is stored once.
    """


class BadLog(HeadwaterError, RuntimeError):
    """The log cannot be used: no log of ours, corrupt, of a newer version, or not writable."""


class Fenced(HeadwaterError, RuntimeError):
    """Another process has taken over what this one was handling; its result does not count."""


class ProcessDied(HeadwaterError, RuntimeError):
    """The process ended while this event was handled, as often as it may be attempted.

    Attributes:
        attempts: how often.
    """

    def __init__(self, handler: str, attempts: int) -> None:
        self.attempts = attempts
        super().__init__(f"{handler}: the process ended {attempts} times while it ran")


class Undecodable(HeadwaterError, ValueError):
    """An event came that this program cannot decode; it is kept as a dead letter."""


class ReplayFailed(HeadwaterError, RuntimeError):
    """The handler of a replay failed; its error is the ``__cause__``.

    Attributes:
        position: the event it failed on: pass it as ``start`` to go on there.
        handled: how many events were handled before.
    """

    def __init__(self, text: str, position: int, handled: int) -> None:
        self.position = position
        self.handled = handled
        super().__init__(text)


class TransactionOver(HeadwaterError, RuntimeError):
    """A transaction that the bus had lent was used after it was given back."""


class NoSubscription(HeadwaterError, LookupError):
    """The log has no subscription of this name."""


class Refused(HeadwaterError, RuntimeError):
    """It would lose events, or handle them again, or disturb who consumes; force does it still."""


class UnconfirmedPublish(UserWarning):
    """A receipt was dropped before the engine had confirmed its event; await it, or detach it."""


class Overloaded(HeadwaterError, RuntimeError):
    """Publishing would exceed ``max_pending`` unfinished deliveries; no handler was called.

    Attributes:
        pending: unfinished deliveries when it was refused.
        limit: the bus's ``max_pending``.
    """

    def __init__(self, pending: int, limit: int) -> None:
        self.pending = pending
        self.limit = limit
        super().__init__(
            f"{pending} deliveries are unfinished and max_pending is {limit}: await the receipts,"
            f" or give the bus a larger max_pending"
        )


class EventStorm(HeadwaterError, RuntimeError):
    """A story went past ``max_depth`` or ``max_story``; the whole story is ended.

    Attributes:
        correlation_id: the story.
        path: the names from cause to effect, the latest last.
    """

    def __init__(self, text: str, correlation_id: str, path: tuple[str, ...]) -> None:
        self.correlation_id = correlation_id
        self.path = path
        super().__init__(text)


class WouldDeadlock(HeadwaterError, RuntimeError):
    """A blocking wait in a thread whose running loop has to finish what is waited for."""


class BusClosed(HeadwaterError, RuntimeError):
    """The bus was closed; ``start()`` opens it again."""


class UsedAfterFork(HeadwaterError, RuntimeError):
    """A bus that was opened before a fork cannot be used in the child."""


class HandlerTimeout(HeadwaterError, TimeoutError):
    """A handler ran longer than its ``timeout``.

    Attributes:
        seconds: the timeout.
    """

    def __init__(self, handler: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"{handler} ran longer than its timeout of {seconds:g} s")


class BreakerOpen(HeadwaterError, RuntimeError):
    """The handler was skipped: its breaker is open after too many failures in a row."""


class RateExceeded(HeadwaterError, RuntimeError):
    """The handler was skipped: its rate is used up, and sheds or has no room to delay."""


class OutOfSequence(HeadwaterError, RuntimeError):
    """The event is as old as one that was delivered, or repeats one that waits.

    Attributes:
        reason: ``older`` or ``duplicate``.
    """

    def __init__(self, text: str, reason: str) -> None:
        self.reason = reason
        super().__init__(text)


class Abandonment(HeadwaterError, RuntimeError):
    """The bus stopped before this delivery could finish."""


class StreamOverflow(HeadwaterError, RuntimeError):
    """A stream was read slower than it was filled.

    Attributes:
        buffer: events that the stream may hold.
    """

    def __init__(self, buffer: int) -> None:
        self.buffer = buffer
        super().__init__(
            f"the stream held {buffer} events and one more came: read faster, give it a larger"
            f' buffer, or overflow="drop_oldest"'
        )


class NoReplier(HeadwaterError, LookupError):
    """Nobody replies to this request."""


class RequestTimeout(HeadwaterError, TimeoutError):
    """The reply did not come in time."""


class RemoteError(HeadwaterError, RuntimeError):
    """The replier failed; its error is the ``__cause__`` where it happened in this process.

    Attributes:
        kind: the name of the replier's exception class.
    """

    def __init__(self, text: str, kind: str) -> None:
        self.kind = kind
        super().__init__(text)


class ControlFlow(Exception):
    """What a handler raises to say how its event is to be settled; never logged as a failure."""

    __reduce__ = _reduced


class RetryLater(ControlFlow):
    """Deliver this event to this handler again after a delay; costs no attempt.

    Args:
        delay: seconds, or a timedelta.

    Raises:
        InvalidPolicy: the delay is no number, negative or not finite.
    """

    def __init__(self, delay: float | timedelta) -> None:
        try:
            self.delay = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        except (TypeError, ValueError, OverflowError):
            self.delay = math.nan
        if isinstance(delay, bool | str) or not (math.isfinite(self.delay) and self.delay >= 0):
            raise InvalidPolicy(
                f"RetryLater: expected a finite number of seconds >= 0, got {delay!r:.120}"
            )
        super().__init__(f"again in {self.delay:g} s")


class Reject(ControlFlow):
    """Give up on this event at once: no retry.

    Args:
        reason: what is wrong with the event, for people.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
