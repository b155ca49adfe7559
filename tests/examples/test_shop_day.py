"""A day in the shop: every figure is found out by handlers, and every failure stays where it is.

Each day is spent twice, on a direct bus and on a log in a file: the handlers are the same.
"""

import asyncio
import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from headwater import Bus
from shop import Day, Delivery, OrderReader, Step, generate_rows, read_rows, trade
from shop.courier import why_not
from shop.events import OrderPlaced
from shop.orders import Row

REAL_MONTH = Path(__file__).parents[3] / "shared" / "data" / "online-retail-2010-12.csv.gz"
Spend = Callable[[list[Row]], Day]


def spend_day(rows: list[Row], url: str | None = None) -> Day:
    """Let the shop trade on these rows."""
    return asyncio.run(trade(OrderReader(rows), url=url, input="test"))


@pytest.fixture(params=["direct", "sqlite"])
def spend(request: pytest.FixtureRequest, tmp_path: Path) -> Spend:
    """Spend a day on a bus of each kind."""
    url = f"sqlite:///{tmp_path}/shop.db" if request.param == "sqlite" else None
    return lambda rows: spend_day(rows, url)


def rows(*lines: str) -> list[Row]:
    """Make rows of ``invoice,code,quantity,price``."""
    made: list[Row] = []
    for number, line in enumerate(lines, start=2):
        invoice, code, quantity, price = line.split(",")
        columns = [invoice, code, "THING", quantity, "2010-12-01 08:26:00", price, "17850", "UK"]
        made.append(Row(number, number, columns))
    return made


def share(day: Day, handler: str) -> dict[str, int]:
    """Return the counts of a handler."""
    share, tally = day.outcome.handlers[handler], day.logbook.handlers[handler]
    assert share.handled + share.given_up == share.events
    return {"handled": share.handled, "given_up": share.given_up, "retried": tally.retried}


@pytest.fixture(scope="module", params=["direct", "sqlite"])
def generated_day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Day:
    """The day that ``headwater demo`` shows."""
    folder = tmp_path_factory.mktemp("day")
    url = f"sqlite:///{folder}/shop.db" if request.param == "sqlite" else None
    return spend_day(list(generate_rows(500, seed=1)), url)


@pytest.mark.skipif(not REAL_MONTH.exists(), reason=f"{REAL_MONTH} is not here")
@pytest.mark.parametrize("engine", ["direct", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_the_real_month_equals_an_independent_computation(engine: str, tmp_path: Path) -> None:
    """Units, revenue and stock come out of handlers as the csv and decimal modules alone say."""
    with gzip.open(REAL_MONTH, "rt", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    stock: Counter[str] = Counter()
    for row in table:
        stock[row["StockCode"]] += int(row["Quantity"])
    invoices = {row["InvoiceNo"] for row in table}
    url = f"sqlite:///{tmp_path}/shop.db" if engine == "sqlite" else None

    day = asyncio.run(trade(OrderReader(read_rows(REAL_MONTH)), url=url)).as_json()

    assert (day["lines"], day["rejected"]) == (len(table), 0) == (42_481, 0)
    assert day["cancellations"] == sum(number.startswith("C") for number in invoices)
    assert day["orders"] == sum(not number.startswith("C") for number in invoices)
    assert day["units"] == sum(stock.values())
    assert Decimal(str(day["revenue"])) == sum(
        int(row["Quantity"]) * Decimal(row["UnitPrice"]) for row in table
    )
    assert day["stock"] == dict(stock)
    assert day["differences"] == []


def test_the_figures_are_those_of_the_lines(spend: Spend) -> None:
    """Orders add, cancellations take off again, and odd rows count as they stand."""
    day = spend(
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
    assert figures["differences"] == []


def test_money_is_exact_whatever_its_size(spend: Spend) -> None:
    """No float and no rounding, however far apart the prices lie."""
    day = spend(rows("1,A,1,1e50", "1,B,1,1e-50", "1,C,10000000000000000000000000000001,0.1"))
    revenue = str(day.as_json()["revenue"])
    assert revenue == f"1{'0' * 19}1000000000000000000000000000000.1{'0' * 48}1"


def test_a_failing_courier_stops_nobody_else(spend: Spend) -> None:
    """Isolation: the order is counted and the customer told, though its parcel stays here."""
    day = spend(rows("513,A,1,1"))
    courier = share(day, "courier")
    assert (courier["handled"], courier["given_up"]) == (0, 1)
    assert courier["retried"] in {4, 5}  # on a direct bus the breaker may refuse the last one
    books = day.outcome.books
    assert [int(books[item]) for item in ("units", "notified", "shipped")] == [1, 1, 0]


def test_a_retry_brings_the_parcel_on_its_way(spend: Spend) -> None:
    """The first attempt fails, the second one succeeds."""
    day = spend(rows("7,A,1,1"))
    assert share(day, "courier") == {"handled": 1, "given_up": 0, "retried": 1}
    assert day.outcome.books["shipped"] == 1


def test_a_breaker_spares_a_courier_whose_depot_is_shut(generated_day: Day) -> None:
    """After five failures in a row the courier is not asked, for a while.

    A direct bus gives up what is refused meanwhile; on a log it waits, and what is given up there
    is what the courier refused each time it was asked.
    """
    reasons = {reason.kind: reason.events for reason in generated_day.outcome.reasons}
    assert share(generated_day, "courier")["handled"] > 300
    if generated_day.outcome.kept:
        assert reasons == {"CourierFailure": 38, "EventStorm": 8}
    else:
        assert reasons["BreakerOpen"] > 0


def test_a_small_gap_is_closed_box_by_box(spend: Spend) -> None:
    """A loop that ends by itself is nobody's business."""
    day = spend(rows("1,A,300,1"))  # 60 more than there are, and 24 in a box
    assert share(day, "restock") == {"handled": 3, "given_up": 0, "retried": 0}
    assert day.outcome.boxes == {"A": 3}
    assert not day.outcome.reasons


def test_the_storm_guard_ends_the_loop_and_not_the_order(spend: Spend) -> None:
    """The handler that publishes what it handles is stopped; the order it began with goes on."""
    day = spend(rows("1,A,9000,1", "2,A,1,1"))
    assert share(day, "restock") == {"handled": 64, "given_up": 1, "retried": 0}
    assert day.outcome.boxes == {"A": 64}
    (reason,) = day.outcome.reasons
    assert (reason.handler, reason.kind, reason.events) == ("restock", "EventStorm", 1)
    assert "StockRanOut → StockRanOut" in reason.example
    books = day.outcome.books
    assert [int(books[item]) for item in ("units", "shipped")] == [9_001, 2]
    assert not day.outcome.differences


def test_the_handlers_account_for_every_event(generated_day: Day) -> None:
    """What was published was handled or given up: nothing is lost, nothing doubled."""
    books = generated_day.outcome.books
    orders = books["orders"] + books["cancellations"]
    assert orders == 500
    assert share(generated_day, "inventory")["handled"] == orders
    analytics = share(generated_day, "analytics")
    assert analytics["handled"] == orders + books["notified"] + books["shipped"]
    courier, restock = share(generated_day, "courier"), share(generated_day, "restock")
    told = share(generated_day, "notification")["handled"]
    assert courier["handled"] + courier["given_up"] + books["cancellations"] == told
    assert books["shipped"] == courier["handled"]
    assert sum(generated_day.outcome.boxes.values()) == restock["handled"]
    assert restock["given_up"] == 8
    assert not generated_day.outcome.differences


def test_what_does_not_add_up_is_said(tmp_path: Path) -> None:
    """A log with a sum that somebody has changed, and an order too many: the proof fails."""
    url = f"sqlite:///{tmp_path}/shop.db"
    assert not spend_day(rows("1,A,6,2.55", "2,A,1,1"), url).outcome.differences

    async def tamper() -> None:
        async with Bus(url, name="shop") as bus, bus.transaction() as transaction:
            transaction.execute("UPDATE shop_account SET amount = 8 WHERE account = 'moved'")

    asyncio.run(tamper())
    assert spend_day(rows("1,A,6,2.55", "2,A,1,1"), url).outcome.differences == [
        "stock of A: 8, and the orders add up to 7"
    ]
    assert spend_day(rows("1,A,6,2.55"), url).outcome.differences == [
        "notified: 2, and the orders add up to 1",
        "orders: 2, and the orders add up to 1",
        "revenue: 16.30, and the orders add up to 15.30",
        "units: 7, and the orders add up to 6",
        "stock of A: 8, and the orders add up to 6",
        "events for courier: 2, and the orders add up to 1",
        "events for inventory: 2, and the orders add up to 1",
        "events for notification: 2, and the orders add up to 1",
    ]


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
    assert delivery(reserved, "courier").attempts in (2, 3, 4, 5)
    assert [step.name for step in delivery(reserved, "courier").caused] == ["OrderShipped"]
    assert [step.name for step in delivery(reserved, "notification").caused] == ["OrderNotified"]


def test_the_same_seed_gives_the_same_figures(generated_day: Day) -> None:
    """On either bus, all but what depends on the time a breaker cools down."""
    again = spend_day(list(generate_rows(500, seed=1))).as_json()
    first = generated_day.as_json()
    same = ("lines", "orders", "cancellations", "units", "revenue", "stock", "boxes", "notified")
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


def test_a_day_without_orders_is_a_day(spend: Spend) -> None:
    """Nothing happens, and nothing breaks."""
    day = spend([])
    assert day.as_json()["revenue"] == "0"
    assert day.logbook.story() is None
    assert not day.outcome.differences


@pytest.mark.parametrize(
    ("order_id", "excuses"),
    [
        ("536365", [None, None]),
        ("536367", ["the van broke down", None]),
        ("536413", ["the address cannot be found"] * 5),
        ("536500", ["the depot is shut"] * 5),
        ("536549", ["the depot is shut"] * 5),
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
