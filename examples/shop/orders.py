"""From the rows of an *Online Retail* file to orders.

A row has eight columns and is one line of an invoice. Rows that follow each other with the same
invoice number are one order, or one cancellation if the number begins with a C.

A row is rejected only if it cannot be read:

- it has not eight columns (a blank line has none);
- its InvoiceNo or StockCode is empty;
- its Quantity is not a whole number: ASCII digits with an optional sign, so neither 6.0 nor 1e3;
- its InvoiceDate is not an ISO 8601 date and time such as ``2010-12-01 08:26:00``;
- its UnitPrice is not a decimal number such as ``2.55``, or is not finite;
- one of these numbers is longer than a hundred characters, so that sums always stay exact.

Space around a value does not count. Whatever can be read is accepted, however odd: negative
quantities, a price of 0 or below, no customer, no description. A rejected row is counted, kept with
its line number and the reason, and neither ends the file nor splits the order around it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from .events import Line, Order, OrderCancelled, OrderPlaced

COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
KEPT_REJECTIONS = 20  # a file of a million bad rows must not fill the memory
LONGEST_NUMBER = 100

_WHOLE = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_NOT_FINITE = re.compile(r"[+-]?(s?nan|inf|infinity)", re.IGNORECASE)


class Row(NamedTuple):
    """One row of a file, before anybody has looked into its columns."""

    line: int  # where it begins; the header is line 1
    last_line: int  # where it ends: a quoted description may hold line breaks
    columns: list[str]
    problem: str = ""  # why the row could not even be cut into columns


class Rejection(NamedTuple):
    """A row that could not be read, and why."""

    line: int
    reason: str


class Unreadable(ValueError):
    """A row breaks one of the rules above; the text says which."""


@dataclass(slots=True)
class _InvoiceLine:
    order_id: str
    time: datetime
    customer: str
    country: str
    line: Line


class OrderReader:
    """Iterates over the orders in `rows`, and counts as it goes.

    Attributes:
        lines: rows read so far, accepted and rejected.
        rejected: how many of them were rejected.
        rejections: the first of these, at most `KEPT_REJECTIONS`.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.lines = 0
        self.rejected = 0
        self.rejections: list[Rejection] = []

    def __iter__(self) -> Iterator[Order]:
        for order_id, group in groupby(self._accepted(), key=lambda line: line.order_id):
            yield make_order(order_id, list(group))

    def _accepted(self) -> Iterator[_InvoiceLine]:
        for row in self._rows:
            self.lines += 1
            try:
                accepted = read_row(row)
            except Unreadable as error:
                self._reject(row, str(error))
            else:
                yield accepted

    def _reject(self, row: Row, reason: str) -> None:
        self.rejected += 1
        if row.last_line > row.line:
            reason += f"; the row runs to line {row.last_line}: is a quote left open?"
        if len(self.rejections) < KEPT_REJECTIONS:
            self.rejections.append(Rejection(row.line, reason))


def make_order(order_id: str, lines: list[_InvoiceLine]) -> Order:
    """Return the order, or the cancellation, that `lines` make up."""
    kind = OrderCancelled if order_id.startswith("C") else OrderPlaced
    first = lines[0]
    return kind(
        order_id, first.time, first.customer, first.country, tuple(each.line for each in lines)
    )


def read_row(row: Row) -> _InvoiceLine:
    """Return the invoice line in `row`.

    Raises:
        Unreadable: the row breaks a rule; the text says which one and what stood there.
    """
    if row.problem:
        raise Unreadable(row.problem)
    if len(row.columns) != len(COLUMNS):
        raise Unreadable(_count_of(row.columns))
    invoice, code, description, quantity, date, price, customer, country = map(
        str.strip, row.columns
    )
    if not invoice:
        raise Unreadable("InvoiceNo is empty")
    if not code:
        raise Unreadable("StockCode is empty")
    line = Line(code, description, _whole(quantity), _decimal(price))
    return _InvoiceLine(invoice, _date(date), customer.removesuffix(".0"), country, line)


def _count_of(columns: list[str]) -> str:
    if not columns:
        return "blank line"
    columns_found = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
    return f"{columns_found}, expected {len(COLUMNS)}"


def _whole(text: str) -> int:
    if len(text) <= LONGEST_NUMBER and _WHOLE.fullmatch(text):
        return int(text)
    raise Unreadable(f"Quantity {shown(text)} is not a whole number")


def _decimal(text: str) -> Decimal:
    if len(text) <= LONGEST_NUMBER and _DECIMAL.fullmatch(text):
        return Decimal(text)
    wanted = "finite" if _NOT_FINITE.fullmatch(text) else "a decimal number"
    raise Unreadable(f"UnitPrice {shown(text)} is not {wanted}")


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable(f"InvoiceDate {shown(text)} is not a date and time") from None


def shown(text: str, length: int = 40) -> str:
    """Return `text` quoted for a message: shortened, and with control characters escaped."""
    return ascii(text if len(text) <= length else text[: length - 1] + "…")
