"""`@event` keeps the class as it is, in either order with the decorators that make classes."""

from dataclasses import dataclass
from typing import Any, assert_type

from headwater import Bus, event


@event
@dataclass(frozen=True)
class OrderPlaced:
    order_id: str
    quantity: int = 1


@event(name="order.cancelled", key="order_id", topic="orders")
@dataclass(frozen=True)
class OrderCancelled:
    order_id: str


@dataclass(frozen=True)
@event(key=lambda stock: stock.item, aliases=("OutOfStock",))
class StockRanOut:
    item: str


def renamed(data: dict[str, Any]) -> dict[str, Any]:
    return {"user_id": data["id"]}


@event(version=2, upgrade={1: renamed})
class UserJoined:
    def __init__(self, user_id: int) -> None:
        self.user_id = user_id


assert_type(OrderPlaced("o1", quantity=2), OrderPlaced)
assert_type(OrderCancelled("o1").order_id, str)
assert_type(StockRanOut("apple"), StockRanOut)
assert_type(UserJoined(1).user_id, int)
OrderPlaced()  # E: call-arg
OrderPlaced("o1").order_id = "o2"  # E: misc
Bus().subscribe(OrderPlaced, lambda order: order.quantity + 1)
Bus().subscribe(OrderPlaced, lambda order: order.quantity.upper())  # E: attr-defined

event(nmae="order.placed")  # E: call-overload
event(version="2")  # E: call-overload
event(key=42)  # E: call-overload
event(42)  # E: call-overload
