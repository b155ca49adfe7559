"""The shelves: handlers that are plain functions and run inline, inside ``publish``.

`inventory` publishes events of its own. They carry the order as their cause, so that the whole
story of an order can be told afterwards.

`restock` loops back on itself: the event it handles is the event it publishes. For a small gap that
is fine, a few boxes close it. For a wholesale order it goes on and on, and the storm guard ends it
at a depth of 64. Because the shortage was published as a new story, what ends is that story: the
order that caused it goes on.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from headwater import Bus

from .events import Order, OrderPlaced, StockRanOut, StockReserved

OPENING_STOCK = 240  # pieces of everything, before the first order
BOX = 24  # pieces that one delivery of the supplier brings


@dataclass
class Inventory:
    """What left the shelves, net of what came back, and what is still on them."""

    moved: Counter[str] = field(default_factory=Counter[str])
    shelf: defaultdict[str, int] = field(default_factory=lambda: defaultdict(lambda: OPENING_STOCK))

    def take(self, order: Order) -> list[str]:
        """Take an order's lines from the shelves; return the stock codes that ran out."""
        for line in order.lines:
            self.moved[line.stock_code] += line.quantity
            self.shelf[line.stock_code] -= line.quantity
        codes = dict.fromkeys(line.stock_code for line in order.lines)
        return [code for code in codes if self.shelf[code] < 0]


def open_inventory(bus: Bus) -> Inventory:
    """Subscribe the handlers of the shelves, and return what they keep up to date."""
    inventory = Inventory()

    @bus.on(Order, name="inventory")  # OrderPlaced and OrderCancelled alike
    def reserve(order: Order) -> None:
        for code in inventory.take(order):
            bus.publish(StockRanOut(code, -inventory.shelf[code]), new_story=True)
        if isinstance(order, OrderPlaced) and order.units > 0:
            bus.publish(StockReserved(order.order_id, order.customer, order.units))

    @bus.on(StockRanOut, name="restock")
    def restock(shortage: StockRanOut) -> None:
        inventory.shelf[shortage.stock_code] += BOX
        missing = -inventory.shelf[shortage.stock_code]
        if missing > 0:
            bus.publish(StockRanOut(shortage.stock_code, missing))

    return inventory
