"""Virtual time: it stands still until a test moves it, and everything else is real."""

import functools
import threading
from dataclasses import dataclass

from headwater import Backoff, Bus, Retry
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


@dataclass(frozen=True)
class Placed:
    number: int = 0


def test_time_stands_still_until_it_is_moved() -> None:
    """Both clocks, by the same amount."""
    runtime = VirtualRuntime(start=1000.0)
    assert (runtime.now(), runtime.monotonic()) == (1000.0, 0.0)
    runtime.advance(2.5)
    assert (runtime.now(), runtime.monotonic()) == (1002.5, 2.5)
    runtime.advance(0)
    assert runtime.now() == 1002.5


def test_timers_are_called_in_order_each_at_its_own_time() -> None:
    """Those set for one time in the order they were set."""
    runtime, called = VirtualRuntime(), list[tuple[str, float]]()

    def note(name: str) -> None:
        called.append((name, runtime.monotonic()))

    for name, when in (("c", 3.0), ("a", 1.0), ("b1", 2.0), ("b2", 2.0), ("late", 3.5)):
        runtime.call_at(when, functools.partial(note, name))
    assert runtime.waiting == [1.0, 2.0, 2.0, 3.0, 3.5]
    runtime.advance(3)
    assert called == [("a", 1.0), ("b1", 2.0), ("b2", 2.0), ("c", 3.0)]
    assert runtime.waiting == [3.5]
    runtime.advance(0.5)
    assert called[-1] == ("late", 3.5)


def test_a_timer_may_set_another_that_is_due_at_once() -> None:
    """A chain within one step is followed to its end, and no further."""
    runtime, called = VirtualRuntime(), list[float]()

    def tick() -> None:
        called.append(runtime.monotonic())
        runtime.call_at(runtime.monotonic() + 1, tick)

    runtime.call_at(1, tick)
    runtime.advance(3.5)
    assert called == [1.0, 2.0, 3.0]
    assert runtime.waiting == [4.0]


def test_a_timer_in_the_past_is_called_by_the_next_step() -> None:
    """However small, and time does not go back for it."""
    runtime, called = VirtualRuntime(), list[float]()
    runtime.advance(10)
    runtime.call_at(3, lambda: called.append(runtime.monotonic()))
    assert called == []
    runtime.advance(0)
    assert called == [10.0]


def test_a_cancelled_timer_is_not_called() -> None:
    """Before its time, by another timer, and twice."""
    runtime, called = VirtualRuntime(), list[str]()
    first = runtime.call_at(1, lambda: called.append("first"))
    second = runtime.call_at(2, lambda: called.append("second"))
    runtime.call_at(1.5, second.cancel)
    first.cancel()
    first.cancel()
    assert runtime.waiting == [1.5, 2.0]
    runtime.advance(5)
    assert called == []


def test_draws_are_what_was_given_again_and_again() -> None:
    """The jitter of a backoff is the test's to choose."""
    runtime = VirtualRuntime(draws=(0.5, 0.25))
    assert [runtime.draw() for _ in range(5)] == [0.5, 0.25, 0.5, 0.25, 0.5]
    assert VirtualRuntime().draw() == 0.0


def test_a_retry_comes_when_the_test_says_so() -> None:
    """After exactly its backoff, and not a moment before; nothing was waited for."""
    runtime, done = VirtualRuntime(draws=(0.5,)), threading.Event()
    bus, tries = Bus(runtime=runtime), list[float]()

    @bus.on(Placed, retry=Retry(backoff=Backoff(initial=3600)), executor="pump")
    def flaky(order: Placed) -> None:
        tries.append(runtime.monotonic())
        if len(tries) == 1:
            raise ValueError
        done.set()

    bus.publish(Placed())
    bus.pump()
    assert runtime.waiting == [30.0]  # Half of the maximum of 60 s.
    runtime.advance(29.9)
    assert bus.pump() == 0
    runtime.advance(0.1)
    assert bus.pump() == 1
    assert tries == [0.0, 30.0]
    assert done.is_set()
    bus.close()


def test_a_delayed_event_is_delivered_at_its_time() -> None:
    """In a worker, which is real."""
    runtime, times, done = VirtualRuntime(start=0.0), list[float](), threading.Event()
    with Bus(runtime=runtime) as bus:

        @bus.on(Placed)
        def note(order: Placed) -> None:
            times.append(runtime.now())
            done.set()

        bus.publish(Placed(), delay=60)
        bus.publish(Placed(), at=90.0)
        runtime.advance(59)
        assert times == []
        runtime.advance(1)
        assert done.wait(PATIENCE)
        done.clear()
        runtime.advance(30)
        assert done.wait(PATIENCE)
        assert times == [60.0, 90.0]


def test_threads_may_set_timers_while_time_moves() -> None:
    """Each is called once, by this step or by a later one."""
    runtime, called, gate = VirtualRuntime(), list[int](), threading.Barrier(5)

    def set_timers(base: int) -> None:
        gate.wait(PATIENCE)
        for number in range(200):
            runtime.call_at(number, functools.partial(called.append, base + number))

    threads = [threading.Thread(target=set_timers, args=[1000 * n]) for n in range(4)]
    for thread in threads:
        thread.start()
    gate.wait(PATIENCE)
    for _ in range(50):
        runtime.advance(1)
    for thread in threads:
        thread.join(PATIENCE)
    runtime.advance(1000)
    assert sorted(called) == sorted(1000 * n + number for n in range(4) for number in range(200))
