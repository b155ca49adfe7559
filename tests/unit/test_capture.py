"""For tests of users: what is published is captured, and handlers are muted."""

import asyncio
import logging
import threading
from dataclasses import dataclass

import pytest

from headwater import Bus
from headwater.records import Published, Record


@dataclass(frozen=True)
class Tick:
    number: int = 0


class Late(Tick):
    pass


def test_capture_lists_what_is_published_inside_the_block() -> None:
    """Handlers get it all the same; before and after it sees nothing."""
    bus, handled = Bus(), list[object]()
    bus.subscribe(Tick, handled.append)
    bus.publish(Tick(1))
    with bus.capture(Tick) as seen:
        bus.publish(Tick(2))
        bus.publish("other", 3)
        bus.publish(Late(4))
        assert seen == [Tick(2), Late(4)]
    bus.publish(Tick(5))
    assert seen == [Tick(2), Late(4)]
    assert handled == [Tick(1), Tick(2), Late(4), Tick(5)]


def test_capture_of_a_pattern_sees_classes_and_data() -> None:
    """Whatever matches by its name."""
    bus = Bus()
    with bus.capture("**") as seen:
        bus.publish(Tick(1))
        bus.publish("order.placed", {"item": "book"})
    assert seen == [Tick(1), {"item": "book"}]


def test_captures_nest() -> None:
    """Each has a list of its own, and ends with its own block."""
    bus = Bus()
    with bus.capture(Tick) as outer:
        bus.publish(Tick(1))
        with bus.capture(Tick) as inner:
            bus.publish(Tick(2))
        bus.publish(Tick(3))
    assert inner == [Tick(2)]
    assert outer == [Tick(1), Tick(2), Tick(3)]


def test_capture_is_nobody() -> None:
    """Not in the topology, not among receivers; an event that only it sees is still unhandled."""
    bus, records = Bus(), list[Record]()
    bus.observe(records.append)
    with bus.capture(Tick):
        assert bus.topology().reactions == ()
        bus.publish(Tick())
    published = [record for record in records if isinstance(record, Published)]
    assert [record.receivers for record in published] == [0]


def test_capture_sees_an_event_before_its_handlers() -> None:
    """So that a handler can look at what has happened."""
    bus = Bus()
    with bus.capture(Tick) as seen:
        lengths = list[int]()
        bus.subscribe(Tick, lambda event: lengths.append(len(seen)), priority=1000)
        bus.publish(Tick())
    assert lengths == [1]


def test_capture_and_muted_are_bus_wide() -> None:
    """Events of other threads and of tasks count too; other buses do not."""
    bus, other, handled = Bus(), Bus(), list[object]()
    for one in (bus, other):
        one.subscribe(Tick, handled.append)

    async def main() -> None:
        bus.publish(Tick(2))

    with bus.capture(Tick) as seen, bus.muted(Tick):
        thread = threading.Thread(target=bus.publish, args=(Tick(1),))
        thread.start()
        thread.join(30)
        asyncio.run(main())
        other.publish(Tick(3))
    assert seen == [Tick(1), Tick(2)]
    assert handled == [Tick(3)]


def test_muted_keeps_events_from_handlers() -> None:
    """Inside the block and there only; others go on; nobody is warned."""
    bus, handled = Bus(), list[object]()
    bus.subscribe("**", handled.append)
    with bus.muted(Tick):
        assert bus.publish(Tick(1)).done
        assert bus.publish(Late(2)).done
        bus.publish("other", 3)
    bus.publish(Tick(4))
    assert handled == [3, Tick(4)]


def test_muted_events_are_not_called_unhandled(caplog: pytest.LogCaptureFixture) -> None:
    """They are meant to reach nobody."""
    bus = Bus()
    with caplog.at_level(logging.DEBUG), bus.muted(Tick):
        bus.publish(Tick())
    assert caplog.messages == []


@pytest.mark.parametrize("what", [Tick, "Tick", "*", "**"], ids=["class", "name", "*", "**"])
def test_muted_takes_classes_names_and_patterns(what: type | str) -> None:
    """As subscribe does."""
    bus, handled = Bus(), list[object]()
    bus.subscribe(Tick, handled.append)
    with bus.muted(what):
        bus.publish(Tick())
    assert handled == []


def test_muting_nests_and_counts() -> None:
    """The outer block still mutes what an equal inner one has stopped muting."""
    bus, handled = Bus(), list[object]()
    bus.subscribe(Tick, handled.append)
    with bus.muted(Tick):
        with pytest.raises(ZeroDivisionError), bus.muted(Tick):
            raise ZeroDivisionError
        bus.publish(Tick(1))
    bus.publish(Tick(2))
    assert handled == [Tick(2)]


def test_muted_blocks_may_end_in_any_order() -> None:
    """Each takes back its own."""
    bus, handled = Bus(), list[object]()
    bus.subscribe("**", handled.append)
    first, second = bus.muted(Tick), bus.muted("other")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    bus.publish(Tick(1))
    bus.publish("other", 1)
    second.__exit__(None, None, None)
    bus.publish("other", 2)
    assert handled == [Tick(1), 2]


def test_capture_and_muted_together_replace_the_handlers() -> None:
    """What a test wants: see what would have been handled, and handle nothing."""
    bus, handled = Bus(), list[object]()
    bus.subscribe(Tick, handled.append)
    bus.on(Tick, name="later")(lambda event: asyncio.get_running_loop())
    with bus.muted(Tick), bus.capture(Tick) as seen:
        assert bus.publish(Tick(1)).errors == ()
    assert seen == [Tick(1)]
    assert handled == []


def test_a_subscription_made_while_muted_gets_nothing_until_the_end() -> None:
    """It was muted for the bus, not for those who were there."""
    bus, handled = Bus(), list[object]()
    with bus.muted(Tick):
        bus.subscribe(Tick, handled.append)
        bus.publish(Tick(1))
    bus.publish(Tick(2))
    assert handled == [Tick(2)]
