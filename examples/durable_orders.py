"""Orders in a durable log: publish, stop, go on, retry, give up, mend, and look back.

The log is a file in a temporary folder. Each `with` block is what another run of a program would
be: it opens the log anew, and finds what the one before has left.
"""

import asyncio
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from headwater import Backoff, Bus, Context, Retry, event

logging.getLogger("headwater").setLevel(logging.CRITICAL)  # this program prints what fails

PRICES = {"lantern": 12, "mug": 6}


@event(name="order.placed", key="order_id")
@dataclass(frozen=True)
class OrderPlaced:
    order_id: str
    item: str


@event(name="order.billed", key="order_id")
@dataclass(frozen=True)
class OrderBilled:
    order_id: str
    pounds: int


def bill(order: OrderPlaced, context: Context) -> None:
    if order.item == "mug" and context.attempt == 1:
        raise ConnectionError("the bank does not answer")
    pounds = PRICES[order.item]
    print(f"  billed {order.order_id}, £{pounds}, at attempt {context.attempt}")
    context.bus.publish(OrderBilled(order.order_id, pounds))


def thank(billed: OrderBilled) -> None:
    print(f"  thanked for £{billed.pounds}")


def shop(url: str) -> Bus:
    """Return the shop as each run of the program has it."""
    bus = Bus(url, name="shop")
    retry = Retry(max_attempts=2, backoff=Backoff(initial=0.01))
    bus.subscribe(OrderPlaced, bill, name="bill", retry=retry)
    bus.subscribe(OrderBilled, thank, name="thank")
    return bus


async def look_back(url: str) -> None:
    """Hand all that was ever billed to a function."""
    async with Bus(url, name="report") as report:
        billed: list[OrderBilled] = []
        await report.replay(OrderBilled, into=billed.append)
        print(f"  {len(billed)} orders, £{sum(each.pounds for each in billed)}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder).as_posix()}/shop.db"

        print("a run that handles what it publishes:")
        with shop(url) as bus:
            bus.publish(OrderPlaced("o1", "lantern"))
            bus.idle(10)

        print("a run that only publishes:")
        web = Bus(url, name="web")
        web.publish(OrderPlaced("o2", "mug"))
        web.publish(OrderPlaced("o3", "moon"))
        web.close()
        print("  stored, and handled by nobody yet")

        print("a run that goes on, tries again, and gives up:")
        with shop(url) as bus:
            bus.idle(10)
            [letter] = bus.dead_letters.list().result()
            print(f"  given up after {letter.attempts} attempts: {letter.kind} {letter.error}")

        print("a run that mends what was given up:")
        with shop(url) as bus:
            bus.dead_letters.edit(letter.id, {"order_id": "o3", "item": "lantern"}).result()
            bus.idle(10)

        print("looking back:")
        asyncio.run(look_back(url))


if __name__ == "__main__":
    main()
