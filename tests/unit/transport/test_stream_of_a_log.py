"""Streams and wait_for on a transport: the end of a log, seen by whoever looks."""

import asyncio
import gc
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from headwater import Bus, StreamOverflow, event
from headwater.errors import BusClosed, InvalidOption
from headwater.stream import Stream

T = TypeVar("T")

SOURCE = Path(__file__).parents[3] / "src"


@event(name="tick", key="number")
@dataclass(frozen=True)
class Tick:
    number: int


@event(name="late_tick")
@dataclass(frozen=True)
class Late(Tick):
    pass


@event(name="odd")
@dataclass(frozen=True)
class Odd:
    number: int


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it, for half a minute at most."""
    return asyncio.run(asyncio.wait_for(main, 30))


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A log in a file, which several buses and processes may share."""
    return f"sqlite:///{tmp_path}/log.db"


async def numbers(stream: Stream[Tick], count: int) -> list[int]:
    """The numbers of the next events."""
    return [(await anext(stream)).number for _ in range(count)]


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_stream_gives_what_is_stored_after_the_call(engine: str, url: str) -> None:
    """Its subclasses too, whether or not the bus consumes."""

    async def main() -> None:
        bus = Bus(url if engine == "sqlite" else "memory://", name="shop")
        await bus.publish(Tick(0))
        stream = bus.stream(Tick)
        await bus.publish(Tick(1))
        await bus.publish(Odd(2))
        await bus.publish(Late(3))
        assert [await anext(stream), await anext(stream)] == [Tick(1), Late(3)]
        await bus.aclose()

    run(main())


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_wait_for_gives_the_next_event_that_is_meant(engine: str, url: str) -> None:
    """From the call on, also before it is awaited; events that came together are all looked at."""

    async def main() -> None:
        bus = Bus(url if engine == "sqlite" else "memory://", name="shop")
        await bus.publish(Tick(7))
        waiting = bus.wait_for(Tick, where=lambda tick: tick.number > 5, timeout=20)
        for number in range(20):
            bus.publish(Tick(number)).detach()
        assert await waiting == Tick(6)
        await bus.aclose()

    run(main())


def test_every_bus_sees_the_events_of_every_other_one(url: str) -> None:
    """One that consumes and one that does not."""

    async def main() -> None:
        publisher = Bus(url, name="shop")
        async with Bus(url, name="shop") as consumer, Bus(url, name="other") as other:
            bystander = Bus(url, name="bystander")
            streams = [bus.stream(Tick) for bus in (publisher, consumer, other, bystander)]
            await publisher.publish(Tick(1))
            await consumer.publish(Tick(2))
            for stream in streams:
                assert await numbers(stream, 2) == [1, 2]
            await bystander.aclose()
        await publisher.aclose()

    run(main())


PROGRAM = """
import asyncio, sys
from headwater import Bus

async def main():
    bus = Bus(sys.argv[1], name="elsewhere")
    stream = bus.stream("answer")
    await bus.publish("question", 6)
    print(await anext(stream))
    await bus.aclose()

asyncio.run(main())
"""


def test_another_process_sees_and_is_seen(url: str) -> None:
    """Neither of the two consumes."""

    async def main() -> bytes:
        bus = Bus(url, name="shop")
        waiting = bus.wait_for("question", timeout=20)
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, url,
            stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": str(SOURCE)},
        )  # fmt: skip
        await bus.publish("answer", 7 * await waiting)
        said, _ = await program.communicate()
        await bus.aclose()
        return said

    assert run(main()) == b"42\n"


def test_nothing_durable_is_left(url: str) -> None:
    """No subscription, no cursor: retention does not wait for a stream."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            stream = bus.stream("**")
            await bus.publish(Tick(1))
            assert await anext(stream) == Tick(1)
            assert bus._durable is not None
            strangers = bus._durable.submit(bus._durable.transport.strangers("", []))
            assert await asyncio.wrap_future(strangers) == []
            assert bus.topology().reactions == ()

    run(main())


def test_an_overflow_closes_the_stream_after_what_it_holds(url: str) -> None:
    """As on a direct bus; what comes later is not put into it."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            stream = bus.stream(Tick, buffer=2)
            full = bus.stream(Tick, buffer=10)
            for number in range(10):
                await bus.publish(Tick(number))
            assert await numbers(full, 10) == list(range(10))
            assert await numbers(stream, 2) == [0, 1]
            with pytest.raises(StreamOverflow):
                await anext(stream)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(main())


def test_drop_oldest_keeps_the_newest(url: str) -> None:
    """As on a direct bus."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            stream = bus.stream(Tick, buffer=2, overflow="drop_oldest")
            witness = bus.stream(Tick)
            for number in range(6):
                await bus.publish(Tick(number))
            assert await numbers(witness, 6) == list(range(6))
            await until(lambda: [tick.number for tick in stream._events] == [4, 5])
            assert await numbers(stream, 2) == [4, 5]

    run(main())


@pytest.mark.parametrize("buffer", [1, 7])
def test_block_leaves_in_the_log_what_there_is_no_room_for(url: str, buffer: int) -> None:
    """Nothing is lost, and no more than the buffer is held."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            stream = bus.stream(Tick, buffer=buffer, overflow="block")
            witness = bus.stream(Tick, buffer=1000)
            receipts = [bus.publish(Tick(number)) for number in range(600)]
            await asyncio.gather(*receipts)
            assert await numbers(witness, 600) == list(range(600))
            assert len(stream._events) == buffer
            for number in range(600):
                assert (await anext(stream)).number == number
                assert len(stream._events) <= buffer
            await bus.publish(Tick(600))
            assert await numbers(stream, 1) == [600]

    run(main())


def test_what_does_not_decode_is_logged_and_passed_over(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream goes on behind it."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            elsewhere = Bus(url, name="elsewhere")  # Which does not know the class.
            stream = bus.stream(Tick)
            await elsewhere.publish("tick", {"number": "not at all"})
            await elsewhere.publish("tick", {"number": 1})
            assert await anext(stream) == Tick(1)
            await elsewhere.aclose()

    run(main())
    assert [record.message.split()[0] for record in caplog.records] == ["stream_undecodable"]


def test_a_class_is_known_although_nobody_subscribed_to_it(url: str) -> None:
    """The stream's own one is enough, also when other subscriptions have come and gone."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            elsewhere = Bus(url, name="elsewhere")
            stream = bus.stream(Tick)
            bus.subscribe("other", lambda event: None, name="other").close()
            await elsewhere.publish("tick", {"number": 1})
            assert await anext(stream) == Tick(1)
            await elsewhere.aclose()

    run(main())


def test_a_bus_that_stops_ends_its_streams_after_what_was_stored(url: str) -> None:
    """Closed or only stopped: whoever reads gets what is there, and does not wait for ever."""

    async def main() -> None:
        bus = Bus(url, name="shop")
        first = bus.stream(Tick)
        await bus.publish(Tick(1))
        await asyncio.to_thread(bus.stop)
        assert [tick.number async for tick in first] == [1]
        second = bus.stream(Tick)
        full = bus.stream(Tick, buffer=1, overflow="block")
        await bus.publish(Tick(2))
        await bus.publish(Tick(3))
        await bus.aclose()
        assert [tick.number async for tick in second] == [2, 3]
        assert [tick.number async for tick in full] == [2]

    run(main())


def test_wait_for_does_not_outlive_its_bus(url: str) -> None:
    """Nothing can come any more."""

    async def main() -> None:
        bus = Bus(url, name="shop")
        waiting = asyncio.ensure_future(bus.wait_for(Tick))
        await asyncio.sleep(0)
        await bus.aclose()
        with pytest.raises(BusClosed, match="before the event came"):
            await waiting

    run(main())


def test_wait_for_gives_up_after_its_timeout(url: str) -> None:
    """And leaves nothing."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            with pytest.raises(TimeoutError):
                await bus.wait_for(Tick, timeout=0)
            await until(lambda: not watchers(bus))

    run(main())


def test_a_where_that_fails_is_told_to_whoever_waits(url: str) -> None:
    """Nobody else has to do with it."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            waiting = bus.wait_for(Tick, where=lambda tick: 1 // tick.number > 0, timeout=20)
            await bus.publish(Tick(0))
            with pytest.raises(ZeroDivisionError):
                await waiting

    run(main())


def test_a_stream_that_is_closed_or_dropped_is_fed_no_longer(url: str) -> None:
    """Its place among the watchers of the log is free."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            closed, dropped = bus.stream(Tick), bus.stream(Tick)
            assert len(watchers(bus)) == 2
            await closed.aclose()
            del dropped
            gc.collect()
            await until(lambda: not watchers(bus))

    run(main())


def test_a_stream_can_be_made_before_there_is_a_loop(url: str) -> None:
    """Events wait in it until one reads."""
    bus = Bus(url, name="shop")
    stream = bus.stream(Tick)
    bus.publish(Tick(1))
    assert run(numbers(stream, 1)) == [1]
    bus.close()


def test_delayed_events_are_seen_when_they_are_due(url: str) -> None:
    """Not before: a stream sees the log."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            stream = bus.stream(Tick)
            await bus.publish(Tick(1), delay=0.05)
            await bus.publish(Tick(2))
            assert await numbers(stream, 2) == [2, 1]

    run(main())


def test_options_are_checked(url: str) -> None:
    """Before anything is begun."""
    bus = Bus(url, name="shop")
    with pytest.raises(InvalidOption, match="int >= 1, got 0"):
        bus.stream(Tick, buffer=0)
    with pytest.raises(InvalidOption, match="'block', got 'lose'"):
        bus.stream(Tick, overflow="lose")  # type: ignore[call-overload]
    with pytest.raises(InvalidOption, match="expected an event class or a dotted name"):
        bus.stream(3)  # type: ignore[call-overload]
    assert watchers(bus) == []
    bus.close()


def watchers(bus: Bus) -> list[Any]:
    """Who is called after each look at the log."""
    assert bus._durable is not None
    transport: Any = bus._durable.transport
    found: list[Any] = transport._watchers
    return found


async def until(condition: Any) -> None:
    """Wait until something holds that another thread brings about."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 -- anything may be a condition
            await asyncio.sleep(0.001)
