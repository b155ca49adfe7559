"""A shop that reacts to orders: headwater in ten minutes.

Read it in this order:

1. `events`: what can happen.
2. `inventory`: handlers that run inline, publish events of their own, and one that loops.
3. `analytics`: one handler of several events.
4. `notification`: an asynchronous handler.
5. `courier`: a handler that fails, with retries and a breaker.
6. `day`: the bus that brings them together, and the day's trade.
7. `logbook`: watching all of it without touching it.

`orders`, `csvfile` and `generator` say where the orders come from; they know nothing of the bus.
Run it with ``headwater demo``.
"""

from .csvfile import BadFile, count_rows, read_rows
from .day import Day, trade
from .generator import generate_rows
from .logbook import Delivery, Logbook, Step, Tally
from .orders import OrderReader, Rejection

__all__ = [
    "BadFile",
    "Day",
    "Delivery",
    "Logbook",
    "OrderReader",
    "Rejection",
    "Step",
    "Tally",
    "count_rows",
    "generate_rows",
    "read_rows",
    "trade",
]
