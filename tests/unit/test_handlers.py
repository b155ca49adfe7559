"""Handlers declared without a bus: checked when declared, subscribed when included."""

from dataclasses import dataclass

import pytest

from headwater import Breaker, Bus, Context, Handlers, Retry
from headwater.errors import InvalidHandler, InvalidName, InvalidOption, Unsupported


@dataclass(frozen=True)
class Placed:
    number: int = 0


@dataclass(frozen=True)
class Cancelled:
    number: int = 0


def test_the_decorator_gives_back_the_function() -> None:
    """As it is, so that it can be called and tested by itself."""
    handlers, bus = Handlers(), Bus()

    def reserve(order: Placed) -> int:
        return order.number

    decorated = handlers.on(Placed)(reserve)
    assert decorated is reserve
    assert bus.on(Placed)(reserve) is reserve
    assert bus.on("placed", priority=1)(reserve) is reserve
    assert bus.reply(Placed)(reserve) is reserve
    assert handlers.on(Placed, Cancelled)(lambda _: None) is not None


def test_nothing_happens_until_they_are_included() -> None:
    """A library declares; the application decides where."""
    handlers, seen = Handlers(), list[object]()
    handlers.subscribe(Placed, seen.append)
    handlers.on("*")(seen.append)
    bus = Bus()
    bus.publish(Placed())
    assert seen == []
    included = bus.include(handlers)
    bus.publish(Placed())
    assert seen == [Placed(), Placed()]
    assert [one.what for one in included] == [(Placed,), ("*",)]
    for subscription in included:
        subscription.close()
    bus.publish(Placed())
    assert len(seen) == 2


def test_they_are_subscribed_in_the_order_of_their_declaration() -> None:
    """With their options, behind what is there already."""
    handlers, seen = Handlers(), list[str]()
    handlers.on(Placed)(lambda _: seen.append("first"))
    handlers.on(Placed, priority=5)(lambda _: seen.append("urgent"))
    handlers.on(Placed, once=True, name="only")(lambda _: seen.append("once"))
    bus = Bus()
    bus.subscribe(Placed, lambda _: seen.append("before"))
    included = bus.include(handlers)
    assert included[2].name == "only"
    bus.publish(Placed())
    bus.publish(Placed())
    assert seen == ["urgent", "before", "first", "once", "urgent", "before", "first"]


def test_they_may_be_included_in_several_buses_and_more_than_once() -> None:
    """Each time they are subscriptions of their own."""
    handlers, seen = Handlers(), list[str]()

    @handlers.on(Placed)
    def note(order: Placed, context: Context) -> None:
        seen.append(repr(context.bus))

    one, other = Bus(name="one"), Bus(name="other")
    one.include(handlers)
    other.include(handlers)
    other.include(handlers)
    one.publish(Placed())
    other.publish(Placed())
    assert [text.split()[1] for text in seen] == ["one,", "other,", "other,"]


def test_what_is_declared_later_is_not_included_yet() -> None:
    """Including takes what is there."""
    handlers, seen = Handlers(), list[object]()
    bus = Bus()
    assert bus.include(handlers) == ()
    handlers.subscribe(Placed, seen.append)
    bus.publish("other")
    assert seen == []
    assert len(handlers) == 1
    assert [what for what, _, _ in handlers] == [(Placed,)]


def test_mistakes_are_found_where_they_are_written() -> None:
    """At the declaration, not at the inclusion, and nothing of them is kept."""
    handlers = Handlers()
    with pytest.raises(InvalidHandler):
        handlers.subscribe(Placed, lambda: None)  # type: ignore[arg-type, misc]
    with pytest.raises(InvalidName):
        handlers.on("a..b")(print)
    with pytest.raises(InvalidOption, match="unknown option"):
        handlers.on(Placed, retires=Retry())(print)  # type: ignore[call-overload]
    with pytest.raises(Unsupported):
        handlers.on(Placed, start="beginning", once=True)(print)
    with pytest.raises(InvalidOption, match=r"as in @bus\.on\(OrderPlaced\)"):
        handlers.on(print)  # type: ignore[call-overload]
    assert len(handlers) == 0


def test_what_only_a_transport_can_do_is_refused_by_the_bus_that_cannot() -> None:
    """Handlers that are declared without a bus do not know which one it will be."""
    handlers = Handlers()
    handlers.on(Placed, when_dead="park", name="parks")(print)
    with pytest.raises(Unsupported, match="when_dead="):
        Bus().include(handlers)
    bus = Bus("memory://", name="shop")
    bus.include(handlers)
    assert [reaction.handler for reaction in bus.topology().reactions] == ["shop:parks"]


def test_including_is_all_or_nothing() -> None:
    """An error that only the bus can find takes back what it had subscribed."""
    handlers, seen = Handlers(), list[object]()
    handlers.subscribe(Placed, seen.append)
    handlers.subscribe(Placed, seen.append, breaker=Breaker(), timeout=1)
    handlers.subscribe(type("Placed", (), {"__module__": "elsewhere"}), seen.append)
    bus = Bus()
    with pytest.raises(ValueError, match="both named 'Placed'"):
        bus.include(handlers)
    assert not bus.topology().reactions
    bus.publish(Placed())
    assert seen == []
