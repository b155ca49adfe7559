"""`@bus.on(A)` takes a handler of A; `@bus.on(A, B)` one of `A | B`. Both give it back."""

from dataclasses import dataclass
from typing import assert_type

from headwater import Breaker, Bus, Context, Handlers, Retry


class Event:
    pass


@dataclass(frozen=True)
class OrderPlaced(Event):
    order_id: str


@dataclass(frozen=True)
class OrderCancelled(Event):
    order_id: str


@dataclass(frozen=True)
class StockRanOut(Event):
    item: str


@dataclass(frozen=True)
class UserJoined:
    user_id: int


bus = Bus()
handlers = Handlers()


@bus.on(OrderPlaced)
def reserve(order: OrderPlaced) -> int:
    return len(order.order_id)


assert_type(reserve(OrderPlaced("o1")), int)
reserve(UserJoined(1))  # E: arg-type


@bus.on(OrderPlaced, retry=Retry(max_attempts=5), concurrency=8, timeout=10)
async def notify(order: OrderPlaced, context: Context) -> str:
    return order.order_id


async def awaits(context: Context) -> None:
    assert_type(await notify(OrderPlaced("o1"), context), str)


@bus.on(OrderPlaced)
def keyword(order: OrderPlaced, *, context: Context) -> None: ...


@bus.on(OrderPlaced)
def audit(event: Event) -> None: ...


@bus.on(OrderPlaced)
def log(event: object) -> None: ...


@bus.on(OrderPlaced, OrderCancelled)
def either(event: OrderPlaced | OrderCancelled) -> None: ...


@bus.on(OrderPlaced, OrderCancelled)
def either_by_base(event: Event) -> None: ...


@bus.on(OrderPlaced, OrderCancelled, StockRanOut)
async def three(event: OrderPlaced | OrderCancelled | StockRanOut, context: Context) -> None: ...


@bus.on(OrderPlaced, OrderCancelled, StockRanOut, UserJoined)
def four(event: OrderPlaced | OrderCancelled | StockRanOut | UserJoined) -> None: ...


@bus.on("order.*", "stock.**")
def by_name(data: dict[str, str]) -> None: ...


assert_type(by_name({}), None)


@bus.on(OrderPlaced, "order.placed")
def mixed(event: object) -> None: ...


@bus.on(OrderPlaced)  # E: arg-type
def greet(user: UserJoined) -> None: ...


def welcome(user: UserJoined) -> None: ...
def welcome_traced(user: UserJoined, context: Context) -> None: ...
def welcome_keyword(user: UserJoined, *, context: Context) -> None: ...
async def welcome_async(user: UserJoined) -> None: ...
def only_placed(order: OrderPlaced) -> None: ...
def placed_or_cancelled(event: OrderPlaced | OrderCancelled) -> None: ...
def nothing() -> None: ...


bus.on(OrderPlaced)(welcome)  # E: arg-type
bus.on(OrderPlaced)(welcome_traced)  # E: arg-type
bus.on(OrderPlaced)(welcome_keyword)  # E: arg-type
bus.on(OrderPlaced)(welcome_async)  # E: arg-type
bus.on(OrderPlaced)(nothing)  # E: arg-type
bus.on(OrderPlaced, OrderCancelled)(only_placed)  # E: arg-type
bus.on(OrderPlaced, OrderCancelled, StockRanOut)(placed_or_cancelled)  # E: arg-type
bus.on(OrderPlaced, OrderCancelled, StockRanOut, UserJoined)(placed_or_cancelled)  # E: arg-type
bus.on(Event)(only_placed)  # E: arg-type
bus.on(OrderPlaced("o1"))  # E: call-overload
bus.on(reserve)  # E: call-overload

# Handlers without a bus are checked alike.


@handlers.on(OrderPlaced, breaker=Breaker())
def ship(order: OrderPlaced) -> None: ...


assert_type(handlers.subscribe(OrderPlaced, only_placed), None)
handlers.subscribe(OrderPlaced, lambda order: order.order_id)
handlers.subscribe(OrderPlaced, lambda order: order.user_id)  # E: attr-defined
handlers.subscribe(OrderPlaced, welcome)  # E: arg-type
handlers.on(OrderPlaced)(welcome)  # E: arg-type
handlers.on(OrderPlaced, OrderCancelled)(only_placed)  # E: arg-type
handlers.on(OrderPlaced, OrderCancelled)(placed_or_cancelled)
bus.include(handlers)
bus.include(bus)  # E: arg-type
