"""The shelves: plain functions that keep the stock, and publish events of their own.

On a direct bus they run inline, inside ``publish``. On a durable one each runs in a transaction of
the log: the stock, what the handler publishes, and the note that its event is handled are stored
together.

What they publish carries the order as its cause, so that the whole story of an order can be told
afterwards.

`restock` loops back on itself: the event it handles is the event it publishes. For a small gap that
is fine, a few boxes close it. For a wholesale order it goes on and on, and the storm guard ends it
at a depth of 64. Because the shortage was published as a new story, what ends is that story: the
order that caused it goes on.
"""

from collections import Counter

from headwater import Bus, Context

from .accounts import Accounts
from .events import Order, OrderPlaced, StockRanOut, StockReserved

SHELF = 240  # pieces of everything that are at hand for each order
BOX = 24  # pieces that one delivery of the supplier brings


def open_inventory(bus: Bus, accounts: Accounts) -> None:
    """Subscribe the handlers of the shelves.

    The account ``moved`` has the pieces that left, net of what came back, by stock code; ``boxes``
    has the supplier's boxes that came.
    """

    @bus.on(Order, name="inventory", transaction=accounts.transaction)  # cancellations as well
    def reserve(order: Order, context: Context) -> None:
        taken = pieces(order)
        accounts.add(context, "moved", taken)
        for code, quantity in taken.items():
            if quantity > SHELF:
                bus.publish(StockRanOut(code, quantity - SHELF), new_story=True)
        if isinstance(order, OrderPlaced) and order.units > 0:
            bus.publish(StockReserved(order.order_id, order.customer, order.units))

    @bus.on(StockRanOut, name="restock", transaction=accounts.transaction)
    def restock(shortage: StockRanOut, context: Context) -> None:
        if shortage.missing > BOX:
            bus.publish(StockRanOut(shortage.stock_code, shortage.missing - BOX))
        accounts.add(context, "boxes", {shortage.stock_code: 1})


def pieces(order: Order) -> Counter[str]:
    """Return how many pieces of each article an order takes."""
    taken = Counter[str]()
    for line in order.lines:
        taken[line.stock_code] += line.quantity
    return taken
