"""Parking: the followers of a dead letter wait behind it, and leave in order."""

from headwater import Backoff, Bus, Context, Retry
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Kept
from headwater.testing.conformance.seen import PATIENCE, Seen, found, publish_all, until

ONCE = Retry(max_attempts=1)


class Parked:
    """A handler that gives up on one number, until it is mended."""

    def __init__(self, bus: Bus, poison: int, retry: Retry = ONCE) -> None:
        self.poison: int | None = poison
        self.seen = Seen()
        bus.subscribe(Kept, self.handle, name="parks", when_dead="park", retry=retry, concurrency=4)

    async def handle(self, event: Kept, context: Context) -> None:
        """Fail at the poisoned event of key `a`, note all others."""
        if event.key == "a" and event.number == self.poison:
            raise LookupError("poison")
        await self.seen.note_async(event, context)


class Parking(Engine):
    """Rules 6 and 7."""

    async def park(self, bus: Bus, handler: Parked) -> int:
        """Publish eight events of two keys; the id of the letter at which `a` is parked."""
        await publish_all(bus, [Kept(key, n) for n in range(8) for key in ("a", "b")])
        await until(lambda: len(handler.seen.of("b")) >= 8, "the other key")
        await until(lambda: len(handler.seen.of("a")) >= 3, "what came before")
        letter = await self.parked_letter(bus, waiting=4)
        assert handler.seen.of("a") == [0, 1, 2]
        return letter

    @needs("ledger", "ordered")
    async def test_followers_wait_and_other_keys_go_on(self) -> None:
        """Rule 6: `when_dead="park"` holds the key of the dead letter, and nothing else."""
        bus = self.bus()
        handler = Parked(bus, 3)
        async with bus:
            await self.park(bus, handler)
        assert handler.seen.of("b") == list(range(8))

    @needs("ledger", "ordered")
    async def test_a_retried_letter_frees_its_key_in_order(self) -> None:
        """Rule 6: the letter goes first, then its followers, then what came later."""
        bus = self.bus()
        handler = Parked(bus, 3)
        async with bus:
            letter = await self.park(bus, handler)
            handler.poison = None
            await bus.dead_letters.retry(letter)
            await publish_all(bus, [Kept("a", number) for number in range(8, 12)])
            await bus.idle(PATIENCE)
            assert not await bus.dead_letters.list()
        assert handler.seen.of("a") == list(range(12))

    @needs("ledger", "ordered")
    async def test_a_discarded_letter_frees_its_followers_in_order(self) -> None:
        """Rule 6: without the letter, its followers go on as published."""
        bus = self.bus()
        handler = Parked(bus, 3)
        async with bus:
            letter = await self.park(bus, handler)
            await bus.dead_letters.discard(letter)
            await bus.idle(PATIENCE)
        assert handler.seen.of("a") == [0, 1, 2, 4, 5, 6, 7]

    @needs("ledger", "ordered")
    async def test_an_edited_letter_frees_its_key_in_order(self) -> None:
        """Rule 6: mended data takes the place of what could not be handled."""
        bus = self.bus()
        handler = Parked(bus, 3)
        async with bus:
            letter = await self.park(bus, handler)
            await bus.dead_letters.edit(letter, {"key": "a", "number": 33})
            await bus.idle(PATIENCE)
        assert handler.seen.of("a") == [0, 1, 2, 33, 4, 5, 6, 7]

    @needs("ledger", "ordered")
    async def test_a_second_poison_parks_the_rest_again(self) -> None:
        """Rule 6: a follower that dies in its turn holds those behind it."""
        bus = self.bus()
        handler = Parked(bus, 3)
        async with bus:
            letter = await self.park(bus, handler)
            handler.poison = 5
            await bus.dead_letters.retry(letter)
            await until(lambda: handler.seen.of("a")[-1] == 4, "followers up to the next poison")
            handler.poison = None
            await self.retry_the_parked(bus)
            await bus.idle(PATIENCE)
        assert handler.seen.of("a") == list(range(8))

    @needs("ledger", "ordered", "persistent")
    async def test_a_parked_key_outlives_the_bus(self) -> None:
        """Rules 6 and 7: the next bus finds the key parked, and frees it in order."""
        first = self.bus()
        handler = Parked(first, 3)
        async with first:
            await self.park(first, handler)
        second = self.bus()
        mended = Parked(second, 99)
        async with second:
            await publish_all(second, [Kept("a", 8), Kept("c", 0)])
            await until(lambda: mended.seen.of("c"), "a key that is free")
            assert mended.seen.of("a") == []
            await self.retry_the_parked(second)
            await second.idle(PATIENCE)
        assert mended.seen.of("a") == list(range(3, 9))

    @needs("ledger", "ordered")
    async def test_followers_wait_behind_far_retries_too(self) -> None:
        """Rules 4 and 7: a retry that is kept in the ledger holds its key meanwhile."""
        bus = self.bus()
        far = Retry(max_attempts=2, backoff=Backoff(initial=1.2, jitter=False))
        handler = Parked(bus, 3, far)
        async with bus:
            await publish_all(bus, [Kept("a", number) for number in range(6)])
            await handler.seen.until(3)
            handler.poison = None
            await bus.idle(PATIENCE)
        assert handler.seen.of("a") == list(range(6))

    async def retry_the_parked(self, bus: Bus) -> None:
        """Retry the parked letter, as soon as it is there."""
        await bus.dead_letters.retry(await self.parked_letter(bus))

    async def parked_letter(self, bus: Bus, waiting: int = 0) -> int:
        """The id of the parked letter, as soon as so many events wait behind it."""

        async def look() -> int | None:
            parked = [letter for letter in await bus.dead_letters.list() if letter.parked]
            return parked[0].id if parked and parked[0].waiting >= waiting else None

        return await found(look, f"a parked letter with {waiting} behind it")
