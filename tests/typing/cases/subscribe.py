"""`bus.subscribe(A, h)` takes a handler of A or of its bases, and infers a lambda's parameters."""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_type

from headwater import Bus, Context, Subscription

T = TypeVar("T")


class Event:
    pass


@dataclass(frozen=True)
class OrderPlaced(Event):
    order_id: str
    quantity: int


@dataclass(frozen=True)
class UserJoined(Event):
    user_id: int


class Billable(ABC):
    @abstractmethod
    def total(self) -> int: ...


class Changed(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value


class Shop:
    def reserve(self, order: OrderPlaced) -> None: ...
    def greet(self, user: UserJoined) -> None: ...
    async def notify(self, order: OrderPlaced, context: Context) -> None: ...
    @classmethod
    def count(cls, order: OrderPlaced) -> None: ...
    @staticmethod
    def weigh(order: OrderPlaced) -> None: ...


class Courier:
    def __call__(self, order: OrderPlaced) -> None: ...


class AsyncCourier:
    async def __call__(self, order: OrderPlaced, context: Context) -> None: ...


class Greeter:
    def __call__(self, user: UserJoined) -> None: ...


def reserve(order: OrderPlaced) -> None: ...
def greet(user: UserJoined) -> None: ...
def audit(event: Event) -> None: ...
def log(event: object) -> None: ...
def anything(event: Any) -> None: ...
def revalue(event: Changed[int]) -> None: ...
def bill(event: Billable) -> None: ...
def every(*events: OrderPlaced) -> None: ...
def either(event: OrderPlaced | UserJoined) -> None: ...
def placed_by(order: OrderPlaced, retries: int = 3) -> None: ...
def traced(order: OrderPlaced, context: Context) -> None: ...
def trace(order: OrderPlaced, ctx: Context) -> None: ...
def maybe(order: OrderPlaced, context: Context | None = None) -> None: ...
def keyword(order: OrderPlaced, *, context: Context) -> None: ...
def greet_keyword(user: UserJoined, *, context: Context) -> None: ...
def greet_traced(user: UserJoined, context: Context) -> None: ...
def in_stock(shelf: str, order: OrderPlaced) -> None: ...
def two(order: OrderPlaced, user: UserJoined) -> None: ...
def nothing() -> None: ...
async def notify(order: OrderPlaced) -> None: ...
async def notify_traced(order: OrderPlaced, context: Context) -> None: ...
async def notify_keyword(order: OrderPlaced, *, context: Context) -> None: ...
async def welcome(user: UserJoined) -> None: ...


bus = Bus()
shop = Shop()

# Every kind of handler of the event, or of a class above it.
assert_type(bus.subscribe(OrderPlaced, reserve), Subscription)
bus.subscribe(OrderPlaced, audit)
bus.subscribe(OrderPlaced, log)
bus.subscribe(OrderPlaced, anything)
bus.subscribe(OrderPlaced, every)
bus.subscribe(OrderPlaced, either)
bus.subscribe(OrderPlaced, placed_by)
bus.subscribe(OrderPlaced, traced)
bus.subscribe(OrderPlaced, trace)
bus.subscribe(OrderPlaced, maybe)
bus.subscribe(OrderPlaced, keyword)
bus.subscribe(OrderPlaced, notify)
bus.subscribe(OrderPlaced, notify_traced)
bus.subscribe(OrderPlaced, notify_keyword)
bus.subscribe(OrderPlaced, shop.reserve)
bus.subscribe(OrderPlaced, shop.notify)
bus.subscribe(OrderPlaced, Shop.count)
bus.subscribe(OrderPlaced, Shop.weigh)
bus.subscribe(OrderPlaced, Courier())
bus.subscribe(OrderPlaced, AsyncCourier())
bus.subscribe(OrderPlaced, functools.partial(in_stock, "A1"))
bus.subscribe(OrderPlaced, print)
bus.subscribe(Event, audit)
bus.subscribe(Changed, revalue)
bus.subscribe(Billable, bill)  # type: ignore[type-abstract]  # As for any `type[...]` in mypy.

# Handlers of something else.
bus.subscribe(OrderPlaced, greet)  # E: arg-type
bus.subscribe(OrderPlaced, greet_keyword)  # E: arg-type
bus.subscribe(OrderPlaced, greet_traced)  # E: arg-type
bus.subscribe(OrderPlaced, welcome)  # E: arg-type
bus.subscribe(OrderPlaced, shop.greet)  # E: arg-type
bus.subscribe(OrderPlaced, Greeter())  # E: arg-type
bus.subscribe(Event, reserve)  # E: arg-type
bus.subscribe(OrderPlaced, two)  # E: arg-type
bus.subscribe(OrderPlaced, nothing)  # E: arg-type
bus.subscribe(OrderPlaced, Shop.reserve)  # E: arg-type
bus.subscribe(OrderPlaced, None)  # E: call-overload
bus.subscribe(OrderPlaced("o1", 1), reserve)  # E: call-overload
bus.subscribe(None, reserve)  # E: call-overload

# A lambda knows what it is given. (mypy does not infer one against the keyword-only `context`, so
# one that names its second parameter so is accepted there, whatever it does.)
bus.subscribe(OrderPlaced, lambda order: print(order.order_id))
bus.subscribe(OrderPlaced, lambda order, context: print(order.quantity, context.attempt))
bus.subscribe(OrderPlaced, lambda order: order.user_id)  # E: attr-defined
bus.subscribe(OrderPlaced, lambda order, ctx: order.user_id)  # E
bus.subscribe(OrderPlaced, lambda order, ctx: ctx.colour)  # E

# So does where=.
bus.subscribe(OrderPlaced, audit, where=lambda order: order.quantity > 1)
bus.subscribe(OrderPlaced, reserve, where=lambda order: order.user_id == 1)  # E: attr-defined

# A name or a pattern says nothing about the event.
assert_type(bus.subscribe("order.*", reserve), Subscription)
bus.subscribe("order.*", traced)
bus.subscribe("order.*", keyword)
bus.subscribe("order.*", lambda data: data["item"])
bus.subscribe("order.*", lambda data, context: data["item"] + context.name)
for number in range(3):
    bus.subscribe("order.*", lambda data, number=number: number + 1)
bus.subscribe("order.*", nothing)  # E: arg-type

# A subscription ends with its block.
with bus.subscribe(OrderPlaced, reserve) as subscription:
    assert_type(subscription, Subscription)
    subscription.pause()
    subscription.resume()
subscription.close()
