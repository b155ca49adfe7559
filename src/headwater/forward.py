"""Buses connected: what happens on one is published on another one too, as the same event.

The header ``path`` names the buses an event has been on, and stops it where it has been before. A
relay out of a log ends when the other bus has the event: only then its own place moves on. While
the other bus cannot store it, it tries again for as long as that takes, and followers with the
same key wait behind it.
"""

import logging
from collections.abc import Callable, Mapping

from headwater.context import Context
from headwater.errors import InvalidOption, PublishFailed, RetryLater, TooLarge
from headwater.event import name_of
from headwater.message import Message
from headwater.receipt import Receipt
from headwater.runtime import Rarely

log = logging.getLogger("headwater")

AGAIN = 1.0
"""Seconds between two tries of a relay out of a log."""

Relay = Callable[[Message, Mapping[str, str]], Receipt]


class Forward:
    """The handler that forwards from one bus to another.

    Args:
        here: what this bus is called in paths.
        there: what the other one is called.
        relay: publishes a message there.
        durable: whether this bus keeps its events.
    """

    def __init__(self, here: str, there: str, relay: Relay, *, durable: bool) -> None:
        self._here = here
        self._there = there
        self._relay = relay
        self._durable = durable
        self._rarely = Rarely(10.0)

    def __call__(self, event: object, context: Context) -> Receipt | None:
        """Publish an event there, unless it has been there."""
        path = [step for step in context.headers.get("path", "").split(",") if step]
        if self._there in path or self._there == self._here:
            return None
        headers = {**context.headers, "path": ",".join([*path, self._here])}
        try:
            receipt = self._relay(context.message, headers)
        except PublishFailed as error:
            if not self._durable or isinstance(error, TooLarge):
                raise
            if self._rarely():
                log.warning("forward_trouble to=%s error=%s it is tried again", self._there, error)
            raise RetryLater(AGAIN) from error
        return None if receipt.done else receipt


def durable_name(what: object, to: str | None) -> str:
    """What the subscription of a forward is called on a transport: the same at each start.

    Raises:
        InvalidOption: the other bus has no name.
    """
    if to is None:
        raise InvalidOption(
            "forward: to: expected a bus with a name, since this one keeps under it how far it"
            " has forwarded: Bus(name='audit')"
        )
    label = name_of(what) if isinstance(what, type) else str(what)
    return f"forward {label} to {to}"
