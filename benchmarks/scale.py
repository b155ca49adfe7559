"""What many subscriptions cost: memory for each, and time for a publish among the others.

A crowd is 100,000 subscriptions on 10,000 names. Publishing one of these names is compared with a
bus that has only that name's ten subscriptions. Visiting all the names in turn is shown beside a
bare loop over a dict of lists, because there memory itself is slow.
"""

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from itertools import cycle
from time import perf_counter
from types import FunctionType
from typing import Any

from measure import Clock, Spread, prepared, run_rounds
from peers import Contender, load
from workloads import EVENT, OrderPlaced, Workload

NAMES = 10_000
PER_NAME = 10
DATA = {"item": "Python Book"}
(HANDLER,) = Workload("sync", 1).handlers()


def order_names(number: int) -> list[str]:
    return [f"shop.order_{index}.placed" for index in range(number)]


def functions(number: int) -> Iterator[FunctionType]:
    """Yield separate handlers that share one code, as a factory's closures do."""
    for _ in range(number):
        yield FunctionType(HANDLER.__code__, HANDLER.__globals__, HANDLER.__name__)


def crowd(names: Sequence[str]) -> tuple[Any, dict[str, list[FunctionType]]]:
    """Make a bus with ten handlers for each of the names and for one class."""
    bus = load("headwater").Bus()
    table = {name: list(functions(PER_NAME)) for name in names}
    for name, handlers in table.items():
        for handler in handlers:
            bus.subscribe(name, handler)
    table["class"] = list(functions(PER_NAME))
    for handler in table["class"]:
        bus.subscribe(OrderPlaced, handler)
    return bus, table


def publishers(name: str, bus: Any, table: dict[str, list[FunctionType]]) -> list[Contender]:
    """Publish by the name, and an event of the class."""
    by_name = {"publish": bus.publish, "name": name, "data": DATA}
    by_class = {"publish": bus.publish, "event": EVENT}
    return [
        Contender("publish by name", "publish(name, data)", by_name, table[name]),
        Contender("publish by class", "publish(event)", by_class, table["class"]),
    ]


def tour(bus: Any, table: dict[str, list[FunctionType]]) -> list[Contender]:
    """Visit every name in turn: over the table alone, and through the bus."""
    names = [name for name in table if name != "class"]

    def publish(name: str, data: object) -> None:
        for handler in table[name]:
            handler(data)

    def visit(publish: Callable[..., object]) -> dict[str, object]:
        return {"publish": publish, "names": cycle(names), "data": DATA}

    # A check by count follows the first names of the tour.
    first = table[names[0]]
    statement = "publish(next(names), data)"
    return [
        Contender("bare loop over a dict", statement, visit(publish), first),
        Contender("headwater", statement, visit(bus.publish), first),
    ]


class Crowd:
    """The measured ratios of a bus with a crowd on it."""

    def __init__(self, clock: Clock, *, rounds: int, seconds: float) -> None:
        names = order_names(NAMES)
        self.names = len(names)
        started = perf_counter()
        large, large_table = crowd(names)
        self.subscriptions = NAMES * PER_NAME
        self.seconds_per_subscription = (perf_counter() - started) / self.subscriptions
        # The middle name has neither the first nor the last place in any table.
        middle = names[NAMES // 2]
        small, small_table = crowd([middle])
        alone = prepared(publishers(middle, small, small_table), Context)
        among = prepared(publishers(middle, large, large_table), Context)
        visits = prepared(tour(large, large_table), Context)
        # The crowd would make every collection between batches a long one.
        gc.collect()
        gc.freeze()
        groups = [*zip(alone, among, strict=True), visits]
        run_rounds(groups, clock, rounds=rounds, seconds=seconds)
        gc.unfreeze()
        self.slowdowns: dict[str, Spread] = {
            crowded.contender.name: crowded.ratios(lonely)
            for lonely, crowded in zip(alone, among, strict=True)
        }
        self.tour: Spread = visits[1].ratios(visits[0])


def bytes_per_subscription(names: Sequence[object], subscriptions: int) -> float:
    """Subscribe evenly to `names`, publish each once, and return the bytes kept for each.

    The subscription objects are kept, as a careful user does; the handlers are not counted.
    """
    bus = load("headwater").Bus()
    handlers = list(functions(subscriptions))
    kept: list[object] = [None] * subscriptions
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for index, handler in enumerate(handlers):
        kept[index] = bus.subscribe(names[index % len(names)], handler)
    for name in names:
        if isinstance(name, str):
            bus.publish(name, DATA)
        else:
            bus.publish(EVENT)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / subscriptions
