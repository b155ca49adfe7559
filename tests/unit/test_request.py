"""Requests and replies: one asks, one replies, and failures come back."""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from headwater import (
    Breaker,
    Bus,
    Context,
    RemoteError,
    RequestTimeout,
    Retry,
    Unsupported,
    current,
    event,
)
from headwater.errors import BreakerOpen, DuplicateName, InvalidData, NoReplier
from headwater.records import Abandoned, Failed, Handled, Published, Record
from headwater.testing import VirtualRuntime

T = TypeVar("T")


@dataclass(frozen=True)
class GetPrice:
    item: str = "book"


class GetNetPrice(GetPrice):
    pass


@event(key="item")
@dataclass(frozen=True)
class Reserve:
    item: str


@dataclass(frozen=True)
class Price:
    amount: int
    currency: str = "EUR"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it, for half a minute at most."""
    return asyncio.run(asyncio.wait_for(main, 30))


def ask(bus: Bus, request: object = None, **options: Any) -> Any:
    """Ask for a price, and wait for it."""
    return run(bus.request(GetPrice() if request is None else request, **options))


def test_a_sync_replier_replies() -> None:
    """In the thread of whoever asks."""
    bus, threads = Bus(), list[int]()

    @bus.reply(GetPrice)
    def price(request: GetPrice) -> Price:
        threads.append(threading.get_ident())
        return Price(len(request.item))

    assert ask(bus) == Price(4)
    assert threads == [threading.get_ident()]


def test_an_async_replier_replies() -> None:
    """On the loop of whoever asks."""
    bus, loops = Bus(), list[object]()

    @bus.reply(GetPrice)
    async def price(request: GetPrice) -> Price:
        loops.append(asyncio.get_running_loop())
        return Price(len(request.item))

    async def main() -> Price:
        reply = await bus.request(GetPrice("pen"), returns=Price)
        assert loops == [asyncio.get_running_loop()]
        return reply

    assert run(main()) == Price(3)


def test_a_replier_may_work_in_a_thread() -> None:
    """Whoever asks does not block its loop."""
    bus, threads = Bus(), list[int]()

    @bus.reply(GetPrice, executor="thread")
    def price(request: GetPrice) -> int:
        threads.append(threading.get_ident())
        return 7

    assert ask(bus) == 7
    assert threads != [threading.get_ident()]
    bus.close()


def test_a_replier_takes_the_context() -> None:
    """Of the request, with its headers."""
    bus = Bus()

    @bus.reply(GetPrice)
    async def price(request: GetPrice, context: Context) -> object:
        assert current() is context
        return context.name, context.event_id, context.headers["shop"]

    assert ask(bus, id="r1", headers={"shop": "north"}) == ("GetPrice", "r1", "north")


def test_what_a_sync_replier_returns_to_await_is_awaited() -> None:
    """The reply is what comes of it."""
    bus = Bus()

    async def later() -> int:
        return 7

    bus.reply("price")(lambda data: later())
    assert ask(bus, "price") == 7


def test_none_is_a_reply() -> None:
    """As good as any other."""
    bus = Bus()
    bus.reply("price")(lambda data: None)
    assert ask(bus, "price") is None


def test_a_request_has_a_name_and_data() -> None:
    """No class needed; with a known class, the data is made into it."""
    bus = Bus()
    bus.reply("price.get")(lambda data: data["item"])
    bus.reply(GetPrice)(lambda request: request)
    assert run(bus.request("price.get", {"item": "pen"})) == "pen"
    bus.subscribe(GetPrice, lambda request: None)
    assert run(bus.request("GetPrice", {"item": "pen"})) == GetPrice("pen")


def test_a_derived_request_goes_to_the_replier_of_its_base() -> None:
    """Unless it has one of its own."""
    bus = Bus()
    bus.reply(GetPrice)(lambda request: "base")
    assert ask(bus, GetNetPrice()) == "base"
    bus.reply(GetNetPrice)(lambda request: "own")
    assert ask(bus, GetNetPrice()) == "own"
    assert ask(bus, GetPrice()) == "base"


def test_returns_makes_data_into_the_class() -> None:
    """A reply that is one already stays the same object."""
    bus, known = Bus(), Price(1)
    bus.reply("data")(lambda data: {"amount": 2})
    bus.reply("object")(lambda data: known)
    assert ask(bus, "data") == {"amount": 2}
    assert ask(bus, "data", returns=Price) == Price(2)
    assert ask(bus, "object", returns=Price) is known
    assert ask(bus, "data", returns=dict[str, int]) == {"amount": 2}


def test_a_reply_of_another_shape_is_invalid_data() -> None:
    """With the field that is wrong."""
    bus = Bus()
    bus.reply("price")(lambda data: {"amount": "much"})
    with pytest.raises(InvalidData, match="amount"):
        ask(bus, "price", returns=Price)


def test_without_a_replier_the_error_says_who_was_meant() -> None:
    """A subscription is no replier, and the nearest name is shown."""
    bus = Bus()
    bus.subscribe("get_prise", print)
    bus.reply("get_price")(lambda data: 7)
    with pytest.raises(NoReplier, match=r"'get_prise'; did you mean 'get_price'\?"):
        ask(bus, "get_prise")
    with pytest.raises(NoReplier, match=r"nobody replies to 'weather'$"):
        ask(bus, "weather")


def test_handlers_do_not_see_requests() -> None:
    """A request goes to its replier alone."""
    bus, seen = Bus(), list[object]()
    bus.subscribe("**", seen.append)
    bus.reply(GetPrice)(lambda request: 7)
    assert ask(bus) == 7
    assert seen == []


@pytest.mark.parametrize("executor", [None, "thread", "async"])
def test_a_failure_comes_back_with_its_cause(
    executor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """As a RemoteError that names the kind; the replier's side is logged."""
    bus = Bus()
    error = KeyError("no such item")

    def price(request: GetPrice) -> int:
        raise error

    async def price_later(request: GetPrice) -> int:
        raise error

    if executor == "async":
        bus.reply(GetPrice)(price_later)
    else:
        bus.reply(GetPrice, executor=executor)(price)
    with pytest.raises(RemoteError, match="KeyError: 'no such item'") as caught:
        ask(bus)
    assert caught.value.kind == "KeyError"
    assert caught.value.__cause__ is error
    assert any("handler_failed event=GetPrice" in text for text in caplog.messages)
    bus.close()


def test_on_error_raise_still_gives_a_remote_error() -> None:
    """Whoever asks is told in one way, and nothing is left to be raised later."""
    bus = Bus(on_error="raise")

    @bus.reply(GetPrice)
    async def price(request: GetPrice) -> int:
        raise ValueError("no")

    with pytest.raises(RemoteError, match="ValueError: no"):
        ask(bus)
    bus.close()


def test_a_request_expires() -> None:
    """Its handler is cancelled, and what it would have said is not waited for."""
    bus, cancelled, records = Bus(), list[str](), list[Record]()
    bus.observe(records.append)

    @bus.reply(GetPrice)
    async def price(request: GetPrice) -> int:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append("price")
            raise
        return 7

    async def main() -> None:
        with pytest.raises(RequestTimeout, match=r"GetPrice: no reply within 0\.01 s") as caught:
            await bus.request(GetPrice(), timeout=0.01)
        assert isinstance(caught.value, TimeoutError)
        await bus.idle(timeout=30)

    run(main())
    assert cancelled == ["price"]
    assert [record.reason for record in records if isinstance(record, Abandoned)] == ["stopped"]


def test_a_paused_replier_lets_requests_wait_until_they_expire() -> None:
    """A pump's, which nobody pumps, in the same way."""
    bus, seen = Bus(), list[object]()
    bus.reply(GetPrice, executor="pump")(seen.append)

    async def main() -> None:
        with pytest.raises(RequestTimeout):
            await bus.request(GetPrice(), timeout=0.01)
        bus.pump()
        await bus.idle(timeout=30)

    run(main())
    assert seen == []


def test_a_pump_may_reply() -> None:
    """The reply is deferred for a publisher, and still waited for by whoever asks."""
    bus = Bus()
    bus.reply(GetPrice, executor="pump")(lambda request: 7)

    async def main() -> object:
        asking = asyncio.ensure_future(bus.request(GetPrice(), timeout=30))
        asyncio.get_running_loop().call_soon(bus.pump)
        return await asking

    assert run(main()) == 7


def test_one_request_has_one_replier() -> None:
    """A second one is refused, by class and by name alike, and the first one stays."""
    bus = Bus()
    bus.reply(GetPrice)(lambda request: "first")
    for what in (GetPrice, "GetPrice"):
        with pytest.raises(DuplicateName, match="both reply to 'GetPrice': expected one replier"):
            bus.reply(what)(lambda request: "second")
    assert ask(bus) == "first"


def test_a_request_is_never_retried() -> None:
    """Whoever asks may ask again."""
    with pytest.raises(Unsupported, match="not retried"):
        Bus().reply(GetPrice, retry=Retry())(lambda request: 7)


def test_an_open_breaker_answers_for_its_replier() -> None:
    """The replier is spared; a probe after the cooldown closes it again."""
    runtime = VirtualRuntime()
    bus, healthy, calls = Bus(runtime=runtime), False, 0

    @bus.reply(GetPrice, breaker=Breaker(failures=1, cooldown=30))
    def price(request: GetPrice) -> int:
        nonlocal calls
        calls += 1
        return 7 if healthy else 1 // 0

    for cause in (ZeroDivisionError, BreakerOpen, BreakerOpen):
        with pytest.raises(RemoteError) as caught:
            ask(bus)
        assert type(caught.value.__cause__) is cause
    assert calls == 1
    healthy = True
    runtime.advance(30)
    assert ask(bus) == 7


def test_middleware_sees_the_reply() -> None:
    """It gets what the replier returned, and what goes back is the same."""
    bus, seen = Bus(), list[object]()

    @bus.middleware
    def watch(request: object) -> Generator[None, Any, None]:
        seen.append(request)
        seen.append((yield))

    @bus.reply(GetPrice)
    def price(request: GetPrice) -> int:
        return 7

    @bus.reply("later")
    async def later(data: object) -> int:
        return 8

    assert ask(bus) == 7
    assert ask(bus, "later") == 8
    assert seen == [GetPrice(), 7, None, 8]


def test_what_a_replier_publishes_is_caused_by_the_request() -> None:
    """And the request by the handler that asked."""
    bus = Bus()
    lineage: list[tuple[str, str | None, int]] = []
    ids: dict[str, str] = {}

    @bus.on("**")
    async def note(data: object, context: Context) -> None:
        ids[context.name] = context.event_id
        lineage.append((context.name, context.causation_id, context.depth))
        if context.name == "start":
            await bus.request("price", id="asked", timeout=30)

    @bus.reply("price")
    async def price(data: object) -> int:
        bus.publish("priced")
        return 7

    async def main() -> None:
        await bus.publish("start", 1)
        await bus.idle(timeout=30)

    run(main())
    assert lineage == [("start", None, 0), ("priced", "asked", 2)]


def test_requests_of_one_key_are_answered_one_at_a_time() -> None:
    """In the order they were asked."""
    bus, running, order = Bus(), 0, list[str]()

    @bus.reply(Reserve)
    async def reserve(request: Reserve, context: Context) -> str:
        nonlocal running
        running += 1
        assert running == 1
        order.append(context.event_id)
        for _ in range(3):
            done = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(done.set_result, None)
            await done
        running -= 1
        return context.event_id

    async def main() -> list[str]:
        asking = [bus.request(Reserve("a"), returns=str, id=f"r{n}") for n in range(4)]
        return await asyncio.gather(*asking)

    assert run(main()) == order == ["r0", "r1", "r2", "r3"]


def test_the_replier_of_a_weak_owner_goes_with_it() -> None:
    """And its place is free."""
    bus = Bus()

    class Shop:
        def price(self, request: GetPrice) -> int:
            return 7

    shop = Shop()
    bus.reply(GetPrice, weak=True)(shop.price)
    assert ask(bus) == 7
    del shop
    with pytest.raises(NoReplier):
        ask(bus)
    bus.reply(GetPrice)(lambda request: 8)
    assert ask(bus) == 8


def test_repliers_are_observed_and_requests_are_not_published() -> None:
    """A request is no event: nobody is shown a Published record, but its handling is seen."""
    bus, records = Bus(), list[Record]()
    bus.observe(records.append)
    bus.reply("well")(lambda data: 7)
    bus.reply("ill")(lambda data: 1 // 0)
    assert ask(bus, "well", id="r1") == 7
    logging.getLogger("headwater").disabled = True
    try:
        with pytest.raises(RemoteError):
            ask(bus, "ill", id="r2")
    finally:
        logging.getLogger("headwater").disabled = False
    assert [(type(record), record.event_id) for record in records] == [
        (Handled, "r1"),
        (Failed, "r2"),
    ]
    assert not any(isinstance(record, Published) for record in records)
