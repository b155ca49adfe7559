"""The only source of time, randomness, ids, timers, threads and locks.

Everything above this module is told what time it is and asks here to be called later, so that
a test can put another `Runtime` in its place and move time by hand
(`headwater.testing.VirtualRuntime`). The real one owns, made when first needed, one daemon
thread with an event loop (timers, and the async handlers of publishers that have no loop) and a
pool of worker threads (sync handlers that must not run in the publisher's thread).

It is longer than other files because nothing else may do what it does.
"""

import asyncio
import contextlib
import contextvars
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor as Executor
from concurrent.futures import Future as Future
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

log = logging.getLogger("headwater.runtime")

Lock = threading.RLock
"""Reentrant, so that a signal handler that publishes cannot block on its own thread."""


class Timer(Protocol):
    """A call that was asked for and has not happened yet."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has happened."""
        ...


class Latch:
    """A one-way switch that threads can wait for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Let everybody through, now and later."""
        self._event.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until set; false when `seconds` have passed before."""
        return self._event.wait(seconds)


class Bell:
    """What one thread sleeps on until another one rings; a ring before the wait is not lost."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """Wake who waits, or who will."""
        if not self._event.is_set():
            self._event.set()

    def wait(self, seconds: float | None = None) -> None:
        """Sleep until it rings, or for so long."""
        self._event.wait(seconds)
        self._event.clear()


class Rarely:
    """Lets through at most one call in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def __call__(self) -> bool:
        """Whether enough time has passed since it last was true."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class Worker:
    """One daemon thread that runs one function to its end."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        # In a context of its own: the one it is made in may hold an event.
        self._thread = threading.Thread(
            target=contextvars.Context().run, args=(run,), name=name, daemon=True
        )
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait until it has ended; false if it has not within so long."""
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def here(self) -> bool:
        """Whether this is that thread."""
        return threading.current_thread() is self._thread


class Workers:
    """A pool of daemon threads that grows while its workers wait for each other.

    A worker that blocks on a receipt says so (`blocked`), and does not count against `limit`
    meanwhile: a handler in a worker may publish to another one and wait for it, to any depth,
    without the pool running out of threads.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._tasks: deque[Callable[[], None]] = deque()
        # Reentrant: the garbage collector may close a bus in the midst of any line here.
        self._ready = threading.Condition(Lock())
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._blocked = 0
        self._closed = False

    def submit(self, task: Callable[[], None]) -> None:
        """Run `task` in a worker, soon, in the order of submission."""
        with self._ready:
            self._closed = False
            self._tasks.append(task)
            staffed = self._staff()
        if not staffed:
            self._work_here()

    @contextlib.contextmanager
    def blocked(self) -> Generator[None]:
        """Say that this thread, if it is a worker, waits and does no work."""
        if threading.current_thread() not in self._threads:
            yield
            return
        self.lost()
        try:
            yield
        finally:
            self.found()

    def lost(self) -> None:
        """One worker waits, or hangs in a handler that timed out: do not count on it."""
        with self._ready:
            self._blocked += 1
            staffed = self._staff()
        if not staffed:
            self._work_here()

    def found(self) -> None:
        """The worker that was lost has come back."""
        with self._ready:
            self._blocked -= 1
            if self._idle and len(self._threads) - self._blocked > self.limit:
                self._ready.notify()  # One that was hired meanwhile, and has nothing to do, may go.

    def close(self) -> None:
        """Let idle workers end; those at work end after it."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def _staff(self) -> bool:
        """See to it that somebody works; false if nobody can be had."""
        if not self._tasks:
            return True
        if self._idle >= len(self._tasks):
            self._ready.notify()
        elif len(self._threads) - self._blocked < self.limit:
            return self._hire()
        elif self._idle:
            self._ready.notify()
        return True

    def _hire(self) -> bool:
        thread = threading.Thread(target=self._work, name="headwater-worker", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # The interpreter is ending, or the system has no more threads.
            self._threads.discard(thread)
            return len(self._threads) > self._blocked
        return True

    def _work_here(self) -> None:
        """Without workers, whoever submits does the work."""
        while self._tasks:
            try:
                task = self._tasks.popleft()
            except IndexError:
                return
            task()

    def _next(self) -> Callable[[], None] | None:
        with self._ready:
            while not self._tasks:
                surplus = len(self._threads) - self._blocked > self.limit
                if self._closed or surplus:
                    self._threads.discard(threading.current_thread())
                    return None
                self._idle += 1
                self._ready.wait()
                self._idle -= 1
            return self._tasks.popleft()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except BaseException:  # The task settles its own errors; a worker must outlive it.
                log.critical("worker_task_failed", exc_info=True)
            del task  # Nothing of the event is kept while the worker idles.


class LoopThread:
    """An event loop on a daemon thread of its own."""

    def __init__(self, name: str = "headwater-loop") -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
                break
            except BaseException:
                # KeyboardInterrupt and SystemExit end run_forever after the task has recorded
                # them: they reach the publisher through its receipt, the loop goes on.
                log.debug("loop_interrupted", exc_info=True)
        with contextlib.suppress(Exception):
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def close(self, *, wait: bool) -> None:
        """Stop the loop; with `wait`, until its thread has ended, unless this is that thread."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        if wait and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)


class Runtime:
    """Time, chance, timers and threads of one bus.

    Args:
        max_workers: worker threads of sync handlers that do not run inline; None: as many as
            `concurrent.futures` would use, ``min(32, cores + 4)``.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        self._loop_thread: LoopThread | None = None
        self._io_thread: LoopThread | None = None
        self._lock = Lock()
        self.workers = Workers(max_workers or min(32, (os.cpu_count() or 1) + 4))

    def now(self) -> float:
        """The wall clock: seconds since 1970, UTC."""
        return time.time()

    monotonic: Callable[[], float] = staticmethod(time.monotonic)
    """Seconds since some moment, never going back; the time of loops too."""

    _epoch: float | None = None

    def calendar(self) -> float:
        """The wall clock as it stood when this was first asked, moved on by the steady one.

        What is due is measured by it: somebody who sets the wall clock moves nothing.
        """
        if self._epoch is None:
            self._epoch = self.now() - self.monotonic()
        return self._epoch + self.monotonic()

    def draw(self) -> float:
        """A random number in [0, 1)."""
        return random.random()

    def call_at(
        self,
        when: float,
        callback: Callable[[], None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Timer:
        """Call `callback` at the monotonic time `when`.

        Args:
            when: in the time of `monotonic`, which is also that of loops.
            callback: must not block.
            loop: the loop to call it on, if it runs in this thread; else the bus's own.
        """
        if loop is not None and running_loop() is loop:
            return loop.call_at(when, callback)
        return _LoopTimer(self.loop, when, callback)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The bus's own loop, running in its own thread."""
        with self._lock:
            if self._loop_thread is None:
                # A loop keeps the context it was made in, and here that may hold an event.
                self._loop_thread = contextvars.Context().run(LoopThread)
            return self._loop_thread.loop

    @property
    def io(self) -> asyncio.AbstractEventLoop:
        """The loop that talks to the engine, in a thread where no handler ever runs."""
        with self._lock:
            if self._io_thread is None:
                self._io_thread = contextvars.Context().run(LoopThread, "headwater-io")
            return self._io_thread.loop

    def close_io(self) -> None:
        """End that thread; it is made again when needed again."""
        with self._lock:
            thread, self._io_thread = self._io_thread, None
        if thread is not None:
            thread.close(wait=True)

    def close(self, *, wait: bool = True) -> None:
        """End the threads; they are made again when needed again.

        Args:
            wait: whether to wait, for 5 seconds at most, until the loop's thread has ended.
        """
        with self._lock:
            thread, self._loop_thread = self._loop_thread, None
        if thread is not None:
            thread.close(wait=wait)
        self.workers.close()

    def after_fork(self) -> None:
        """In the child of a fork: the threads did not come along, what they held is nobody's."""
        self._loop_thread = None
        self._io_thread = None
        self._lock = Lock()
        self.workers = Workers(self.workers.limit)


class _LoopTimer:
    """A timer on a loop that may belong to another thread."""

    __slots__ = ("_callback", "_handle", "_loop", "_when")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._when = when
        self._callback: Callable[[], None] | None = callback
        self._handle: asyncio.TimerHandle | None = None
        # In a context of its own: a timer keeps it until it is due, even when it was cancelled.
        loop.call_soon_threadsafe(self._arm, context=contextvars.Context())

    def _arm(self) -> None:
        if self._callback is not None:
            # loop.time() is time.monotonic(), the clock of Runtime.monotonic().
            self._handle = self._loop.call_at(self._when, self._fire)

    def _fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def cancel(self) -> None:
        self._callback = None  # _fire finds nothing to do; the handle goes when it is due.
        handle = self._handle
        if handle is not None and running_loop() is self._loop:
            handle.cancel()


class _IdClock:
    """The 60-bit timestamp of the last id, so that ids of this process only grow."""

    last = 0


def new_id() -> str:
    """A UUIDv7 (RFC 9562, method 3: the 12 bits after the version hold the time below 1 ms)."""
    stamp = time.time_ns() * 4096 // 1_000_000
    if stamp <= _IdClock.last:
        stamp = _IdClock.last + 1
    _IdClock.last = stamp
    chance = random.getrandbits(62)
    return "%08x-%04x-7%03x-%04x-%012x" % (  # noqa: UP031  # A third faster than an f-string.
        stamp >> 28,
        (stamp >> 12) & 0xFFFF,
        stamp & 0xFFF,
        0x8000 | (chance >> 48),
        chance & 0xFFFF_FFFF_FFFF,
    )


running_loop: Callable[[], asyncio.AbstractEventLoop | None] = asyncio._get_running_loop
"""The loop that runs in this thread, or None. Documented by asyncio for callers that must not
fail; an order of magnitude cheaper than catching the error of get_running_loop()."""


def call_after(
    loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[[], None]
) -> Timer:
    """Call `callback` on the loop that runs here after real seconds, also where time is virtual.

    For what only gathers work to do it together, and means nothing to anybody's story.
    """
    return loop.call_later(seconds, callback)


def pause(seconds: float) -> None:
    """Let this thread sleep; only for waits that nobody can be woken from, such as a file lock."""
    time.sleep(seconds)


async def next_turn() -> None:
    """Let everything else that waits on this loop have its turn."""
    await asyncio.sleep(0)


def steady() -> float:
    """Seconds since this machine was started: the same clock in all of its processes."""
    return time.monotonic()


def boot_id() -> str:
    """What tells this run of the machine from the one before."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # No Linux: the moment it was started, within some minutes.
        return f"since-{round((time.time() - time.monotonic()) / 1000)}"


def new_token() -> int:
    """A random number of 48 bits."""
    return random.getrandbits(48)


def within(seconds: float | None) -> asyncio.Timeout:
    """A context manager that raises TimeoutError in this task after `seconds`; None: never."""
    return asyncio.timeout(seconds)


def shares_memory(executor: Executor) -> bool:
    """Whether what is submitted runs in this interpreter: only then can it use our objects."""
    threads = isinstance(executor, ThreadPoolExecutor)
    return threads and type(executor).__name__ != "InterpreterPoolExecutor"


def at_fork(callback: Callable[[], None]) -> None:
    """Call `callback` in every child of a fork, where the platform forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)
