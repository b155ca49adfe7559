"""What happened, as frozen records for observers (`Bus.observe`).

Every record carries `time` (seconds since 1970, UTC), the `name` of the event and its
`event_id`; those about one handler carry the `subscription`'s name and the `attempt` too.
"""

from dataclasses import FrozenInstanceError
from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Frozen:
    """What is annotated is given once, by keyword.

    To users and type checkers the same as a frozen dataclass. Making one of those compiles six
    functions, and all the records together would be a third of what importing headwater costs.
    """

    _fields: ClassVar[dict[str, None]] = {}

    def __init_subclass__(cls) -> None:
        cls._fields = {**cls._fields, **dict.fromkeys(cls.__annotations__)}

    def __init__(self, **values: Any) -> None:
        if values.keys() != self._fields.keys():
            expected, got = ", ".join(self._fields), ", ".join(values)
            raise TypeError(f"{type(self).__name__}: expected {expected}; got {got}")
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"{type(self).__name__}.{name}: a record cannot be altered")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"{type(self).__name__}.{name}: a record cannot be altered")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *(vars(self)[name] for name in self._fields)))

    def __repr__(self) -> str:
        values = (f"{name}={vars(self)[name]!r}" for name in self._fields)
        return f"{type(self).__name__}({', '.join(values)})"


class Record(Frozen):
    """Something happened to an event."""

    time: float
    name: str
    event_id: str


class Published(Record):
    """An event was published; `receivers` subscriptions match it."""

    event: object
    key: str | None
    correlation_id: str
    causation_id: str | None
    depth: int
    receivers: int


class Unhandled(Record):
    """An event was published that no subscription matches."""


class StormStopped(Record):
    """A publish was refused and its story ended; `path` are the names from cause to effect.

    `name` is the event that was refused, `event_id` the id of its cause.
    """

    correlation_id: str
    depth: int
    path: tuple[str, ...]


class DeliveryRecord(Record):
    """Something happened between an event and one subscription."""

    subscription: str
    attempt: int


class Handled(DeliveryRecord):
    """A handler succeeded, in `seconds` of this attempt."""

    seconds: float


class Failed(DeliveryRecord):
    """A delivery ended in an `error`, for good; `seconds` of the last attempt."""

    error: BaseException
    seconds: float


class Retried(DeliveryRecord):
    """An attempt failed, or asked for later; the next one comes after `delay` seconds."""

    error: BaseException
    delay: float
    seconds: float


class Deferred(DeliveryRecord):
    """A delivery waits for something other than its handler.

    `reason` is ``pause``, ``resequence``, ``rate``, ``lane``, ``retry``, ``pump`` or ``executor``.
    """

    reason: str


class Skipped(DeliveryRecord):
    """The handler was not called: `reason` is ``breaker``, ``rate``, ``older`` or ``duplicate``."""

    reason: str


class DeadLettered(DeliveryRecord):
    """A delivery was given up and kept with its `error`; on a transport only."""

    error: BaseException


class Abandoned(DeliveryRecord):
    """A delivery did not finish: `reason` is ``stopped``, ``closed`` or ``timeout``."""

    reason: str


class BreakerChanged(DeliveryRecord):
    """The breaker of a subscription is now ``open`` or ``closed``."""

    state: str


class GapSkipped(DeliveryRecord):
    """Resequencing gave up on the numbers `first` to `last` of a key."""

    key: str | None
    first: int
    last: int


class SubscriberDied(Record):
    """The owner of a weak `subscription` is gone; `name` is what it was subscribed to.

    There is no event: `event_id` is empty.
    """

    subscription: str
