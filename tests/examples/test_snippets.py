"""Every Python snippet of the README and the docs runs, and prints what the page says it prints.

The ``python`` blocks of a page are one program: they run in order, in one namespace, in a process
of their own, in an empty folder. If the next block after it is ``text``, that is what the snippet
shows on a terminal, stdout and stderr together; any other snippet shows nothing. ``...`` stands for
whatever differs from run to run. An exception that nobody catches shows as Python shows it, without
its stack. A ``sh`` block that runs the demo, with a ``text`` block after it, prints that.
"""

import doctest
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PATIENCE = 60  # seconds until a hanging page is a failure

# Nothing in it decides about colours and widths.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")},
    "PYTHONPATH": str(ROOT / "src"),
    "PYTHONIOENCODING": "utf-8",
}

FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

# Runs in a fresh interpreter: snippets on stdin, what each of them showed on stdout.
DRIVER = """\
import contextlib, io, json, sys, traceback

namespace = {"__name__": "__main__"}
shown = []
for place, code in json.load(sys.stdin):
    terminal = io.StringIO()
    with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
        try:
            exec(compile(code, place, "exec"), namespace)
        except Exception as error:
            print("Traceback (most recent call last):\\n  ...")
            print(*traceback.format_exception_only(error), sep="", end="")
    shown.append(terminal.getvalue())
json.dump(shown, sys.stdout)
"""


class Snippet(NamedTuple):
    """A block of code, and what it shows."""

    place: str
    code: str
    shows: str


def snippets_of(page: str, name: str, kind: str = "python") -> list[Snippet]:
    """Return the snippets of a page, in order."""
    found: list[Snippet] = []
    blocks = list(FENCE.finditer(page))
    for number, block in enumerate(blocks, start=1):
        if block["kind"] == kind:
            line = page.count("\n", 0, block.start()) + 2
            after = blocks[number] if number < len(blocks) else None
            shows = after["text"] if after and after["kind"] == "text" else ""
            found.append(Snippet(f"{name}:{line}", block["text"], shows))
    return found


def run(snippets: list[Snippet]) -> list[str]:
    """Run the snippets of one page; return what each of them showed."""
    with tempfile.TemporaryDirectory() as folder:  # where they put their logs
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", DRIVER],
            input=json.dumps([(snippet.place, snippet.code) for snippet in snippets]),
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
    assert not done.stderr, done.stderr  # What the end of the program says counts too.
    shown: list[str] = json.loads(done.stdout)
    return shown


def demo(command: str) -> str:
    """Run ``scripts/demo`` without making a .venv first; return what it prints."""
    _, *arguments = command.split()
    with tempfile.TemporaryDirectory() as folder:  # where it puts its log
        done = subprocess.run(
            [sys.executable, "-c", "from headwater.cli import main; main()", "demo", *arguments],
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=True,
        )
    return done.stdout


def differences(snippets: list[Snippet], shown: list[str]) -> list[str]:
    """Return, for each snippet that does not show what it should, where and how."""
    checker, ellipsis = doctest.OutputChecker(), doctest.ELLIPSIS
    return [
        f"{snippet.place} shows\n{text}\nand not\n{snippet.shows}"
        for snippet, text in zip(snippets, shown, strict=True)
        if not checker.check_output(snippet.shows, text, ellipsis)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_snippets_of_a_page_show_what_it_says(page: Path) -> None:
    """What a reader copies works, and what a reader is shown is what happens."""
    snippets = snippets_of(page.read_text(encoding="utf-8"), page.name)
    wrong = differences(snippets, run(snippets))
    assert not wrong, "\n\n".join(wrong)


def test_the_demo_prints_what_the_pages_say() -> None:
    """Where a page shows the demo's report, it is the report of today."""
    pages = [(page.read_text(encoding="utf-8"), page.name) for page in PAGES]
    snippets = [snippet for page, name in pages for snippet in snippets_of(page, name, "sh")]
    promised = [s for s in snippets if s.shows and s.code.startswith("scripts/demo")]
    wrong = differences(promised, [demo(snippet.code) for snippet in promised])
    assert promised
    assert not wrong, "\n\n".join(wrong)


def test_a_wrong_page_is_found_out() -> None:
    """An output that differs, one that is missing, and an error: each is found, and where."""
    page = """\
```python
print(1)
```
```text
2
```
```python
print(3)
```
Nothing was said about 3.
```python
print(4)
raise ValueError("five")
```
```text
4
Traceback (most recent call last):
  ...
ValueError: five
```
"""
    snippets = snippets_of(page, "page")
    wrong = differences(snippets, run(snippets))
    assert [text.partition("\n")[0] for text in wrong] == ["page:2 shows", "page:8 shows"]
