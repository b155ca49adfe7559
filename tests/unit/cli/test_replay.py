"""``replay``: counted first, then handed over, and where to go on if it fails."""

import importlib
from typing import Any

Shop = Any  # The fixture of conftest.py.
WORDS = ("replay", "shop:bus", "order.placed", "--into", "shop:rebuild")


def seen() -> list[Any]:
    """What the function of the replay got."""
    found: list[Any] = importlib.import_module("shop").seen
    return found


def test_a_dry_run_counts_and_hands_over_nothing(busy: Shop) -> None:
    """By name, on stdout."""
    answer = busy.ok(*WORDS, "--dry-run")
    assert answer.out.split() == ["event", "count", "order.placed", "3"]
    assert "3 events after position 0 up to 5" in answer.err
    assert seen() == []
    counts = busy.ok("replay", "shop.db", "**", "--into", "shop:rebuild", "--dry-run", "--json")
    assert counts.json["names"] == {"order.placed": 3, "StockLow": 2}


def test_it_asks_before_it_begins(busy: Shop) -> None:
    """Without a terminal it needs --yes."""
    answer = busy(*WORDS)
    assert answer.code == 2
    assert "--yes" in answer.err
    assert seen() == []


def test_events_arrive_as_their_class(busy: Shop) -> None:
    """With MODULE:BUS, and from the place that was asked for."""
    answer = busy.ok(*WORDS, "--yes", "--json")
    assert answer.json["handled"] == 3
    assert [order.order_id for order in seen()] == ["o1", "o2", "o3"]
    seen().clear()
    busy.ok(*WORDS, "--yes", "--start", "1", "--end", "2")
    assert [order.order_id for order in seen()] == ["o2"]


def test_a_class_can_be_named(busy: Shop) -> None:
    """On a bare log it is what the events are built into, if the bus knows it."""
    busy.ok("replay", "shop:bus", "shop:OrderPlaced", "--into", "shop:rebuild", "--yes")
    assert len(seen()) == 3


def test_a_failure_says_where_to_go_on(shop: Shop) -> None:
    """And going on there begins with the event that failed."""
    for number in range(1, 5):
        shop.place(f"o{number}", item="Poison" if number == 3 else "Book")
    answer = shop(*WORDS, "--yes")
    assert answer.code == 1
    assert "cannot rebuild" in answer.err
    assert "--start 2" in answer.err.splitlines()[-1]
    module: Any = importlib.import_module("shop")
    module.seen.clear()
    module.broken = False
    shop.ok(*WORDS, "--yes", "--start", "2")
    assert [order.order_id for order in seen()] == ["o3", "o4"]


def test_what_cannot_be_found_is_a_usage_error(shop: Shop) -> None:
    """The module, the function, the pattern."""
    for words in (
        ("replay", "shop.db", "a", "--into", "none:f"),
        ("replay", "shop.db", "a", "--into", "shop:none"),
        ("replay", "shop.db", "a.b*", "--into", "shop:rebuild"),
    ):
        answer = shop(*words)
        assert answer.code == 2
        assert "Traceback" not in answer.err
