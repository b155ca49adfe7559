"""Patterns: subclasses, names and patterns, over the wire as on a direct bus."""

from dataclasses import dataclass

from headwater import event
from headwater.testing.conformance.engine import Engine
from headwater.testing.conformance.seen import PATIENCE, Seen


@event(name="animal.any")
@dataclass(frozen=True)
class Animal:
    """The root of a small tree of events."""

    number: int


@event(name="animal.dog")
@dataclass(frozen=True)
class Dog(Animal):
    """A subclass."""

    breed: str = ""


@event(name="animal.dog.puppy")
@dataclass(frozen=True)
class Puppy(Dog):
    """A subclass of a subclass."""

    weeks: int = 0


class Patterns(Engine):
    """What a subscription matches, and what it decodes."""

    async def test_a_subscription_to_a_class_gets_its_subclasses(self) -> None:
        """Names travel from leaf to root, and the most derived class that is known is built."""
        bus, animals, dogs = self.bus(), Seen(), Seen()
        bus.subscribe(Animal, animals.note, name="animals")
        bus.subscribe(Dog, dogs.note, name="dogs")
        bus.subscribe(Puppy, Seen().note, name="puppies")
        async with bus:
            for one in (Animal(0), Dog(1, "pug"), Puppy(2, "pug", 9)):
                await bus.publish(one)
            await bus.idle(PATIENCE)
        assert sorted(animals.events, key=lambda one: one.number) == [
            Animal(0),
            Dog(1, "pug"),
            Puppy(2, "pug", 9),
        ]
        assert sorted(dogs.events, key=lambda one: one.number) == [
            Dog(1, "pug"),
            Puppy(2, "pug", 9),
        ]

    async def test_a_leaf_nobody_knows_is_read_as_the_class_that_is_known(self) -> None:
        """A program that knows only the base class gets the base class's fields."""
        bus, seen = self.bus(), Seen()
        await bus.publish(Puppy(1, "pug", 9))
        bus.subscribe(Animal, seen.note, name="animals", start="beginning")
        async with bus:
            await bus.idle(PATIENCE)
        assert [(call.event.number, call.context.name) for call in seen.calls] == [
            (1, "animal.dog.puppy")
        ]
        assert isinstance(seen.events[0], Animal)

    async def test_patterns_match_names_of_classes_and_of_data(self) -> None:
        """`*` stands for one token and `**` for the rest, on the wire as in the process."""
        bus = self.bus()
        seen = {what: Seen() for what in ("animal.*", "animal.**", "**", "animal.dog", "dog.*")}
        for what, one in seen.items():
            bus.subscribe(what, one.note, name=f"pattern {what}")
        async with bus:
            await bus.publish(Dog(1))
            await bus.publish(Puppy(2))
            await bus.publish("animal.cat", {"number": 3})
            await bus.publish("animal.cat.kitten", {"number": 4})
            await bus.idle(PATIENCE)
        counted = {what: len(one.calls) for what, one in seen.items()}
        assert counted == {"animal.*": 3, "animal.**": 4, "**": 4, "animal.dog": 2, "dog.*": 0}

    async def test_two_interests_of_one_subscription_call_it_once(self) -> None:
        """An event that matches twice is one delivery."""
        bus, seen = self.bus(), Seen()
        bus.on(Animal, Dog, name="both")(seen.note)
        async with bus:
            await bus.publish(Dog(1))
            await bus.idle(PATIENCE)
        assert seen.numbers == [1]

    async def test_data_under_the_name_of_a_class_makes_the_class(self) -> None:
        """Publishing a registered name with data builds the class, and is checked at once."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Dog, seen.note, name="dogs")
        async with bus:
            await bus.publish("animal.dog", {"number": 1, "breed": "pug"})
            await bus.idle(PATIENCE)
        assert seen.events == [Dog(1, "pug")]
