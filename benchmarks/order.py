"""The event of the durable benchmarks: about 230 bytes as JSON, the same for everybody.

`placed_at` says when it was published, on the clock that all processes of a machine share, so that
another process can tell how long the event was on its way.
"""

from dataclasses import dataclass
from itertools import count
from time import monotonic_ns

import msgspec

from headwater import event

encode = msgspec.json.Encoder().encode
"""Everybody who leaves the encoding to the user gets the fast one."""

serial = count(1)


@event(name="order_placed", key="order_id")
@dataclass(frozen=True)
class OrderPlaced:
    """An order; `placed_at` in nanoseconds."""

    order_id: str
    placed_at: int
    user_id: int
    item: str
    quantity: int
    price: float
    currency: str
    address: str
    note: str


decode = msgspec.json.Decoder(OrderPlaced).decode


def order() -> OrderPlaced:
    """Make the next order."""
    return OrderPlaced(
        order_id=f"order-{next(serial):09}",
        placed_at=monotonic_ns(),
        user_id=4242,
        item="Python Book, second edition",
        quantity=1,
        price=39.9,
        currency="EUR",
        address="12 Long Street, Little Hampton",
        note="leave it with the neighbours",
    )


def orders(number: int) -> list[OrderPlaced]:
    return [order() for _ in range(number)]
