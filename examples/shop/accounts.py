"""Sums that are exact: where the handlers keep the stock and the books.

The same handlers work on a direct bus and on a durable one. What differs is where a sum is kept:

- `Accounts` has a dict. It lives as long as the process.
- `LogAccounts` has a table in the log's own file. A handler with ``transaction=True`` reaches it
  through ``context.transaction``. Its rows, and the note that the event is handled, are stored
  together or not at all: an event counts once, whenever the process is killed.

Amounts are Decimal, kept as text. The usual context would round to 28 digits once a sum outgrows
them, so there is one here that is wide enough for every number a row may hold and refuses to round.
"""

from collections.abc import Mapping
from decimal import Context as Digits
from decimal import Decimal, Inexact

from headwater import Bus, Context

EXACT = Digits(prec=3_000, traps=[Inexact])

_TABLE = """\
CREATE TABLE IF NOT EXISTS shop_account(
  account TEXT NOT NULL, item TEXT NOT NULL, amount TEXT NOT NULL, PRIMARY KEY(account, item)
) WITHOUT ROWID
"""
_READ = "SELECT amount FROM shop_account WHERE account = ? AND item = ?"
_WRITE = "INSERT OR REPLACE INTO shop_account VALUES(?, ?, ?)"


class Accounts:
    """Sums by account and item, in memory.

    Attributes:
        transaction: what the handlers that use them say for ``transaction=``.
    """

    transaction: bool | None = None

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, Decimal]] = {}

    def add(self, context: Context, account: str, amounts: Mapping[str, Decimal | int]) -> None:
        """Add an amount to each item of an account; inside a handler."""
        sums = self._sums.setdefault(account, {})
        for item, amount in amounts.items():
            sums[item] = EXACT.add(sums.get(item, Decimal(0)), amount)

    async def read(self, account: str) -> dict[str, Decimal]:
        """Return an account's items, in the order of their names."""
        return dict(sorted(self._sums.get(account, {}).items()))


class LogAccounts(Accounts):
    """Sums by account and item, in the log's file.

    Args:
        bus: whose file it is.
    """

    transaction = True

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self._bus = bus

    async def open(self) -> None:
        """Make the table, unless it is there."""
        async with self._bus.transaction() as transaction:
            transaction.execute(_TABLE)

    def add(self, context: Context, account: str, amounts: Mapping[str, Decimal | int]) -> None:
        """Add an amount to each item of an account; inside a handler."""
        execute = context.transaction.execute
        for item, amount in amounts.items():
            row = execute(_READ, (account, item)).fetchone()
            total = EXACT.add(Decimal(row[0] if row else 0), amount)
            execute(_WRITE, (account, item, str(total)))

    async def read(self, account: str) -> dict[str, Decimal]:
        """Return an account's items, in the order of their names."""
        query = "SELECT item, amount FROM shop_account WHERE account = ? ORDER BY item"
        async with self._bus.transaction() as transaction:
            rows = transaction.execute(query, (account,)).fetchall()
        return {item: Decimal(amount) for item, amount in rows}


async def open_accounts(bus: Bus) -> Accounts:
    """Return the accounts that suit the bus: in its file, if it has one."""
    if bus.capabilities is None or not bus.capabilities.transaction:
        return Accounts()
    accounts = LogAccounts(bus)
    await accounts.open()
    return accounts
