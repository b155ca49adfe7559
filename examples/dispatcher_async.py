"""The asynchronous dispatcher, both ways: awaiting all handlers, and going on while they run.

`publish` starts every handler as a task of its own and returns a receipt. Whoever needs the work
done awaits the receipt. Whoever does not goes on: the bus owns the tasks, so none is lost, and
leaving ``async with`` waits for those that still run.
"""

import asyncio
from dataclasses import dataclass

from headwater import Bus


@dataclass(frozen=True)
class DishOrdered:
    dish: str


class Restaurant:
    """Two handlers that do nothing while the restaurant is closed."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()

    async def cook(self, order: DishOrdered) -> None:
        """Cook a dish."""
        await self.is_open.wait()
        print(f"cook: the {order.dish} is ready")

    async def lay_table(self, order: DishOrdered) -> None:
        """Lay the table for it."""
        await self.is_open.wait()
        print(f"lay_table: the table for the {order.dish} is laid")


async def main() -> None:
    restaurant = Restaurant()
    async with Bus() as bus:
        bus.subscribe(DishOrdered, restaurant.cook)
        bus.subscribe(DishOrdered, restaurant.lay_table)

        restaurant.is_open.set()
        await bus.publish(DishOrdered("soup"))
        print("main: awaited, so every handler of the soup has finished")

        restaurant.is_open.clear()
        receipt = bus.publish(DishOrdered("fish"))
        print(f"main: going on while the handlers of the fish run; done: {receipt.done}")
        restaurant.is_open.set()
        await receipt
        print(f"main: awaited later; done: {receipt.done}")

        restaurant.is_open.clear()
        bus.publish(DishOrdered("cake"))
        asyncio.get_running_loop().call_soon(restaurant.is_open.set)
        print("main: leaving the bus, with nothing done about the cake")
    print("main: the bus has waited for the cake")


if __name__ == "__main__":
    asyncio.run(main())
