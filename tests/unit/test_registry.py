"""The registry, through the bus: who is found, in which order, and what is forgotten."""

import gc
import sys
import types
import weakref
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Bus, event
from headwater.errors import DuplicateName, InvalidName, InvalidOption
from headwater.registry import MAX_ROUTES, Registry, check_what


class Event:
    pass


@dataclass(frozen=True)
class Placed(Event):
    number: int = 0


@dataclass(frozen=True)
class Cancelled(Event):
    number: int = 0


def local(name: str, *bases: type, **members: object) -> Any:
    """A class of that name, as if a module had defined it."""
    members["__module__"] = __name__
    return types.new_class(name, bases, exec_body=lambda body: body.update(members))


def registry_of(bus: Bus) -> Registry:
    """What is behind a bus."""
    return bus._registry


def test_a_subscription_counts_once_however_often_it_matches() -> None:
    """By class, base, name and pattern at once: one call."""
    bus, seen = Bus(), list[object]()
    bus.on(Placed, Event, "Placed", "Event", "*", "**", Placed, "*")(seen.append)
    bus.publish(Placed())
    assert len(seen) == 1


def test_the_same_function_subscribed_twice_is_called_twice() -> None:
    """Two subscriptions, each with an end of its own."""
    bus, seen = Bus(), list[object]()
    first = bus.subscribe(Placed, seen.append)
    bus.subscribe(Placed, seen.append)
    bus.publish(Placed(1))
    first.close()
    bus.publish(Placed(2))
    assert seen == [Placed(1), Placed(1), Placed(2)]


def test_order_is_priority_then_registration_across_classes_names_and_patterns() -> None:
    """Negative priorities too; equal ones stay in order."""
    bus, seen = Bus(), list[str]()
    wanted: list[tuple[str, Any, int]] = [
        ("pattern", "**", 0),
        ("low", Placed, -1),
        ("class", Placed, 0),
        ("high", "Placed", 10),
        ("base", Event, 0),
        ("lower", "*", -5),
        ("name", "Placed", 0),
    ]
    for name, what, priority in wanted:
        bus.subscribe(what, lambda _, name=name: seen.append(name), priority=priority)
    bus.publish(Placed())
    assert seen == ["high", "pattern", "class", "base", "name", "low", "lower"]


def test_a_name_without_a_class_finds_names_and_patterns() -> None:
    """Nothing by class."""
    bus, seen = Bus(), list[str]()
    for what in ("order.placed", "order.*", "*.placed", "**", "order", "order.cancelled"):
        bus.subscribe(what, lambda _, what=what: seen.append(what))
    bus.subscribe(object, lambda _: seen.append("object"))
    bus.publish("order.placed")
    assert seen == ["order.placed", "order.*", "*.placed", "**"]


def test_subscribing_is_seen_by_the_next_publish() -> None:
    """However many times the route was used before."""
    bus, seen = Bus(), list[str]()
    bus.subscribe(Event, lambda _: seen.append("event"))
    bus.publish(Placed())
    for what in (Placed, "Placed", "*", "**", Event, object):
        with bus.subscribe(what, lambda _: seen.append("more")):
            for _ in range(2):
                seen.clear()
                bus.publish(Placed())
                assert seen == ["event", "more"]
        seen.clear()
        bus.publish(Placed())
        assert seen == ["event"]


def test_closing_one_leaves_the_others() -> None:
    """Of the same class, of its base, and of a pattern."""
    bus, seen = Bus(), list[str]()
    wanted: dict[str, Any] = {"a": Placed, "b": Placed, "c": Event, "d": "**", "e": "Placed"}
    open_ = {
        name: bus.subscribe(what, lambda _, name=name: seen.append(name))
        for name, what in wanted.items()
    }
    for name in "bdeac":
        open_.pop(name).close()
        seen.clear()
        bus.publish(Placed())
        assert seen == sorted(open_)


# Names.


def test_two_classes_of_one_name_are_refused() -> None:
    """At registration, with both of them in the text, and the fix."""
    bus = Bus()
    first, second = local("Order"), local("Order")
    second.__module__ = "elsewhere"
    bus.subscribe(first, print)
    with pytest.raises(DuplicateName) as caught:
        bus.subscribe(second, print)
    text = str(caught.value)
    assert f"elsewhere.Order and {__name__}.Order are both named 'Order'" in text
    assert "@event(name=...)" in text
    assert len(list(registry_of(bus))) == 1


def test_two_classes_of_one_name_are_refused_at_the_publish_too() -> None:
    """When the second one is only published, and when the first one was."""
    first, second = local("Order"), local("Order")
    bus = Bus()
    bus.subscribe(first, print)
    with pytest.raises(DuplicateName):
        bus.publish(second())
    bus = Bus()
    bus.subscribe("**", lambda _: None)
    bus.publish(first())
    for _ in range(2):
        with pytest.raises(DuplicateName):
            bus.publish(second())
    bus.publish(first())


def test_an_alias_is_a_name() -> None:
    """Nobody else may have it, in either order, and a refused class has claimed nothing."""
    new = event(name="order.placed", aliases=("order.created",))(local("New"))
    old = event(name="order.created")(local("Old"))
    other = event(name="order.placed")(local("Other"))
    bus = Bus()
    bus.subscribe(old, print)
    with pytest.raises(DuplicateName, match=r"'order\.created'"):
        bus.subscribe(new, print)
    bus.subscribe(other, print)
    bus = Bus()
    bus.subscribe(new, print)
    with pytest.raises(DuplicateName, match=r"'order\.created'"):
        bus.subscribe(old, print)


def test_a_refused_subscription_claims_no_name() -> None:
    """Whatever refused it: the second class, the handler, or middleware."""
    taken, again, free = local("Taken"), local("Taken"), local("Free")
    bus = Bus()
    bus.subscribe(taken, print)
    with pytest.raises(DuplicateName):
        bus.on(free, again)(print)
    with pytest.raises(DuplicateName):
        bus.on(local("Twice"), local("Twice"))(print)
    assert set(registry_of(bus).classes) == {"Taken"}
    bus.subscribe(local("Free"), print)
    bus.subscribe(local("Twice"), print)


def test_other_buses_have_other_names() -> None:
    """A name is unique on its bus."""
    first, second = local("Order"), local("Order")
    Bus().subscribe(first, print)
    Bus().subscribe(second, print)


# Bounded.


def test_full_unsubscription_empties_everything() -> None:
    """Nothing is left of classes, names and patterns, nor of what was published."""
    bus = Bus()
    names = ("order.placed", "order.*", "**")
    for what in (Placed, Event, *names):
        bus.subscribe(what, lambda _: None)
    bus.on(Cancelled, "a", "b.*")(lambda _: None)
    for _ in range(2):
        bus.publish(Placed())
        bus.publish(Cancelled())
    bus.publish("nobody.wants.this")
    for subscription in list(registry_of(bus)):
        subscription.close()
    registry = registry_of(bus)
    assert list(registry) == []
    assert registry.classes == {}
    assert registry.hot == {}
    assert (registry._exact, registry._patterns, registry._routes) == ({}, (), {})
    assert registry._dependents == {}


def test_a_closed_handler_is_let_go() -> None:
    """With everything that only it kept alive."""

    class Shop:
        def reserve(self, order: Placed) -> None:
            """Take an order."""

    shop = Shop()
    gone = weakref.ref(shop)
    bus = Bus()
    with bus.subscribe(Placed, shop.reserve):
        bus.publish(Placed())
    del shop
    gc.collect()
    assert gone() is None


def test_a_class_is_let_go_when_nobody_subscribes_any_more() -> None:
    """Routes and claims do not keep classes made at run time."""
    bus = Bus()
    made = local("MadeAtRunTime")
    gone = weakref.ref(made)
    with bus.subscribe(made, print):
        pass
    del made
    gc.collect()
    assert gone() is None


def test_names_made_up_without_end_cost_no_memory() -> None:
    """Routes are kept up to a number, and built anew after that."""
    bus, seen = Bus(), list[object]()
    bus.subscribe("order.*", seen.append)
    registry = registry_of(bus)
    for number in range(MAX_ROUTES + 10):
        registry.route(f"order.{number}")
    assert len(registry._routes) <= MAX_ROUTES
    assert len(registry._dependents) <= MAX_ROUTES + 1
    bus.publish("order.1", 1)
    assert seen == [1]


def test_a_subscription_costs_little_memory() -> None:
    """At most 1 KiB each, of a plain function by a class or a name."""
    tracemalloc = pytest.importorskip("tracemalloc")
    bus, many = Bus(), 2000
    bus.subscribe("warm.up", print)
    handlers = [lambda event: None for _ in range(many)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [
            bus.subscribe(f"order.{number}", handler) for number, handler in enumerate(handlers)
        ]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == many
    assert (after - before) / many <= 1024
    assert sys.getsizeof(kept[0]) <= 256


# What to subscribe to.


@pytest.mark.parametrize(
    "what", [None, 42, b"order", [Placed], (Placed,), Placed(), print], ids=repr
)
def test_only_classes_and_names_can_be_subscribed_to(what: Any) -> None:
    """The text shows what came."""
    bus = Bus()
    with pytest.raises(InvalidOption, match="expected an event class or a dotted name, got"):
        bus.subscribe(what, print)
    assert list(registry_of(bus)) == []


def test_nothing_to_subscribe_to_is_refused() -> None:
    """`@bus.on()` has forgotten something."""
    with pytest.raises(InvalidOption, match="at least one event class or dotted name, got none"):
        Bus().on()(print)


def test_type_arguments_are_not_known_at_run_time() -> None:
    """A subscription to `list[int]` or `A | B` is refused with the fix."""
    with pytest.raises(InvalidOption, match=r"got list\[int\].*; an event does not know its type"):
        check_what([list[int]])
    with pytest.raises(InvalidOption, match=r"Placed \| .*Cancelled .*; give the classes one by"):
        check_what([Placed | Cancelled])


@pytest.mark.parametrize("name", ["", "a..b", "a b", "order*", "**.placed"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """And nothing else of the same call is subscribed."""
    bus, seen = Bus(), list[object]()
    with pytest.raises(InvalidName):
        bus.on(Placed, name)(seen.append)
    bus.publish(Placed())
    assert seen == []
