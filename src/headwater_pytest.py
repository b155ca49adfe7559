"""The fixtures that headwater brings along for pytest, which loads this module at its start.

It stands beside the package because importing any part of that imports the most of it: a test run
that uses no fixture of ours shall not pay for that, nor shall coverage begin too late. For the
same reason the imports are inside. No fixture is used unless a test asks for it.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from headwater import Bus
    from headwater.testing import Events

PATIENCE = 5.0


@pytest.fixture
def headwater_url() -> str:
    """Where the events of `headwater_bus` are kept: in memory. Override it for another engine."""
    return "memory://"


@pytest.fixture
def headwater_bus(request: pytest.FixtureRequest, headwater_url: str) -> "Iterator[Bus]":
    """A bus on an engine, consuming; it is closed after the test, and raises its errors there.

    What the test has published is handled before, for five seconds at most.
    """
    from headwater import Bus  # noqa: PLC0415  See the module.

    name = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")
    with Bus(headwater_url, name=name, on_error="raise") as bus:
        yield bus
        with contextlib.suppress(TimeoutError):
            bus.idle(PATIENCE)


@pytest.fixture
def headwater_events(headwater_bus: "Bus") -> "Events":
    """What `headwater_bus` publishes in the test: a list, with ``of``, ``names``, ``wait_for``."""
    from headwater.testing import Events  # noqa: PLC0415  See the module.

    return Events(headwater_bus)
