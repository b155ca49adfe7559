"""What a handler may know about the event it handles, and the handler that is running."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Protocol, Unpack, cast

from headwater.message import BUS, CALLS, Message, current_cause, message_of
from headwater.receipt import Receipt
from headwater.sending import PublishOptions


class Publisher(Protocol):
    """The bus, as a handler uses it."""

    def publish(
        self, event: object, data: object = None, **options: Unpack[PublishOptions]
    ) -> Receipt:
        """Publish from inside the handler; see `Bus.publish`."""
        ...


class Subscribed(Protocol):
    """The subscription, as its handler uses it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def close(self) -> None:
        """End it; see `Subscription.close`."""
        ...


class Context:
    """One handling of one event.

    Handlers get it in a parameter annotated `Context` or named ``context``; `current` gives it
    anywhere below a handler.

    Attributes:
        message: the event on its way, as all its handlers see it.
        attempt: from 1.
        bus: the bus that delivers.
        subscription: the subscription that handles; None in publish-middleware.
        headers: text by name; may be added to in publish-middleware, and only there.
        state: whatever middleware leaves here for the handler.
        sequence: the event's number in its stream; None outside event sourcing.
        position: its place in the log; None on a direct bus.
        replaying: whether this is a replay of the past.
        transaction: the open transaction of ``transaction=``; None on a direct bus.
    """

    __slots__ = (
        "attempt",
        "bus",
        "headers",
        "message",
        "position",
        "replaying",
        "sequence",
        "state",
        "subscription",
        "transaction",
    )

    headers: MutableMapping[str, str]

    def __init__(
        self,
        message: Message,
        bus: Publisher,
        subscription: Subscribed | None,
        attempt: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = message
        self.bus = bus
        self.subscription = subscription
        self.attempt = attempt
        # What a handler gets refuses changes; only publish-middleware gets what takes them.
        self.headers = cast(
            "MutableMapping[str, str]", message.headers if headers is None else headers
        )
        self.state: dict[str, Any] = {}
        self.sequence: int | None = None
        self.position: object = None
        self.replaying = False
        self.transaction: Any = None

    @property
    def event_id(self) -> str:
        """UUIDv7 of the event; the same for all its handlers and attempts."""
        return self.message.id

    @property
    def name(self) -> str:
        """The event's name."""
        return self.message.name

    @property
    def key(self) -> str | None:
        """What orders the event among others, or None."""
        return self.message.key

    @property
    def topic(self) -> str:
        """Where its messages travel."""
        return self.message.topic

    @property
    def time(self) -> float:
        """When it was published: seconds since 1970, UTC."""
        return self.message.time

    @property
    def correlation_id(self) -> str:
        """The id of the first event of its story."""
        return self.message.correlation_id

    @property
    def causation_id(self) -> str | None:
        """The id of the event whose handler published it, or None."""
        return self.message.causation_id

    @property
    def depth(self) -> int:
        """How many causes came before it; 0 for the first event of a story."""
        return self.message.depth

    def __repr__(self) -> str:
        by = self.subscription.name if self.subscription is not None else "nobody"
        return f"<Context of {self.name} {self.event_id} handled by {by}, attempt {self.attempt}>"


def current() -> Context | None:
    """The Context of the handler that is running here, or None outside handlers.

    Code that a handler left behind (a task, a thread) still publishes with the handler's event
    as its cause, but once an inline handler has returned there is nothing running: None.
    """
    cause = current_cause.get()
    if cause is None or isinstance(cause, Context):
        return cause
    if isinstance(cause, list):
        running = _running(cause[CALLS])
        return None if running is None else Context(message_of(cause), cause[BUS], running)
    context: Context | None = getattr(cause, "context", None)
    return context


def _running(calls: Iterator[Subscribed]) -> Subscribed | None:
    """The subscription that the iterator of an inline publish gave last; None when it is done.

    The state that a tuple's iterator gives to copy it is ``(iter, (tuple,), next index)``, and
    without the index once it is used up. Reading it here spares the hot path noting for each
    call whose it is.
    """
    state: Any = calls.__reduce__()
    if len(state) == len(("iter", "tuple")):
        return None
    subscription: Subscribed = state[1][0][state[2] - 1]
    return subscription
