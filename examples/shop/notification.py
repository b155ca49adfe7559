"""Telling the customer: an asynchronous handler.

The bus makes a task of each call and owns it. Whoever published goes on at once, or awaits the
receipt of ``publish`` to know that it is done.
"""

import asyncio

from headwater import Bus

from .events import OrderCancelled, OrderNotified, StockReserved


def open_notification(bus: Bus) -> None:
    """Subscribe the handler that writes to customers."""

    @bus.on(StockReserved, OrderCancelled, name="notification")
    async def notify(news: StockReserved | OrderCancelled) -> None:
        if not news.customer:
            return  # a guest left no address
        await asyncio.sleep(0)  # here a real shop would talk to a mail server
        await bus.publish(OrderNotified(news.order_id, news.customer))
