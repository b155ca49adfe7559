"""A message: an event on its way, and what caused it.

On the hot path of a direct bus a message costs nothing: the frame of the publish (a plain
list) stands for it, and the message is made from the frame only when somebody asks: a nested
publish, a handler that takes the context, an observer. Its id, time and correlation are made
later still, when they are read (`__getattr__` runs only for slots that are not set).
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from headwater import runtime
from headwater.policies.storm import Story

Frame = list[Any]
"""One publish and the handlers that run inline in it.

``[bus, event, cause, subscriptions still to call]``, then the story and the depth, once something
was published inside, then the message, once somebody has asked for it.
"""

BUS, EVENT, CAUSE, CALLS, STORY, DEPTH, MESSAGE = range(7)

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Handling(Protocol):
    """A delivery or a context, as its effects see it: what their handler was given."""

    message: "Message"


Cause = Frame | Handling

current_cause: ContextVar[Cause | None] = ContextVar("headwater_cause", default=None)
"""The handler call in which this code runs."""

replaying: ContextVar[bool] = ContextVar("headwater_replaying", default=False)
"""Whether the code that runs here replays the past, and may not publish."""

_lazy_lock = runtime.Lock()


class Message:
    """An event on its way; immutable.

    Attributes:
        event: the user's object, or the data published under a plain name.
        names: its names, leaf to root.
        topic: where it travels.
        key: what orders it, or None.
        headers: text by name.
        cause: the handler call that published it, or None.
        depth: the length of the chain of causes; 0 for the first.
        id: UUIDv7.
        time: seconds since 1970, UTC.
        correlation_id: the id of the first message of its story.
        causation_id: the id of the message whose handler published it, or None.
        story: the count of its story.
        now: the clock of its bus.
    """

    __slots__ = (
        "causation_id",
        "cause",
        "correlation_id",
        "depth",
        "event",
        "headers",
        "id",
        "key",
        "names",
        "now",
        "story",
        "time",
        "topic",
    )

    causation_id: str | None
    correlation_id: str
    id: str
    time: float
    story: Story
    stories: Callable[[str], Story] | None = None
    """Where the story of a message that came out of a log is found, by correlation id."""

    def __init__(
        self,
        event: object,
        names: tuple[str, ...],
        topic: str,
        key: str | None,
        headers: Mapping[str, str],
        cause: Cause | None,
        depth: int,
        now: Callable[[], float],
    ) -> None:
        self.event = event
        self.names = names
        self.topic = topic
        self.key = key
        self.headers = headers
        self.cause = cause
        self.depth = depth
        self.now = now

    @property
    def name(self) -> str:
        """The most derived of its names."""
        return self.names[0]

    def begin_story(self) -> None:
        """Make it the first of a story of its own; what caused it is still known."""
        self.story = Story()
        self.correlation_id = self.id

    def detach(self) -> None:
        """Keep what is known of the cause instead of the cause.

        Events that each publish the next one for later would otherwise hold all of their past.
        """
        for attribute in ("story", "correlation_id", "causation_id"):
            getattr(self, attribute)
        self.cause = None

    if not TYPE_CHECKING:

        def __getattr__(self, attribute: str) -> Any:
            make = _LAZY.get(attribute)
            if make is None:
                raise AttributeError(attribute)
            value = make(self)
            with _lazy_lock:
                # Two threads, or a signal handler, may have come here at once: the first one's
                # value is everybody's.
                try:
                    return object.__getattribute__(self, attribute)
                except AttributeError:
                    setattr(self, attribute, value)
            return value

    def __repr__(self) -> str:
        return f"<Message {self.name} {self.id}>"


def _story(message: Message) -> Story:
    if message.cause is not None:
        return message_of(message.cause).story
    return Story() if message.stories is None else message.stories(message.correlation_id)


def _correlation_id(message: Message) -> str:
    return message_of(message.cause).correlation_id if message.cause is not None else message.id


def _causation_id(message: Message) -> str | None:
    return message_of(message.cause).id if message.cause is not None else None


_LAZY: dict[str, Callable[[Message], object]] = {
    "id": lambda message: runtime.new_id(),
    "time": lambda message: message.now(),
    "story": _story,
    "correlation_id": _correlation_id,
    "causation_id": _causation_id,
}


def message_of(cause: Cause) -> Message:
    """The message that is handled in `cause`; made now if the publish was on the hot path."""
    if not isinstance(cause, list):
        return cause.message
    if len(cause) <= MESSAGE:
        lineage(cause)
        made: Message = cause[BUS].message_of_frame(cause)
        with _lazy_lock:
            if not cause[MESSAGE:]:  # No call from here on, as in `lineage`.
                cause += [made]
    message: Message = cause[MESSAGE]
    return message


def lineage(cause: Cause) -> tuple[Story, int]:
    """The story and the depth of what is handled in `cause`."""
    if not isinstance(cause, list):
        return cause.message.story, cause.message.depth
    if len(cause) == STORY:  # The first of its story: a nested publish brings its lineage along.
        with _lazy_lock:
            if len(cause) == STORY:
                # In its place, not at the end: a signal handler may just have done the same.
                cause[STORY:MESSAGE] = Story(), 0
    if len(cause) > MESSAGE:
        return cause[MESSAGE].story, cause[DEPTH]
    return cause[STORY], cause[DEPTH]


def after_fork() -> None:
    """In the child of a fork: a lock that another thread of the parent held is nobody's now."""
    global _lazy_lock  # noqa: PLW0603  # There is one for all messages.
    _lazy_lock = runtime.Lock()


def path_of(cause: Cause | None, most: int = 100) -> tuple[str, ...]:
    """The names from where depth began to this cause, at most the last `most`."""
    names: list[str] = []
    while cause is not None and len(names) < most:
        message = message_of(cause)
        names.append(message.name)
        cause = message.cause if message.depth else None
    return tuple(reversed(names))
