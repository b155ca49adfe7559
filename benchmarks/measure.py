"""How it is measured: the same loop for everyone, in turns, and only after a check by count.

Each contender's statement is compiled into one and the same loop. A batch is calibrated to last
some milliseconds. Every round runs one batch of everybody, in rotated order, so that a slow moment
of the machine meets neighbours and not one library; ratios are taken inside a round, and the
median over the rounds is reported with its quartiles. The garbage collector stays on, and is run
between batches so that nobody pays for another's garbage.
"""

import asyncio
import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from itertools import repeat
from statistics import median, quantiles
from time import perf_counter
from types import CodeType, FrameType
from typing import Any, NamedTuple, Self

from peers import Contender
from workloads import compiled

LOOP = """\
{head} batch(count, {names}):
    started = perf_counter()
    for _ in repeat(None, count):
        {statement}
    return perf_counter() - started
"""

SETTLING = 80
"""Publishes before a batch is calibrated: by then caches and bubus' history of 50 are full."""


class Spread(NamedTuple):
    """A median with its quartiles."""

    median: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    low, middle, high = quantiles(samples, n=4, method="inclusive")
    return Spread(middle, low, high)


class Clock:
    """Runs batches, each in the context of its workload, on one loop for everybody."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._runner.__exit__(None, None, None)

    def seconds(self, batch: "Batch", count: int) -> float:
        """Publish `count` times and return how long it took."""
        names = batch.contender.names
        if batch.contender.awaits:
            running = batch.loop(count, **names)
            return float(self._runner.run(running, context=batch.context))
        return float(batch.context.run(batch.loop, count, **names))

    def close(self, contender: Contender) -> None:
        """End what a library left running on the loop; some of it ignores being cancelled."""
        if contender.close is not None:
            self._runner.run(contender.close())


@dataclass
class Batch:
    """One contender in its loop, with its samples in seconds per publish."""

    contender: Contender
    context: Context
    loop: Callable[..., Any] = field(init=False)
    count: int = 1
    samples: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        source = LOOP.format(
            head="async def" if self.contender.awaits else "def",
            names=", ".join(self.contender.names),
            statement=self.contender.statement,
        )
        self.loop = compiled("batch", source, {"perf_counter": perf_counter, "repeat": repeat})

    def verify(self, clock: Clock, publishes: int = 3) -> None:
        """Publish a few times, and count the calls of the very handlers that will be timed.

        Raises:
            SystemExit: They were not called once per publish each.
        """
        codes = {handler.__code__ for handler in self.contender.handlers}
        expected = publishes * len(self.contender.handlers)
        called = calls(codes, lambda: clock.seconds(self, publishes))
        if called != expected:
            raise SystemExit(
                f"{self.contender.name}: {self.contender.statement} called its handlers "
                f"{called} times instead of {expected}"
            )

    def calibrate(self, clock: Clock, seconds: float) -> None:
        """Choose the count that makes a batch last about `seconds`.

        The best of three is believed: one interruption would make the batches too short.
        """
        clock.seconds(self, SETTLING)
        taken = 0.0
        while taken < seconds / 4:
            self.count *= 2
            taken = min(clock.seconds(self, self.count) for _ in range(3))
        self.count = max(1, round(self.count * seconds / taken))

    def sample(self, clock: Clock) -> None:
        """Run one batch, after a short one that warms what the collector has cooled."""
        gc.collect()
        clock.seconds(self, max(1, self.count // 20))
        self.samples.append(clock.seconds(self, self.count) / self.count)

    def ratios(self, other: "Batch") -> Spread:
        """Return this time divided by the other's, round by round."""
        pairs = zip(self.samples, other.samples, strict=True)
        return spread([mine / its for mine, its in pairs])

    @property
    def median(self) -> float:
        """The seconds that a publish takes."""
        return median(self.samples)


def calls(codes: set[CodeType], run: Callable[[], object]) -> int:
    """Count the calls of functions with these codes while `run` runs.

    Frames are kept, not counted, because a coroutine enters its one frame again each time it
    resumes.
    """
    frames: dict[int, FrameType] = {}

    def watch(frame: FrameType, happened: str, _: object) -> None:
        if happened == "call" and frame.f_code in codes:
            frames[id(frame)] = frame

    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
    return len(frames)


def prepared(contenders: Iterable[Contender], make_context: Callable[[], Context]) -> list[Batch]:
    return [Batch(contender, make_context()) for contender in contenders]


def run_rounds(
    groups: Sequence[Sequence[Batch]],
    clock: Clock,
    *,
    rounds: int,
    seconds: float,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Verify and calibrate every batch, then let all groups run in turns, `rounds` times."""
    batches = [batch for group in groups for batch in group]
    try:
        for batch in batches:
            batch.verify(clock)
            batch.calibrate(clock, seconds)
        for number in range(rounds):
            progress(number)
            for group in groups:
                turn = number % len(group)
                for batch in (*group[turn:], *group[:turn]):
                    batch.sample(clock)
        for batch in batches:
            batch.verify(clock)
    finally:
        for batch in batches:
            clock.close(batch.contender)
