"""The courier: a handler that cannot be relied on, and what keeps the shop going all the same.

It fails by the order's number alone, so that every run shows the same:

- a number that ends in 7: the first attempt fails, ``retry`` makes the second one;
- one that ends in 13: every attempt fails, and the delivery is given up after the fifth;
- one whose last three digits lie between 500 and 549: the depot is shut. So many failures in a row
  open the ``breaker``: the courier is not even asked until it has cooled down.

What is given up is a dead letter on a durable bus: ``headwater dlq ls`` lists them. None of this
reaches the other handlers, or whoever published.
"""

import re

from headwater import Backoff, Breaker, Bus, Context, Retry

from .events import OrderShipped, StockReserved


class CourierFailure(Exception):
    """The parcel was not picked up."""


def open_courier(bus: Bus) -> None:
    """Subscribe the handler that hands parcels to the courier."""

    @bus.on(
        StockReserved,
        name="courier",
        # A process that is killed has cost the parcels at hand an attempt: some to spare, then.
        retry=Retry(max_attempts=5, backoff=Backoff(initial=0.002, factor=2, jitter=False)),
        breaker=Breaker(failures=5, cooldown=0.01),
    )
    async def ship(parcel: StockReserved, context: Context) -> None:
        excuse = why_not(parcel.order_id, context.attempt)
        if excuse:
            raise CourierFailure(f"order {parcel.order_id}: {excuse}")
        await bus.publish(OrderShipped(parcel.order_id, parcel.units))


def why_not(order_id: str, attempt: int) -> str | None:
    """Return what keeps the courier from coming at this attempt, or None if it comes."""
    digits = "".join(re.findall(r"[0-9]", order_id)).zfill(3)
    if "500" <= digits[-3:] <= "549":
        return "the depot is shut"
    if digits.endswith("13"):
        return "the address cannot be found"
    if digits.endswith("7") and attempt == 1:
        return "the van broke down"
    return None
