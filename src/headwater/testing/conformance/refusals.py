"""Refusals: what an engine cannot do is an error when it is asked for, never something less."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from headwater import Bus, HeadwaterError, Unsupported
from headwater.errors import InvalidOption
from headwater.testing.conformance.engine import Engine, declares
from headwater.testing.conformance.events import Noted


def handler(event: Noted) -> None:
    """A handler with a name that other processes know."""


class Owner:
    """Somebody with a method."""

    def handle(self, event: Noted) -> None:
        """Handle."""


class Refusals(Engine):
    """Rules 2 and 12."""

    async def refused(self, bus: Bus, what: Callable[..., Any], **options: Any) -> None:
        """Assert that subscribing, or starting with it, is an error."""

        async def start() -> None:
            bus.on(Noted, **options)(what)
            async with bus:
                pass

        with pytest.raises(HeadwaterError):
            await start()

    @pytest.mark.parametrize(
        "options",
        [
            {"once": True},
            {"weak": True},
            {"priority": 1},
            {"executor": "inline"},
            {"executor": "pump"},
        ],
        ids=["once", "weak", "priority", "inline", "pump"],
    )
    async def test_options_of_a_direct_bus_are_refused(self, options: dict[str, Any]) -> None:
        """Rule 12: what makes sense in one process only is refused."""
        what = Owner().handle if "weak" in options else handler
        await self.refused(self.bus(), what, name="refused", **options)

    def test_a_bus_on_a_log_needs_a_name(self) -> None:
        """Rule 2: durable names begin with it."""
        with pytest.raises(InvalidOption, match="name"):
            Bus(self.log)

    @pytest.mark.parametrize("kind", ["lambda", "partial", "local"])
    async def test_a_subscription_without_a_name_of_its_own_is_refused(self, kind: str) -> None:
        """Rule 2: lambdas, partials and local functions need `name=`."""

        def local(event: Noted) -> None: ...

        nameless: Callable[[Noted], None] = lambda event: None  # noqa: E731
        kinds: dict[str, Callable[..., Any]] = {
            "lambda": nameless,
            "partial": partial(handler),
            "local": local,
        }
        await self.refused(self.bus(), kinds[kind])

    async def test_a_function_of_a_module_has_a_name(self) -> None:
        """Rule 2: `bus:module.qualname`."""
        bus = self.bus()
        bus.subscribe(Noted, handler)
        async with bus:
            await bus.publish(Noted(1))

    async def test_two_subscriptions_cannot_have_one_name(self) -> None:
        """Rule 2: a duplicate is an error."""
        bus = self.bus()
        bus.subscribe(Noted, handler, name="same")
        await self.refused(bus, Owner().handle, name="same")

    async def test_a_local_class_without_a_name_is_refused(self) -> None:
        """Section 1: other processes could not know it."""

        class Local:
            number = 1

        bus = self.bus()
        with pytest.raises(HeadwaterError):
            await bus.publish(Local())
        await bus.aclose()

    @pytest.mark.parametrize("capability", ["transaction", "ledger"])
    async def test_what_is_not_declared_is_refused_at_start(self, capability: str) -> None:
        """Rule 12: an option that needs what the engine has not got is an error at start."""
        if declares(self.capabilities, capability):
            pytest.skip(f"{capability}: declared, and tested where it is used")
        options: dict[str, dict[str, Any]] = {
            "transaction": {"transaction": True},
            "ledger": {"when_dead": "park"},
        }
        await self.refused(self.bus(), handler, name="refused", **options[capability])

    async def test_replay_without_the_capability_is_refused(self) -> None:
        """Rule 12: an engine that keeps no past says so."""
        if self.capabilities.replay:
            pytest.skip("replay: declared, and tested where it is used")
        async with self.bus() as bus:
            with pytest.raises(Unsupported):
                await bus.replay(Noted, into=handler)
