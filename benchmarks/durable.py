"""How fast is the durable bus? One run, everybody on the same disk, side by side, in turns.

    python benchmarks/durable.py [--quick] [--only NAMES] [--markdown FILE] [--directory DIRECTORY]
    python benchmarks/durable.py --large [EVENTS] [--markdown FILE]     cost against size, by hand
    python benchmarks/durable.py --memory [EVENTS] [--markdown FILE]    memory before a backlog

README.md beside this file says what is compared, and how to read the result.
"""

import argparse
import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backlog import facing
from direct import progress
from disk import file_system, scratch, sync_seconds
from durable_headwater import Headwater, why_not
from durable_measure import Kind, Site, run_rounds
from durable_page import Part, as_markdown, as_text, keep, part
from durable_peers import PEERS
from durable_plots import draw_costs, draw_rates
from durable_tables import growth_table, memory_table, result_tables, wake_table
from growth import Growth
from raw_log import RawLog
from report import Table, circumstances, duration
from wake import LISTENERS, waking

MILLION = 1_000_000
FEW = 1_000
"""The backlog that a long one is compared with."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time headwater's durable bus beside the raw limit and its peers."
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="two rounds: seconds, and rough")
    add("--rounds", type=int, help="how many times everybody runs (default 7)")
    add("--only", nargs="*", metavar="NAME", help="only these, and the raw limit")
    add("--synchronous", choices=("full", "normal"), default="full", help="default full")
    add("--large", nargs="?", type=int, const=10 * MILLION, metavar="EVENTS",
        help="cost against size instead, up to so many events (default 10 million)")  # fmt: skip
    add("--memory", nargs="?", type=int, const=MILLION, metavar="EVENTS",
        help="memory before a backlog instead (default a million)")  # fmt: skip
    add("--seconds", type=float, default=20, help="how long memory is watched (default 20)")
    add("--directory", type=Path, help="a folder on a real disk for the files (default: temporary)")
    add("--markdown", type=Path, metavar="FILE", help="keep the result, and write the page there")
    return parser.parse_args()


@dataclass(frozen=True)
class Run:
    """What was asked for, and who takes part."""

    options: argparse.Namespace
    site: Site
    kinds: Sequence[Kind]

    @property
    def rounds(self) -> int:
        return self.options.rounds or (2 if self.options.quick else 7)

    async def usual(self) -> list[Table]:
        """Measure everything that takes minutes."""
        results = await run_rounds(self.kinds, self.site, self.rounds, progress)
        wakes = {}
        for name, (kind, _) in LISTENERS.items():
            if kind in self.kinds:
                progress(f"waking {name}")
                wakes[name] = await waking(name, self.site, 10 if self.options.quick else 40)
        return [*result_tables(results, self.kinds), wake_table(wakes)]

    async def large(self) -> list[Table]:
        """Measure what an event costs when much is in the file."""
        kinds = [kind for kind in self.kinds if kind.role != "peer"]
        growth = Growth(kinds, self.site, self.options.large)
        await growth.run(self.rounds, progress)
        return [growth_table(growth)]

    async def memory(self) -> list[Table]:
        """Watch the memory before a short and a long backlog."""
        found = {}
        for backlog in (FEW, self.options.memory):
            progress(f"a backlog of {backlog:,}")
            found[backlog] = await facing(backlog, self.site, self.options.seconds)
        return [memory_table(found)]


async def participants(options: argparse.Namespace, site: Site) -> tuple[list[Kind], str]:
    """Return who takes part, and why headwater does not, if so."""
    missing = await why_not(site.directory, site.synchronous)
    chosen = set(options.only) if options.only is not None else None
    kinds: list[Kind] = [RawLog]
    everybody: tuple[Kind, ...] = (Headwater, *PEERS)
    for kind in everybody:
        wanted = chosen is None or kind.name in chosen
        able = site.synchronous in kind.synchronous and not (kind is Headwater and missing)
        if wanted and able:
            kinds.append(kind)
    return kinds, missing


def facts(run: Run, missing: str) -> dict[str, str]:
    """Tell when, where and with what this was measured."""
    names = [kind.distribution for kind in run.kinds if kind.distribution]
    folder = run.site.directory
    appended = duration(sync_seconds(folder, appending=True))
    replaced = duration(sync_seconds(folder, appending=False))
    found = circumstances(run.rounds, "durable.py", names)
    found |= {
        "sqlite": sqlite3.sqlite_version,
        "synchronous": run.site.synchronous,
        "disk": f"{file_system(folder)}; a page and its sync: {appended} at the end of a file, "
        f"{replaced} inside it",
    }
    return found | ({"headwater": f"did not take part: {missing}"} if missing else {})


async def measured(options: argparse.Namespace, directory: Path) -> tuple[str, Part]:
    """Measure the part that was asked for."""
    site = Site(directory, options.synchronous)
    kinds, missing = await participants(options, site)
    run = Run(options, site, kinds)
    name = "large" if options.large else "memory" if options.memory else "usual"
    if name == "memory" and missing:
        raise SystemExit(f"headwater cannot take part: {missing}")
    told = facts(run, missing)
    tables = await getattr(run, name)()
    progress("")
    return name, part(told, tables)


def curves(parts: Mapping[str, Part]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Collect what the plots show: rates by concurrency, microseconds by size."""
    rates, costs = dict[str, Any](), dict[str, Any]()
    for found in parts.values():
        for row in (row for table in found["tables"] for row in table["data"]):
            if "curve" in row:
                rates[row["name"]] = row["curve"]
            if "per_event" in row:
                costs.setdefault(row["name"], []).append((row["size"], row["per_event"] * 1e6))
    return rates, costs


def write_page(page: Path, parts: Mapping[str, Part]) -> None:
    """Write the page, and its plots beside it."""
    rates, costs = curves(parts)
    plots = {}
    for name, data, draw in (("rates", rates, draw_rates), ("costs", costs, draw_costs)):
        if data:
            plots[name] = f"durable-{name}.svg"
            draw(data, page.parent / "images" / plots[name])
    page.write_text(as_markdown(parts, plots), encoding="utf-8")


def main() -> None:
    options = arguments()
    with scratch(options.directory) as directory:
        name, found = asyncio.run(measured(options, directory))
    print(as_text(found))
    if options.markdown:
        write_page(options.markdown, keep(options.markdown, name, found))


if __name__ == "__main__":
    main()
