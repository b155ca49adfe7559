"""The pages say what the code says: links lead somewhere, rules have tests, lists are whole."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater import errors
from headwater.testing.conformance.groups import GROUPS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
CONTRACT_TESTS = ROOT / "tests" / "unit" / "contract"
SOURCE = ROOT / "src" / "headwater"

LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def text_of(path: Path) -> str:
    """Return a page without its code."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that a page's headings have on GitHub."""
    titles = (heading["title"].lower() for heading in HEADING.finditer(text_of(page)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def rows_of(page: Path, head: str) -> list[list[str]]:
    """Return the rows of the table of a page that begins with the column `head`."""
    table = re.search(rf"^\| {head} \|.*\n\| ---.*\n((?:\|.*\n)+)", text_of(page), re.MULTILINE)
    assert table is not None
    lines = re.sub(r"\\\|", "¦", table[1]).splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# Links.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link within the project names a file that is there, and a heading that it has."""
    broken: list[str] = []
    for link in LINK.finditer(text_of(page)):
        path, _, anchor = link["target"].partition("#")
        if path.startswith(("http://", "https://")):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link["target"])
    assert not broken


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every page and to every example."""
    linked = {link["target"] for link in LINK.finditer(text_of(DOCS / "README.md"))}
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    examples = {f"../examples/{example.name}" for example in (ROOT / "examples").glob("*.py")}
    assert pages | examples <= linked


# The contract.


def rules(heading: str) -> dict[str, set[str]]:
    """Return the rules with such headings by number, each with the names of its test files."""
    found: dict[str, set[str]] = {}
    page = text_of(DOCS / "contract.md")
    for rule in re.split(rf"^{heading} ", page, flags=re.MULTILINE)[1:]:
        if number := re.match(r"(\d+)\. ", rule):
            links = (Path(link["target"]) for link in LINK.finditer(rule))
            found[number[1]] = {link.name for link in links if link.parent.name == "contract"}
    return found


@pytest.mark.parametrize(
    ("heading", "count", "begin"), [("##", 11, "test_rule"), ("###", 13, "test_transport_rule")]
)
def test_every_rule_of_the_contract_has_its_tests(heading: str, count: int, begin: str) -> None:
    """Eleven rules, thirteen on a transport; each leads to the file that has its number."""
    found = rules(heading)
    assert list(found) == [str(number) for number in range(1, count + 1)]
    for number, tests in found.items():
        assert any(test.startswith(f"{begin}_{int(number):02}_") for test in tests), number


def test_every_test_of_the_contract_has_its_rule() -> None:
    """No file of tests in tests/unit/contract is left out of the page."""
    linked = {test for kind in ("##", "###") for tests in rules(kind).values() for test in tests}
    assert {test.name for test in CONTRACT_TESTS.glob("test_*.py")} <= linked


def test_every_group_of_the_suite_is_linked_from_the_contract() -> None:
    """What every engine is held to is shown beside the rule that it proves."""
    targets = (Path(link["target"]) for link in LINK.finditer(text_of(DOCS / "contract.md")))
    linked = {target.stem for target in targets if target.parent.name == "conformance"}
    assert linked == set(GROUPS) - {"engine", "seen"}


# What is made from the code, and what must keep up with it.


@pytest.mark.parametrize("script", ["docs_tables.py", "engines_table.py"])
def test_what_is_made_from_the_code_is_up_to_date(script: str) -> None:
    """The script has nothing to write."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    fix = f"run: python scripts/{script}"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), fix


def test_every_error_says_what_to_do() -> None:
    """The page of errors has a line for each class that headwater raises."""
    told = {
        name
        for row in rows_of(DOCS / "errors.md", "error")
        for name in re.findall(r"`(\w+)`", row[0])
    }
    raised = {
        name
        for name, error in vars(errors).items()
        if isinstance(error, type) and issubclass(error, errors.HeadwaterError)
    }
    assert told == raised - {"HeadwaterError"}


def test_the_tree_of_errors_is_whole() -> None:
    """The drawing names every class, with the built-in error that it also is."""
    drawn = dict(re.findall(r"── (\w+)(?: \((\w+)\))?", errors.__doc__ or ""))
    for name, error in vars(errors).items():
        if not isinstance(error, type) or not issubclass(error, errors.HeadwaterError):
            continue
        builtin = [base.__name__ for base in error.__bases__ if base.__module__ == "builtins"]
        if error is not errors.HeadwaterError:
            assert drawn.pop(name) == "".join(builtin), name
    assert set(drawn) == {"RetryLater", "Reject"}


def log_lines() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the event name of every line that the library logs, with its level and fields."""
    for path in sorted(SOURCE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match call:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=arguments
                ) if level != "isEnabledFor":
                    texts = [
                        argument.value
                        for argument in arguments
                        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                    ]
                    if texts:
                        yield texts[0].split()[0], level, re.findall(r"(\w+)=%", texts[0])
                case _:
                    pass


def test_every_log_line_is_on_its_page() -> None:
    """The page of log lines has each event name, its level and its fields, and no others."""
    told = {
        name.strip("`"): (level, re.findall(r"`(\w+)`", fields))
        for name, level, fields, _ in rows_of(DOCS / "logging.md", "event")
    }
    seen: set[str] = set()
    for event, level, fields in log_lines():
        pattern = re.compile(event.replace("%s", r"[a-z]+"))
        names = {name for name in told if pattern.fullmatch(name) and told[name][1] == fields}
        assert names, f"{event} with the fields {fields} is not in docs/logging.md"
        seen |= names
        written = {"exception": "error", "log": ""}.get(level, level)
        assert written in {"", "debug", *(told[name][0] for name in names)}, event
    assert set(told) == seen
