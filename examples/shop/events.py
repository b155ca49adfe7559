"""What happens in the shop: facts, in the past tense, that never change.

An event is a frozen dataclass and nothing more. ``@event(key=...)`` says what orders it: events
with the same key reach an asynchronous handler one at a time, in the order they were published.

``OrderPlaced`` and ``OrderCancelled`` are both an ``Order``. A handler of ``Order`` gets the two of
them, a handler of ``OrderPlaced`` that one alone.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from headwater import event


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice."""

    stock_code: str
    description: str
    quantity: int  # negative where goods come back, or are written off
    unit_price: Decimal  # pounds; 0 for a gift or a correction


@event(key="order_id")
@dataclass(frozen=True)
class Order:
    """What an order and a cancellation have in common."""

    order_id: str
    time: datetime
    customer: str  # empty for a guest
    country: str
    lines: tuple[Line, ...]

    @property
    def units(self) -> int:
        """How many pieces this takes from the shelves; negative if it brings some back."""
        return sum(line.quantity for line in self.lines)


@dataclass(frozen=True)
class OrderPlaced(Order):
    """A customer ordered, or the shop corrected its own books."""


@dataclass(frozen=True)
class OrderCancelled(Order):
    """A customer sent something back: an invoice whose number begins with a C."""


@event(key="order_id")
@dataclass(frozen=True)
class StockReserved:
    """Everything an order needs has been taken from the shelves."""

    order_id: str
    customer: str
    units: int


@event(key="stock_code")
@dataclass(frozen=True)
class StockRanOut:
    """An order wants more of an article than is on the shelf."""

    stock_code: str
    missing: int


@event(key="order_id")
@dataclass(frozen=True)
class OrderNotified:
    """The customer knows that the order is on its way, or cancelled."""

    order_id: str
    customer: str


@event(key="order_id")
@dataclass(frozen=True)
class OrderShipped:
    """The courier has taken the parcel."""

    order_id: str
    units: int
