"""Forwarding: buses connected, the same event on each of them, and no event goes round for ever."""

import asyncio
from dataclasses import dataclass

from headwater import Bus, Context, event


@event(key="shop")
@dataclass(frozen=True)
class Sold:
    shop: str = "north"


def contexts(bus: Bus) -> list[Context]:
    """A list that fills with the contexts of everything that the bus handles."""
    seen: list[Context] = []

    def note(event: object, context: Context) -> None:
        seen.append(context)

    bus.subscribe("**", note)
    return seen


def test_what_matches_is_published_on_the_other_bus_too() -> None:
    """And nothing else; handlers of the first one get it as ever."""
    near, far = Bus(name="near"), Bus(name="far")
    here, there = contexts(near), contexts(far)
    near.forward(Sold, to=far)
    near.publish(Sold())
    near.publish("other", 1)
    assert [context.message.event for context in here] == [Sold(), 1]
    assert [context.message.event for context in there] == [Sold()]
    assert there[0].bus is far


def test_it_is_the_same_event_there() -> None:
    """The same object, id, time, key, headers and story."""
    near, far = Bus(name="near"), Bus(name="far")
    here, there = contexts(near), contexts(far)
    near.forward("**", to=far)
    near.publish(Sold(), headers={"user": "7"}, id="e1")
    (first,), (second,) = here, there
    assert second.message.event is first.message.event
    assert second.event_id == "e1"
    for attribute in ("name", "key", "topic", "time", "correlation_id", "causation_id", "depth"):
        assert getattr(second, attribute) == getattr(first, attribute)
    assert second.headers == {"user": "7", "path": "near"}
    assert first.headers == {"user": "7"}


def test_what_is_published_there_belongs_to_the_story() -> None:
    """A handler behind the forward still has the first event as its cause."""
    near, far = Bus(), Bus()
    near.forward(Sold, to=far)
    far.subscribe(Sold, lambda sold: far.publish("counted", 1))
    there = contexts(far)
    near.publish(Sold(), id="e1")
    counted = next(context for context in there if context.name == "counted")
    assert (counted.causation_id, counted.correlation_id, counted.depth) == ("e1", "e1", 1)


def test_a_cycle_of_three_buses_stops() -> None:
    """Each handles the event once, wherever it begins."""
    buses = [Bus(name=name) for name in "abc"]
    seen = [contexts(bus) for bus in buses]
    for bus, following in zip(buses, [*buses[1:], buses[0]], strict=True):
        bus.forward("**", to=following)
    for start, order in enumerate(("abc", "bca", "cab")):
        buses[start].publish(Sold())
        assert [len(contexts) for contexts in seen] == [start + 1] * 3
        last = seen["abc".index(order[-1])][-1]
        assert last.headers["path"] == ",".join(order[:-1])


def test_two_buses_that_forward_to_each_other_stop() -> None:
    """Also without names of their own."""
    near, far = Bus(), Bus()
    here, there = contexts(near), contexts(far)
    near.forward("**", to=far)
    far.forward("**", to=near)
    near.publish(Sold())
    far.publish(Sold())
    assert len(here) == len(there) == 2


def test_a_cycle_stops_for_async_handlers_too() -> None:
    """On a loop, with handlers that take their time."""
    near, far, handled = Bus(), Bus(), list[str]()

    async def main() -> None:
        for name, bus in (("near", near), ("far", far)):

            async def note(sold: Sold, name: str = name) -> None:
                handled.append(name)

            bus.subscribe(Sold, note)
        near.forward("**", to=far)
        far.forward("**", to=near)
        await near.publish(Sold())
        assert sorted(handled) == ["far", "near"]
        await near.idle(timeout=30)
        await far.idle(timeout=30)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_forward_ends_with_its_subscription() -> None:
    """It is a subscription like any other, with a name that says where to."""
    near, far = Bus(), Bus(name="far")
    there = contexts(far)
    forward = near.forward("**", to=far)
    assert forward.name == "forward to far"
    forward.close()
    with near.muted("**"):
        near.publish(Sold())
    assert there == []


def test_a_failure_there_is_isolated_there() -> None:
    """The publisher here is not told: its own delivery, the forward, has succeeded."""
    near, far = Bus(), Bus()
    near.forward(Sold, to=far)
    far.subscribe(Sold, lambda sold: 1 // 0)
    assert near.publish(Sold()).errors == ()


def test_a_name_without_a_class_is_forwarded_as_it_is() -> None:
    """Its data too, also where the other bus knows a class of that name."""
    near, far = Bus(), Bus()
    here, there = contexts(near), contexts(far)
    far.subscribe(Sold, lambda sold: None)
    near.forward("**", to=far)
    near.publish("Sold", {"shop": "south"})
    assert here[0].message.event == {"shop": "south"}
    assert [context.name for context in there] == ["Sold"]
