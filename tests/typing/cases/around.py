"""What stands around and beside handlers: middleware, observers, the context, errors."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, assert_type

from headwater import Bus, Context, Reject, RetryLater, current
from headwater.records import Failed, Handled, Record


@dataclass(frozen=True)
class OrderPlaced:
    order_id: str


bus = Bus()


@bus.middleware
def timed(event: object, context: Context) -> Iterator[None]:
    yield


@bus.middleware(on="publish")
def stamped(event: object) -> Iterator[None]:
    yield


@bus.middleware(on="handle")
async def opened(event: object, context: Context) -> AsyncIterator[None]:
    yield


assert_type(timed("event", Context), Iterator[None])  # E: arg-type
bus.middleware(on="handel")  # E: call-overload


@bus.observe
def watch(record: Record) -> None:
    if isinstance(record, Handled):
        assert_type(record.seconds, float)
    if isinstance(record, Failed):
        assert_type(record.error, BaseException)
    record.name = "other"  # E: misc


assert_type(watch(Record(time=0, name="A", event_id="")), None)
Handled(time=0, name="A")  # E: call-arg
bus.observe(lambda record: record.name)
bus.observe(lambda record: record.seconds)  # E
bus.observe(42)  # E


@bus.on(OrderPlaced)
def ship(order: OrderPlaced, context: Context) -> None:
    assert_type(context.key, str | None)
    assert_type(context.attempt, int)
    assert_type(context.state, dict[str, Any])
    assert_type(current(), Context | None)
    context.bus.publish(OrderPlaced("o2"))
    if context.attempt > 1:
        raise Reject("twice")
    raise RetryLater("soon")  # E: arg-type
