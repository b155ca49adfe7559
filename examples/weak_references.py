"""Weak subscriptions: a handler that ends with the object it belongs to.

A bus holds its handlers, so lambdas and local functions live as long as it does. With ``weak=True``
it holds a bound method without holding its object: when the last other reference goes, so does the
subscription, without an error. An observer is told.
"""

import gc
from dataclasses import dataclass

from headwater import Bus
from headwater.errors import InvalidHandler
from headwater.records import Record, SubscriberDied


@dataclass(frozen=True)
class Tick:
    number: int


class Window:
    """Something with a life of its own."""

    def __init__(self, title: str) -> None:
        self.title = title

    def redraw(self, tick: Tick) -> None:
        """Show something new."""
        print(f"  {self.title} is redrawn at tick {tick.number}")


def report_deaths(record: Record) -> None:
    if isinstance(record, SubscriberDied):
        print(f"  the subscriber of {record.name} is gone")


def main() -> None:
    bus = Bus()
    bus.observe(report_deaths)
    bus.subscribe(Tick, lambda tick: print(f"  the lambda is called at tick {tick.number}"))
    window = Window("the window")
    bus.subscribe(Tick, window.redraw, weak=True)

    print("the window is open:")
    bus.publish(Tick(1))

    print("the window is closed:")
    del window
    gc.collect()  # CPython has let go of it already; other Pythons may take their time
    bus.publish(Tick(2))

    print("a lambda cannot be held weakly:")
    try:
        bus.subscribe(Tick, lambda tick: None, weak=True)
    except InvalidHandler as error:
        print(f"  {error}")


if __name__ == "__main__":
    main()
