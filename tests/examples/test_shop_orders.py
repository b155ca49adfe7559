"""How the shop reads rows: what is an order, and what cannot be read."""

from collections.abc import Iterator

import pytest

from shop.events import OrderCancelled, OrderPlaced
from shop.orders import KEPT_REJECTIONS, OrderReader, Rejection, Row

GOOD = [
    "536365",
    "85123A",
    "WHITE LANTERN",
    "6",
    "2010-12-01 08:26:00",
    "2.55",
    "17850.0",
    "United Kingdom",
]
INVOICE, CODE, DESCRIPTION, QUANTITY, DATE, PRICE, CUSTOMER, COUNTRY = range(8)


def row(**changes: str) -> list[str]:
    """Return a good row with some of its columns changed."""
    columns = list(GOOD)
    for name, value in changes.items():
        columns[globals()[name.upper()]] = value
    return columns


def rows(*columns: list[str]) -> list[Row]:
    """Number the rows as in a file with a header."""
    return [Row(line, line, each) for line, each in enumerate(columns, start=2)]


def rejection(columns: list[str]) -> Rejection | None:
    """Return why a row is rejected, or None if it is accepted."""
    reader = OrderReader(rows(columns))
    accepted = list(reader)
    assert reader.lines == 1
    assert len(accepted) + reader.rejected == 1
    return reader.rejections[0] if reader.rejections else None


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ([], "blank line"),
        (["x"], "1 column, expected 8"),
        (GOOD[:7], "7 columns, expected 8"),
        ([*GOOD, "more"], "9 columns, expected 8"),
        (row(invoice=""), "InvoiceNo is empty"),
        (row(invoice="  "), "InvoiceNo is empty"),
        (row(code=""), "StockCode is empty"),
        (row(quantity=""), "Quantity '' is not a whole number"),
        (row(quantity="six"), "Quantity 'six' is not a whole number"),
        (row(quantity="6.0"), "Quantity '6.0' is not a whole number"),
        (row(quantity="1e3"), "Quantity '1e3' is not a whole number"),
        (row(quantity="1_000"), "Quantity '1_000' is not a whole number"),
        (row(quantity="\uff16"), r"Quantity '\uff16' is not a whole number"),
        (row(quantity="--6"), "Quantity '--6' is not a whole number"),
        (row(quantity="nan"), "Quantity 'nan' is not a whole number"),
        (row(quantity="9" * 101), f"Quantity '{'9' * 39}\\u2026' is not a whole number"),
        (row(date=""), "InvoiceDate '' is not a date and time"),
        (row(date="yesterday"), "InvoiceDate 'yesterday' is not a date and time"),
        (
            row(date="2010-12-32 08:26:00"),
            "InvoiceDate '2010-12-32 08:26:00' is not a date and time",
        ),
        (row(date="12/1/2010 8:26"), "InvoiceDate '12/1/2010 8:26' is not a date and time"),
        (row(price=""), "UnitPrice '' is not a decimal number"),
        (row(price="free"), "UnitPrice 'free' is not a decimal number"),
        (row(price="2,55"), "UnitPrice '2,55' is not a decimal number"),
        (row(price="."), "UnitPrice '.' is not a decimal number"),
        (row(price="1e9999"), "UnitPrice '1e9999' is not a decimal number"),
        (row(price="nan"), "UnitPrice 'nan' is not finite"),
        (row(price="-Infinity"), "UnitPrice '-Infinity' is not finite"),
        (row(price="inf"), "UnitPrice 'inf' is not finite"),
        (row(price="\x1b[2J"), r"UnitPrice '\x1b[2J' is not a decimal number"),
    ],
)
def test_a_row_that_cannot_be_read_is_rejected(columns: list[str], reason: str) -> None:
    """The rejection names the line, the column and what stood there, and is safe to print."""
    assert rejection(columns) == Rejection(2, reason)


@pytest.mark.parametrize(
    "columns",
    [
        GOOD,
        row(invoice="C536365", quantity="-6"),
        row(invoice="A563185", price="-11062.06"),
        row(quantity="-9360"),
        row(quantity="+6"),
        row(quantity=" 6 "),
        row(quantity="0"),
        row(quantity="-0"),
        row(price="0"),
        row(price="0.0"),
        row(price="-1.5"),
        row(price="1e2"),
        row(price=".5"),
        row(price="5."),
        row(price="0.001"),
        row(description=""),
        row(description='"LIGHT", £5\n'),
        row(customer=""),
        row(country=""),
        row(code="gift_0001_40"),
        row(date="2010-12-01T08:26:00+01:00"),
        row(date="2010-12-01 08:26:00.5"),
        row(date="2010-12-01"),
    ],
)
def test_an_odd_row_that_can_be_read_is_accepted(columns: list[str]) -> None:
    """Only what cannot be read is rejected."""
    assert rejection(columns) is None


def test_the_columns_arrive_in_the_order() -> None:
    """Numbers are exact, space around values is gone, and a customer is a number without a tail."""
    (order,) = OrderReader(rows(row(description=" WHITE LANTERN ", price="2.10")))
    assert isinstance(order, OrderPlaced)
    assert (order.order_id, order.customer, order.country) == ("536365", "17850", "United Kingdom")
    assert order.time.isoformat() == "2010-12-01T08:26:00"
    (line,) = order.lines
    assert (line.stock_code, line.description, line.quantity) == ("85123A", "WHITE LANTERN", 6)
    assert str(line.unit_price) == "2.10"


def test_lines_that_follow_each_other_with_one_number_are_one_order() -> None:
    """A number that comes back later begins another order."""
    numbers = ["1", "1", "C2", "C2", "3", "1"]
    orders = list(OrderReader(rows(*(row(invoice=number) for number in numbers))))
    assert [(order.order_id, len(order.lines)) for order in orders] == [
        ("1", 2),
        ("C2", 2),
        ("3", 1),
        ("1", 1),
    ]
    assert [type(order) for order in orders] == [
        OrderPlaced,
        OrderCancelled,
        OrderPlaced,
        OrderPlaced,
    ]


def test_a_rejected_row_does_not_split_an_order() -> None:
    """The lines around it are one order still, and it is counted."""
    reader = OrderReader(rows(row(), row(quantity="many"), row()))
    assert [len(order.lines) for order in reader] == [2]
    assert (reader.lines, reader.rejected) == (3, 1)


def test_every_rejection_is_counted_and_the_first_are_kept() -> None:
    """A file of bad rows does not fill the memory."""
    reader = OrderReader(rows(*([["bad"]] * 50)))
    assert list(reader) == []
    assert reader.rejected == 50
    assert [each.line for each in reader.rejections] == list(range(2, 2 + KEPT_REJECTIONS))


def test_orders_are_read_as_they_are_asked_for() -> None:
    """An order is there as soon as the next one has begun, however long the file is."""

    def stream() -> Iterator[Row]:
        yield from rows(row(), row(invoice="536366"))
        pytest.fail("read further than needed")

    assert next(iter(OrderReader(stream()))).order_id == "536365"
