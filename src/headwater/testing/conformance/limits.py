"""Limits: sizes, strange text, and memory that does not grow with what waits."""

import asyncio
import tracemalloc

import pytest

from headwater import Context, HeadwaterError
from headwater.errors import TooLarge
from headwater.sending import PublishOptions
from headwater.testing.conformance.engine import Engine
from headwater.testing.conformance.events import Blob, Kept, Noted
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all, until

MIB = 2**20
HALF = "\ud800"
STRANGE = {
    "empty": "",
    "control": "".join(map(chr, range(32))) + "\x7f\x85",
    "separators": "a\u2028b\u2029c\r\nd: e",
    "astral": "\U0001d518 😀",
    "quotes": "'\"\\%s{}$;--",
    "binary": bytes(range(256)).decode("latin-1"),
    "naïve Ключ": "as a name",
}


class Limits(Engine):
    """Rules 10 and 12."""

    async def test_an_event_that_is_too_large_is_refused_before_it_is_sent(self) -> None:
        """Rule 12: the declared limit is the limit, and what is refused is not stored."""
        bus, seen, limit = self.bus(), Seen(), self.capabilities.max_bytes
        bus.subscribe("**", seen.note, name="all")
        async with bus:
            with pytest.raises(TooLarge):
                await bus.publish("conformance.text", "x" * (limit + 1))
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
        assert [call.context.name for call in seen.calls] == ["conformance.Noted"]

    async def test_an_event_just_below_the_limit_arrives(self) -> None:
        """Rule 12: what is declared is kept."""
        bus, seen = self.bus(), Seen()
        bus.subscribe("conformance.text", seen.note, name="text")
        text = "x" * (min(self.capabilities.max_bytes, 8 * MIB) - 1024)
        async with bus:
            await bus.publish("conformance.text", text)
            await bus.idle(PATIENCE)
        assert seen.events == [text]

    async def test_bytes_arrive_as_bytes(self) -> None:
        """Rule 3: a field of bytes holds any of them."""
        bus, seen, data = self.bus(), Seen(), bytes(range(256)) * 16
        bus.subscribe(Blob, seen.note, name="blobs")
        async with bus:
            await bus.publish(Blob("k", data))
            await bus.idle(PATIENCE)
        assert seen.events == [Blob("k", data)]

    async def test_headers_keep_any_text(self) -> None:
        """Rule 3: names and values of headers are text, whatever is in it."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note, name="notes")
        async with bus:
            await bus.publish(Noted(1), headers=STRANGE)
            await bus.idle(PATIENCE)
        assert dict(seen.calls[0].context.headers) == STRANGE

    async def test_keys_keep_any_text(self) -> None:
        """Rule 4: a key is text, whatever is in it, also none at all."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Kept, seen.note, name="kept")
        async with bus:
            await publish_all(bus, [Kept(key, 0) for key in STRANGE.values()])
            await bus.idle(PATIENCE)
        assert {call.context.key for call in seen.calls} == set(STRANGE.values())

    async def test_text_without_an_encoding_is_refused_or_arrives(self) -> None:
        """Rule 12: half a surrogate pair is an error at publish, and hurts nobody else."""
        bus, seen = self.bus(), Seen()
        bus.subscribe("**", seen.note, name="all")
        half: list[PublishOptions] = [{"key": HALF}, {"headers": {"a": HALF}}, {"id": HALF}]
        refused = 0
        async with bus:
            for options in half:
                try:
                    await bus.publish(Noted(0), **options)
                except HeadwaterError:
                    refused += 1
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
        assert len(seen.calls) + refused == 4
        assert seen.numbers[-1] == 1

    async def test_a_slow_handler_costs_no_memory(self) -> None:
        """Rule 10: however much waits in the log, a bounded part of it is fetched."""
        size, count = 4_000, 10_000
        bus, gate, begun, handled = self.bus(), asyncio.Event(), 0, 0

        async def handler(event: Blob, context: Context) -> None:
            nonlocal begun, handled
            begun += 1
            await gate.wait()
            handled += 1

        bus.subscribe(Blob, handler, name="slow", start="beginning", concurrency=8)
        data = bytes(size)
        await publish_all(bus, (Blob(f"k{number % 64}", data) for number in range(count)))
        tracemalloc.start()
        try:
            async with bus:
                await until(lambda: begun == 8, "8 events at once")
                for _ in range(40):  # Meanwhile it might fetch more than it should.
                    await bus.publish(Noted(0))
                grown, _ = tracemalloc.get_traced_memory()
                gate.set()
                tracemalloc.stop()
                await bus.idle(2 * PATIENCE)
        finally:
            tracemalloc.stop()
        assert handled == count
        assert grown < size * count / 2
