"""Data to events: a published name with data builds the class that has the name."""

import math
from abc import ABC, abstractmethod
from collections import UserDict
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest

from headwater import Bus
from headwater.codec import build
from headwater.errors import InvalidData

T = TypeVar("T")


@dataclass(frozen=True)
class Frozen:
    item: str
    quantity: int = 1


@dataclass(slots=True, kw_only=True)
class Slotted:
    item: str
    quantity: int = 1


@dataclass(frozen=True)
class Derived(Frozen):
    tags: list[str] = field(default_factory=list)


class Struct(msgspec.Struct, frozen=True):
    item: str
    quantity: int = 1


@attrs.frozen
class Attrs:
    item: str
    quantity: int = 1


@attrs.define(slots=False)
class AttrsDict:
    item: str
    quantity: int = 1


class Model(pydantic.BaseModel):
    item: str
    quantity: int = 1


@pydantic.dataclasses.dataclass
class ModelDataclass:
    item: str
    quantity: int = 1


class Tuple(NamedTuple):
    item: str
    quantity: int = 1


TYPED: list[type[Any]] = [
    Frozen,
    Slotted,
    Derived,
    Struct,
    Attrs,
    AttrsDict,
    Model,
    ModelDataclass,
    Tuple,
]
every_kind = pytest.mark.parametrize("cls", TYPED, ids=lambda cls: cls.__name__)


@every_kind
def test_fields_make_an_event(cls: type[Any]) -> None:
    """Defaults stand in for what is not there."""
    assert build({"item": "apple", "quantity": 2}, cls, "order") == cls(item="apple", quantity=2)
    assert build({"item": "apple"}, cls, "order") == cls(item="apple")


@every_kind
def test_an_event_is_left_as_it_is(cls: type[Any]) -> None:
    """An instance needs no making."""
    order = cls(item="apple")
    assert build(order, cls, "order") is order


@every_kind
def test_unknown_fields_are_ignored(cls: type[Any]) -> None:
    """A newer sender may know more than this program."""
    assert build({"item": "apple", "colour": "red"}, cls, "order") == cls(item="apple")


@every_kind
@pytest.mark.parametrize(
    "data",
    [{}, {"quantity": 1}, {"item": "apple", "quantity": "many"}, {"item": None}, 42, "apple", []],
    ids=repr,
)
def test_data_that_does_not_fit_is_refused(cls: type[Any], data: object) -> None:
    """The text names the event and the class, shows the data, and says what is wrong with it."""
    with pytest.raises(InvalidData, match="expected data that makes a") as caught:
        build(data, cls, "order")
    assert str(caught.value).startswith(f"order: expected data that makes a {cls.__name__}, got ")
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is not None


@every_kind
@pytest.mark.parametrize("mapping", [MappingProxyType, UserDict], ids=lambda kind: kind.__name__)
def test_any_mapping_will_do(cls: type[Any], mapping: Any) -> None:
    """Not only a dict."""
    assert build(mapping({"item": "apple"}), cls, "order") == cls(item="apple")


class Plain:
    """A class without declared fields."""

    def __init__(self, item: str, quantity: int = 1) -> None:
        if not item:
            raise ValueError("an order has an item")
        self.item = item
        self.quantity = quantity


def test_a_plain_class_takes_the_fields_as_arguments() -> None:
    """Its constructor decides what fits."""
    order = build({"item": "apple"}, Plain, "order")
    assert (type(order), order.item, order.quantity) == (Plain, "apple", 1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "missing 1 required positional argument: 'item'"),
        ({"item": "apple", "colour": "red"}, "unexpected keyword argument 'colour'"),
        ({"item": ""}, "an order has an item"),
        (["apple"], "got \\['apple'\\] \\(list\\)"),
        ({1: 2}, "keywords must be strings"),
    ],
    ids=repr,
)
def test_what_a_constructor_refuses_is_refused(data: object, words: str) -> None:
    """Its own words are in the text."""
    with pytest.raises(InvalidData, match=words):
        build(data, Plain, "order")


def test_checks_of_the_class_itself_are_heard() -> None:
    """A `__post_init__` that raises refuses the data."""

    @dataclass
    class Checked:
        quantity: int

        def __post_init__(self) -> None:
            if self.quantity < 1:
                raise ValueError("at least one")

    assert build({"quantity": 1}, Checked, "order").quantity == 1
    with pytest.raises(InvalidData, match="at least one"):
        build({"quantity": 0}, Checked, "order")


def test_validators_of_pydantic_are_heard() -> None:
    """In models, in models of something other than fields, and in its dataclasses."""

    class Validated(pydantic.BaseModel):
        quantity: int = pydantic.Field(gt=0)

    @pydantic.dataclasses.dataclass
    class ValidatedDataclass:
        quantity: int = pydantic.Field(gt=0)

    class Numbers(pydantic.RootModel[list[int]]):
        """A model of a list."""

    classes: list[type[Any]] = [Validated, ValidatedDataclass]
    for cls in classes:
        assert build({"quantity": "2"}, cls, "order").quantity == 2
        with pytest.raises(InvalidData, match="greater than 0"):
            build({"quantity": 0}, cls, "order")
    assert build([1, 2], Numbers, "numbers") == Numbers([1, 2])


@dataclass
class Abstract(ABC):
    item: str

    @abstractmethod
    def total(self) -> int: ...


def test_an_abstract_class_makes_no_event() -> None:
    """It is there to be subscribed to."""
    with pytest.raises(InvalidData, match=r"makes a Abstract.*the class is abstract"):
        build({"item": "apple"}, Abstract, "order")  # type: ignore[type-abstract]


@dataclass(frozen=True)
class Changed(Generic[T]):
    value: T


def test_a_generic_class_takes_any_value() -> None:
    """What its parameter stands for is not known at run time."""
    assert build({"value": 1}, Changed, "changed") == Changed(1)
    assert build({"value": [1]}, Changed, "changed") == Changed([1])


class Colour(Enum):
    """A value of an event."""

    RED = "red"


@dataclass(frozen=True)
class Basket:
    orders: tuple[Frozen, ...]
    colours: dict[str, Colour]


def test_what_is_inside_is_made_too() -> None:
    """Nested classes, containers and enums."""
    data = {"orders": [{"item": "apple"}], "colours": {"apple": "red"}}
    assert build(data, Basket, "basket") == Basket((Frozen("apple"),), {"apple": Colour.RED})
    with pytest.raises(InvalidData, match="orders"):
        build({"orders": [{"thing": 1}], "colours": {}}, Basket, "basket")


class Fields(TypedDict):
    item: str


@pytest.mark.parametrize(
    ("data", "cls"),
    [
        (1, int),
        ([1, 2], list[int]),
        ({"apple": 1}, dict[str, int]),
        ({"item": "apple"}, Fields),
        ({"item": "apple"}, dict),
        (None, int | None),
        (math.inf, float),
    ],
    ids=repr,
)
def test_a_reply_may_be_of_any_type(data: object, cls: Any) -> None:
    """Built-in, generic, TypedDict or union."""
    assert build(data, cls, "reply") == data


@pytest.mark.parametrize(
    ("data", "cls"),
    [("1", int), (["a"], list[int]), ({"item": 1}, Fields), ("a", int | None), ({}, int)],
    ids=repr,
)
def test_a_reply_of_another_type_is_refused(data: object, cls: Any) -> None:
    """Nothing is guessed: text is no number."""
    with pytest.raises(InvalidData, match="reply: expected data that makes a"):
        build(data, cls, "reply")


class Unshowable:
    """What cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


def test_data_that_cannot_be_shown_is_still_refused() -> None:
    """A `__repr__` that fails does not hide the error; a long one is cut."""
    with pytest.raises(InvalidData, match="got something of type Unshowable"):
        build(Unshowable(), Frozen, "order")
    with pytest.raises(InvalidData) as caught:
        build({"item": 1, "rest": "x" * 10_000}, Frozen, "order")
    assert len(str(caught.value)) < 500


@every_kind
def test_publishing_a_registered_name_with_data_builds_its_class(cls: type[Any]) -> None:
    """The handler of the class gets an instance, and data that does not fit is refused at once."""
    bus, seen = Bus(), list[Any]()
    bus.subscribe(cls, seen.append)
    bus.publish(cls.__qualname__, {"item": "apple"})
    bus.publish(cls.__qualname__, cls(item="pear"))
    assert seen == [cls(item="apple"), cls(item="pear")]
    with pytest.raises(InvalidData):
        bus.publish(cls.__qualname__, {"quantity": 2})
    with pytest.raises(InvalidData):
        bus.publish(cls.__qualname__)
    assert len(seen) == 2


def test_a_name_without_a_class_takes_any_data() -> None:
    """As it is, nothing at all included."""
    bus, seen = Bus(), list[Any]()
    bus.subscribe("order.*", seen.append)
    for data in ({"item": "apple"}, 42, None, "text", [1]):
        bus.publish("order.placed", data)
    assert seen == [{"item": "apple"}, 42, None, "text", [1]]
