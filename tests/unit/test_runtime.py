"""The runtime: workers that never starve, a loop of its own, timers, and ids that only grow."""

import asyncio
import functools
import gc
import itertools
import logging
import re
import sys
import threading
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from headwater import runtime as runtime_module
from headwater.runtime import (
    Future,
    Latch,
    LoopThread,
    Runtime,
    Workers,
    new_id,
    running_loop,
    shares_memory,
)

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


def settled(future: "Future[Any]") -> Any:
    """What came of it, in time."""
    return future.result(PATIENCE)


def submit(workers: Workers, function: Callable[[], Any]) -> "Future[Any]":
    """Run a function in a worker; its result, or what it raised."""
    future: Future[Any] = Future()

    def task() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    workers.submit(task)
    return future


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true in time; threads end when they get the chance, and tell nobody."""
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        threading.Event().wait(0.001)
    return condition()


@pytest.fixture
def workers() -> Iterator[Workers]:
    """Two workers at most."""
    pool = Workers(2)
    yield pool
    pool.close()
    assert eventually(lambda: not pool._threads)


# Workers.


def test_a_task_runs_in_a_daemon_thread(workers: Workers) -> None:
    """Made when it is needed, and used again."""
    assert not workers._threads
    names = [settled(submit(workers, threading.current_thread)) for _ in range(20)]
    assert {thread.name for thread in names} == {"headwater-worker"}
    assert all(thread.daemon for thread in names)
    assert len(workers._threads) <= 2


def test_tasks_are_begun_in_the_order_of_submission() -> None:
    """By a single worker: one after the other."""
    workers, seen = Workers(1), list[int]()
    tasks = [submit(workers, functools.partial(seen.append, n)) for n in range(200)]
    for task in tasks:
        settled(task)
    assert seen == list(range(200))
    workers.close()


def test_no_more_tasks_run_at_once_than_there_are_workers(workers: Workers) -> None:
    """The rest waits its turn."""
    running, most, lock = 0, 0, threading.Lock()
    begun, go_on = threading.Barrier(3), threading.Event()

    def work(*, first: bool) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if first:
            begun.wait(PATIENCE)
            go_on.wait(PATIENCE)
        with lock:
            running -= 1

    tasks = [submit(workers, functools.partial(work, first=n < 2)) for n in range(50)]
    begun.wait(PATIENCE)
    assert running == 2
    go_on.set()
    for task in tasks:
        settled(task)
    assert most == 2


def test_workers_that_wait_for_each_other_are_not_counted(workers: Workers) -> None:
    """To a depth of a hundred, with two of them: each that blocks makes room for one more."""

    def work(depth: int) -> int:
        if depth == 0:
            return 0
        inner = submit(workers, lambda: work(depth - 1))
        with workers.blocked():
            return 1 + int(settled(inner))

    assert settled(submit(workers, lambda: work(100))) == 100


def test_the_pool_shrinks_again(workers: Workers) -> None:
    """What was made while others were blocked goes when they come back."""
    gate = threading.Event()

    def wait() -> None:
        with workers.blocked():
            gate.wait(PATIENCE)

    tasks = [submit(workers, wait) for _ in range(20)]
    assert eventually(lambda: len(workers._threads) >= 20)
    gate.set()
    for task in tasks:
        settled(task)
    assert eventually(lambda: len(workers._threads) <= 2)
    assert settled(submit(workers, lambda: 42)) == 42


def test_blocked_means_nothing_outside_of_workers(workers: Workers) -> None:
    """A publisher's own thread is nobody's worker."""
    with workers.blocked():
        assert workers._blocked == 0


def test_blocked_ends_with_its_block_even_by_an_error(workers: Workers) -> None:
    """The worker counts again."""

    def fail() -> None:
        with workers.blocked():
            raise LookupError

    with pytest.raises(LookupError):
        settled(submit(workers, fail))
    assert workers._blocked == 0


def test_a_lost_worker_is_replaced(workers: Workers) -> None:
    """One that hangs in a handler makes room, until it comes back."""
    gates = [threading.Event() for _ in range(2)]
    hanging = [submit(workers, functools.partial(gate.wait, PATIENCE)) for gate in gates]
    assert eventually(lambda: len(workers._threads) == 2)
    for _ in gates:
        workers.lost()
    assert settled(submit(workers, lambda: 42)) == 42
    for gate, task in zip(gates, hanging, strict=True):
        gate.set()
        settled(task)
        workers.found()
    assert eventually(lambda: len(workers._threads) <= 2)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_worker_survives_what_a_task_raises(
    workers: Workers, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """It says so as loudly as it can, and goes on with the next task."""

    def fail() -> None:
        raise error("on purpose")

    for _ in range(5):
        workers.submit(fail)
    assert settled(submit(workers, lambda: 42)) == 42
    assert len(workers._threads) <= 2
    assert eventually(lambda: len(caplog.records) == 5)
    assert {record.levelno for record in caplog.records} == {logging.CRITICAL}
    assert {record.message for record in caplog.records} == {"worker_task_failed"}


def test_an_idle_worker_keeps_nothing_of_its_last_task(workers: Workers) -> None:
    """What the task held is free to go."""

    class Held:
        """Something large."""

    held = Held()
    gone = weakref.ref(held)
    settled(submit(workers, functools.partial(id, held)))
    del held
    assert eventually(lambda: gc.collect() >= 0 and gone() is None)


def test_a_closed_pool_lets_its_workers_go_and_opens_again(workers: Workers) -> None:
    """Those at work finish first, with everything that was submitted before."""
    gate, seen = threading.Event(), list[int]()
    submit(workers, lambda: gate.wait(PATIENCE))
    rest = [submit(workers, functools.partial(seen.append, n)) for n in range(5)]
    workers.close()
    gate.set()
    for task in rest:
        settled(task)
    assert sorted(seen) == list(range(5))
    assert eventually(lambda: not workers._threads)
    assert settled(submit(workers, lambda: 42)) == 42


def test_sixteen_threads_may_submit_at_once(workers: Workers) -> None:
    """Nothing is lost, nothing is done twice."""
    seen, gate = list[int](), threading.Barrier(16)

    def publish(base: int) -> None:
        gate.wait(PATIENCE)
        for number in range(base, base + 100):
            settled(submit(workers, functools.partial(seen.append, number)))

    with ThreadPoolExecutor(16) as pool:
        for one in [pool.submit(publish, 1000 * number) for number in range(16)]:
            settled(one)
    assert sorted(seen) == sorted(1000 * number + n for number in range(16) for n in range(100))


# The loop thread.


def test_the_loop_runs_in_a_thread_of_its_own() -> None:
    """A daemon, whose loop is the current one there."""
    thread = LoopThread()

    async def here() -> tuple[object, str, bool]:
        current = threading.current_thread()
        return asyncio.get_running_loop(), current.name, current.daemon

    found = asyncio.run_coroutine_threadsafe(here(), thread.loop)
    assert settled(found) == (thread.loop, "headwater-loop", True)
    thread.close(wait=True)
    assert thread.loop.is_closed()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_loop_goes_on_when_a_task_interrupts_it(error: type[BaseException]) -> None:
    """Such an error reaches whoever waits for the task, and ends nothing else."""
    thread = LoopThread()

    async def fail() -> None:
        raise error

    async def work() -> int:
        return 42

    with pytest.raises(error):
        settled(asyncio.run_coroutine_threadsafe(fail(), thread.loop))
    assert settled(asyncio.run_coroutine_threadsafe(work(), thread.loop)) == 42
    thread.close(wait=True)


def test_the_loop_may_be_closed_from_its_own_thread_and_twice() -> None:
    """It waits for itself in neither case."""
    thread = LoopThread()
    thread.loop.call_soon_threadsafe(functools.partial(thread.close, wait=True))
    assert eventually(thread.loop.is_closed)
    thread.close(wait=True)


def test_the_loop_finishes_async_generators() -> None:
    """What was left open is closed before the loop is."""
    thread, closed = LoopThread(), threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.set()

    async def begin() -> object:
        left_open = numbers()
        await anext(left_open)
        return left_open

    kept = settled(asyncio.run_coroutine_threadsafe(begin(), thread.loop))
    thread.close(wait=True)
    assert closed.is_set()
    del kept


# The runtime.


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """A real one."""
    real = Runtime()
    yield real
    real.close()


def test_a_runtime_makes_threads_only_when_they_are_needed(runtime: Runtime) -> None:
    """And makes them again after they were let go."""
    assert runtime._loop_thread is None
    assert not runtime.workers._threads
    first = runtime.loop
    assert runtime.loop is first
    runtime.close()
    assert first.is_closed()
    assert runtime.loop is not first


def test_the_clocks_go_forward(runtime: Runtime) -> None:
    """The wall clock tells the time of day, the other one only differences."""
    assert abs(runtime.now() - time.time()) < PATIENCE
    earlier = runtime.monotonic()
    assert runtime.monotonic() >= earlier
    assert all(0.0 <= runtime.draw() < 1.0 for _ in range(100))


def test_a_timer_calls_on_the_own_loop(runtime: Runtime) -> None:
    """From a thread without a loop, and from one with another loop."""
    called: list[object] = []
    done = threading.Event()

    def call() -> None:
        called.append(running_loop())
        done.set()

    runtime.call_at(runtime.monotonic(), call)
    assert done.wait(PATIENCE)
    assert called == [runtime.loop]


def test_a_timer_calls_on_the_loop_that_is_given() -> None:
    """If it runs in this thread."""

    async def main() -> None:
        runtime, done = Runtime(), asyncio.Event()
        runtime.call_at(runtime.monotonic(), done.set, asyncio.get_running_loop())
        async with asyncio.timeout(PATIENCE):
            await done.wait()
        assert runtime._loop_thread is None
        runtime.close()

    asyncio.run(main())


def test_a_cancelled_timer_never_calls(runtime: Runtime) -> None:
    """Whether it is cancelled at once, later, twice, or from another thread."""
    called, go_on, done = list[str](), threading.Event(), threading.Event()
    runtime.loop.call_soon_threadsafe(go_on.wait, PATIENCE)  # Nothing happens on it meanwhile.
    now = runtime.monotonic()
    for when in (now - 1, now, now + 0.001):
        timer = runtime.call_at(when, lambda: called.append("cancelled"))
        timer.cancel()
        timer.cancel()
    runtime.call_at(now + 0.002, done.set)
    go_on.set()
    assert done.wait(PATIENCE)
    assert called == []


def test_timers_call_in_the_order_of_their_times(runtime: Runtime) -> None:
    """Not in that of their making."""
    called, done = list[int](), threading.Event()
    now = runtime.monotonic()
    runtime.call_at(now + 0.03, done.set)
    for number in (2, 0, 1):
        runtime.call_at(now + number / 100, functools.partial(called.append, number))
    assert done.wait(PATIENCE)
    assert called == [0, 1, 2]


def test_a_latch_lets_everybody_through() -> None:
    """Whoever waits, and whoever comes later."""
    latch = Latch()
    assert not latch.wait(0)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(latch.wait, PATIENCE) for _ in range(4)]
        latch.set()
        assert all(settled(one) for one in waiting)
    assert latch.wait(0)


def test_only_threads_share_memory() -> None:
    """Other processes and interpreters do not, nor what nobody knows."""

    class Unknown(Executor):
        """An executor of whoever's."""

    class InterpreterPoolExecutor(ThreadPoolExecutor):
        """By name, the one of Python 3.14."""

    with ThreadPoolExecutor(1) as pool, InterpreterPoolExecutor(1) as interpreters:
        assert shares_memory(pool)
        assert not shares_memory(interpreters)
    assert not shares_memory(Unknown())


# Ids.


def test_an_id_is_a_uuid_of_version_7() -> None:
    """RFC 9562: 48 bits of milliseconds, the version, 12 bits, the variant, 62 random bits."""
    before = time.time_ns() // 1_000_000
    text = new_id()
    after = time.time_ns() // 1_000_000
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text
    )
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert before <= parsed.int >> 80 <= after + 1


def test_the_bits_after_the_version_hold_the_time_below_a_millisecond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As 4096ths, which is method 3 of section 6.2."""
    now = 1_700_000_000_123_456_789
    monkeypatch.setattr(runtime_module._IdClock, "last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: now)
    parsed = uuid.UUID(new_id()).int
    assert parsed >> 80 == now // 1_000_000
    assert (parsed >> 64) & 0xFFF == 456_789 * 4096 // 1_000_000


def test_ids_grow_while_the_clock_stands_still_or_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever sorts by id sorts by time, as far as this process can tell."""
    times = itertools.chain([2_000_000_000_000_000_000] * 5000, itertools.repeat(10**18))
    monkeypatch.setattr(runtime_module._IdClock, "last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(uuid.UUID(one).version == 7 for one in ids)


def test_sixteen_threads_make_unique_ids() -> None:
    """At once, with nothing but chance and the clock to hold them apart."""
    gate = threading.Barrier(16)
    interval = sys.getswitchinterval()

    def make() -> list[str]:
        gate.wait(PATIENCE)
        return [new_id() for _ in range(2000)]

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as pool:
            made = [settled(one) for one in [pool.submit(make) for _ in range(16)]]
    finally:
        sys.setswitchinterval(interval)
    assert len({one for ids in made for one in ids}) == 16 * 2000
