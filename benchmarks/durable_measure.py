"""What the durable benchmarks measure, in rounds that everybody takes part in.

Each sample has a fresh file. Every round runs everybody in rotated order, so a slow moment of the
machine meets neighbours and not one library; ratios are taken within a round. After each sample
it is checked that everything was stored, or handled: who loses events is fast for no good reason.
"""

import gc
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from durable_log import DurableLog, Synchronous, opened, publish_all
from measure import Spread, spread
from order import orders

PUBLISHERS = 500
CONCURRENCIES = (1, 10, 50, 100, PUBLISHERS, 1000)
ALONE = 300
"""Events of a publisher that awaits each of them."""
REPLAYED = 5
"""Samples in the file that is replayed."""

Kind = type[DurableLog]


@dataclass
class Series:
    """One measure: by contender, a sample of each round."""

    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.samples.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return median(self.samples[name])

    def ratios(self, name: str, other: "Series", against: str) -> Spread:
        """Divide by what another had in the same round."""
        pairs = zip(self.samples[name], other.samples[against], strict=True)
        return spread([mine / its for mine, its in pairs])

    def differences(self, name: str, against: str) -> Spread:
        """Subtract what another had in the same round."""
        pairs = zip(self.samples[name], self.samples[against], strict=True)
        return spread([mine - its for mine, its in pairs])


@dataclass(frozen=True)
class Site:
    """Where and how everybody keeps events."""

    directory: Path
    synchronous: Synchronous


async def publishing(kind: Kind, site: Site, publishers: int) -> float:
    """Return the events per second that so many publishers reach."""
    count = min(kind.sample, 100 * publishers + 400)
    async with opened(kind, *_of(site)) as log:
        events = orders(count)
        gc.collect()
        started = perf_counter()
        await publish_all(log, events, publishers)
        taken = perf_counter() - started
        check(kind, await log.stored(), count)
    return count / taken


async def publishing_alone(kind: Kind, site: Site) -> float:
    """Return the median of the seconds that a publisher waits who awaits each event."""
    async with opened(kind, *_of(site)) as log:
        await publish_all(log, orders(20), 1)
        samples = []
        gc.collect()
        for event in orders(ALONE):
            started = perf_counter()
            await log.publish(event)
            samples.append(perf_counter() - started)
    return median(samples)


async def settling(kind: Kind, site: Site) -> float:
    """Return the events per second that are published, handled and acknowledged."""
    async with opened(kind, *_of(site)) as log:
        events = orders(kind.sample)
        gc.collect()
        taken = await log.settle(events, PUBLISHERS)
        check(kind, log.handled, len(events))
    return len(events) / taken


async def replaying(log: DurableLog) -> float:
    """Return the events per second that reach a handler from the file."""
    before = log.handled
    gc.collect()
    started = perf_counter()
    await log.replay()
    taken = perf_counter() - started
    return (log.handled - before) / taken


def check(kind: Kind, found: int | None, expected: int) -> None:
    """End the run if a contender did not do its work.

    Raises:
        SystemExit: It stored or handled another number of events.
    """
    if found not in {None, expected}:
        raise SystemExit(f"{kind.name}: {found} events instead of {expected}")


def _of(site: Site) -> tuple[Path, Synchronous]:
    return site.directory, site.synchronous


@dataclass
class Results:
    """Everything that the rounds measured."""

    rate: dict[int, Series] = field(default_factory=lambda: {n: Series() for n in CONCURRENCIES})
    alone: Series = field(default_factory=Series)
    settled: Series = field(default_factory=Series)
    replayed: Series = field(default_factory=Series)


async def run_rounds(
    kinds: Sequence[Kind], site: Site, rounds: int, progress: Callable[[str], None]
) -> Results:
    """Let everybody take part in every measure, `rounds` times."""
    results = Results()
    async with AsyncExitStack() as files:
        logs = dict[str, DurableLog]()
        for kind in kinds:
            if kind.replays:
                log = await files.enter_async_context(opened(kind, *_of(site)))
                await publish_all(log, orders(kind.sample * REPLAYED), PUBLISHERS)
                logs[kind.name] = log
        for number in range(rounds):
            turn = number % len(kinds)
            for kind in (*kinds[turn:], *kinds[:turn]):
                progress(f"round {number + 1} of {rounds}: {kind.name}")
                await one_round(kind, site, results, logs.get(kind.name))
    return results


async def one_round(kind: Kind, site: Site, results: Results, log: DurableLog | None) -> None:
    """Take one sample of everything from one contender."""

    async def sample(series: Series, measured: Awaitable[float]) -> None:
        series.add(kind.name, await measured)

    for publishers, series in results.rate.items():
        await sample(series, publishing(kind, site, publishers))
    await sample(results.alone, publishing_alone(kind, site))
    if kind.handles:
        await sample(results.settled, settling(kind, site))
    if log is not None:
        await sample(results.replayed, replaying(log))
