"""A day in the shop: one bus, the handlers on it, and the orders as they come in."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from headwater import Bus

from .analytics import Books, open_analytics
from .courier import open_courier
from .inventory import Inventory, open_inventory
from .logbook import Logbook
from .notification import open_notification
from .orders import OrderReader

_WAVE = 10  # orders between two pauses


@dataclass
class Day:
    """How the day went: what the handlers found out, and what was seen of them."""

    orders: OrderReader
    inventory: Inventory
    books: Books
    logbook: Logbook
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return the figures as plain data.

        ``lines`` are the rows that were read, ``rejected`` of them without success; ``rejections``
        holds the first of these with line and reason. ``units``, ``revenue`` (pounds, an exact
        decimal as text) and ``stock`` (units moved per stock code) are net: what came back is
        taken off. ``storms`` counts the stories that the storm guard ended. ``p50_ms`` and
        ``p99_ms`` are milliseconds per call, null for a handler that was never called.
        """
        return {
            "lines": self.orders.lines,
            "rejected": self.orders.rejected,
            "rejections": [rejection._asdict() for rejection in self.orders.rejections],
            "orders": self.books.orders,
            "cancellations": self.books.cancellations,
            "units": self.books.units,
            "revenue": f"{self.books.revenue:f}",
            "stock": dict(sorted(self.inventory.moved.items())),
            "notified": self.books.notified,
            "shipped": self.books.shipped,
            "storms": dict(self.logbook.storms),
            "handlers": {
                name: {
                    "handled": tally.handled,
                    "failed": tally.failed,
                    "retried": tally.retried,
                    "stopped": tally.stopped,
                    "p50_ms": tally.percentile(50),
                    "p99_ms": tally.percentile(99),
                }
                for name, tally in self.logbook.handlers.items()
            },
            "seconds": round(self.seconds, 3),
        }


async def trade(orders: OrderReader, progress: Callable[[int], None] = lambda _: None) -> Day:
    """Open the shop, publish every order, and close when all that came of them is done.

    Args:
        orders: where the orders come from.
        progress: called now and then with the number of orders so far.
    """
    began = time.perf_counter()
    async with Bus() as bus:
        inventory = open_inventory(bus)
        books = open_analytics(bus)
        open_notification(bus)
        open_courier(bus)
        logbook = Logbook(reaction.handler for reaction in bus.topology().reactions)
        bus.observe(logbook.note)

        number = 0
        for number, order in enumerate(orders, start=1):
            await bus.publish(order)
            if number % _WAVE == 0:
                await bus.idle()  # so that no more than a wave is ever under way
                progress(number)
        await bus.idle()
        progress(number)
    return Day(orders, inventory, books, logbook, time.perf_counter() - began)
