"""The suite itself: nothing in it is hidden, unexplained, or never run."""

import inspect
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headwater.capabilities import Capabilities
from headwater.testing import conformance
from headwater.testing.conformance import Conformance, groups
from headwater.testing.conformance.engine import declares, with_lease

NOTHING = Capabilities(
    name="nothing",
    persistent=False,
    shared=False,
    ordered="none",
    deduplicates="",
    delay=0.0,
    replay=False,
    transaction=False,
    ledger=False,
    max_bytes=1,
    survives=(),
)
SURVIVED = ("client kill", "broker kill", "power cut", "node loss")


def every_test() -> list[Callable[..., Any]]:
    """Every test of every group."""
    found = [vars(group).items() for group in Conformance.__mro__]
    return [test for items in found for name, test in items if name.startswith("test_")]


def test_no_test_hides_another() -> None:
    """Two groups with a test of one name would run only one of them."""
    names = Counter(test.__name__ for test in every_test())
    assert [name for name, times in names.items() if times > 1] == []
    assert len(names) > 130


def test_each_test_names_its_rule() -> None:
    """A docstring says which part of the contract a failure breaks."""
    assert [test.__name__ for test in every_test() if not inspect.getdoc(test)] == []


def test_each_needed_capability_exists() -> None:
    """A misspelt one would skip its test for ever."""
    needed = {name for test in every_test() for name in getattr(test, "needs", ())}
    assert needed <= {*vars(NOTHING), *SURVIVED}
    assert needed > {"persistent", "shared", "ordered", "ledger", "transaction", "replay"}


def test_nothing_is_declared_by_an_engine_that_can_do_nothing() -> None:
    """Every capability has a value that means no."""
    names = {*vars(NOTHING), *SURVIVED} - {"name", "max_bytes"}
    assert [name for name in names if declares(NOTHING, name)] == []


def test_async_tests_need_no_plugin() -> None:
    """What is collected are plain functions; each runs its coroutine in a loop of its own."""
    assert [test.__name__ for test in every_test() if inspect.iscoroutinefunction(test)] == []


def test_every_group_explains_its_asserts() -> None:
    """A module that is not named there would fail with a bare AssertionError."""
    modules = {test.__module__.rpartition(".")[2] for test in every_test()}
    assert modules <= set(groups.GROUPS)
    folder = Path(conformance.__file__).parent
    assert [name for name in groups.GROUPS if not (folder / f"{name}.py").exists()] == []


def test_a_lease_is_asked_for_in_the_url() -> None:
    """Beside whatever else the URL asks for."""
    assert with_lease("sqlite:///a.db", None) == "sqlite:///a.db"
    assert with_lease("sqlite:///a.db", 2) == "sqlite:///a.db?lease=2"
    assert with_lease("sqlite:///a.db?x=1", 0.5) == "sqlite:///a.db?x=1&lease=0.5"


def test_its_programs_need_no_pytest() -> None:
    """They are started a hundred times, and pytest takes longer to import than all the rest."""
    code = "import sys, headwater.testing.conformance.worker; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
