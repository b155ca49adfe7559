"""What was measured as tables, each with what headwater promises and whether it keeps it."""

from collections.abc import Mapping, Sequence
from typing import Any

from backlog import Memory
from durable_measure import CONCURRENCIES, PUBLISHERS, Kind, Results, Series
from growth import Growth
from measure import Spread, spread
from report import Table, duration, ratio, verdict
from wake import Wake

# What is promised, most of it as a share of the raw limit in the same round.
PUBLISHING = 0.70
SETTLING = 0.25
OVER_PEERS = 5.0
ALONE_SECONDS = 150e-6
REPLAYED_PER_SECOND = 100_000
WAKE_SECONDS = 0.005
GROWTH = 1.2
MEMORY = 1.1

RAW = "raw limit"
OURS = "headwater"


class Lines:
    """Collects the rows of a table, with their verdicts and data."""

    def __init__(self, *head: str) -> None:
        self.head = (*head, "target", "")
        self.rows: list[Sequence[str]] = []
        self.data: list[dict[str, Any]] = []

    def add(self, *cells: str, goal: str = "", met: bool | None = None, **measured: object) -> None:
        """Add a row; what is not there is a dash."""
        dashes = ["-"] * (len(self.head) - 2 - len(cells))
        self.rows.append((*cells, *dashes, goal, verdict(met)))
        self.data.append({"name": cells[0], **measured, "target": goal or None, "met": met})

    def table(self, title: str) -> Table:
        verdicts = [row["met"] for row in self.data if row["met"] is not None]
        return Table(title, self.head, self.rows, verdicts, self.data)


def rate(per_second: float) -> str:
    return f"{per_second:,.0f}"


def result_tables(results: Results, kinds: Sequence[Kind]) -> list[Table]:
    """Tell what the rounds measured."""
    names = [kind.name for kind in kinds]
    return [
        publishing_table(results, names),
        alone_table(results.alone, names),
        settling_table(results, [kind.name for kind in kinds if kind.handles]),
        replaying_table(results.replayed, [kind.name for kind in kinds if kind.replays]),
        concurrency_table(results, names),
    ]


def publishing_table(results: Results, names: Sequence[str]) -> Table:
    lines = Lines("", "events/s", "÷ raw limit")
    series = results.rate[PUBLISHERS]
    for name in names:
        share = series.ratios(name, series, RAW)
        ours = name == OURS
        lines.add(
            name,
            rate(series.median(name)),
            share_text(share),
            goal=f"at least {PUBLISHING:g}" if ours else "",
            met=share.median >= PUBLISHING if ours else None,
            samples=series.samples[name],
        )
    return lines.table(f"publishing, {PUBLISHERS} publishers at once")


def alone_table(series: Series, names: Sequence[str]) -> Table:
    lines = Lines("", "median", "more than raw")
    for name in names:
        more = series.differences(name, RAW)
        ours = name == OURS
        lines.add(
            name,
            duration(series.median(name)),
            "" if name == RAW else f"{more.median * 1e6:+,.0f} µs",
            goal=f"at most {duration(ALONE_SECONDS)} more" if ours else "",
            met=more.median <= ALONE_SECONDS if ours else None,
            samples=series.samples[name],
        )
    return lines.table("publishing, one publisher that awaits each event")


def settling_table(results: Results, names: Sequence[str]) -> Table:
    """Compare with the raw limit of publishing, and with the best peer."""
    lines = Lines("", "events/s", "÷ raw limit of publishing", "headwater ÷ this")
    series, raw = results.settled, results.rate[PUBLISHERS]
    best = max((name for name in names if name != OURS), key=series.median, default="")
    for name in names:
        share = series.ratios(name, raw, RAW)
        times = series.ratios(OURS, series, name) if OURS in names else None
        goal, met = "", None
        if name == OURS:
            goal, met = f"at least {SETTLING:g} × raw", share.median >= SETTLING
        elif name == best and times is not None:
            goal, met = f"headwater at least {OVER_PEERS:g} ×", times.median >= OVER_PEERS
        lines.add(
            name,
            rate(series.median(name)),
            share_text(share),
            ratio(times) if times is not None else "-",
            goal=goal,
            met=met,
            samples=series.samples[name],
        )
    return lines.table("published, handled and acknowledged")


def replaying_table(series: Series, names: Sequence[str]) -> Table:
    lines = Lines("", "events/s")
    for name in names:
        found, ours = series.median(name), name == OURS
        lines.add(
            name,
            rate(found),
            goal=f"at least {REPLAYED_PER_SECOND:,}" if ours else "",
            met=found >= REPLAYED_PER_SECOND if ours else None,
            samples=series.samples[name],
        )
    return lines.table("replay into a function")


def concurrency_table(results: Results, names: Sequence[str]) -> Table:
    """Show every rate; the plot shows the same."""
    lines = Lines("publishers", *(f"{level:,}" for level in CONCURRENCIES))
    for name in names:
        found = {level: results.rate[level].median(name) for level in CONCURRENCIES}
        lines.add(name, *map(rate, found.values()), curve=list(found.items()))
    return lines.table("events per second, by number of publishers")


def wake_table(wakes: Mapping[str, Wake]) -> Table:
    lines = Lines("", "median", "nine in ten", "processor used")
    for name, wake in wakes.items():
        middle = spread(wake.seconds).median
        late = sorted(wake.seconds)[len(wake.seconds) * 9 // 10]
        ours = name == OURS
        lines.add(
            name,
            duration(middle),
            duration(late),
            f"{wake.share:.1%}",
            goal=f"at most {duration(WAKE_SECONDS)}" if ours else "",
            met=middle <= WAKE_SECONDS if ours else None,
            samples=wake.seconds,
        )
    return lines.table("from publishing to the handler of another, idle process")


def growth_table(growth: Growth) -> Table:
    """Compare each size with the smallest, round by round."""
    lines = Lines("", "events in the file", "per event", f"÷ with {growth.sizes[0]:,}")
    for what, by_size in (("publish", growth.publish), ("settle", growth.settle)):
        smallest = by_size[growth.sizes[0]]
        for name in smallest.samples:
            for size, series in by_size.items():
                times = series.ratios(name, smallest, name)
                judged = name == OURS and size == growth.sizes[-1]
                lines.add(
                    f"{name}, {what}",
                    f"{size:,}",
                    duration(series.median(name)),
                    ratio(times),
                    goal=f"at most {GROWTH:g}" if judged else "",
                    met=times.median <= GROWTH if judged else None,
                    size=size,
                    per_event=series.median(name),
                    samples=series.samples[name],
                )
    return lines.table("cost against what is in the file already")


def memory_table(memories: Mapping[int, Memory]) -> Table:
    """Judge the largest backlog: against its own first second, and against the smallest."""
    lines = Lines("backlog", "handled", "before", "after a second", "highest", "÷ after a second")
    last = max(memories)
    for backlog, memory in memories.items():
        times = memory.peak / memory.early
        lines.add(
            f"{backlog:,}",
            f"{memory.handled:,}",
            mebibytes(memory.before),
            mebibytes(memory.early),
            mebibytes(memory.peak),
            f"{times:.2f}",
            goal=f"at most {MEMORY:g}" if backlog == last else "",
            met=times <= MEMORY if backlog == last else None,
            samples=memory.resident,
        )
    peaks = memories[last].peak / memories[min(memories)].peak
    lines.add(
        f"highest with {last:,} ÷ with {min(memories):,}",
        f"{peaks:.2f}",
        goal=f"at most {MEMORY:g}",
        met=peaks <= MEMORY,
    )
    return lines.table("resident memory, a slow handler before a backlog")


def share_text(share: Spread) -> str:
    """Write a share of something, to three decimals."""
    return f"{share.median:.3f} ({share.low:.3f} to {share.high:.3f})"


def mebibytes(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"
