"""The events of the suite; its programs know them too."""

from dataclasses import dataclass, field

from headwater import event


@event(name="conformance.Noted")
@dataclass(frozen=True)
class Noted:
    """An event without a key."""

    number: int


@event(name="conformance.Kept", key="key")
@dataclass(frozen=True)
class Kept:
    """An event that is kept in order with others of its key."""

    key: str
    number: int


@event(name="conformance.Effect", key="key")
@dataclass(frozen=True)
class Effect:
    """What handlers of the suite publish."""

    key: str
    number: int = 0


@event(name="conformance.Elsewhere", topic="elsewhere")
@dataclass(frozen=True)
class Elsewhere:
    """An event of another topic."""

    number: int


@event(name="conformance.Blob", key="key")
@dataclass(frozen=True)
class Blob:
    """An event of any size."""

    key: str
    data: bytes


@dataclass
class Line:
    """A part of `Order`."""

    item: str
    price: float


@event(name="conformance.Order", key="order_id")
@dataclass
class Order:
    """An event with everything in it that JSON and Python spell differently."""

    order_id: str
    lines: list[Line] = field(default_factory=list[Line])
    tags: dict[str, str | None] = field(default_factory=dict[str, str | None])
    paid: bool = False
    total: int = 0


def numbered(count: int, keys: int = 0) -> list[Noted | Kept]:
    """Events 0 to `count` - 1, without keys, or dealt out to `keys` keys."""
    if keys:
        return [Kept(f"k{number % keys}", number) for number in range(count)]
    return [Noted(number) for number in range(count)]
