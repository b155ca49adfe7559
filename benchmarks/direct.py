"""How fast is the direct bus? One run, everybody side by side, in turns.

    python benchmarks/direct.py [--quick] [--only TEXT] [--markdown FILE] [--json FILE]

README.md beside this file says what is compared, and how to read the result.
"""

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from measure import Batch, Clock, prepared, run_rounds
from peers import contenders
from report import (
    Table,
    as_json,
    as_markdown,
    as_text,
    circumstances,
    crowd_table,
    statements,
    work_table,
)
from scale import NAMES, PER_NAME, Crowd, bytes_per_subscription, order_names
from workloads import OrderPlaced, Workload, workloads


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time headwater's direct bus beside a bare loop and its peers."
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: seconds, and rough")
    parser.add_argument("--rounds", type=int, help="how many times everybody runs (default 31)")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only the tables with TEXT in their title"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    return parser.parse_args()


def progress(text: str) -> None:
    """Show where the run is, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def measure_work(
    works: Sequence[Workload], clock: Clock, *, rounds: int, seconds: float
) -> list[list[Batch]]:
    """Run every workload with all its contenders, all in turns."""
    groups = [prepared(contenders(work), work.context) for work in works]
    run_rounds(
        groups,
        clock,
        rounds=rounds,
        seconds=seconds,
        progress=lambda number: progress(f"round {number + 1} of {rounds}"),
    )
    return groups


def measure_crowd(clock: Clock, *, rounds: int, seconds: float) -> Table:
    """Measure memory first, while the heap is small, and then the crowd."""
    progress("memory per subscription")
    names = order_names(NAMES // PER_NAME)
    memory = {
        "memory per subscription, all to one class": bytes_per_subscription([OrderPlaced], NAMES),
        "memory per subscription, ten to a name": bytes_per_subscription(names, NAMES),
        "memory per subscription, one to a name": bytes_per_subscription(order_names(NAMES), NAMES),
    }
    progress("a crowd of subscriptions")
    return crowd_table(Crowd(clock, rounds=rounds, seconds=seconds), memory)


def main() -> None:
    options = arguments()
    rounds = options.rounds or (5 if options.quick else 31)
    seconds = 0.002 if options.quick else 0.005
    works = [work for work in workloads() if options.only in work.title]
    facts = circumstances(rounds)
    with Clock() as clock:
        groups = measure_work(works, clock, rounds=rounds, seconds=seconds)
        tables = [work_table(*pair) for pair in zip(works, groups, strict=True)]
        gc.collect()
        if not options.only:
            tables.append(measure_crowd(clock, rounds=rounds, seconds=seconds))
    progress("")
    result = facts, statements(groups), tables
    if options.markdown:
        options.markdown.write_text(as_markdown(*result), encoding="utf-8")
    if options.json:
        options.json.write_text(as_json(*result), encoding="utf-8")
    print(as_text(*result))


if __name__ == "__main__":
    main()
