"""A day in the shop: every figure is found out by handlers, and every failure stays where it is."""

import asyncio
import csv
import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from shop import Day, Delivery, OrderReader, Step, generate_rows, read_rows, trade
from shop.courier import why_not
from shop.events import OrderPlaced
from shop.orders import Row

REAL_MONTH = Path(__file__).parents[3] / "shared" / "data" / "online-retail-2010-12.csv.gz"


def spend_day(rows: list[Row]) -> Day:
    """Let the shop trade on these rows."""
    return asyncio.run(trade(OrderReader(rows)))


def rows(*lines: str) -> list[Row]:
    """Make rows of ``invoice,code,quantity,price``."""
    made: list[Row] = []
    for number, line in enumerate(lines, start=2):
        invoice, code, quantity, price = line.split(",")
        columns = [invoice, code, "THING", quantity, "2010-12-01 08:26:00", price, "17850", "UK"]
        made.append(Row(number, number, columns))
    return made


def handlers(day: Day) -> dict[str, dict[str, int]]:
    """Return the counts per handler."""
    counts = ("handled", "failed", "retried", "stopped")
    return {
        name: {count: getattr(tally, count) for count in counts}
        for name, tally in day.logbook.handlers.items()
    }


@pytest.fixture(scope="module")
def generated_day() -> Day:
    """The day that ``headwater demo`` shows."""
    return spend_day(list(generate_rows(500, seed=1)))


@pytest.mark.skipif(not REAL_MONTH.exists(), reason=f"{REAL_MONTH} is not here")
def test_the_real_month_equals_an_independent_computation() -> None:
    """Units, revenue and stock come out of handlers as the csv and decimal modules alone say."""
    with gzip.open(REAL_MONTH, "rt", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    stock: Counter[str] = Counter()
    for row in table:
        stock[row["StockCode"]] += int(row["Quantity"])
    invoices = {row["InvoiceNo"] for row in table}

    day = asyncio.run(trade(OrderReader(read_rows(REAL_MONTH)))).as_json()

    assert (day["lines"], day["rejected"]) == (len(table), 0) == (42_481, 0)
    assert day["cancellations"] == sum(number.startswith("C") for number in invoices)
    assert day["orders"] == sum(not number.startswith("C") for number in invoices)
    assert day["units"] == sum(stock.values())
    assert Decimal(str(day["revenue"])) == sum(
        int(row["Quantity"]) * Decimal(row["UnitPrice"]) for row in table
    )
    assert day["stock"] == dict(stock)


def test_the_figures_are_those_of_the_lines() -> None:
    """Orders add, cancellations take off again, and odd rows count as they stand."""
    day = spend_day(
        rows(
            "1,A,6,2.55",
            "1,B,1,0.10",
            "C2,A,-2,2.55",
            "3,B,-50,0",
            "4,A,1,-1.5",
            "5,D,0,0.0",
        )
    )
    figures = day.as_json()
    assert figures["lines"] == 6
    assert (figures["orders"], figures["cancellations"]) == (4, 1)
    assert figures["units"] == -44
    assert figures["revenue"] == "8.80"
    assert figures["stock"] == {"A": 5, "B": -49, "D": 0}


def test_money_is_exact_whatever_its_size() -> None:
    """No float and no rounding, however far apart the prices lie."""
    day = spend_day(rows("1,A,1,1e50", "1,B,1,1e-50", "1,C,10000000000000000000000000000001,0.1"))
    revenue = str(day.as_json()["revenue"])
    assert revenue == f"1{'0' * 19}1000000000000000000000000000000.1{'0' * 48}1"


def test_a_failing_courier_stops_nobody_else() -> None:
    """Isolation: the order is counted and the customer told, though its parcel stays here."""
    day = spend_day(rows("513,A,1,1"))
    assert handlers(day)["courier"] == {"handled": 0, "failed": 1, "retried": 2, "stopped": 0}
    assert (day.books.units, day.books.notified, day.books.shipped) == (1, 1, 0)


def test_a_retry_brings_the_parcel_on_its_way() -> None:
    """The first attempt fails, the second one succeeds."""
    day = spend_day(rows("7,A,1,1"))
    assert handlers(day)["courier"] == {"handled": 1, "failed": 0, "retried": 1, "stopped": 0}
    assert day.books.shipped == 1


def test_a_breaker_spares_a_courier_whose_depot_is_shut(generated_day: Day) -> None:
    """After five failures in a row the courier is not asked, for a while."""
    courier = handlers(generated_day)["courier"]
    assert courier["stopped"] > 0
    assert courier["handled"] > 300


def test_a_small_gap_is_closed_box_by_box() -> None:
    """A loop that ends by itself is nobody's business."""
    day = spend_day(rows("1,A,300,1"))  # 60 more than there are, and 24 in a box
    assert handlers(day)["restock"] == {"handled": 3, "failed": 0, "retried": 0, "stopped": 0}
    assert day.inventory.shelf["A"] == 12
    assert not day.logbook.storms


def test_the_storm_guard_ends_the_loop_and_not_the_order() -> None:
    """The handler that publishes what it handles is stopped; the order it began with goes on."""
    day = spend_day(rows("1,A,9000,1", "2,A,1,1"))
    restock = handlers(day)["restock"]
    assert restock["stopped"] == 2  # the second order starts a loop of its own
    assert restock["handled"] > 100
    assert dict(day.logbook.storms) == {"StockRanOut → StockRanOut": 2}
    assert (day.books.units, day.books.shipped) == (9_001, 2)


def test_the_handlers_account_for_every_event(generated_day: Day) -> None:
    """What was published was handled, failed or was stopped: nothing is lost, nothing doubled."""
    books, counts = generated_day.books, handlers(generated_day)
    orders = books.orders + books.cancellations
    assert orders == 500
    assert sum(counts["inventory"].values()) == counts["inventory"]["handled"] == orders
    assert counts["analytics"]["handled"] == orders + books.notified + books.shipped
    parcels = (
        counts["courier"]["handled"] + counts["courier"]["failed"] + counts["courier"]["stopped"]
    )
    assert parcels + books.cancellations == counts["notification"]["handled"]
    assert books.shipped == counts["courier"]["handled"]


def test_the_story_of_an_order_shows_causes_and_a_recovery(generated_day: Day) -> None:
    """From the order through its handlers to the parcel that left at the second attempt."""

    def delivery(step: Step, handler: str) -> Delivery:
        return step.deliveries[handler]

    order = generated_day.logbook.story()
    assert order is not None
    assert isinstance(order.event, OrderPlaced)
    reserved = delivery(order, "inventory").caused[-1]
    assert reserved.name == "StockReserved"
    # Its second attempt may have met a breaker that was still open: that is real time.
    assert delivery(reserved, "courier").attempts in (2, 3)
    assert [step.name for step in delivery(reserved, "courier").caused] == ["OrderShipped"]
    assert [step.name for step in delivery(reserved, "notification").caused] == ["OrderNotified"]


def test_the_same_seed_gives_the_same_figures(generated_day: Day) -> None:
    """All but what depends on the time a breaker cools down."""
    again = spend_day(list(generate_rows(500, seed=1))).as_json()
    first = generated_day.as_json()
    same = ("lines", "orders", "cancellations", "units", "revenue", "stock", "notified", "storms")
    assert {name: again[name] for name in same} == {name: first[name] for name in same}


def test_the_day_is_plain_json(generated_day: Day) -> None:
    """Everything that a program may want, with times in milliseconds."""
    figures = json.loads(json.dumps(generated_day.as_json()))
    assert figures["handlers"].keys() >= {
        "inventory",
        "analytics",
        "notification",
        "courier",
        "restock",
    }
    for numbers in figures["handlers"].values():
        assert 0 <= numbers["p50_ms"] <= numbers["p99_ms"]
    assert figures["seconds"] > 0


def test_a_day_without_orders_is_a_day() -> None:
    """Nothing happens, and nothing breaks."""
    day = spend_day([])
    assert day.as_json()["revenue"] == "0"
    assert day.logbook.story() is None


@pytest.mark.parametrize(
    ("order_id", "excuses"),
    [
        ("536365", [None, None]),
        ("536367", ["the van broke down", None]),
        ("536413", ["the address cannot be found"] * 3),
        ("536500", ["the depot is shut"] * 3),
        ("536549", ["the depot is shut"] * 3),
        ("536550", [None]),
        ("7", ["the van broke down", None]),
        ("gift", [None]),
    ],
)
def test_the_courier_fails_by_the_number_of_the_order(
    order_id: str, excuses: list[str | None]
) -> None:
    """The same orders in every run."""
    assert [why_not(order_id, attempt) for attempt, _ in enumerate(excuses, 1)] == excuses
