"""The books: one handler of several events, with exact figures.

Money is Decimal. The usual context would round to 28 digits once a sum outgrows them, so the books
have one that is wide enough for every number a row may hold and refuses to round at all.
"""

from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, localcontext

from headwater import Bus

from .events import Order, OrderCancelled, OrderNotified, OrderShipped

_EXACT = Context(prec=3_000, traps=[Inexact])


@dataclass
class Books:
    """What the day came to."""

    orders: int = 0
    cancellations: int = 0
    units: int = 0
    revenue: Decimal = Decimal(0)
    notified: int = 0
    shipped: int = 0

    def enter(self, order: Order) -> None:
        """Count an order, or take a cancellation off again: its quantities are negative."""
        if isinstance(order, OrderCancelled):
            self.cancellations += 1
        else:
            self.orders += 1
        self.units += order.units
        with localcontext(_EXACT):
            for line in order.lines:
                self.revenue += line.quantity * line.unit_price


def open_analytics(bus: Bus) -> Books:
    """Subscribe the handler that keeps the books, and return them."""
    books = Books()

    @bus.on(Order, OrderNotified, OrderShipped, name="analytics")
    def record(event: Order | OrderNotified | OrderShipped) -> None:
        match event:
            case Order():
                books.enter(event)
            case OrderNotified():
                books.notified += 1
            case OrderShipped():
                books.shipped += 1

    return books
