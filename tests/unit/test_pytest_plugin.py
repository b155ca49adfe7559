"""The fixtures for pytest, in test runs of their own, and the list that they give."""

import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

import headwater.transports.memory
import headwater.transports.sqlite  # noqa: F401  # Or each run within this one has its own.
from headwater import Bus, event
from headwater.testing import Events

pytest_plugins = ["pytester"]

SOURCE = Path(__file__).parents[2] / "src"

SHOP = """
import asyncio
import pytest
from dataclasses import dataclass
from headwater import Bus, Handlers, Retry, event

@event(name="placed")
@dataclass(frozen=True)
class Placed:
    item: str

@event(name="reserved")
@dataclass(frozen=True)
class Reserved:
    item: str

shop = Handlers()

@shop.on(Placed)
async def reserve(placed, context):
    if placed.item == "moon":
        raise LookupError(placed.item)
    await context.bus.publish(Reserved(placed.item))
"""


@pytest.fixture(autouse=True)
def source_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test runs in processes of their own find the package, installed or not."""
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))


def run(pytester: pytest.Pytester, test: str) -> pytest.RunResult:
    """A test run of its own, with warnings as errors."""
    pytester.makepyfile(SHOP + test)
    plugins = ("-p", "headwater_pytest", "-p", "no:cacheprovider")
    return pytester.runpytest_inprocess(*plugins, "-W", "error")


def test_a_bus_consumes_and_its_events_are_seen(pytester: pytest.Pytester) -> None:
    """In sync and in async code."""
    result = run(
        pytester,
        """
def test_in_sync_code(headwater_bus, headwater_events):
    headwater_bus.include(shop)
    headwater_bus.publish(Placed("book"))
    assert headwater_events.wait_for(Reserved) == Reserved("book")
    assert headwater_events == [Placed("book"), Reserved("book")]
    assert headwater_events.of(Reserved) == [Reserved("book")]
    assert headwater_events.names == ["placed", "reserved"]

def test_in_async_code(headwater_bus, headwater_events):
    async def main():
        headwater_bus.include(shop)
        await headwater_bus.publish(Placed("book"))
        return await headwater_events.wait_for("reserved")
    assert asyncio.run(main()) == Reserved("book")
""",
    )
    result.assert_outcomes(passed=2)


def test_the_bus_is_named_after_its_test_and_is_a_new_one_for_each(
    pytester: pytest.Pytester,
) -> None:
    """Parameters too, as far as a name can hold them."""
    result = run(
        pytester,
        """
@pytest.mark.parametrize("item", ["a, b", "c"])
def test_it(headwater_bus, headwater_events, item):
    assert headwater_bus.name == {"a, b": "test_it-a-b", "c": "test_it-c"}[item]
    assert headwater_events == []
    headwater_bus.include(shop)
    headwater_bus.publish(Placed(item))
    headwater_bus.idle(20)
    assert len(headwater_events) == 2
""",
    )
    result.assert_outcomes(passed=2)


def test_what_handlers_raise_is_an_error_of_the_test(pytester: pytest.Pytester) -> None:
    """When the bus is closed, if not before; the next test has nothing to do with it."""
    result = run(
        pytester,
        """
def test_fails(headwater_bus):
    headwater_bus.include(shop)
    headwater_bus.publish(Placed("moon"))

def test_expects_it(headwater_bus):
    headwater_bus.include(shop)
    headwater_bus.publish(Placed("moon"))
    with pytest.RaisesGroup(LookupError):
        headwater_bus.idle(20)

def test_passes(headwater_bus):
    headwater_bus.include(shop)
    headwater_bus.publish(Placed("book"))
""",
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*LookupError: moon*", "ERROR *::test_fails*"])


def test_another_engine_is_a_fixture_of_the_user(pytester: pytest.Pytester) -> None:
    """Which gives its URL."""
    result = run(
        pytester,
        """
@pytest.fixture
def headwater_url(tmp_path):
    return f"sqlite:///{tmp_path}/log.db"

def test_it(headwater_bus, tmp_path):
    headwater_bus.publish(Placed("book"))
    assert (tmp_path / "log.db").exists()
""",
    )
    result.assert_outcomes(passed=1)


def test_an_event_that_does_not_come_is_told_with_those_that_did(
    pytester: pytest.Pytester,
) -> None:
    """So that nobody has to look for them."""
    result = run(
        pytester,
        """
def test_in_sync_code(headwater_bus, headwater_events):
    headwater_bus.publish(Placed("book"))
    headwater_events.wait_for(Reserved, timeout=0.01)

def test_in_async_code(headwater_bus, headwater_events):
    async def main():
        await headwater_events.wait_for("res.*", timeout=0.01)
    asyncio.run(main())
""",
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "*TimeoutError: no reserved within 0.01 s; published was: placed",
            "*TimeoutError: no res.[*] within 0.01 s; published was: nothing",
        ]
    )


def test_nothing_is_imported_and_no_fixture_used_unless_asked_for(
    pytester: pytest.Pytester,
) -> None:
    """The plugin costs test runs without it next to nothing."""
    pytester.makepyfile(
        """
import sys

def test_it(request):
    assert not [name for name in sys.modules if name.partition(".")[0] == "headwater"]
    assert not [name for name in request.fixturenames if name.startswith("headwater")]
"""
    )
    ran = pytester.runpytest_subprocess("-p", "headwater_pytest", "-p", "no:cacheprovider")
    ran.assert_outcomes(passed=1)
    shown = pytester.runpytest_inprocess("-p", "headwater_pytest", "--fixtures")
    shown.stdout.fnmatch_lines(
        ["headwater_url*", "headwater_bus*", "    A bus on an engine*", "headwater_events*"]
    )


def test_the_module_of_the_entry_point_exists() -> None:
    """It is named in pyproject.toml, and importing it imports nothing of ours but itself."""
    project = (SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\nheadwater_pytest = "headwater_pytest"\n' in project
    assert '"src/headwater_pytest.py"' in project
    code = "import sys, headwater_pytest; print('headwater' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"False\n"


# The list, on any bus.


@event(name="tick")
@dataclass(frozen=True)
class Tick:
    number: int


class Late(Tick):
    pass


def test_events_are_a_list_that_grows() -> None:
    """It can be compared, indexed, sliced and counted."""
    bus = Bus()
    seen = Events(bus)
    assert seen == []
    bus.publish(Tick(1))
    bus.publish("order.placed", {"item": "book"})
    bus.publish(Late(2))
    assert seen == [Tick(1), {"item": "book"}, Late(2)]
    assert seen != [Tick(1)]
    assert (seen[0], seen[1:], len(seen), Tick(1) in seen) == (
        Tick(1), [{"item": "book"}, Late(2)], 3, True,
    )  # fmt: skip
    assert seen.names == ["tick", "order.placed", "Late"]
    assert seen.of(Tick) == [Tick(1), Late(2)]
    assert seen.of("order.*") == [{"item": "book"}]
    assert repr(seen) == repr(list(seen))


def test_wait_for_sees_what_is_there_and_what_comes() -> None:
    """From other threads too; each waiter gets its own."""
    bus = Bus()
    seen = Events(bus)
    bus.publish(Tick(1))
    assert seen.wait_for(Tick) == Tick(1)
    thread = threading.Thread(target=lambda: [bus.publish(Tick(n)) for n in range(2, 5)])
    thread.start()
    assert seen.wait_for(Tick, where=lambda tick: tick.number > 3, timeout=20) == Tick(4)
    thread.join(20)


def test_a_where_that_fails_is_told_to_whoever_waits() -> None:
    """Not to the publisher."""
    bus = Bus()
    seen = Events(bus)
    bus.publish(Tick(0))
    with pytest.raises(ZeroDivisionError):
        seen.wait_for(Tick, where=lambda tick: 1 // tick.number > 0)
