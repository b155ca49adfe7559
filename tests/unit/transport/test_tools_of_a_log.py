"""Capture, muted, requests, replay's guard and the topology on a bus that has a transport."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from headwater import Bus, Context, RemoteError, Unsupported, event
from headwater.errors import NoReplier, ReplayFailed, RequestTimeout
from headwater.records import Published, Record


@event(name="tick", key="number")
@dataclass(frozen=True)
class Tick:
    number: int


@event(name="tock")
@dataclass(frozen=True)
class Tock:
    number: int


@event(name="get_price")
@dataclass(frozen=True)
class GetPrice:
    item: str


@event(name="price")
@dataclass(frozen=True)
class Price:
    amount: int


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A log."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/log.db"


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A log that several buses may share."""
    return f"sqlite:///{tmp_path}/shared.db"


async def stored(bus: Bus) -> list[object]:
    """Everything in the log."""
    found = list[object]()
    await bus.replay("**", into=found.append)
    return found


# Capture and muted.


def test_capture_sees_what_is_published_and_what_handlers_stage(url: str) -> None:
    """And what is stored is the same."""
    with Bus(url, name="shop") as bus:

        def answer(tick: Tick) -> None:
            bus.publish(Tock(tick.number))
            bus.publish("plain", {"n": tick.number}, immediate=True)

        bus.subscribe(Tick, answer, name="answer")
        with bus.capture("**") as seen, bus.capture(Tock) as tocks:
            bus.publish(Tick(1))
            bus.idle(20)
        bus.publish(Tick(2))
        assert sorted(map(str, seen)) == ["Tick(number=1)", "Tock(number=1)", "{'n': 1}"]
        assert tocks == [Tock(1)]


def test_capture_needs_no_consumer_and_leaves_nothing(url: str) -> None:
    """It is no subscription: the log knows nothing of it, nor does the topology."""
    bus = Bus(url, name="shop")
    with bus.capture(Tick) as seen:
        bus.publish(Tick(1))
        assert bus.topology().reactions == ()
    bus.publish(Tick(2))
    assert seen == [Tick(1)]
    assert bus._durable is not None
    assert bus._durable.call(bus._durable.transport.strangers("", [])) == []
    bus.close()


def test_muted_events_are_not_stored(url: str) -> None:
    """Captured all the same; others are, and blocks may be nested."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:

            async def answer(tick: Tick) -> None:
                await bus.publish(Tock(tick.number))

            bus.subscribe(Tick, answer, name="answer")
            with bus.muted(Tock), bus.capture(Tock) as seen:
                with bus.muted("tick"):
                    await bus.publish(Tick(1))
                await bus.publish(Tick(2))
                await bus.publish(Tock(3))
                await bus.idle(20)
            assert seen == [Tock(3), Tock(2)] or seen == [Tock(2), Tock(3)]
            await bus.publish(Tock(4))
            assert await stored(bus) == [Tick(2), Tock(4)]

    asyncio.run(asyncio.wait_for(main(), 30))


def test_observers_see_the_id_under_which_a_staged_event_is_stored(url: str) -> None:
    """It is derived from its cause before anybody is shown it; a story of its own has it too."""
    published, handled = list[Published](), list[Context]()
    with Bus(url, name="shop") as bus:

        @bus.observe
        def note(record: Record) -> None:
            if isinstance(record, Published) and record.name == "tock":
                published.append(record)

        def answer(tick: Tick) -> None:
            bus.publish(Tock(tick.number))
            bus.publish(Tock(tick.number), new_story=True)

        def look(tock: Tock, context: Context) -> None:
            handled.append(context)

        bus.subscribe(Tick, answer, name="answer")
        bus.subscribe(Tock, look, name="look")
        bus.publish(Tick(1), id="t1")
        bus.idle(20)
    assert {r.event_id for r in published} == {context.event_id for context in handled}
    stories = {context.correlation_id for context in handled}
    assert stories == {"t1", *(c.event_id for c in handled if c.correlation_id != "t1")}


# Requests.


def test_a_replier_of_this_process_answers_in_process(url: str) -> None:
    """Nothing goes through the log, and the bus need not consume."""

    async def main() -> None:
        bus = Bus(url, name="shop")

        @bus.reply(GetPrice)
        async def price(request: GetPrice) -> Price:
            return Price(len(request.item))

        @bus.reply("get_stock")
        def stock(request: object) -> dict[str, object]:
            return {"amount": request}

        assert await bus.request(GetPrice("book"), returns=Price) == Price(4)
        assert await bus.request("get_price", {"item": "a"}) == Price(1)
        assert await bus.request("get_stock", 3, returns=Price) == Price(3)
        assert await stored(bus) == []
        await bus.aclose()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_requests_fail_as_on_a_direct_bus(url: str) -> None:
    """The replier's error, nobody there, no answer in time; nothing becomes a dead letter."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:

            @bus.reply(GetPrice)
            async def price(request: GetPrice) -> Price:
                if request.item == "moon":
                    await asyncio.Event().wait()
                raise LookupError(request.item)

            with pytest.raises(RemoteError, match="LookupError: book"):
                await bus.request(GetPrice("book"))
            with pytest.raises(NoReplier):
                await bus.request(Tick(1))
            with pytest.raises(RequestTimeout):
                await bus.request(GetPrice("moon"), timeout=0.01)
            assert await bus.dead_letters.list() == []
            await bus.idle(20)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_handler_may_ask(url: str) -> None:
    """Inside a handler a request is not staged: its answer is there at once."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            prices = list[Price]()

            @bus.reply(GetPrice)
            def price(request: GetPrice) -> Price:
                return Price(len(request.item))

            async def ask(tick: Tick) -> None:
                prices.append(await bus.request(GetPrice("book"), returns=Price))

            bus.subscribe(Tick, ask, name="ask")
            await bus.publish(Tick(1))
            await bus.idle(20)
            assert prices == [Price(4)]

    asyncio.run(asyncio.wait_for(main(), 30))


# Replay.


def test_a_replayed_handler_may_not_publish(url: str) -> None:
    """Sync or async, to any log; the error says how to allow it."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            other = Bus("memory://", name="other")
            await bus.publish(Tick(1))

            async def answer(tick: Tick, context: Context) -> None:
                assert context.replaying
                await asyncio.sleep(0)
                await bus.publish(Tock(tick.number))

            for handler in (
                answer,
                lambda tick: bus.publish(Tock(1)),
                lambda tick: bus.publish(Tock(1), id="t"),
                lambda tick: other.publish(Tock(1)),
            ):
                with pytest.raises(ReplayFailed, match=r"may_publish=True") as caught:
                    await bus.replay(Tick, into=handler)
                assert isinstance(caught.value.__cause__, Unsupported)
            assert await stored(bus) == [Tick(1)]
            await bus.publish(Tick(2))  # The ban ends with the replay.
            await other.aclose()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_replayed_handler_may_publish_if_it_is_allowed(url: str) -> None:
    """And on a direct bus at any time."""

    async def main() -> None:
        async with Bus(url, name="shop") as bus:
            direct, seen = Bus(), list[Tick]()
            direct.subscribe(Tick, seen.append)
            await bus.publish(Tick(1))
            assert await bus.replay(Tick, into=direct.publish) == 1
            assert seen == [Tick(1)]

            async def answer(tick: Tick) -> None:
                await bus.publish(Tock(tick.number))

            assert await bus.replay(Tick, into=answer, may_publish=True) == 1
            assert await stored(bus) == [Tick(1), Tock(1)]

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_replay_knows_the_class_that_is_asked_for(file: str) -> None:
    """Also in a program that neither subscribed to it nor published it."""
    writer, reader = Bus(file, name="writer"), Bus(file, name="reader")
    writer.publish(Tick(1))

    async def main() -> None:
        found = list[object]()
        await reader.replay(Tick, into=found.append)
        assert found == [Tick(1)]

    asyncio.run(asyncio.wait_for(main(), 30))
    writer.close()
    reader.close()


# Topology.


def reserve(tick: Tick) -> None:
    """A handler with a name that lasts."""


def test_the_topology_shows_durable_names(url: str) -> None:
    """As text, as Mermaid and as a picture; options as far as they are set."""
    bus = Bus(url, name="shop")
    bus.subscribe(Tick, reserve)
    bus.subscribe("order.**", lambda order: None, name="ship", concurrency=2)
    topology = bus.topology()
    names = [reaction.handler for reaction in topology.reactions]
    assert names == [f"shop:{reserve.__module__}.reserve", "shop:ship"]
    assert [reaction.how for reaction in topology.reactions] == ["thread", "thread, concurrency"]
    for picture in (str(topology), topology.mermaid(), topology._repr_html_()):
        assert "shop:ship" in picture
        assert "order.**" in picture
    bus.close()


# Errors.


def test_each_bus_raises_the_errors_of_its_own_handlers(tmp_path: Path) -> None:
    """Once, although nobody waits for deliveries out of a log."""
    buses = [Bus(f"sqlite:///{tmp_path}/{n}.db", name=f"b{n}", on_error="raise") for n in range(2)]

    def fail(tick: Tick) -> None:
        raise LookupError(tick.number)

    for number, bus in enumerate(buses):
        bus.subscribe(Tick, fail, name="fail")
        bus.start()
        bus.publish(Tick(number))
    for bus in buses:
        bus._durable.call(bus._durable.idle(20))  # type: ignore[union-attr]
    for number, bus in enumerate(buses):
        with pytest.raises(ExceptionGroup) as caught:
            bus.idle(20)
        assert [error.args for error in caught.value.exceptions] == [(number,)]
        bus.close()
