"""Event classes: of every kind, as they are, and with what `@event` says about them."""

import enum
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import attrs
import msgspec
import pydantic
import pytest

from headwater import Bus, Context, event
from headwater.errors import InvalidData, InvalidEvent, InvalidName, InvalidOption
from headwater.event import key_function, name_of, names_of, spec_of, topic_of

T = TypeVar("T")


def local(name: str, *bases: type, **members: object) -> Any:
    """A class of that name, as if a module had defined it."""
    members["__module__"] = __name__
    return types.new_class(name, bases, exec_body=lambda body: body.update(members))


@dataclass(frozen=True)
class Frozen:
    number: int = 0


@dataclass(slots=True)
class Slotted:
    number: int = 0


@dataclass
class Unhashable:
    number: int = 0


class Struct(msgspec.Struct):
    number: int = 0


class FrozenStruct(msgspec.Struct, frozen=True, gc=False):
    number: int = 0


@attrs.frozen
class Attrs:
    number: int = 0


class Model(pydantic.BaseModel):
    number: int = 0


class Tuple(NamedTuple):
    number: int = 0


class Plain:
    number = 0


class Empty:
    __slots__ = ()


class Failure(Exception):
    number = 0


class Changed(Generic[T]):
    number = 0


class Weekday(enum.Enum):
    MONDAY = 1


class Falsy:
    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


class Awkward:
    """Equal to nothing, and unwilling to be shown."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError


EVENTS = [
    Frozen(),
    Slotted(),
    Unhashable(),
    Struct(),
    FrozenStruct(),
    Attrs(),
    Model(),
    Tuple(),
    Plain(),
    Empty(),
    Failure("out of stock"),
    Changed[int](),
    Weekday.MONDAY,
    Falsy(),
    Awkward(),
    ValueError("an exception of Python's own"),
]
every_kind = pytest.mark.parametrize("published", EVENTS, ids=lambda one: type(one).__name__)


@every_kind
def test_every_kind_of_class_is_an_event(published: object) -> None:
    """Its class, a class above it, its name and patterns all lead to it, as the object it is."""
    cls = type(published)
    seen: list[tuple[Any, object]] = []
    bus = Bus()
    for what in (cls, object, cls.__qualname__, "*"):
        bus.on(what)(lambda got, what=what: seen.append((what, got)))
    for _ in range(2):
        receipt = bus.publish(published)
        assert receipt.done
        assert not receipt.errors
    assert [what for what, _ in seen] == [cls, object, cls.__qualname__, "*"] * 2
    assert all(got is published for _, got in seen)


@every_kind
def test_every_kind_of_event_goes_every_way(published: object) -> None:
    """To a thread, to a loop, with options, and with its context."""
    seen: list[object] = []

    async def soon(got: object, context: Context) -> None:
        seen.append(got)

    with Bus() as bus:
        bus.subscribe(type(published), seen.append, executor="thread")
        bus.subscribe(type(published), soon)
        bus.publish(published, key="k", headers={"a": "b"})
    assert len(seen) == 2
    assert all(got is published for got in seen)


def test_an_event_reaches_handlers_of_all_its_bases() -> None:
    """Through inheritance and multiple inheritance, each subscription once."""
    event_ = local("Event")
    audited = local("Audited")
    order = local("OrderEvent", event_)
    placed = local("OrderPlaced", order, audited)
    bus, seen = Bus(), list[str]()
    for cls in (event_, audited, order, placed):
        bus.subscribe(cls, lambda _, cls=cls: seen.append(cls.__qualname__))
    bus.on(placed, event_, "OrderEvent", "**")(lambda _: seen.append("all"))
    bus.publish(placed())
    assert seen == ["Event", "Audited", "OrderEvent", "OrderPlaced", "all"]
    seen.clear()
    bus.publish(order())
    assert seen == ["Event", "OrderEvent", "all"]
    seen.clear()
    bus.publish(audited())
    assert seen == ["Audited", "all"]


def test_abstract_bases_are_there_to_be_subscribed_to() -> None:
    """Their concrete classes arrive; they themselves are never built from data."""

    @event(name="test.billable")
    class Billable(ABC):
        @abstractmethod
        def total(self) -> int: ...

    class Invoice(Billable):
        def total(self) -> int:
            return 42

    bus, seen = Bus(), list[int]()
    bus.subscribe(Billable, lambda bill: seen.append(bill.total()))  # type: ignore[type-abstract]
    bus.publish(Invoice())
    assert seen == [42]
    with pytest.raises(InvalidData, match="abstract"):
        bus.publish("test.billable", {})


def test_a_virtual_subclass_is_none() -> None:
    """What counts is inheritance, which is known once: not `register`, and not a protocol."""

    @runtime_checkable
    class HasNumber(Protocol):
        number: int

    class Registered(ABC):  # noqa: B024
        """A base that `Plain` is only registered with."""

    Registered.register(Plain)
    bus, seen = Bus(), list[object]()
    bus.subscribe(Registered, seen.append)
    bus.subscribe(HasNumber, seen.append)  # type: ignore[type-abstract]
    bus.publish(Plain())
    assert seen == []


# Names.


def test_the_name_is_the_qualname_unless_said_otherwise() -> None:
    """`name=` is for this class alone, not for those below it."""

    @event(name="order.placed")
    class OrderPlaced:
        pass

    class Express(OrderPlaced):
        pass

    here = "test_the_name_is_the_qualname_unless_said_otherwise.<locals>"
    assert name_of(Plain) == "Plain"
    assert name_of(OrderPlaced) == "order.placed"
    assert name_of(Express) == f"{here}.Express"
    assert names_of(Express) == (f"{here}.Express", "order.placed")


def test_names_go_from_leaf_to_root_without_what_is_nobodys_fact() -> None:
    """`object`, `Generic`, `ABC`, `BaseModel`, `Struct` and `Exception` name nothing."""
    for cls in (Plain, Struct, Model, Failure, Changed, Tuple, Weekday):
        assert names_of(cls)[0] == cls.__name__
    assert names_of(Failure) == ("Failure",)
    assert names_of(Model) == ("Model",)
    assert names_of(Changed) == ("Changed",)
    assert names_of(ValueError) == ("ValueError",)


def test_a_subscription_by_name_gets_classes_below_it() -> None:
    """A message carries all its names."""

    @event(name="shop.order")
    class Order:
        pass

    @event(name="shop.order.express")
    class Express(Order):
        pass

    bus, seen = Bus(), list[tuple[str, str]]()
    for what in ("shop.order", "shop.*", "shop.order.*", "shop.**"):
        bus.on(what)(lambda _, context, what=what: seen.append((what, context.name)))
    bus.publish(Express())
    express = "shop.order.express"
    assert seen == [(what, express) for what in ("shop.order", "shop.*", "shop.order.*", "shop.**")]


def test_an_alias_builds_the_class_too() -> None:
    """Data under an older name is an event of today's name."""

    @event(name="order.placed", aliases=("order.created", "OrderCreated"))
    @dataclass
    class OrderPlaced:
        item: str

    bus, seen = Bus(), list[object]()
    bus.subscribe(OrderPlaced, lambda order, context: seen.append((order, context.name)))
    for name in ("order.placed", "order.created", "OrderCreated"):
        bus.publish(name, {"item": name})
        assert seen.pop() == (OrderPlaced(name), "order.placed")


# Topic and key.


def test_the_topic_is_inherited() -> None:
    """From the nearest class that says one; `events` in the end."""

    @event(topic="orders")
    class Order:
        pass

    @event(name="placed")
    class Placed(Order):
        pass

    @event(topic="express")
    class Express(Placed):
        pass

    assert [topic_of(cls) for cls in (Plain, Order, Placed, Express)] == [
        "events",
        "orders",
        "orders",
        "express",
    ]


def test_the_key_is_an_attribute_or_a_function_and_inherited() -> None:
    """Whatever it gives is a `str` for the message; None is no key."""

    @event(key="order_id")
    @dataclass
    class Order:
        order_id: int | None = 7

    class Placed(Order):
        pass

    @event(key=lambda order: ("express", order.order_id))
    class Express(Order):
        pass

    bus, keys = Bus(), list[str | None]()
    bus.subscribe(object, lambda _, context: keys.append(context.key))
    for published in (Order(), Placed(), Express(), Order(None), Plain()):
        bus.publish(published)
    bus.publish(Order(), key=8)
    assert keys == ["7", "7", "('express', 7)", None, None, "8"]
    assert key_function(Plain) is None


def test_a_key_may_be_a_property_a_slot_or_an_annotation() -> None:
    """Anything that an instance will have."""

    class Property:
        @property
        def order_id(self) -> str:
            return "o1"

    class Slot:
        __slots__ = ("order_id",)

    class Annotation:
        order_id: str

    for cls in (Property, Slot, Annotation, Frozen, Struct, Attrs, Model, Tuple):
        key = "number" if "number" in getattr(cls, "__annotations__", ()) else "order_id"
        assert event(key=key)(local("Keyed", cls))


def test_a_key_that_cannot_be_read_is_an_error_of_the_publish() -> None:
    """The event says less than its class promised, and no handler is called."""

    @event(key="order_id")
    class Order:
        order_id: str

    bus, seen = Bus(), list[object]()
    bus.subscribe(Order, seen.append, executor="pump")
    with pytest.raises(InvalidEvent, match="its key cannot be read: AttributeError") as caught:
        bus.publish(Order())
    assert isinstance(caught.value.__cause__, AttributeError)
    assert bus.pump() == 0


# The decorator.


def test_the_decorator_gives_back_the_class() -> None:
    """With and without arguments, with and without parentheses."""
    for decorate in (event, event(), event(name="plain.decorated")):
        cls = local("Decorated")
        assert decorate(cls) is cls
    assert spec_of(event(local("Bare"))) == spec_of(local("Undecorated"))


def test_the_decorator_may_stand_on_either_side_of_others() -> None:
    """What it says survives decorators that make the class anew."""

    @event(name="outer", key="number")
    @dataclass(slots=True)
    class Outer:
        number: int

    @dataclass(slots=True)
    @event(name="inner", key="number")
    class Inner:
        number: int

    @attrs.define
    @event(name="attrs", key="number")
    class InnerAttrs:
        number: int

    for cls in (Outer, Inner, InnerAttrs):
        assert spec_of(cls).name in ("outer", "inner", "attrs")
        assert spec_of(cls).key == "number"


@every_kind
def test_every_kind_of_class_can_be_decorated(published: object) -> None:
    """Whatever its metaclass says about attributes."""
    cls = type(published)
    if cls.__module__ == "builtins":
        with pytest.raises(InvalidOption, match="expected a class of yours, got <class 'ValueErr"):
            event(name="decorated")(cls)
        return
    if issubclass(cls, enum.Enum):
        return  # Its members are final: nothing is derived from it.
    assert name_of(event(name="test.decorated")(local("Decorated", cls))) == "test.decorated"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"name": "order..placed"}, InvalidName, "got an empty one"),
        ({"name": "order.*"}, InvalidName, "got a wildcard"),
        ({"name": 42}, InvalidName, "expected a str, got int 42"),
        ({"topic": ""}, InvalidName, "got an empty one"),
        ({"aliases": ("a b",)}, InvalidName, "no white space"),
        ({"aliases": "OrderCreated"}, InvalidOption, "a tuple of names, got 'OrderCreated'"),
        ({"aliases": 42}, InvalidOption, "a tuple of names, got 42"),
        ({"key": "order"}, InvalidOption, "an attribute of Order, got 'order'; did you mean 'orde"),
        ({"key": 42}, InvalidOption, r"function of the event, got 42 \(int\)"),
        ({"version": 0}, InvalidOption, "an int >= 1, got 0"),
        ({"version": True}, InvalidOption, "an int >= 1, got True"),
        ({"version": "2"}, InvalidOption, "an int >= 1, got '2'"),
        ({"upgrade": [dict]}, InvalidOption, "expected a dict, got"),
        ({"upgrade": {1: dict}}, InvalidOption, "each version up to 0"),
        ({"version": 2, "upgrade": {2: dict}}, InvalidOption, "each version up to 1"),
        ({"version": 3, "upgrade": {1: dict}}, InvalidOption, "up to 2, the last one before"),
        ({"version": 3, "upgrade": {0: dict, 1: dict, 2: dict}}, InvalidOption, "up to 2"),
        ({"version": 2, "upgrade": {1: "dict"}}, InvalidOption, "expected a function for each"),
        ({"version": 2, "upgrade": {"1": dict}}, InvalidOption, "expected a function for each"),
    ],
    ids=repr,
)
def test_nonsense_is_refused_where_it_is_written(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """The class is left as it was."""
    cls = local("Order", __annotations__={"order_id": str})
    with pytest.raises(error, match=words):
        event(**options)(cls)
    assert spec_of(cls) == spec_of(Plain)


@pytest.mark.parametrize("target", [42, "order.placed", None.__class__, lambda: None], ids=repr)
def test_only_a_class_can_be_decorated(target: Any) -> None:
    """The text shows what came."""
    with pytest.raises(InvalidOption, match="@event: expected a class"):
        event(target)


@pytest.mark.parametrize(
    "options",
    [
        {"version": 2},
        {"version": 2, "upgrade": {1: dict}},
        {"version": 4, "upgrade": {3: dict, 2: dict}},
        {"upgrade": {}},
    ],
    ids=repr,
)
def test_upgrades_lead_to_the_version_without_a_gap(options: dict[str, Any]) -> None:
    """From the oldest version that is still known on."""
    spec = spec_of(event(**options)(local("Order")))
    assert spec.version == options.get("version", 1)
    assert spec.upgrade == options.get("upgrade", {})
