"""The house keeps its own rules: the lint finds each offence, and importing stays cheap."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = ROOT / "scripts" / "lint_house.py"

BELONGS = "belongs to runtime.py"

OFFENCES = [
    ("import time", BELONGS),
    ("import random as dice", BELONGS),
    ("import uuid", BELONGS),
    ("import threading", BELONGS),
    ("import secrets", BELONGS),
    ("from time import monotonic", BELONGS),
    ("import concurrent.futures", BELONGS),
    ("from concurrent import futures", BELONGS),
    ("from concurrent.futures import ThreadPoolExecutor", BELONGS),
    ("def f():\n    import time", BELONGS),
    ("import asyncio\nasyncio.sleep(1)", BELONGS),
    ("import asyncio as aio\naio.timeout(1)", BELONGS),
    ("import asyncio\nasyncio.to_thread(print)", BELONGS),
    ("from asyncio import wait_for", BELONGS),
    ("import datetime\ndatetime.datetime.now()", BELONGS),
    ("import datetime as dt\ndt.datetime.utcnow()", BELONGS),
    ("from datetime import datetime\nfactory = datetime.now", BELONGS),
    ("from datetime import datetime as moment\nmoment.now()", BELONGS),
    ("import os\nos.urandom(8)", BELONGS),
    ("loop.call_later(1, print)", BELONGS),
    ("self.loop.call_at(1, print)", BELONGS),
    ("asyncio.get_running_loop().call_later(1, print)", BELONGS),
    ("runtime.loop.call_at(1, print)", BELONGS),
    ("loop.run_in_executor(None, print)", BELONGS),
    ("loop.time()", BELONGS),
    ("if TYPE_CHECKING:\n    import time\nelse:\n    import uuid", "uuid belongs to runtime.py"),
    ("import headwater", "imports the package itself"),
    ("from headwater import Bus", "imports the package itself"),
    ("def f():\n" + "    pass\n" * 70, "f has 71 lines, over 70"),
    ("async def f():\n" + "    pass\n" * 70, "f has 71 lines, over 70"),
    ("class A:\n    def f():\n" + "        pass\n" * 70, "f has 71 lines, over 70"),
    ("pass\n" * 401, "401 lines, over 400"),
]

CLEAN = [
    "if TYPE_CHECKING:\n    import time\n    from concurrent.futures import Executor",
    "import typing\nif typing.TYPE_CHECKING:\n    import threading",
    "from datetime import datetime, timedelta\nthen = datetime.fromisoformat('2010-12-01')",
    "import timeit",
    "import asyncio\nasyncio.get_running_loop().create_task(work())",
    "runtime.call_at(1, print)",
    "self.runtime.call_later(1, print)",
    "moment = message.time",
    "from headwater import runtime",
    "from headwater.runtime import Runtime",
    "def f():\n" + "    pass\n" * 69,
    '"""This file is longer, since its reason is good."""\n' + "pass\n" * 401,
    "pass\n" * 400,
]


def lint(package: Path) -> tuple[int, list[str]]:
    """Run the lint as scripts/check does: its exit code, and the lines that it prints."""
    done = subprocess.run(
        [sys.executable, LINT, package], capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of the same name with a clean runtime.py, and room for one offence."""
    folder = tmp_path / "headwater"
    folder.mkdir()
    (folder / "runtime.py").write_text("import time\n")
    return folder


def test_the_house_is_clean() -> None:
    """No module of headwater breaks a rule of the house."""
    assert lint(ROOT / "src" / "headwater") == (0, [])


def test_the_lint_finds_each_offence(package: Path) -> None:
    """Every kind of offence is found, in its own file, and said in words."""
    for number, (source, _) in enumerate(OFFENCES):
        (package / f"offence{number:02}.py").write_text(source)
    code, lines = lint(package)
    assert code == 1
    for number, (source, text) in enumerate(OFFENCES):
        said = [line for line in lines if f"offence{number:02}.py" in line]
        assert len(said) == 1, (source, said)
        assert text in said[0], source


def test_the_lint_names_the_line(package: Path) -> None:
    """An offence is reported as file:line, so that editors jump to it."""
    (package / "bus.py").write_text("import os\n\nimport time\n")
    assert lint(package) == (1, [f"{package / 'bus.py'}:3: time belongs to runtime.py"])


def test_the_lint_lets_pass_what_is_allowed(package: Path) -> None:
    """Look-alikes, type-only imports and the runtime's own services are no offences."""
    for number, source in enumerate(CLEAN):
        (package / f"clean{number:02}.py").write_text(source)
    assert lint(package) == (0, [])


def test_programs_may_ask_the_machine_and_the_library_may_not(package: Path) -> None:
    """The command line measures real time; what tests run in virtual time must not."""
    for room in ("cli", "testing"):
        (package / room).mkdir()
        (package / room / "progress.py").write_text("import time\nfrom headwater import Bus\n")
    code, lines = lint(package)
    assert code == 1
    assert lines == [f"{package / 'testing' / 'progress.py'}:1: time belongs to runtime.py"]


def test_importing_headwater_loads_no_expensive_module() -> None:
    """The wire format, the command line and process pools are loaded when first needed."""
    program = "import json, sys, headwater; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    loaded = set(json.loads(done.stdout))
    assert "headwater" in loaded
    expensive = {"concurrent.futures.process", "msgspec", "multiprocessing", "rich", "typer"}
    assert loaded & expensive == set()


def test_importing_headwater_adds_few_modules_to_asyncio() -> None:
    """The import costs what headwater's own modules cost, and little of the standard library."""
    program = (
        "import sys, asyncio; before = set(sys.modules); import headwater;"
        "print(sum(not m.startswith('headwater') for m in set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert int(done.stdout) <= 30
