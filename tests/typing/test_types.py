"""What the static types promise: mypy and pyright, both strict, read the programs in cases/.

A case is a small program of a user. A line that both checkers must refuse ends in `# E`, or in
`# E: arg-type` when mypy's code for it matters; every other line must please both. So that a
refusal has one line, its statement stands on one line. Types that are inferred are pinned with
`assert_type`. One run of each checker reads all cases.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = sorted((Path(__file__).parent / "cases").glob("*.py"))

MARK = re.compile(r"#\s*E(?::\s*(?P<code>[\w-]+))?\s*$")
MYPY_ERROR = re.compile(r"^(?P<file>.+?):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]$")


@dataclass(frozen=True, order=True)
class Refusal:
    """A line that a checker refuses, or must; no code means that any will do."""

    file: str
    line: int
    code: str = ""
    text: str = ""


Found = list[Refusal]


def marked(case: Path) -> Found:
    """The lines of a case that must be refused."""
    return [
        Refusal(case.name, number, match["code"] or "")
        for number, line in enumerate(case.read_text(encoding="utf-8").splitlines(), 1)
        if (match := MARK.search(line))
    ]


def differences(expected: Found, found: Found) -> list[str]:
    """What was refused without a mark, and what was marked and passed or failed for another reason.

    A checker may refuse one line for several reasons; one of them must be the expected one.
    """
    codes: dict[int, set[str]] = {}
    for refusal in found:
        codes.setdefault(refusal.line, {""}).add(refusal.code)
    lines = {refusal.line for refusal in expected}
    missing = [
        f"line {one.line} must be refused ({one.code or 'for any reason'})"
        for one in expected
        if one.code not in codes.get(one.line, ())
    ]
    surplus = [f"line {one.line}: {one.text}" for one in found if one.line not in lines]
    return missing + surplus


def run_mypy() -> Found:
    """Every error of mypy in the cases."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--no-error-summary"]
    done = subprocess.run([*command, *CASES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [
        Refusal(Path(match["file"]).name, int(match["line"]), match["code"], line)
        for line in done.stdout.splitlines()
        if (match := MYPY_ERROR.match(line))
    ]


def run_pyright() -> Found:
    """Every error of pyright in the cases, whose folder holds its configuration."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "--project", CASES[0].parent], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(CASES)
    return [
        Refusal(Path(one["file"]).name, one["range"]["start"]["line"] + 1, text=one["message"])
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    ]


@pytest.fixture(scope="session")
def mypy() -> Found:
    """What mypy refuses in all cases."""
    return run_mypy()


@pytest.fixture(scope="session")
def pyright() -> Found:
    """What pyright refuses in all cases."""
    return run_pyright()


def of(case: Path, found: Found) -> Found:
    """The refusals in one case."""
    return [refusal for refusal in found if refusal.file == case.name]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_mypy_refuses_exactly_the_marked_lines(case: Path, mypy: Found) -> None:
    """Each marked line of the case is an error for the reason it gives, and no other line is."""
    assert differences(marked(case), of(case, mypy)) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_pyright_refuses_exactly_the_marked_lines(case: Path, pyright: Found) -> None:
    """Each marked line of the case is an error, and no other line is; codes are mypy's alone."""
    expected = [Refusal(one.file, one.line) for one in marked(case)]
    assert differences(expected, of(case, pyright)) == []


def test_the_runner_misses_nothing() -> None:
    """A line that passed, one refused for another reason and an unmarked refusal are all told."""
    expected = [Refusal("a.py", 1), Refusal("a.py", 2, "arg-type"), Refusal("a.py", 3)]
    found = [
        Refusal("a.py", 2, "call-overload", "no overload"),
        Refusal("a.py", 3, "arg-type"),
        Refusal("a.py", 3, "misc"),
        Refusal("a.py", 9, "misc", "surprise"),
    ]
    assert differences(expected, found) == [
        "line 1 must be refused (for any reason)",
        "line 2 must be refused (arg-type)",
        "line 9: surprise",
    ]
