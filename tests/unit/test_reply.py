"""Replies: of any type, made into what was asked for, and found by name or by base."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from headwater import Bus, RemoteError, RequestTimeout, RetryLater, event
from headwater.errors import DuplicateName, InvalidData, NoReplier

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


@dataclass(frozen=True)
class Question:
    pass


@dataclass(frozen=True)
class GetPrice(Question):
    item: str = "apple"


@dataclass(frozen=True)
class Price:
    cents: int


def run(main: Callable[[Bus], Awaitable[None]]) -> None:
    """Run a test on a loop, with a bus of its own, and with an end."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE), Bus() as bus:
            await main(bus)

    asyncio.run(bounded())


def test_the_name_of_a_request_class_with_data_makes_one() -> None:
    """Nothing else need have registered the class, and misfits are refused at the call."""

    async def main(bus: Bus) -> None:
        bus.reply("price.get")(lambda data: data)
        bus.reply(GetPrice)(lambda request: request)
        assert await bus.request("price.get", {"item": "fig"}) == {"item": "fig"}
        assert await bus.request("price.get") is None
        assert await bus.request("GetPrice", {"item": "fig"}) == GetPrice("fig")
        assert await bus.request("GetPrice") == GetPrice()
        with pytest.raises(InvalidData, match="GetPrice: expected data that makes a GetPrice"):
            await bus.request("GetPrice", {"item": 42})

    run(main)


def test_the_most_derived_replier_replies() -> None:
    """A replier of the base takes what nobody nearer does."""

    async def main(bus: Bus) -> None:
        bus.reply(Question)(lambda request: "question")
        assert await bus.request(GetPrice()) == "question"
        bus.reply(GetPrice)(lambda request: "price")
        assert await bus.request(GetPrice()) == "price"
        assert await bus.request(Question()) == "question"

    run(main)


@pytest.mark.parametrize(
    ("reply", "returns", "expected"),
    [
        ({"cents": 42}, Price, Price(42)),
        (Price(42), Price, Price(42)),
        (42, int, 42),
        ([1, 2], list[int], [1, 2]),
        ([{"cents": 1}], list[Price], [Price(1)]),
        ({"a": 1}, None, {"a": 1}),
        (None, None, None),
    ],
    ids=repr,
)
def test_the_reply_is_made_into_what_is_wanted(
    reply: object, returns: Any, expected: object
) -> None:
    """Plain data becomes a class; nothing wanted, it comes as it is."""

    async def main(bus: Bus) -> None:
        bus.reply(GetPrice)(lambda request: reply)
        assert await bus.request(GetPrice(), returns=returns) == expected

    run(main)


@pytest.mark.parametrize("reply", [None, "42", {"pence": 42}, {"cents": "many"}], ids=repr)
def test_a_reply_of_another_shape_is_an_error(reply: object) -> None:
    """Of whoever asked for something else."""

    async def main(bus: Bus) -> None:
        bus.reply(GetPrice)(lambda request: reply)
        with pytest.raises(InvalidData, match="reply: expected data that makes a Price"):
            await bus.request(GetPrice(), returns=Price)

    run(main)


def test_a_failure_leaves_nothing_to_be_collected() -> None:
    """With `on_error="raise"` the request raises it, and nobody else does again."""

    async def main() -> None:
        async with Bus(on_error="raise") as bus:

            @bus.reply(GetPrice)
            async def price(request: GetPrice) -> None:
                raise LookupError("no such item")

            with pytest.raises(RemoteError, match="LookupError: no such item"):
                await bus.request(GetPrice())
            await bus.idle(PATIENCE)

    asyncio.run(main())


def test_a_late_replier_is_cancelled_and_the_bus_is_idle_again() -> None:
    """The timeout may be a timedelta."""

    async def main(bus: Bus) -> None:
        cancelled = asyncio.Event()

        @bus.reply(GetPrice)
        async def price(request: GetPrice) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        for timeout in (0.01, timedelta(milliseconds=10)):
            with pytest.raises(RequestTimeout, match=r"GetPrice: no reply within 0\.01 s"):
                await bus.request(GetPrice(), timeout=timeout)
            await cancelled.wait()
            cancelled.clear()
        await bus.idle(PATIENCE)

    run(main)


def test_a_replier_in_a_thread_may_be_late_without_harm() -> None:
    """Its thread goes on; what it returns goes nowhere, and the next request gets its own."""

    async def main(bus: Bus) -> None:
        go_on, returned = threading.Event(), threading.Event()

        @bus.reply(GetPrice, executor="thread")
        def price(request: GetPrice) -> str:
            go_on.wait(PATIENCE)
            returned.set()
            return request.item

        with pytest.raises(RequestTimeout):
            await bus.request(GetPrice("late"), timeout=0.01)
        go_on.set()
        await asyncio.get_running_loop().run_in_executor(None, returned.wait, PATIENCE)
        assert await bus.request(GetPrice("next"), timeout=PATIENCE) == "next"

    run(main)


def test_a_replier_that_asks_for_later_is_waited_for() -> None:
    """`RetryLater` costs no attempt: the reply of the second try is the reply."""

    async def main(bus: Bus) -> None:
        tries: list[int] = []

        @bus.reply(GetPrice, executor="thread")
        def price(request: GetPrice) -> int:
            tries.append(1)
            if len(tries) == 1:
                raise RetryLater(0)
            return 42

        assert await bus.request(GetPrice(), timeout=PATIENCE) == 42
        assert len(tries) == 2

    run(main)


def test_a_weak_replier_makes_room_when_its_owner_is_gone() -> None:
    """Until then a second one is refused, and the first one replies."""

    class Shop:
        def price(self, request: GetPrice) -> str:
            return "shop"

    async def main(bus: Bus) -> None:
        shop = Shop()
        bus.reply(GetPrice, weak=True)(shop.price)
        with pytest.raises(DuplicateName, match="both reply to 'GetPrice'"):
            bus.reply(GetPrice)(lambda request: "other")
        assert await bus.request(GetPrice()) == "shop"
        del shop
        with pytest.raises(NoReplier):
            await bus.request(GetPrice())
        bus.reply(GetPrice)(lambda request: "other")
        assert await bus.request(GetPrice()) == "other"

    run(main)


def test_a_hundred_requests_find_their_own_replies() -> None:
    """Side by side, answered in the opposite order."""

    async def main(bus: Bus) -> None:
        gates = [asyncio.Event() for _ in range(100)]

        @bus.reply("number")
        async def number(data: int) -> int:
            await gates[data].wait()
            return data

        asking = [asyncio.ensure_future(bus.request("number", n)) for n in range(100)]
        await asyncio.sleep(0)
        for gate in reversed(gates):
            gate.set()
        assert await asyncio.gather(*asking) == list(range(100))

    run(main)


def test_a_request_may_have_a_name_of_its_own() -> None:
    """`@event(name=...)` names what is replied to."""

    @event(name="price.get")
    @dataclass(frozen=True)
    class Get:
        item: str

    async def main(bus: Bus) -> None:
        bus.reply(Get)(lambda request: request.item)
        assert await bus.request(Get("fig")) == "fig"
        assert await bus.request("price.get", {"item": "pear"}) == "pear"

    run(main)
