"""A shop that reacts to orders: headwater in ten minutes.

Read it in this order:

1. `events`: what can happen.
2. `inventory`: handlers that keep the stock, publish events of their own, and one that loops.
3. `analytics`: one handler of several events.
4. `accounts`: where the two keep their sums, so that each event counts once.
5. `notification`: an asynchronous handler.
6. `courier`: a handler that fails, with retries and a breaker.
7. `day`: the bus that brings them together, and the day's trade.
8. `run`: how a run that was killed is gone on with.
9. `logbook`: watching all of it without touching it.
10. `audit` and `outcome`: the proof that nothing was lost and nothing was counted twice.

`orders`, `csvfile` and `generator` say where the orders come from; they know nothing of the bus.
Run it with ``headwater demo``.
"""

from .accounts import Accounts
from .csvfile import BadFile, count_rows, read_rows
from .day import Day, trade
from .generator import generate_rows
from .logbook import Delivery, Logbook, Step, Tally
from .orders import OrderReader, Rejection
from .outcome import Outcome, Reason, Share
from .run import OtherLog, Run, find_run, keeps_runs

__all__ = [
    "Accounts",
    "BadFile",
    "Day",
    "Delivery",
    "Logbook",
    "OrderReader",
    "OtherLog",
    "Outcome",
    "Reason",
    "Rejection",
    "Run",
    "Share",
    "Step",
    "Tally",
    "count_rows",
    "find_run",
    "generate_rows",
    "keeps_runs",
    "read_rows",
    "trade",
]
