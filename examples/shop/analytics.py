"""The books: one handler of several events, with exact figures."""

from decimal import Decimal

from headwater import Bus, Context

from .accounts import EXACT, Accounts
from .events import Order, OrderCancelled, OrderNotified, OrderShipped


def open_analytics(bus: Bus, accounts: Accounts) -> None:
    """Subscribe the handler that keeps the books: the account ``books``."""

    @bus.on(Order, OrderNotified, OrderShipped, name="analytics", transaction=accounts.transaction)
    def record(event: Order | OrderNotified | OrderShipped, context: Context) -> None:
        match event:
            case Order():
                accounts.add(context, "books", entries(event))
            case OrderNotified():
                accounts.add(context, "books", {"notified": 1})
            case OrderShipped():
                accounts.add(context, "books", {"shipped": 1})


def entries(order: Order) -> dict[str, Decimal | int]:
    """Return what an order adds to the books; a cancellation's quantities are negative."""
    revenue = Decimal(0)
    for line in order.lines:
        amount = EXACT.multiply(line.unit_price, line.quantity)
        revenue = EXACT.add(revenue, amount)
    kind = "cancellations" if isinstance(order, OrderCancelled) else "orders"
    return {kind: 1, "units": order.units, "revenue": revenue}
