"""An event that was published for later, while its time has not come."""

import contextvars
from asyncio import AbstractEventLoop

from headwater.message import Message
from headwater.receipt import Receipt
from headwater.runtime import Timer, running_loop


class Delayed:
    """A message that waits for its time.

    Attributes:
        message: what is to be delivered.
        what: its class, or its name where it has none.
        receipt: what its publisher got.
        until: the monotonic time when it is due.
        loop: the publisher's loop.
        variables: the publisher's context variables.
        timer: set for `until`.
    """

    __slots__ = ("loop", "message", "receipt", "timer", "until", "variables", "what")

    def __init__(self, message: Message, what: type | str, until: float) -> None:
        self.message = message
        self.what = what
        self.until = until
        self.receipt = Receipt()
        self.receipt.deferred = 1
        self.receipt.sealed()
        self.loop: AbstractEventLoop | None = running_loop()
        self.variables = contextvars.copy_context()
        self.timer: Timer | None = None
