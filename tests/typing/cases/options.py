"""Options have names and types; what is misspelled or of another kind is refused."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from headwater import Backoff, Breaker, Bus, Rate, Resequence, Retry


@dataclass(frozen=True)
class OrderPlaced:
    order_id: str
    number: int


bus = Bus("sqlite:///shop.db", name="shop", on_error="raise", max_depth=3, drain_timeout=1)
Bus(on_error=lambda error, context: "ignore")
Bus(on_error="ignore")  # E: arg-type
Bus(max_depht=3)  # E: call-arg
Bus(max_depth="3")  # E: arg-type


def ship(order: OrderPlaced) -> None: ...
async def notify(order: OrderPlaced) -> None: ...


bus.subscribe(OrderPlaced, ship, name="ship", priority=-1, once=True, weak=False)
bus.subscribe(OrderPlaced, ship, where=lambda order: order.order_id == "o1")
bus.subscribe(OrderPlaced, ship, executor="pump")
bus.subscribe(OrderPlaced, ship, executor=ThreadPoolExecutor(1), concurrency=None)
bus.subscribe(OrderPlaced, ship, timeout=1.5, retry=Retry(3, Backoff(initial=timedelta(1))))
bus.subscribe(OrderPlaced, ship, timeout=timedelta(seconds=1), rate=Rate(10, overflow="shed"))
bus.subscribe(OrderPlaced, ship, resequence=Resequence(by="number"), breaker=Breaker(3, cooldown=1))
bus.subscribe(OrderPlaced, notify, concurrency=8)

bus.subscribe(OrderPlaced, ship, prioirty=1)  # E: call-overload
bus.subscribe(OrderPlaced, ship, priority="high")  # E: call-overload
bus.subscribe(OrderPlaced, ship, once="yes")  # E: call-overload
bus.subscribe(OrderPlaced, ship, executor="threads")  # E: call-overload
bus.subscribe(OrderPlaced, ship, concurrency="8")  # E: call-overload
bus.subscribe(OrderPlaced, ship, timeout="1 s")  # E: call-overload
bus.subscribe(OrderPlaced, ship, retry=3)  # E: call-overload
bus.subscribe(OrderPlaced, ship, rate=10)  # E: call-overload
bus.subscribe(OrderPlaced, ship, where="order_id")  # E: call-overload
bus.subscribe(OrderPlaced, ship, where=lambda: True)  # E
bus.on(OrderPlaced, prioirty=1)  # E: call-overload
bus.on(OrderPlaced, retry=3)  # E: call-overload

Retry(max_atempts=3)  # E: call-arg
Retry(on="ValueError")  # E: arg-type
Rate(10, overflow="drop")  # E: arg-type
Breaker().failures = 3  # E: misc
