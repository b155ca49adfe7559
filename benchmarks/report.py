"""The result as tables, and the tables as text, Markdown and JSON."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from measure import Batch, Spread
from peers import DISTRIBUTIONS
from scale import Crowd
from targets import BYTES_PER_SUBSCRIPTION, CROWD_SLOWDOWN, target
from workloads import Workload


@dataclass(frozen=True)
class Table:
    """A title, a heading and rows of text, a verdict per target, and all of it as data."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdicts: Sequence[bool]
    data: Sequence[dict[str, Any]]


def duration(seconds: float) -> str:
    """Write a duration with three digits and its unit."""
    for unit, scale in (("ns", 1e9), ("µs", 1e6)):
        if seconds * scale < 999.5:
            number = seconds * scale
            return f"{number:.0f} {unit}" if number >= 99.5 else f"{number:.3g} {unit}"
    return f"{seconds * 1e3:.3g} ms"


def ratio(value: Spread) -> str:
    """Write a median ratio with its quartiles, to two decimals while they mean something."""
    digits = 2 if value.median < 20 else 0
    median, low, high = (f"{part:.{digits}f}" for part in value)
    return f"{median} ({low} to {high})"


def verdict(met: object) -> str:
    """Write whether a target is met; None is the absence of one."""
    return "" if met is None else "pass" if met else "MISS"


def work_table(work: Workload, batches: Sequence[Batch]) -> Table:
    """Compare everybody with the bare way and with headwater."""
    by_role = {batch.contender.role: batch for batch in batches}
    rows, data = [], list[dict[str, Any]]()
    for batch in batches:
        contender = batch.contender
        bare, ours = batch.ratios(by_role["bare"]), batch.ratios(by_role["headwater"])
        goal = target(work, contender)
        met = goal and goal.met((bare if goal.against == "bare" else ours).median)
        texts = contender.name, duration(batch.median), ratio(bare), ratio(ours)
        rows.append((*texts, str(goal or ""), verdict(met)))
        data.append(
            {
                "contender": contender.name,
                "statement": contender.statement,
                "median": batch.median,
                "to_bare": bare._asdict(),
                "to_headwater": ours._asdict(),
                "target": str(goal) if goal else None,
                "met": met,
                "publishes_per_sample": batch.count,
                "samples": batch.samples,
            }
        )
    head = ("", "median", "× bare", "× headwater", "target", "")
    verdicts = [row["met"] for row in data if row["met"] is not None]
    return Table(work.title, head, rows, verdicts, data)


def crowd_table(crowd: Crowd, memory: dict[str, float]) -> Table:
    """Tell what many subscriptions cost."""
    rows, data = [], list[dict[str, Any]]()

    def add(what: str, text: str, value: object, goal: str = "", met: object = None) -> None:
        rows.append((what, text, goal, verdict(met)))
        data.append({"what": what, "value": value, "target": goal or None, "met": met})

    slowdown = f"at most {CROWD_SLOWDOWN:g}"
    for what, value in crowd.slowdowns.items():
        met = value.median <= CROWD_SLOWDOWN
        add(f"{what}, with the crowd ÷ alone", ratio(value), value._asdict(), slowdown, met)
    for what, size in memory.items():
        met = size <= BYTES_PER_SUBSCRIPTION
        add(what, f"{size:.0f} B", size, f"at most {BYTES_PER_SUBSCRIPTION} B", met)
    taken = crowd.seconds_per_subscription
    add("time per subscription while the crowd gathers", duration(taken), taken)
    title = "names in turn, headwater ÷ a bare loop over a dict"
    add(title, ratio(crowd.tour), crowd.tour._asdict())
    verdicts = [row["met"] for row in data if row["met"] is not None]
    title = f"a crowd: {crowd.subscriptions:,} subscriptions on {crowd.names:,} names"
    return Table(title, ("", "measured", "target", ""), rows, verdicts, data)


def statements(groups: Sequence[Sequence[Batch]]) -> dict[str, str]:
    """Collect what was timed: by contender, its distinct statements."""
    found: dict[str, list[str]] = {}
    for batch in [batch for group in groups for batch in group]:
        known = found.setdefault(batch.contender.name, [])
        if batch.contender.statement not in known:
            known.append(batch.contender.statement)
    return {name: " / ".join(known) for name, known in found.items()}


def processor() -> str:
    """Name the processor's model where the system tells it."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def command(program: str) -> str:
    """Return the command line, without the place of this checkout."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join([f"python benchmarks/{program}", *words])


def version_of(name: str) -> str:
    """Return what is installed; a checkout that is only on the path has no version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "(this checkout)"


def circumstances(
    rounds: int, program: str = "direct.py", distributions: Sequence[str] = DISTRIBUTIONS
) -> dict[str, str]:
    """Tell when, where and with what this was measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{platform.system()} {platform.machine()}, {cores} cores, {processor()}"
    return {
        "command": command(program),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": machine.rstrip(", "),
        "versions": ", ".join(f"{name} {version_of(name)}" for name in distributions),
        "rounds": str(rounds),
    }


def summary(tables: Sequence[Table]) -> str:
    verdicts = [met for table in tables for met in table.verdicts]
    return f"{sum(verdicts)} of {len(verdicts)} targets met"


def as_text(facts: dict[str, str], timed: dict[str, str], tables: Sequence[Table]) -> str:
    """Write everything for a terminal."""
    parts = ["\n".join(f"{name:9} {value}" for name, value in facts.items())]
    parts.extend(f"{table.title}\n{aligned([table.head, *table.rows])}" for table in tables)
    parts.append("what was timed\n" + aligned(list(timed.items())))
    return "\n\n".join([*parts, summary(tables)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Put cells into columns: the first to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0])]
        if len(rest) == 1:
            cells.append(rest[0])
        else:
            cells.extend(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def as_markdown(facts: dict[str, str], timed: dict[str, str], tables: Sequence[Table]) -> str:
    """Write everything as one page."""
    parts = [
        "# How fast the direct bus is",
        (
            f"{summary(tables)}. Medians over {facts['rounds']} interleaved rounds; ratios are "
            "taken within a round and shown as median (first to third quartile). "
            "`benchmarks/README.md` says how they are measured and how to read them. "
            "This page is made by"
        ),
        f"```\n{facts['command']}\n```",
        "\n".join(f"- {name}: {facts[name]}" for name in ("date", "python", "machine", "versions")),
    ]
    for table in tables:
        parts += [f"## {table.title[0].upper()}{table.title[1:]}", grid(table.head, table.rows)]
    rows = [(name, f"`{statement}`") for name, statement in timed.items()]
    parts += ["## What was timed", grid(("", "statement"), rows)]
    return "\n\n".join(parts) + "\n"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table, its numbers to the right."""
    lines = [head, ("---", *("--:" for _ in head[1:])), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_json(facts: dict[str, str], timed: dict[str, str], tables: Sequence[Table]) -> str:
    """Write everything with all samples; times are in seconds."""
    found = [{"title": table.title, "rows": table.data} for table in tables]
    return json.dumps({**facts, "statements": timed, "tables": found}, indent=2)
