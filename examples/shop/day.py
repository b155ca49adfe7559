"""A day in the shop: one bus, the handlers on it, and the orders as they come in."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from headwater import Bus, Receipt

from .accounts import open_accounts
from .analytics import open_analytics
from .audit import Audit
from .courier import open_courier
from .events import Order
from .inventory import open_inventory
from .logbook import Logbook
from .notification import open_notification
from .orders import OrderReader
from .outcome import Outcome, find_outcome
from .run import Run, keeps_runs, note_run

_WAVE = 100  # orders between two pauses


@dataclass
class Day:
    """How the day went: what came of the orders, what was seen of it, and how long it took."""

    orders: OrderReader
    outcome: Outcome
    logbook: Logbook
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return the figures as plain data.

        ``lines`` are the rows that were read, ``rejected`` of them without success; ``rejections``
        holds the first of these with line and reason. ``units``, ``revenue`` (pounds, an exact
        decimal as text) and ``stock`` (units moved per stock code) are net: what came back is
        taken off. ``given_up`` says which handler gave up how many events, and why.
        ``differences`` is empty: else it says where the handlers' figures are not those that the
        orders add up to. ``retried``, and the milliseconds per call in ``p50_ms`` and ``p99_ms``,
        are those of this run alone, null for a handler that it never called.
        """
        outcome = self.outcome
        return {
            "lines": self.orders.lines,
            "rejected": self.orders.rejected,
            "rejections": [rejection._asdict() for rejection in self.orders.rejections],
            **{item: int(outcome.books[item]) for item in ("orders", "cancellations", "units")},
            "revenue": f"{outcome.books['revenue']:f}",
            "stock": outcome.moved,
            "boxes": outcome.boxes,
            **{item: int(outcome.books[item]) for item in ("notified", "shipped")},
            "handlers": {
                name: {
                    "events": share.events,
                    "handled": share.handled,
                    "given_up": share.given_up,
                    "retried": self.logbook.handlers[name].retried,
                    "p50_ms": self.logbook.handlers[name].percentile(50),
                    "p99_ms": self.logbook.handlers[name].percentile(99),
                }
                for name, share in outcome.handlers.items()
            },
            "given_up": [reason._asdict() for reason in outcome.reasons],
            "differences": outcome.differences,
            "seconds": round(self.seconds, 3),
        }


async def trade(
    orders: OrderReader,
    progress: Callable[[int], None] = lambda _: None,
    *,
    url: str | None = None,
    input: str = "",
) -> Day:
    """Open the shop, publish every order, and close when all that came of them is done.

    Args:
        orders: where the orders come from.
        progress: called now and then with the number of orders so far.
        url: where events are kept; None for a direct bus, which keeps none.
        input: stands for these orders; with it, and a log, a second run goes on with the first.
    """
    began = time.perf_counter()
    bus = Bus(url, name="shop")
    accounts = await open_accounts(bus)
    open_inventory(bus, accounts)
    open_analytics(bus, accounts)
    open_notification(bus)
    open_courier(bus)
    logbook = Logbook(bus.topology())
    bus.observe(logbook.note)
    audit = Audit()

    if keeps_runs(bus):
        await note_run(bus, input, finished=False)
    async with bus:
        number = 0
        for wave in _waves(orders):
            receipts: list[Receipt] = []
            for order in wave:
                number += 1
                audit.enter(order)
                receipts.append(bus.publish(order, id=Run.id_of(input, number)))
            for receipt in receipts:
                await receipt
            await bus.idle()  # so that no more than a wave is ever under way
            progress(number)
        await bus.idle()
        outcome = await find_outcome(bus, accounts, logbook, audit)
        if keeps_runs(bus):
            await note_run(bus, input, finished=True)
    return Day(orders, outcome, logbook, time.perf_counter() - began)


def _waves(orders: OrderReader) -> Iterator[list[Order]]:
    rest = iter(orders)
    while wave := list(islice(rest, _WAVE)):
        yield wave
