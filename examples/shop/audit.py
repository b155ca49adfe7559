"""The proof: what the orders add up to, computed from them alone, beside what the handlers found.

An `Audit` reads every order on its way to the bus and knows nothing of what becomes of it. At the
end its sums must be those in the accounts, and each handler must have had as many events as follow
from the orders: one that was lost, or counted twice, shows.
"""

from collections import Counter
from decimal import Decimal

from .accounts import EXACT
from .analytics import entries
from .events import Order, OrderPlaced
from .inventory import BOX, SHELF, pieces

DEEPEST = 64  # how deep the bus lets a story be


class Audit:
    """What the orders add up to.

    Attributes:
        books: orders, cancellations, units and revenue; and the customers to be notified.
        moved: pieces by stock code.
        boxes: boxes of the supplier by stock code.
        events: how many events each handler must have had.
    """

    def __init__(self) -> None:
        self.books: dict[str, Decimal | int] = {}
        self.moved = Counter[str]()
        self.boxes = Counter[str]()
        self.events = Counter[str]()

    def enter(self, order: Order) -> None:
        """Add an order."""
        for item, amount in entries(order).items():
            self.books[item] = EXACT.add(self.books.get(item, Decimal(0)), amount)
        self.events["inventory"] += 1
        is_parcel = isinstance(order, OrderPlaced) and order.units > 0
        self.events["courier"] += is_parcel
        if is_parcel or not isinstance(order, OrderPlaced):
            self.events["notification"] += 1
            if order.customer:
                self.books["notified"] = self.books.get("notified", 0) + 1
        for code, quantity in pieces(order).items():
            self.moved[code] += quantity
            if quantity > SHELF:
                self._restock(code, quantity - SHELF)

    def _restock(self, code: str, missing: int) -> None:
        needed = -(-missing // BOX)
        self.boxes[code] += min(needed, DEEPEST)
        self.events["restock"] += min(needed, DEEPEST + 1)  # the guard ends the last one
