"""docs/cli.md says what the command line does: every command, every option, every example."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headwater.cli.main import app

Shop = Any  # The fixture of conftest.py.

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (.+)\n((?:(?!^### ).*\n?)*)", PAGE, re.MULTILINE))
EXAMPLES = [
    (words, output)
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for words, output in re.findall(r"^\$ headwater (.+)\n((?:(?!^\$ ).*\n)*)", block, re.MULTILINE)
]


def commands() -> dict[str, Any]:
    """Every command by what is written to call it."""
    found: dict[str, Any] = {}
    for command in app.registered_commands:
        assert command.callback is not None
        found[command.callback.__name__] = command.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            found[f"{group.typer_instance.info.name} {command.callback.__name__}"] = (
                command.callback
            )
    del found["demo"]  # The tutorial is about it.
    return found


def masked(text: str) -> str:
    """Without what is another each time: ids, times, durations, names of groups, widths."""
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME", text)
    text = re.sub(r"\+?\b\d+(\.\d+)? (ms|s|min)\b", "SPAN", text)
    text = re.sub(r"\b[0-9a-f]{8}\b", "GROUP", text)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def test_every_command_has_its_section() -> None:
    """And every section its command."""
    assert list(SECTIONS) == list(commands())


@pytest.mark.parametrize("name", commands())
def test_every_option_is_described(name: str) -> None:
    """And none that is not there."""
    help_ = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "80"}).stdout
    known = set(re.findall(r"--[a-z][a-z-]+", help_)) - {"--help", "--json"}
    rows = re.findall(r"^\| `(.+?)` \|", SECTIONS[name], re.MULTILINE)
    described = set(re.findall(r"--[a-z][a-z-]+", " ".join(rows)))
    offered = set(re.findall(r"^│ \*? *(--[a-z][a-z-]+)", help_, re.MULTILINE)) & known
    assert described <= known
    assert offered <= described


@pytest.mark.parametrize(("words", "output"), EXAMPLES, ids=[words[:30] for words, _ in EXAMPLES])
def test_every_example_prints_what_it_says(busy: Shop, words: str, output: str) -> None:
    """Up to ids and times; what a pipe would get."""
    answer = busy(*shlex.split(words))
    assert sorted(masked(answer.out + answer.err).splitlines()) == sorted(
        masked(output).splitlines()
    )
