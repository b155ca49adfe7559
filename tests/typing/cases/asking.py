"""`stream(A)` yields A, `wait_for(A)` gives A, `request(returns=R)` an R, `capture(A)` lists A."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from headwater import Bus, Context, Receipt, Subscription


@dataclass(frozen=True)
class OrderPlaced:
    order_id: str


@dataclass(frozen=True)
class GetPrice:
    item: str


@dataclass(frozen=True)
class Price:
    cents: int


bus = Bus()


async def streams() -> None:
    async for order in bus.stream(OrderPlaced):
        assert_type(order, OrderPlaced)
    async for data in bus.stream("order.*", buffer=10, overflow="drop_oldest"):
        assert_type(data, Any)
    async with bus.stream(OrderPlaced) as orders:
        assert_type(await anext(orders), OrderPlaced)
    iterator: AsyncIterator[OrderPlaced] = bus.stream(OrderPlaced)
    await anext(iterator)
    prices: AsyncIterator[Price] = bus.stream(OrderPlaced)  # E: arg-type
    await anext(prices)
    bus.stream(OrderPlaced, overflow="drop_newest")  # E
    bus.stream(OrderPlaced, buffer="many")  # E
    bus.stream(42)  # E: call-overload


async def waits() -> None:
    assert_type(await bus.wait_for(OrderPlaced), OrderPlaced)
    assert_type(await bus.wait_for("order.*", timeout=1), Any)
    await bus.wait_for(OrderPlaced, where=lambda order: order.order_id == "o1", timeout=0.5)
    await bus.wait_for(OrderPlaced, timeout=timedelta(seconds=1))
    await bus.wait_for(OrderPlaced, where=lambda order: order.cents > 1)  # E
    await bus.wait_for(OrderPlaced, timeout="1 s")  # E: call-overload


async def requests() -> None:
    assert_type(await bus.request(GetPrice("apple"), returns=Price), Price)
    assert_type(await bus.request(GetPrice("apple"), returns=Price, timeout=5, key="a"), Price)
    assert_type(await bus.request("price.get", {"item": "apple"}, returns=int), int)
    assert_type(await bus.request(GetPrice("apple")), Any)
    cents: int = await bus.request(GetPrice("apple"), returns=Price)  # E: arg-type
    await bus.request(GetPrice("apple"), returns=Price, timeuot=5)  # E
    await bus.request(GetPrice("apple"), returns="Price")  # E


@bus.reply(GetPrice)
async def price(request: GetPrice) -> Price:
    return Price(len(request.item))


@bus.reply("price.get", timeout=1)
def price_by_name(data: dict[str, str], context: Context) -> int:
    return len(data["item"])


def ship(order: OrderPlaced) -> None: ...


bus.reply(GetPrice)(ship)  # E: arg-type
bus.reply(GetPrice, concurency=1)  # E


async def publishes() -> None:
    assert_type(bus.publish(OrderPlaced("o1")), Receipt)
    assert_type(await bus.publish(OrderPlaced("o1"), key=7, headers={"a": "b"}), Receipt)
    assert_type(bus.publish("order.placed", {"order_id": "o1"}).errors, tuple[BaseException, ...])
    bus.publish(OrderPlaced("o1"), delay=timedelta(seconds=2), new_story=True)
    bus.publish(OrderPlaced("o1"), dleay=1)  # E: call-arg
    bus.publish(OrderPlaced("o1"), headers={"a": 1})  # E
    bus.publish(OrderPlaced("o1"), new_story="yes")  # E: arg-type


def tests() -> None:
    with bus.capture(OrderPlaced) as seen:
        assert_type(seen, list[OrderPlaced])
    with bus.capture("order.*") as data:
        assert_type(data, list[Any])
    with bus.muted(OrderPlaced):
        pass
    assert_type(bus.forward(OrderPlaced, to=Bus()), Subscription)
    bus.forward(OrderPlaced, to="bus")  # E: arg-type


async def runs() -> None:
    with bus as opened:
        assert_type(opened, Bus)
    async with bus as opened_here:
        assert_type(opened_here, Bus)
    await bus.idle(timeout=1)
    bus.idle(timeout=timedelta(seconds=1))
