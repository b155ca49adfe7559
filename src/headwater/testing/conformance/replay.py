"""Replay: past events again, beside the subscriptions and without touching their places."""

from datetime import UTC, datetime
from typing import Any

import pytest

from headwater import Context, HeadwaterError
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Effect, Kept, Noted, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all


class Replay(Engine):
    """Section 1: `replay`."""

    @needs("replay")
    async def test_the_past_can_be_seen_again(self) -> None:
        """Replay: every event of the kind, in order, with its own id; it says that it is past."""
        bus, live, seen = self.bus(), Seen(), Seen()
        bus.subscribe(Kept, live.note, name="live")
        async with bus:
            await publish_all(bus, numbered(50, 4))
            await bus.publish(Noted(99))
            await bus.idle(PATIENCE)
            count = await bus.replay(Kept, into=seen.note)
            await bus.idle(PATIENCE)
        assert count == 50
        assert seen.in_order
        assert sorted(seen.ids) == sorted(live.ids)
        assert all(call.context.replaying for call in seen.calls)
        assert not any(call.context.replaying for call in live.calls)
        assert len(live.calls) == 50

    @needs("replay")
    async def test_a_replay_may_begin_and_end_anywhere(self) -> None:
        """Replay: from a position, up to another one; into an async handler as well."""
        bus, live, seen = self.bus(), Seen(), Seen()
        bus.subscribe(Kept, live.note, name="live")
        async with bus:
            for number in range(10):
                await bus.publish(Kept("k", number))
            await bus.idle(PATIENCE)
            places: list[Any] = [call.context.position for call in live.calls]
            await bus.replay(Kept, start=places[3], end=places[7], into=seen.note_async)
        assert set(range(4, 7)) <= set(seen.numbers) <= set(range(3, 8))

    @needs("replay")
    async def test_a_replay_may_begin_at_a_time(self) -> None:
        """Replay: from a time with a zone on."""
        bus, seen = self.bus(), Seen()
        async with bus:
            await bus.publish(Kept("k", 0))
            later = datetime.now(UTC)
            await bus.publish(Kept("k", 1))
            await bus.replay(Kept, start=later, into=seen.note)
        assert seen.numbers == [1]

    @needs("replay")
    async def test_publishing_from_a_replay_is_refused(self) -> None:
        """Replay: the past must not happen twice by mistake."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Effect, seen.note, name="effects")

        def handler(event: Kept, context: Context) -> None:
            bus.publish(Effect("k", event.number)).detach()

        async with bus:
            await bus.publish(Kept("k", 0))
            with pytest.raises(HeadwaterError):
                await bus.replay(Kept, into=handler)
            await bus.idle(PATIENCE)
        assert seen.calls == []
