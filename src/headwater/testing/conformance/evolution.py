"""Evolution: old events in new programs, and new ones in old programs."""

from dataclasses import dataclass
from typing import Any

from headwater import Retry, event
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Effect, Kept, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all


@event(name="price.set")
@dataclass(frozen=True)
class PriceOne:
    """A price, as it was in version 1."""

    amount: str
    obsolete: int = 7


def in_cents(data: dict[str, Any]) -> dict[str, Any]:
    """From version 1 to version 2."""
    return {"cents": round(float(data["amount"]) * 100)}


def with_currency(data: dict[str, Any]) -> dict[str, Any]:
    """From version 2 to version 3."""
    return {**data, "currency": "EUR"}


@event(name="price.set", version=2, upgrade={1: in_cents})
@dataclass(frozen=True)
class PriceTwo:
    """A price, in version 2."""

    cents: int


@event(
    name="price.changed",
    version=3,
    upgrade={1: in_cents, 2: with_currency},
    aliases=("price.set", "PriceSet"),
)
@dataclass(frozen=True)
class PriceThree:
    """A price, in version 3, renamed."""

    cents: int
    currency: str
    reason: str = "unknown"


class Bytes:
    """Stands where text is expected, and encodes as any bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def encode(self) -> bytes:
        """The bytes."""
        return self.data


@event(name="conformance.foreign")
@dataclass(frozen=True)
class Foreign(Kept):
    """A `Kept` by a program that writes what it likes."""

    raw: bytes = b""

    def model_dump_json(self) -> Bytes:
        """What a bus asks models for that write themselves."""
        return Bytes(self.raw)


class Evolution(Engine):
    """Schema evolution over the wire: version, upgrade, aliases, unknown fields and names."""

    async def test_an_old_version_is_upgraded(self) -> None:
        """`upgrade`: plain data of version 1 becomes version 2 before the class is built."""
        bus, seen = self.bus(), Seen()
        await bus.publish("price.set", {"amount": "9.50", "obsolete": 7})
        bus.subscribe(PriceTwo, seen.note, name="newer", start="beginning")
        async with bus:
            await bus.idle(PATIENCE)
        assert seen.events == [PriceTwo(950)]

    async def test_upgrades_are_chained_and_old_names_are_known(self) -> None:
        """`aliases`: under its old name, an event of the first version arrives as the newest."""
        bus, seen = self.bus(), Seen()
        await bus.publish("price.set", {"amount": "1.00"})
        await bus.publish("PriceSet", {"amount": "2.00"})
        bus.subscribe(PriceThree, seen.note, name="newest", start="beginning")
        async with bus:
            await bus.idle(PATIENCE)
        assert sorted(seen.events, key=lambda one: one.cents) == [
            PriceThree(100, "EUR"),
            PriceThree(200, "EUR"),
        ]

    @needs("persistent")
    async def test_programs_of_all_ages_share_a_log(self) -> None:
        """`version`: what is upgraded depends on who has published, not on who reads."""
        for old in (PriceOne("1.00"), PriceTwo(200), PriceThree(300, "USD")):
            program = self.bus("program")
            await program.publish(old)
            await program.aclose()
        bus, seen = self.bus(), Seen()
        bus.subscribe(PriceThree, seen.note, name="newest", start="beginning")
        async with bus:
            await bus.idle(PATIENCE)
        assert sorted(seen.events, key=lambda one: one.cents) == [
            PriceThree(100, "EUR"),
            PriceThree(200, "EUR"),
            PriceThree(300, "USD"),
        ]

    async def test_the_version_of_today_is_not_upgraded(self) -> None:
        """`version`: what is of today's version is taken as it is."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(PriceThree, seen.note, name="today")
        async with bus:
            await bus.publish(PriceThree(1, "USD", "sale"))
            await bus.idle(PATIENCE)
        assert seen.events == [PriceThree(1, "USD", "sale")]

    async def test_unknown_fields_are_ignored(self) -> None:
        """A newer program may add fields; an older one reads those it knows."""
        bus, seen = self.bus(), Seen()
        await bus.publish("conformance.Effect", {"key": "k", "number": 1, "extra": None}, key="k")
        bus.subscribe(Effect, seen.note, name="older", start="beginning")
        async with bus:
            await bus.idle(PATIENCE)
        assert seen.events == [Effect("k", 1)]

    async def test_missing_fields_have_their_defaults(self) -> None:
        """An older program did not send what a newer one has a default for."""
        bus, seen = self.bus(), Seen()
        await bus.publish("conformance.Effect", {"key": "k"}, key="k")
        bus.subscribe(Effect, seen.note, name="newer", start="beginning")
        async with bus:
            await bus.idle(PATIENCE)
        assert seen.events == [Effect("k", 0)]


class Undecodable(Engine):
    """Rule 6: what cannot be decoded is a dead letter at once, with its raw bytes."""

    async def test_data_that_does_not_fit_is_a_dead_letter_at_once(self) -> None:
        """Rule 6: no attempt is made, others go on, and the bytes are kept."""
        bus, seen = self.bus(), Seen()
        await bus.publish("conformance.Kept", {"key": "k", "number": "many"}, key="k", id="bad")
        await publish_all(bus, [Kept("k", 1), Kept("k", 2)])
        patient = Retry(max_attempts=5)
        bus.subscribe(Kept, seen.note, name="kept", start="beginning", retry=patient)
        async with bus:
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
        assert seen.numbers == [1, 2]
        assert (letter.event_id, letter.kind) == ("bad", "Undecodable")
        assert b"many" in letter.data

    async def test_an_upgrade_that_fails_makes_a_dead_letter(self) -> None:
        """Rule 6: whatever goes wrong on the way to the class, the event is kept."""
        bus, seen = self.bus(), Seen()
        await bus.publish("price.set", {"amount": "priceless"})
        await bus.publish("price.set", {"amount": "1.00"})
        bus.subscribe(PriceTwo, seen.note, name="prices", start="beginning")
        async with bus:
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
        assert seen.events == [PriceTwo(100)]
        assert letter.kind == "Undecodable"
        assert b"priceless" in letter.data

    async def test_bytes_that_are_no_json_make_a_dead_letter_with_those_bytes(self) -> None:
        """Rule 6: any bytes at all; nobody's process ends, and nothing is altered."""
        bus, seen, data = self.bus(), Seen(), b"\xff\x00{not json"
        await bus.publish(Foreign("k", 0, data))
        bus.subscribe(Kept, seen.note, name="kept", start="beginning")
        async with bus:
            await bus.publish(Kept("k", 1))
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
        assert seen.numbers == [1]
        assert letter.kind == "Undecodable"
        assert bytes(letter.data) == data

    @needs("ledger")
    async def test_an_undecodable_letter_can_be_mended(self) -> None:
        """Rules 6 and 7: edit and retry brings it through."""
        bus, seen = self.bus(), Seen()
        await bus.publish(Foreign("k", 0, b"\xff"))
        bus.subscribe(Kept, seen.note, name="kept", start="beginning")
        async with bus:
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
            await bus.dead_letters.edit(letter.id, {"key": "k", "number": 7})
            await seen.until(1)
            await bus.idle(PATIENCE)
        assert seen.numbers == [7]

    async def test_a_pattern_takes_names_nobody_knows(self) -> None:
        """A name without a class is plain data; a class it does not make is nobody's fault."""
        bus, seen = self.bus(), Seen()
        bus.subscribe("unknown.*", seen.note, name="unknown")
        async with bus:
            await bus.publish("unknown.name", [1, "two", None])
            await publish_all(bus, numbered(3))
            await bus.idle(PATIENCE)
            assert not await bus.dead_letters.list()
        assert seen.events == [[1, "two", None]]
