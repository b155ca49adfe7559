"""Events on the wire: every kind of class, there and back, and what does not fit."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater import event
from headwater.envelope import Envelope, decoder_of, unseal, wire_of
from headwater.errors import InvalidData, InvalidEvent, Undecodable
from headwater.event import name_of


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Priority(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Line:
    item: str
    price: Decimal
    sizes: tuple[Size, ...] = ()


@dataclass(frozen=True)
class Everything:
    at: datetime
    day: date
    price: Decimal
    id: UUID
    size: Size
    priority: Priority
    line: Line
    lines: tuple[Line, ...]
    raw: bytes
    note: str | None
    number: int
    share: float
    tags: frozenset[str]
    table: dict[str, list[int]]
    span: timedelta
    pair: tuple[int, str] = (1, "one")


class Struct(msgspec.Struct, frozen=True):
    item: str
    count: int = 1
    raw: bytes = b""


class TaggedStruct(msgspec.Struct, tag=True, rename="camel"):
    item_name: str


@attrs.frozen
class Attrs:
    item: str
    at: datetime
    counts: list[int] = attrs.field(factory=list[int])


class Model(pydantic.BaseModel):
    item: str
    at: datetime
    raw: bytes = b""
    part: Struct | None = None

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)


@pydantic.dataclasses.dataclass
class PydanticDataclass:
    item: str
    count: int = pydantic.Field(ge=0, default=0)


class Pair(NamedTuple):
    left: str
    right: int = 5


class Plain:
    def __init__(self, item: str, count: int = 1) -> None:
        self.item = item
        self.count = count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass
class Empty:
    pass


AT = datetime(2026, 5, 4, 3, 2, 1, 654321, tzinfo=UTC)


def sealed(event_: object, what: type | str | None = None, **changed: Any) -> Envelope:
    """The envelope in which an event travels."""
    wire = wire_of(type(event_) if what is None else what, "events")
    envelope = Envelope(
        "e1", wire.topic, None, wire.names, wire.version, 1.0, None, None, 0, None,
        wire.encode(event_),
    )  # fmt: skip
    return envelope._replace(**changed)


def opened(envelope: Envelope, classes: Mapping[str, type[Any]]) -> object:
    """The event in an envelope, for a program that knows these classes."""
    return unseal(envelope, decoder_of(envelope.names, envelope.version, classes))


def there_and_back(event_: object, *known: type) -> object:
    """What another program gets, that knows the event's class, or `known`."""
    classes = known or (type(event_),)
    return opened(sealed(event_), {name_of(cls): cls for cls in classes})


lines = st.builds(
    Line,
    item=st.text(st.characters(exclude_categories=["Cs"])),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    sizes=st.lists(st.sampled_from(Size), max_size=3).map(tuple),
)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
everything = st.builds(
    Everything,
    at=st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29),  # noqa: DTZ001
                    timezones=zones),
    day=st.dates(),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    id=st.uuids(),
    size=st.sampled_from(Size),
    priority=st.sampled_from(Priority),
    line=lines,
    lines=st.lists(lines, max_size=3).map(tuple),
    raw=st.binary(),
    note=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    number=st.integers(),
    share=st.floats(allow_nan=False, allow_infinity=False),
    tags=st.frozensets(st.text("abc", max_size=3), max_size=3),
    table=st.dictionaries(st.text("xyz", max_size=2), st.lists(st.integers(0, 9)), max_size=3),
    span=st.timedeltas(timedelta(-1000), timedelta(1000)),
)  # fmt: skip


@given(everything)
def test_a_dataclass_comes_back_with_every_type_it_had(event_: Everything) -> None:
    """Times, decimals, ids, enums, nested ones, bytes, tuples, sets and options."""
    assert there_and_back(event_) == event_


@pytest.mark.parametrize(
    "event_",
    [
        Struct("pen", 3, b"\x00\xff\n"),
        TaggedStruct("pen"),
        Attrs("pen", AT, [1, 2]),
        Model(item="pen", at=AT, raw=b"plain"),
        PydanticDataclass("pen", 2),
        Pair("a"),
        Plain("pen", 4),
        Empty(),
    ],
    ids=lambda event_: type(event_).__name__,
)
def test_every_kind_of_class_comes_back_as_itself(event_: object) -> None:
    """Structs, attrs, pydantic, named tuples, plain classes."""
    back = there_and_back(event_)
    assert back == event_ or isinstance(event_, Empty)
    assert type(back) is type(event_)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_plain_data_comes_back_as_it_was(data: object) -> None:
    """Under a name that has no class."""
    assert opened(sealed(data, "order.placed"), {}) == data


@pytest.mark.parametrize(
    "event_",
    [
        Line("pen", object()),  # type: ignore[arg-type]
        Struct("pen", object()),  # type: ignore[arg-type]
        Plain(object()),  # type: ignore[arg-type]
        Pair(object()),  # type: ignore[arg-type]
    ],
    ids=lambda event_: type(event_).__name__,
)
def test_what_cannot_be_written_says_which_class(event_: object) -> None:
    """Before anything leaves."""
    with pytest.raises(InvalidData, match=type(event_).__name__):
        wire_of(type(event_), "events").encode(event_)


def test_data_without_a_class_that_cannot_be_written_is_refused() -> None:
    """A circle, or an object of some class, under a plain name."""
    circle: list[Any] = []
    circle.append(circle)
    for data in (circle, {"a": object()}, {1j: 2}):
        with pytest.raises(InvalidData, match="JSON"):
            wire_of("order.placed", "events").encode(data)


# Which class.


@event(name="shapes.Base")
@dataclass
class Base:
    id: str = "b"


@event(name="shapes.Middle")
@dataclass
class Middle(Base):
    width: int = 1


@event(name="shapes.Leaf", aliases=("shapes.OldLeaf",))
@dataclass
class Leaf(Middle):
    colour: str = "red"


def test_the_most_derived_class_that_is_known_is_built() -> None:
    """A program that never heard of the leaf gets what it knows of it."""
    leaf = Leaf("x", 2, "blue")
    assert there_and_back(leaf, Base, Middle, Leaf) == leaf
    assert there_and_back(leaf, Base) == leaf  # Defined here, though nobody subscribed to it.
    stranger = sealed(leaf)._replace(names="shapes.Stranger shapes.Middle shapes.Base")
    assert opened(stranger, {"shapes.Base": Base, "shapes.Middle": Middle}) == Middle("x", 2)
    stranger = sealed(leaf)._replace(names="shapes.Stranger shapes.Odd shapes.Base")
    assert opened(stranger, {"shapes.Base": Base}) == Base("x")


def test_what_nobody_knows_is_plain_data() -> None:
    """It is not guessed at."""
    classes: dict[str, type] = {}
    assert opened(sealed(Leaf()), classes) == {"id": "b", "width": 1, "colour": "red"}


def test_an_alias_stands_for_its_class() -> None:
    """Events that were stored under an older name."""
    old = sealed(Leaf("x"))._replace(names="shapes.OldLeaf shapes.Middle shapes.Base")
    assert opened(old, {"shapes.Leaf": Leaf, "shapes.OldLeaf": Leaf}) == Leaf("x")


def test_a_local_class_needs_a_name() -> None:
    """Another process could not find it; with a name it can."""

    @dataclass
    class Local:
        number: int = 1

    with pytest.raises(InvalidEvent, match=r"Local is a local class.*@event\(name="):
        wire_of(Local, "events")
    named = event(name="shapes.Local")(Local)
    assert there_and_back(named(4)) == named(4)


# Old and new versions.


def split_name(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had one name."""
    first, _, last = data.pop("name").partition(" ")
    return {**data, "first": first, "last": last}


def add_country(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 knew no country."""
    return {**data, "country": "fr"}


@event(name="people.Joined", version=3, upgrade={1: split_name, 2: add_country},
       aliases=("people.SignedUp",))  # fmt: skip
@dataclass
class Joined:
    first: str
    last: str
    country: str
    nicknames: tuple[str, ...] = field(default=())


JOINED = {"people.Joined": Joined, "people.SignedUp": Joined}


def stored(version: int, data: bytes, names: str = "people.Joined") -> Envelope:
    """An event as an older or newer program has stored it."""
    return Envelope("e1", "events", None, names, version, 1.0, None, None, 0, None, data)


@pytest.mark.parametrize("name", JOINED)
@pytest.mark.parametrize(
    ("version", "data"),
    [
        (1, b'{"name": "Ada Lovelace"}'),
        (2, b'{"first": "Ada", "last": "Lovelace"}'),
        (3, b'{"first": "Ada", "last": "Lovelace", "country": "fr"}'),
    ],
)
def test_upgrades_lead_from_any_version_to_todays(version: int, data: bytes, name: str) -> None:
    """One after the other, under today's name and older ones."""
    assert opened(stored(version, data, name), JOINED) == Joined("Ada", "Lovelace", "fr")


def test_a_newer_version_is_read_as_far_as_it_fits() -> None:
    """Its new fields are not known here, and no upgrade is run."""
    newer = stored(9, b'{"first": "A", "last": "L", "country": "uk", "planet": "earth"}')
    assert opened(newer, JOINED) == Joined("A", "L", "uk")


def test_a_newer_version_that_does_not_fit_says_which_version_it_is() -> None:
    """So that one sees who has to be upgraded."""
    with pytest.raises(Undecodable, match=r"people\.Joined e1, version 9: got \d+ bytes"):
        opened(stored(9, b'{"name": {"first": "A"}}'), JOINED)


def test_an_unknown_field_is_ignored_whatever_the_kind_of_class() -> None:
    """Publishers may be ahead of handlers."""
    for kind in (Struct, Pair, Attrs, Model, PydanticDataclass):
        fields = {"item": "pen", "left": "pen", "at": "2026-05-04T03:02:01Z", "new": [1]}
        data = msgspec.json.encode(fields)
        assert type(opened(stored(1, data, kind.__name__), {kind.__name__: kind})) is kind


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"null", b"[]", b'"text"', b'{"first": 1}'], ids=repr
)
@pytest.mark.parametrize("version", [1, 3])
def test_bytes_that_do_not_make_the_class_are_undecodable(version: int, data: bytes) -> None:
    """With the cause beneath, and never as any other error."""
    with pytest.raises(Undecodable, match=r"people\.Joined e1") as caught:
        opened(stored(version, data), JOINED)
    assert caught.value.__cause__ is not None


def test_an_upgrade_that_fails_makes_the_event_undecodable() -> None:
    """It is a dead letter then, not a crash."""
    with pytest.raises(Undecodable, match="partition"):
        opened(stored(1, b'{"name": 5}'), JOINED)
