"""Which orders a log is about: what a second run has to know of the first.

A log holds one input. Its row in the log's file says which, and whether all of it is done. Each
order is published under an id that follows from the input and the order's place in it. So a run
that was killed may simply be repeated: the log keeps an event once, however often it is published.
"""

from dataclasses import dataclass

from headwater import Bus

from .events import Order

_TABLE = """\
CREATE TABLE IF NOT EXISTS shop_run(
  one INTEGER PRIMARY KEY CHECK(one = 1), input TEXT NOT NULL, finished INTEGER NOT NULL
)
"""
_IS_OURS = "SELECT 1 FROM sqlite_schema WHERE name = 'shop_run'"
_READ = "SELECT input, finished FROM shop_run"


class OtherLog(Exception):
    """The log is not the shop's."""


@dataclass(frozen=True)
class Run:
    """A run, as its log knows it.

    Attributes:
        input: stands for the orders; others have another one.
        orders: how many of them are in the log.
        finished: whether all of them are, and everything is done.
    """

    input: str
    orders: int
    finished: bool

    @staticmethod
    def id_of(input: str, number: int) -> str:
        """Return the id of the event for the order at this place, from 1."""
        return f"order-{input}-{number:06}"


def keeps_runs(bus: Bus) -> bool:
    """Return whether a run can be gone on with after the process has ended."""
    can = bus.capabilities
    return can is not None and can.persistent and can.transaction


async def find_run(bus: Bus) -> Run | None:
    """Return the run that the log is about; None if it is about nothing yet.

    Raises:
        OtherLog: it is about something else.
    """
    async with bus.transaction() as transaction:
        is_ours = transaction.execute(_IS_OURS).fetchone()
        row = transaction.execute(_READ).fetchone() if is_ours else None
    if row is not None:
        return Run(row[0], await bus.replay(Order, into=_pass), bool(row[1]))
    if await bus.replay("**", into=_pass):
        raise OtherLog("the log holds events that are not the shop's")
    return None


async def note_run(bus: Bus, input: str, *, finished: bool) -> None:
    """Note which orders the log is about, and whether they are done."""
    async with bus.transaction() as transaction:
        transaction.execute(_TABLE)
        row = (1, input, finished)
        transaction.execute("INSERT OR REPLACE INTO shop_run VALUES(?, ?, ?)", row)


def _pass(event: object) -> None:
    """To replay is to count."""
