"""The generator of orders: of the same shape, and the same every time."""

import zlib

from shop.events import OrderCancelled
from shop.generator import generate_rows
from shop.orders import OrderReader


def test_the_same_seed_gives_the_same_rows() -> None:
    """A run can be shown again; another seed gives another day."""
    assert list(generate_rows(50, seed=7)) == list(generate_rows(50, seed=7))
    assert list(generate_rows(50, seed=7)) != list(generate_rows(50, seed=8))


def test_the_first_orders_do_not_depend_on_how_many_follow() -> None:
    """A longer day begins as the shorter one did."""
    short, long = list(generate_rows(20, seed=7)), list(generate_rows(40, seed=7))
    assert long[: len(short)] == short


def test_the_generated_rows_are_the_same_for_ever() -> None:
    """Neither a new Python nor another machine changes what a seed means."""
    rows = list(generate_rows(300, seed=1))
    assert ",".join(rows[0].columns) == (
        "536365,24162,WHITE WOODEN GIFT MUG,12,2010-12-01 08:26:00,12.75,16338.0,United Kingdom"
    )
    assert zlib.crc32(repr([tuple(row) for row in rows]).encode()) == 3_438_690_573


def test_every_generated_row_can_be_read_and_every_order_is_counted() -> None:
    """As many orders as were asked for, and none rejected."""
    reader = OrderReader(generate_rows(300, seed=1))
    orders = list(reader)
    assert len(orders) == 300
    assert reader.rejected == 0


def test_a_day_holds_every_oddity_of_a_real_one() -> None:
    """Cancellations, write-offs at a price of 0, guests, and an order that empties a shelf."""
    orders = list(OrderReader(generate_rows(300, seed=1)))
    lines = [line for order in orders for line in order.lines]
    assert any(isinstance(order, OrderCancelled) for order in orders)
    assert any(line.unit_price == 0 and line.quantity < 0 for line in lines)
    assert any(not line.description for line in lines)
    assert any(not order.customer for order in orders)
    assert any(line.quantity > 1_776 for line in lines)
