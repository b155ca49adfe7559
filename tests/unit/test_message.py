"""Messages: made late, and the same for everybody who looks."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from headwater import Bus, Context
from headwater.message import NO_HEADERS, Message, path_of


@dataclass(frozen=True)
class Placed:
    number: int = 0


@dataclass(frozen=True)
class Reserved:
    number: int = 0


@dataclass(frozen=True)
class Shipped:
    number: int = 0


def message(now: float = 1.5) -> Message:
    """A message that nobody caused."""
    return Message(Placed(), ("Placed", "Event"), "events", None, NO_HEADERS, None, 0, lambda: now)


def test_the_first_of_a_story_correlates_with_itself() -> None:
    """It has no cause, and begins the count."""
    first = message()
    assert first.name == "Placed"
    assert first.correlation_id == first.id
    assert first.causation_id is None
    assert first.depth == 0
    assert repr(first) == f"<Message Placed {first.id}>"


def test_what_is_made_late_is_made_once() -> None:
    """Id, time, story and correlation are what they were the first time."""
    first = message()
    for attribute in ("id", "time", "story", "correlation_id", "causation_id"):
        assert getattr(first, attribute) is getattr(first, attribute)


def test_the_time_is_read_when_somebody_asks() -> None:
    """Not before: the hot path does not look at the clock."""
    times = iter([3.0, 4.0])
    late = Message(Placed(), ("Placed",), "events", None, NO_HEADERS, None, 0, lambda: next(times))
    assert next(times) == 3.0
    assert late.time == 4.0
    assert late.time == 4.0


def test_an_attribute_that_it_does_not_have_is_an_error() -> None:
    """Making late hides no misspelling."""
    with pytest.raises(AttributeError, match="colour"):
        _ = message().colour  # type: ignore[attr-defined]


def test_sixteen_threads_that_ask_at_once_get_one_id() -> None:
    """Whoever comes first makes it for all."""
    for _ in range(50):
        shared, gate = message(), threading.Barrier(16)

        def ask(shared: Message = shared, gate: threading.Barrier = gate) -> tuple[str, float, int]:
            gate.wait(10)
            return shared.correlation_id, shared.time, id(shared.story)

        with ThreadPoolExecutor(16) as pool:
            found = {pool.submit(ask) for _ in range(16)}
            assert len({one.result(10) for one in found}) == 1


def test_an_effect_knows_its_cause_its_story_and_its_depth() -> None:
    """Three events, each published by the handler of the one before."""
    bus, seen = Bus(), list[Message]()
    bus.subscribe(Placed, lambda _: bus.publish(Reserved()))
    bus.subscribe(Reserved, lambda _: bus.publish(Shipped()))
    bus.on(Placed, Reserved, Shipped)(lambda _, context: seen.append(context.message))
    bus.publish(Placed())
    shipped, reserved, placed = seen
    assert [one.depth for one in (placed, reserved, shipped)] == [0, 1, 2]
    assert reserved.causation_id == placed.id
    assert shipped.causation_id == reserved.id
    assert {one.correlation_id for one in seen} == {placed.id}
    assert len({one.id for one in seen}) == 3
    assert placed.story is reserved.story is shipped.story


def test_all_handlers_of_an_event_see_one_message() -> None:
    """Inline, in a thread and on a loop, and by way of a nested publish."""
    seen: list[Message] = []

    async def soon(event: Placed, context: Context) -> None:
        seen.append(context.message)

    with Bus() as bus:
        bus.subscribe(Placed, lambda _, context: seen.append(context.message))
        bus.subscribe(Placed, lambda _, context: seen.append(context.message), executor="thread")
        bus.subscribe(Placed, soon)
        bus.publish(Placed())
    assert len(seen) == 3
    assert len(set(map(id, seen))) == 1


def test_the_path_names_the_causes_the_latest_last() -> None:
    """At most as many as are wanted: the last ones."""
    bus, paths = Bus(), list[tuple[str, ...]]()
    bus.subscribe(Placed, lambda _: bus.publish(Reserved()))
    bus.subscribe(Reserved, lambda _: bus.publish(Shipped()))

    @bus.on(Shipped)
    def look(event: Shipped, context: Context) -> None:
        paths.extend([path_of(context), path_of(context, most=2), path_of(None)])

    bus.publish(Placed())
    assert paths == [("Placed", "Reserved", "Shipped"), ("Reserved", "Shipped"), ()]
