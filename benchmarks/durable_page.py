"""The page in the docs: what every run measured last, its circumstances, and two plots.

A run measures a part: the usual one, the one with millions of events, the one that watches memory.
What it found replaces its part in a file of results beside the page, and the page is made from
all of that file, so that a quick look at one part does not lose what took an hour.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from durable_headwater import Headwater
from durable_log import DurableLog
from durable_peers import PEERS
from raw_log import RawLog
from report import Table, aligned, grid

PARTS = ("usual", "large", "memory")

Part = dict[str, Any]

INTRODUCTION = """\
# How fast the durable bus is

{summary}. Medians over interleaved rounds, everybody on a fresh file on the same disk, with the
same event (233 bytes of JSON) and the same `synchronous`; ratios are taken within a round and shown
as median (first to third quartile). `benchmarks/README.md` says how they are measured."""

RATES = "![Events per second against publishers](images/{name})"
COSTS = "![Cost of an event against events in the file](images/{name})"


def part(facts: Mapping[str, str], tables: Sequence[Table]) -> Part:
    """Turn what a run found into data."""
    return {
        "facts": dict(facts),
        "tables": [
            {
                "title": table.title,
                "head": list(table.head),
                "rows": [list(row) for row in table.rows],
                "verdicts": list(table.verdicts),
                "data": list(table.data),
            }
            for table in tables
        ],
    }


def keep(page: Path, name: str, found: Part) -> dict[str, Part]:
    """Put a part into the results beside the page, and return all of them, in order."""
    path = page.with_suffix(".json")
    parts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    parts[name] = found
    parts = {name: parts[name] for name in PARTS if name in parts}
    path.write_text(json.dumps(parts) + "\n", encoding="utf-8")
    return parts


def as_text(found: Part) -> str:
    """Write one part for a terminal."""
    tables = [
        f"{table['title']}\n{aligned([table['head'], *table['rows']])}" for table in found["tables"]
    ]
    return "\n\n".join([aligned([*found["facts"].items()]), *tables, summary([found])])


def summary(parts: Sequence[Part]) -> str:
    tables = [table for found in parts for table in found["tables"]]
    verdicts = [met for table in tables for met in table["verdicts"]]
    return f"{sum(verdicts)} of {len(verdicts)} targets met"


def as_markdown(parts: Mapping[str, Part], plots: Mapping[str, str]) -> str:
    """Write all parts as one page.

    Args:
        parts: what was measured, by the name of the part.
        plots: the file names of the plots beside the page, in `images/`.
    """
    texts = [INTRODUCTION.format(summary=summary(list(parts.values())))]
    if "rates" in plots:
        texts.append(RATES.format(name=plots["rates"]))
    if "costs" in plots:
        texts.append(COSTS.format(name=plots["costs"]))
    for found in parts.values():
        texts += part_texts(found)
    texts += ["## Who takes part, and how", grid(("", "used", "what it does not do"), who())]
    return "\n\n".join(texts) + "\n"


def part_texts(found: Part) -> Iterator[str]:
    facts = dict(found["facts"])
    for table in found["tables"]:
        title = table["title"]
        yield f"## {title[0].upper()}{title[1:]}"
        yield grid(table["head"], table["rows"])
    yield "These tables were made by"
    yield f"```\n{facts.pop('command')}\n```"
    yield "\n".join(f"- {name}: {value}" for name, value in facts.items())


def who() -> list[tuple[str, str, str]]:
    kinds: tuple[type[DurableLog], ...] = (RawLog, Headwater, *PEERS)
    return [(kind.name, kind.used.replace("|", "\\|"), kind.lacks) for kind in kinds]
