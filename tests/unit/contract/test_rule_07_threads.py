"""Rule 7, threads: subscribe and publish from any thread, in a signal handler, after a fork."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pytest

from headwater import Bus, Context, UsedAfterFork, message
from headwater.errors import BusClosed

PATIENCE = 20.0
"""Seconds after which a test that waits gives up."""

THREADS = 16

Where = Literal["inline", "thread"]


@dataclass(frozen=True)
class Placed:
    number: int = 0


@dataclass(frozen=True)
class Rang:
    number: int = 0


@pytest.fixture
def restless() -> Iterator[None]:
    """Let the interpreter switch threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def all_at_once(work: Callable[[int], object], threads: int = THREADS) -> None:
    """Run `work(0)`, `work(1)` ... in threads that begin at the same moment."""
    barrier = threading.Barrier(threads)

    def begin(number: int) -> None:
        barrier.wait(PATIENCE)
        work(number)

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(begin, number) for number in range(threads)]:
            future.result(PATIENCE)


def doubled(seen: Iterable[object]) -> bool:
    """Whether anything was seen more than once."""
    return max(Counter(seen).values(), default=0) > 1


# Threads.


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_what_one_thread_subscribes_another_one_publishes_to(executor: Where) -> None:
    """A subscription belongs to the bus, not to the thread that made it."""
    seen = list[Placed]()
    with Bus() as bus:
        for work in (
            lambda: bus.subscribe(Placed, seen.append, executor=executor),
            lambda: bus.publish(Placed(1)),
        ):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(PATIENCE)
        bus.publish(Placed(2))
    assert seen == [Placed(1), Placed(2)]


def subscribe_in_colour(bus: Bus, colour: str, seen: Callable[[int], None]) -> None:
    """Show `seen` the number of every event, from a handler of the given colour."""
    if colour == "async":

        async def handler(placed: Placed) -> None:
            await asyncio.sleep(0)
            seen(placed.number)

        bus.subscribe(Placed, handler)
    else:
        where: Where = "thread" if colour == "thread" else "inline"
        bus.subscribe(Placed, lambda placed: seen(placed.number), executor=where)


@pytest.mark.parametrize(("colour", "events"), [("inline", 200), ("thread", 40), ("async", 40)])
@pytest.mark.usefixtures("restless")
def test_sixteen_threads_publish_and_subscribe_at_once(colour: str, events: int) -> None:
    """Nothing is lost and nothing doubled, neither for those who stay nor for those who pass by."""
    stayed, missed = list[int](), list[int]()

    def work(thread: int) -> None:
        for number in range(thread * events, (thread + 1) * events, 2):
            mine = list[Placed]()
            with bus.subscribe(Placed, mine.append):
                bus.publish(Placed(number))
            bus.publish(Placed(number + 1))  # Not for `mine` any more.
            if Placed(number) not in mine or Placed(number + 1) in mine or doubled(mine):
                missed.append(number)

    with Bus() as bus:
        subscribe_in_colour(bus, colour, stayed.append)
        all_at_once(work)
        bus.idle(PATIENCE)
        assert len(list(bus._registry)) == 1
    assert sorted(stayed) == list(range(THREADS * events))
    assert missed == []


@pytest.mark.usefixtures("restless")
def test_sixteen_threads_open_a_bus_at_once() -> None:
    """It opens on first use, whoever is first."""
    for _ in range(20):
        seen = list[Placed]()
        with contextlib.closing(Bus()) as bus:
            bus.subscribe(Placed, seen.append)
            all_at_once(lambda number: bus.publish(Placed(number)))
        assert sorted(placed.number for placed in seen) == list(range(THREADS))


@pytest.mark.usefixtures("restless")
def test_patterns_and_classes_come_and_go_while_sixteen_threads_publish_names() -> None:
    """Whatever changes meanwhile, an interest that stays misses nothing."""
    seen = list[int]()

    def work(thread: int) -> None:
        for number in range(thread * 50, thread * 50 + 50):
            with bus.subscribe(f"shop.n{thread}.*", lambda event: None):
                bus.publish(f"shop.n{number % 7}.sold", number)

    with Bus() as bus:
        bus.subscribe("shop.**", seen.append)
        all_at_once(work)
    assert sorted(seen) == list(range(THREADS * 50))


@pytest.mark.parametrize("colour", ["inline", "thread", "async"])
@pytest.mark.usefixtures("restless")
def test_pausing_while_others_publish_loses_nothing(colour: str) -> None:
    """What comes while it is paused is held, once, and handled when it goes on."""
    seen, done = list[int](), threading.Event()

    def work(thread: int) -> None:
        for number in range(thread * 50, thread * 50 + 50):
            bus.publish(Placed(number))

    def toggle() -> None:
        while not done.is_set():
            subscription.pause()
            subscription.resume()

    with Bus() as bus:
        subscribe_in_colour(bus, colour, seen.append)
        (subscription,) = bus._registry
        toggling = threading.Thread(target=toggle)
        toggling.start()
        try:
            all_at_once(work, threads=4)
        finally:
            done.set()
            toggling.join(PATIENCE)
        bus.idle(PATIENCE)
    assert sorted(seen) == list(range(200))


@contextlib.contextmanager
def held_by_another_thread(*locks: contextlib.AbstractContextManager[object]) -> Iterator[None]:
    """Locks that some other thread has taken, and keeps."""
    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            taken.set()
            release.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(PATIENCE)
    try:
        yield
    finally:
        release.set()
        thread.join(PATIENCE)


def test_publishing_takes_no_lock() -> None:
    """A thread that subscribes, however long that takes, holds up no publisher."""
    seen = list[object]()
    with Bus() as bus:
        bus.subscribe("**", seen.append)
        with held_by_another_thread(bus._registry._lock):
            bus.publish(Placed(1))
            bus.publish(Placed(2))
            bus.publish("shop.opened", "now")
    assert seen == [Placed(1), Placed(2), "now"]


# Signal handlers.


@contextlib.contextmanager
def on_signal(number: int, handler: Callable[[], object]) -> Iterator[None]:
    """A signal handler for a while."""
    before = signal.signal(number, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.usefixtures("restless")
def test_publish_in_a_signal_handler_while_other_threads_subscribe() -> None:
    """It may interrupt any line of this library, in this thread too: nothing is lost or stuck."""
    seen, rung, done = Counter[str](), Counter[str](), threading.Event()

    def ring() -> None:
        rung["signal"] += 1
        bus.publish(Rang())

    def subscribe_and_close() -> None:
        while not done.is_set():
            bus.subscribe(Rang, print).close()
            bus.subscribe("other.**", print).close()

    def handle(rang: Rang, context: Context) -> None:
        seen[context.event_id] += 1

    with Bus() as bus:
        bus.subscribe(Rang, handle)
        thread = threading.Thread(target=subscribe_and_close)
        mine, deadline = 0, time.monotonic() + PATIENCE
        with on_signal(signal.SIGALRM, ring), contextlib.redirect_stdout(None):
            thread.start()
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            try:
                while rung["signal"] < 200 and time.monotonic() < deadline:
                    mine += 1
                    bus.publish(Rang())
                    bus.subscribe("mine.**", print).close()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                done.set()
                thread.join(PATIENCE)
    assert rung["signal"] >= 200
    assert sum(seen.values()) == mine + rung["signal"]
    assert max(seen.values()) == 1


def test_a_signal_handler_publishes_while_this_thread_waits_for_a_worker() -> None:
    """The signal interrupts the wait for a receipt, and the wait goes on after it."""
    seen, rung, main = list[str](), threading.Event(), threading.get_ident()

    def handle(placed: Placed) -> None:
        for _ in range(100):  # One that comes just before the wait does not interrupt it.
            signal.pthread_kill(main, signal.SIGUSR1)
            if rung.wait(0.2):
                break
        seen.append("placed")

    def handle_ring(rang: Rang) -> None:
        seen.append("rang")
        rung.set()

    with Bus() as bus, on_signal(signal.SIGUSR1, lambda: bus.publish(Rang())):
        bus.subscribe(Placed, handle, executor="thread")
        bus.subscribe(Rang, handle_ring)
        assert bus.publish(Placed()).errors == ()
    assert (seen[0], seen[-1]) == ("rang", "placed")


def test_a_signal_handler_publishes_inside_a_handler() -> None:
    """It interrupts an inline handler: its event is handled first, then the handler goes on."""
    seen = list[str]()

    def handle(placed: Placed) -> None:
        signal.raise_signal(signal.SIGUSR1)
        seen.append("placed")

    with Bus() as bus, on_signal(signal.SIGUSR1, lambda: bus.publish(Rang())):
        bus.subscribe(Placed, handle)
        bus.subscribe(Rang, lambda rang: seen.append("rang"))
        bus.publish(Placed())
    assert seen == ["rang", "placed"]


# Forks: run without a tracer, whose own locks other threads may hold at the moment of the fork.

OWN_PROCESS = "HEADWATER_FORKS"
forks = pytest.mark.skipif(
    OWN_PROCESS not in os.environ, reason="run by test_forks_in_a_process_of_their_own"
)


@pytest.mark.skipif(OWN_PROCESS in os.environ, reason="this is that process")
def test_forks_in_a_process_of_their_own() -> None:
    """Every test below that forks, without the coverage that the others run under."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-cov", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command,
        env={**os.environ, OWN_PROCESS: "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout  # That one.


def in_child(work: Callable[[], object]) -> str:
    """What `work` returns, or raises, in a child process that ends within ten seconds."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Threads are what this is about.
        pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        try:
            said = str(work())
        except BaseException as error:
            said = type(error).__name__
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return said if status == 0 else f"status {status}, {said}"


def subscribe_all_colours(bus: Bus) -> list[str]:
    """The names of the colours, as their handlers are called."""
    seen = list[str]()

    async def handle(placed: Placed) -> None:
        await asyncio.sleep(0)
        seen.append("async")

    bus.subscribe(Placed, lambda placed: seen.append("inline"))
    bus.subscribe(Placed, lambda placed: seen.append("thread"), executor="thread")
    bus.subscribe(Placed, handle)
    return seen


def publish_and_tell(bus: Bus, seen: list[str]) -> str:
    """Publish one event, and tell who saw it."""
    errors = bus.publish(Placed()).errors
    bus.close()
    return " ".join(sorted(seen)) + "".join(map(str, errors))


@forks
def test_a_bus_that_was_not_opened_works_in_the_child() -> None:
    """Subscriptions made at import time are the child's as well, in every colour."""
    bus = Bus()
    seen = subscribe_all_colours(bus)
    assert in_child(lambda: publish_and_tell(bus, seen)) == "async inline thread"
    assert publish_and_tell(bus, seen) == "async inline thread"


@forks
def test_a_bus_that_was_opened_is_refused_in_the_child() -> None:
    """Its threads did not come along: that is said, at once, on every way of publishing."""
    with Bus() as bus:
        subscribe_all_colours(bus)
        bus.subscribe(Rang, lambda rang: None)
        bus.publish(Rang())
        bus.publish(Placed())
        assert in_child(lambda: bus.publish(Rang())) == UsedAfterFork.__name__
        assert in_child(lambda: bus.publish(Placed())) == UsedAfterFork.__name__
        assert in_child(lambda: bus.publish("shop.opened")) == UsedAfterFork.__name__
        assert in_child(lambda: bus.publish(Rang(), delay=1)) == UsedAfterFork.__name__
        assert in_child(bus.start) == UsedAfterFork.__name__
        assert in_child(lambda: asyncio.run(bus.request(Rang()))) == UsedAfterFork.__name__


@forks
def test_an_opened_bus_goes_on_in_the_parent() -> None:
    """What the child does with it, leaving its block included, does not touch the parent's."""

    def leave() -> str:
        bus.idle(5)
        bus.close()
        gc.collect()
        try:
            bus.start()
        except UsedAfterFork:
            return "left"
        return "started"

    with Bus() as bus:
        seen = subscribe_all_colours(bus)
        bus.publish(Placed())
        bus.publish(Rang(), delay=PATIENCE * 10)
        assert in_child(leave) == "left"
        bus.publish(Placed())
        assert sorted(seen) == 2 * ["async"] + 2 * ["inline"] + 2 * ["thread"]


@forks
def test_a_bus_that_was_stopped_before_the_fork_works_in_the_child() -> None:
    """It is as if it had not been opened, even while its threads are still on their way out."""
    for _ in range(10):
        bus = Bus()
        seen = subscribe_all_colours(bus)
        bus.publish(Placed())
        bus.stop()
        seen.clear()
        assert in_child(partial(publish_and_tell, bus, seen)) == "async inline thread"


@forks
def test_a_closed_bus_is_closed_in_the_child() -> None:
    """A fork opens nothing."""
    bus = Bus()
    bus.close()
    assert in_child(lambda: bus.publish(Placed())) == BusClosed.__name__


@forks
def test_a_fork_while_another_thread_holds_every_lock() -> None:
    """In the child nobody is left to release them, and nobody has to."""
    bus = Bus()
    seen = subscribe_all_colours(bus)

    def subscribe_and_publish() -> str:
        bus.subscribe(Placed, lambda placed, context: seen.append(context.event_id[:0] + "id"))
        return publish_and_tell(bus, seen)

    locks = (
        bus._registry._lock,
        bus._runtime._lock,
        bus._runtime.workers._ready,
        message._lazy_lock,
    )
    with held_by_another_thread(*locks):
        assert in_child(subscribe_and_publish) == "async id inline thread"


@pytest.mark.usefixtures("restless")
@forks
def test_forks_while_another_thread_subscribes() -> None:
    """Whatever the other thread was doing, the child's copy of the bus is whole."""
    bus, done = Bus(), threading.Event()
    seen = subscribe_all_colours(bus)

    def subscribe_and_close() -> None:
        while not done.is_set():
            bus.subscribe(Placed, lambda placed: None).close()
            bus.subscribe("shop.*", lambda event: None).close()

    thread = threading.Thread(target=subscribe_and_close)
    thread.start()
    try:
        for _ in range(10):
            assert in_child(lambda: publish_and_tell(bus, seen)) == "async inline thread"
    finally:
        done.set()
        thread.join(PATIENCE)


@pytest.mark.parametrize("executor", ["inline", "thread"])
@forks
def test_a_fork_inside_a_handler(executor: Where) -> None:
    """The handler's bus stays behind, and another one can be used there."""
    fresh = Bus()
    seen, said = subscribe_all_colours(fresh), list[str]()

    def handle(placed: Placed) -> None:
        said.append(in_child(lambda: bus.publish(Placed())))
        said.append(in_child(lambda: publish_and_tell(fresh, seen)))

    with Bus(max_workers=1) as bus:
        bus.subscribe(Placed, handle, executor=executor)
        assert bus.publish(Placed()).errors == ()
    assert said == [UsedAfterFork.__name__, "async inline thread"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("opened", [False, True])
@forks
def test_multiprocessing_with_fork(opened: bool) -> None:  # noqa: FBT001 -- a parameter of pytest
    """A forked process may use a bus that was not opened, and is told of one that was."""
    forked = multiprocessing.get_context("fork")
    answers = forked.SimpleQueue()

    def work() -> None:
        signal.alarm(10)
        try:
            answers.put(publish_and_tell(bus, seen))
        except UsedAfterFork:
            answers.put("refused")

    with Bus() if opened else contextlib.nullcontext(Bus()) as bus:
        seen = subscribe_all_colours(bus)
        process = forked.Process(target=work)
        process.start()
        process.join(PATIENCE)
        assert process.exitcode == 0
        assert answers.get() == ("refused" if opened else "async inline thread")
    answers.close()
