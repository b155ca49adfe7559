"""Stories: causes and effects are known over the wire, and a story that circles is ended."""

from headwater import Context, Retry
from headwater.records import Record, StormStopped
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Effect, Kept, Noted
from headwater.testing.conformance.seen import PATIENCE, Seen

ONCE = Retry(max_attempts=1)


class Stories(Engine):
    """Section 2, rules 9 and 10, on a transport."""

    async def test_causation_correlation_and_depth_travel(self) -> None:
        """Causation: three generations, in both colours, each know where they come from."""
        bus, first, second, third = self.bus(), Seen(), Seen(), Seen()

        def parent(event: Noted, context: Context) -> None:
            first.note(event, context)
            bus.publish(Kept("k", 1))

        async def child(event: Kept, context: Context) -> None:
            second.note(event, context)
            await bus.publish(Effect("k", 2))

        bus.subscribe(Noted, parent, name="parent")
        bus.subscribe(Kept, child, name="child")
        bus.subscribe(Effect, third.note, name="grandchild")
        async with bus:
            await bus.publish(Noted(0), id="root")
            await bus.idle(PATIENCE)
        one, two, three = first.calls[0].context, second.calls[0].context, third.calls[0].context
        assert [one.depth, two.depth, three.depth] == [0, 1, 2]
        assert {one.correlation_id, two.correlation_id, three.correlation_id} == {"root"}
        assert one.causation_id is None
        assert two.causation_id == one.event_id
        assert three.causation_id == two.event_id

    async def test_a_new_story_begins_anew(self) -> None:
        """Storms: `new_story=True` begins depth and correlation anew, and keeps the cause."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Noted) -> None:
            await bus.publish(Effect("k"), new_story=True)

        bus.subscribe(Noted, handler, name="parent")
        bus.subscribe(Effect, seen.note, name="child")
        async with bus:
            await bus.publish(Noted(0), id="root")
            await bus.idle(PATIENCE)
        context = seen.calls[0].context
        assert (context.depth, context.causation_id) == (0, "root")
        assert context.correlation_id == context.event_id

    async def test_a_circle_is_ended_at_max_depth(self) -> None:
        """Storms: A causes B causes A, and after `max_depth` causes the story is over."""
        bus, depths, records = self.bus(max_depth=8), list[int](), list[Record]()
        bus.observe(records.append)

        async def there(event: Kept, context: Context) -> None:
            depths.append(context.depth)
            await bus.publish(Effect(event.key))

        async def back(event: Effect, context: Context) -> None:
            depths.append(context.depth)
            await bus.publish(Kept(event.key, 0))

        bus.subscribe(Kept, there, name="there", retry=ONCE)
        bus.subscribe(Effect, back, name="back", retry=ONCE)
        async with bus:
            await bus.publish(Kept("k", 0))
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
        assert depths == list(range(9))
        assert letter.kind == "EventStorm"
        assert "conformance.Kept" in letter.error
        assert [one for one in records if isinstance(one, StormStopped)]

    async def test_a_fan_is_ended_at_max_story(self) -> None:
        """Storms: a story is bounded in events too, however shallow it is."""
        bus, seen = self.bus(max_story=50), Seen()

        async def handler(event: Noted) -> None:
            for number in range(100):
                await bus.publish(Effect("k", number))

        bus.subscribe(Noted, handler, name="fans", retry=ONCE)
        bus.subscribe(Effect, seen.note, name="effects")
        async with bus:
            await bus.publish(Noted(0))
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
        assert letter.kind == "EventStorm"
        assert seen.calls == []

    @needs("persistent")
    async def test_depth_counts_on_in_another_bus(self) -> None:
        """Storms: a circle through two programs is ended as well."""
        shop, mail = self.bus("shop", max_depth=6), self.bus("mail", max_depth=6)
        depths = list[int]()

        async def there(event: Kept, context: Context) -> None:
            depths.append(context.depth)
            await shop.publish(Effect(event.key))

        async def back(event: Effect, context: Context) -> None:
            depths.append(context.depth)
            await mail.publish(Kept(event.key, 0))

        shop.subscribe(Kept, there, name="there", retry=ONCE)
        mail.subscribe(Effect, back, name="back", retry=ONCE)
        async with shop, mail:
            await shop.publish(Kept("k", 0))
            for _ in range(8):
                await shop.idle(PATIENCE)
                await mail.idle(PATIENCE)
        assert depths == list(range(7))
