"""Makes the tables of docs/engines.md: what each engine declares, and what the suite says of it.

    python scripts/engines_table.py            runs the conformance suite; takes some minutes
    python scripts/engines_table.py --check    only compares what is declared; 1 if it differs

The page marks the places with ``<!-- made by scripts/engines_table.py: NAME -->`` and
``<!-- end -->``.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from headwater import Bus
from headwater.capabilities import Capabilities

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "engines.md"
PLACE = re.compile(
    r"(?P<begin><!-- made by scripts/engines_table\.py: (?P<name>\w+) -->\n)"
    r".*?(?P<end><!-- end -->)",
    re.DOTALL,
)
DAY = 86_400
PATIENCE = 900  # seconds until a run of the suite that hangs is a failure

NORMAL = '''\
"""The SQLite log that does not sync each commit."""

from tests.conformance import test_sqlite


class TestSqlite(test_sqlite.TestSqlite):
    def url(self, tmp_path):
        return f"{super().url(tmp_path)}?synchronous=normal"
'''


class Engine(NamedTuple):
    """A column: what it is called, a URL of it, and its module of tests, as a file or as text."""

    name: str
    url: str
    tests: Path | str


ENGINES = (
    Engine("`memory://`", "memory://", ROOT / "tests" / "conformance" / "test_memory.py"),
    Engine("`sqlite://`", "sqlite:///log.db", ROOT / "tests" / "conformance" / "test_sqlite.py"),
    Engine("`sqlite://`, `?synchronous=normal`", "sqlite:///log.db?synchronous=normal", NORMAL),
)

ROWS: Mapping[str, Callable[[Capabilities], object]] = {
    "events survive the end of the process": lambda can: can.persistent,
    "several processes share a log": lambda can: can.shared,
    "events of a key are handled in order": lambda can: can.ordered == "key",
    "an id is stored once": lambda can: can.deduplicates or False,
    "the longest delay": lambda can: f"{can.delay / DAY:,.0f} days" if can.delay else False,
    "replay of past events": lambda can: can.replay,
    "`transaction=True`, `bus.transaction()`": lambda can: can.transaction,
    "keeps retries, parked events and dead letters": lambda can: can.ledger,
    "the largest event, unless told": lambda can: f"{can.max_bytes:,} bytes",
    "a confirmed event survives `kill -9` of its programs": lambda can: (
        "client kill" in can.survives
    ),
    "... of the server": lambda can: "broker kill" in can.survives,
    "... a power cut": lambda can: "power cut" in can.survives,
    "... the loss of the machine": lambda can: "node loss" in can.survives,
}


def capabilities() -> str:
    """Return the table capability × engine, from what the engines declare."""
    declared = [declared_by(engine) for engine in ENGINES]
    return table(
        ("", *(engine.name for engine in ENGINES)),
        ((what, *(shown(look(can)) for can in declared)) for what, look in ROWS.items()),
    )


def declared_by(engine: Engine) -> Capabilities:
    """Return what an engine declares; nothing is opened for it."""
    declared = Bus(engine.url, name="table").capabilities
    assert declared is not None
    return declared


def shown(value: object) -> str:
    """Return a value as a table shows it."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def conformance() -> str:
    """Run the suite on every engine; return the table of what came of it."""
    return table(
        ("engine", "passed", "failed", "skipped"),
        ((engine.name, *counts_of(engine.tests)) for engine in ENGINES),
    )


def counts_of(tests: Path | str) -> tuple[str, str, str]:
    """Run one module of tests; return how many passed, failed and were skipped, and why."""
    with tempfile.TemporaryDirectory() as folder:
        path = tests if isinstance(tests, Path) else Path(folder) / "test_engine.py"
        if isinstance(tests, str):
            path.write_text(tests, encoding="utf-8")
        report = Path(folder) / "report.xml"
        subprocess.run(  # noqa: S603  our own tests
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ROOT,
             "-c", ROOT / "pyproject.toml", "--junitxml", report, path],
            cwd=ROOT,
            stdout=sys.stderr,
            timeout=PATIENCE,
            check=False,
        )  # fmt: skip
        cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314  our own
    failed = [case for case in cases if {"failure", "error"} & {child.tag for child in case}]
    skipped = [reason for case in cases for reason in case.findall("skipped")]
    why = Counter(why_of(reason.get("message", "")) for reason in skipped)
    reasons = "; ".join(f"{count} {reason}" for reason, count in sorted(why.items()))
    passed = len(cases) - len(failed) - len(skipped)
    return str(passed), str(len(failed)), f"{len(skipped)}: {reasons}"


def why_of(message: str) -> str:
    """Return why a test was skipped, without the engine's name."""
    capability, _, reason = message.partition(": ")
    if reason.startswith("declared"):
        return f"for engines without `{capability}`"
    return f"for engines with `{capability}`"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def renewed(page: str, parts: Mapping[str, str]) -> str:
    """Return the page with these parts as they are now, and the others as they were."""

    def made(place: re.Match[str]) -> str:
        part = parts.get(place["name"])
        return place[0] if part is None else f"{place['begin']}\n{part}\n{place['end']}"

    return PLACE.sub(made, page)


def main() -> int:
    """Write the page, or only look whether what it says of capabilities is true."""
    if sys.argv[1:] == ["--check"]:
        page = PAGE.read_text(encoding="utf-8")
        if renewed(page, {"capabilities": capabilities()}) == page:
            return 0
        print("docs/engines.md is out of date")
        return 1
    parts = {"capabilities": capabilities(), "conformance": conformance()}
    page = PAGE.read_text(encoding="utf-8")  # After the minutes that this took.
    PAGE.write_text(renewed(page, parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
