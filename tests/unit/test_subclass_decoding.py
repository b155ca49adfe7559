"""A handler of a base class gets the subclass, also where nobody has used that one yet."""

from dataclasses import dataclass

from headwater.envelope import decoder_of


@dataclass(frozen=True)
class Placed:
    number: int


@dataclass(frozen=True)
class PlacedAbroad(Placed):
    country: str


@dataclass(frozen=True)
class PlacedOnline(Placed):
    pass


def test_a_subclass_is_found_by_way_of_its_base() -> None:
    """Only the base was subscribed to, as in a process that has just begun."""
    decode = decoder_of("PlacedAbroad Placed", 1, {"Placed": Placed})
    assert decode(b'{"number": 1, "country": "Spain"}') == PlacedAbroad(1, "Spain")


def test_a_subclass_that_the_program_does_not_have_is_its_base() -> None:
    """The most derived class that is known."""
    decode = decoder_of("PlacedByPhone PlacedOnline Placed", 1, {"Placed": Placed})
    assert decode(b'{"number": 1}') == PlacedOnline(1)
    decode = decoder_of("PlacedByPhone Placed", 1, {"Placed": Placed})
    assert decode(b'{"number": 1}') == Placed(1)
