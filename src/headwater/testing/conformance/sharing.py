"""Sharing: subscriptions by name, where they begin, and what they find when they come back."""

from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Noted, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all, until


class Sharing(Engine):
    """Rule 2."""

    async def test_every_subscription_gets_every_event(self) -> None:
        """Rule 2: subscriptions with different names do not take from each other."""
        bus, seen = self.bus(), [Seen(), Seen(), Seen()]
        for number, one in enumerate(seen):
            bus.subscribe(Noted, one.note, name=f"group {number}")
        async with bus:
            await publish_all(bus, numbered(50))
            await bus.idle(PATIENCE)
        assert [sorted(one.numbers) for one in seen] == [list(range(50))] * 3

    @needs("persistent")
    async def test_buses_with_different_names_each_get_every_event(self) -> None:
        """Rule 2: the bus's name is part of the subscription's."""
        shop, mail = self.bus("shop"), self.bus("mail")
        seen, others = Seen(), Seen()
        shop.subscribe(Noted, seen.note, name="notes")
        mail.subscribe(Noted, others.note, name="notes")
        async with shop, mail:
            await publish_all(shop, numbered(25))
            await publish_all(mail, [Noted(number) for number in range(25, 50)])
            await shop.idle(PATIENCE)
            await mail.idle(PATIENCE)
        assert sorted(seen.numbers) == sorted(others.numbers) == list(range(50))

    async def test_publishing_alone_does_not_consume(self) -> None:
        """Rule 2: a bus consumes when it is started or entered, not when it publishes."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note, name="notes", start="beginning")
        await publish_all(bus, numbered(5))
        assert seen.calls == []
        async with bus:
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers) == list(range(5))

    async def test_a_new_subscription_begins_with_what_comes_next(self) -> None:
        """Rule 2: `start="new"`: from where the log stood when it was first registered."""
        bus, seen = self.bus(), Seen()
        await publish_all(bus, numbered(5))
        bus.subscribe(Noted, seen.note, name="notes")
        async with bus:
            await bus.publish(Noted(5))
            await bus.idle(PATIENCE)
        assert seen.numbers == [5]

    async def test_a_subscription_may_begin_at_the_beginning(self) -> None:
        """Rule 2: `start="beginning"`: whoever joins later gets the old events too."""
        bus, seen = self.bus(), Seen()
        await publish_all(bus, numbered(20))
        bus.subscribe(Noted, seen.note, name="notes", start="beginning")
        async with bus:
            await bus.publish(Noted(20))
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers) == list(range(21))

    async def test_a_subscription_may_come_while_the_bus_runs(self) -> None:
        """Rule 2: a subscription that is made later begins then."""
        bus, early, late = self.bus(), Seen(), Seen()
        bus.subscribe(Noted, early.note, name="early")
        async with bus:
            await bus.publish(Noted(0))
            await bus.idle(PATIENCE)
            bus.subscribe(Noted, late.note, name="late", start="beginning")
            await bus.publish(Noted(1))
            await late.until(2)
            await bus.idle(PATIENCE)
        assert sorted(early.numbers) == sorted(late.numbers) == [0, 1]

    @needs("replay")
    async def test_a_subscription_may_begin_at_a_position(self) -> None:
        """Rule 2: `start=position`: any place that a context has told."""
        bus, first, later = self.bus(), Seen(), Seen()
        bus.subscribe(Noted, first.note, name="first", concurrency=1)
        async with bus:
            for event in numbered(10):
                await bus.publish(event)
            await bus.idle(PATIENCE)
            places = {call.event.number: call.context.position for call in first.calls}
            bus.subscribe(Noted, later.note, name="later", start=places[5])
            await bus.publish(Noted(10))
            await until(lambda: 10 in later.numbers, "the newest event")
            await bus.idle(PATIENCE)
        assert set(range(6, 11)) <= set(later.numbers) <= set(range(5, 11))

    @needs("persistent")
    async def test_a_place_outlives_its_bus(self) -> None:
        """Rules 2 and 3: the same name goes on where it was; nothing is lost or done again."""
        seen = Seen()
        for opening in range(4):
            bus = self.bus()
            bus.subscribe(Noted, seen.note, name="notes")
            async with bus:
                await publish_all(bus, [Noted(opening * 10 + number) for number in range(5)])
                await bus.idle(PATIENCE)
            later = self.bus()
            await publish_all(later, [Noted(opening * 10 + number) for number in range(5, 10)])
            await later.aclose()
        last = self.bus()
        last.subscribe(Noted, seen.note, name="notes")
        async with last:
            await last.idle(PATIENCE)
        assert sorted(seen.numbers) == list(range(40))

    @needs("persistent")
    async def test_start_counts_only_the_first_time(self) -> None:
        """Rule 2: where a subscription begins was settled when it was first registered."""
        seen = Seen()
        for number in range(3):
            bus = self.bus()
            bus.subscribe(Noted, seen.note, name="notes", start="beginning")
            async with bus:
                await bus.publish(Noted(number))
                await bus.idle(PATIENCE)
        assert seen.numbers == [0, 1, 2]

    @needs("persistent")
    async def test_a_stored_subscription_without_code_keeps_its_backlog(self) -> None:
        """Rule 2: who is away for a while finds everything when it comes back."""
        seen = Seen()
        first = self.bus()
        first.subscribe(Noted, seen.note, name="away")
        async with first:
            await first.idle(PATIENCE)
        second = self.bus()
        second.subscribe(Noted, Seen().note, name="another")
        async with second:
            await publish_all(second, numbered(10))
            await second.idle(PATIENCE)
        assert seen.calls == []
        third = self.bus()
        third.subscribe(Noted, seen.note, name="away")
        async with third:
            await third.idle(PATIENCE)
        assert sorted(seen.numbers) == list(range(10))

    @needs("shared")
    async def test_two_buses_with_one_name_share_the_work(self) -> None:
        """Rule 2: whoever shares a name shares the events; each is handled by one of them."""
        one, two = self.bus(lease=self.lease), self.bus(lease=self.lease)
        seen, others = Seen(), Seen()
        one.subscribe(Noted, seen.note_async, name="notes")
        two.subscribe(Noted, others.note_async, name="notes")
        async with one, two:
            for number in range(40):
                await one.publish(Noted(number))
            await until(lambda: len(seen.calls) + len(others.calls) >= 40, "40 events")
            await one.idle(PATIENCE)
        assert sorted(seen.numbers + others.numbers) == list(range(40))

    async def test_a_closed_subscription_gets_nothing_more(self) -> None:
        """Rule 2: closing ends the handling, and its neighbours go on."""
        bus, closed, open_ = self.bus(), Seen(), Seen()
        subscription = bus.subscribe(Noted, closed.note, name="closed")
        bus.subscribe(Noted, open_.note, name="open")
        async with bus:
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
            subscription.close()
            await bus.publish(Noted(2))
            await open_.until(2)
            await bus.idle(PATIENCE)
        assert closed.numbers == [1]
        assert open_.numbers == [1, 2]
