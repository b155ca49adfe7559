"""Rule 2 on a transport, names: a subscription is its durable name; what has none is refused."""

import functools
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Placed

from headwater import Bus
from headwater.errors import DuplicateName, InvalidHandler, InvalidOption

SOURCE = Path(__file__).parents[3] / "src"

SCRIPT = """
import sys
from headwater import Bus

bus = Bus(sys.argv[1], name="shop")

@bus.on("order.placed")
def ship(event):
    pass

class Desk:
    @staticmethod
    def write(event):
        pass

bus.subscribe("order.placed", Desk.write)
with bus:
    pass
"""


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


def ship(event: object) -> None:
    """Handle an event."""


class Desk:
    """Where events are handled by methods."""

    def write(self, event: object) -> None:
        """Handle an event."""

    @classmethod
    def file(cls, event: object) -> None:
        """Handle an event."""

    def __call__(self, event: object) -> None:
        """Handle an event."""


def stored(log: Log) -> list[str]:
    """The names that the log knows."""
    return [row[0] for row in log.ask("SELECT name FROM subscription ORDER BY name")]


@pytest.mark.parametrize(
    ("arguments", "module"),
    [(["shopkeeping.py"], "shopkeeping"), (["-m", "trade.shopkeeping"], "trade.shopkeeping"),
     (["-m", "office"], "office")],
    ids=["script", "module", "package"],
)  # fmt: skip
def test_a_script_counts_as_its_file(
    log: Log, tmp_path: Path, arguments: list[str], module: str
) -> None:
    """`__main__` would be every program's name; imported as a module it is the same."""
    for path in ("shopkeeping.py", "trade/shopkeeping.py", "office/__main__.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(SCRIPT)
    subprocess.run(
        [sys.executable, *arguments, log.url()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        check=True,
        timeout=30,
    )
    assert stored(log) == [f"shop:{module}.Desk.write", f"shop:{module}.ship"]


def test_functions_and_methods_have_names(log: Log) -> None:
    """Module and qualified name, behind the name of the bus."""
    bus = log.bus()
    names = [bus.subscribe(Placed, handler).name for handler in (ship, Desk().write, Desk.file)]
    assert names == [f"shop:{__name__}.{name}" for name in ("ship", "Desk.write", "Desk.file")]
    bus.close()


def test_what_another_run_would_not_find_needs_a_name(log: Log) -> None:
    """Said with the place and the fix; with a name it is fine."""

    def local(event: object) -> None:
        """Handle an event."""

    bus = log.bus()
    nameless: list[Any] = [lambda event: None, local, functools.partial(ship), Desk()]
    for number, handler in enumerate(nameless):
        with pytest.raises(InvalidHandler, match=r"give it one with name="):
            bus.subscribe(Placed, handler)
        assert bus.subscribe(Placed, handler, name=f"n{number}").name == f"shop:n{number}"
    bus.close()


def test_one_name_is_one_place(log: Log) -> None:
    """Two that claim it are refused; a closed one has left it."""
    bus = log.bus()
    first = bus.subscribe(Placed, ship)
    with pytest.raises(DuplicateName, match=re.escape(f"'shop:{__name__}.ship'")):
        bus.subscribe("order.placed", ship)
    with pytest.raises(DuplicateName):
        bus.subscribe("order.placed", Desk().write, name=f"{__name__}.ship")
    first.close()
    bus.subscribe("order.placed", ship)
    bus.close()


@pytest.mark.parametrize("name", [None, "", "  ", "a,b"])
def test_a_bus_on_a_log_has_a_name(log: Log, name: str | None) -> None:
    """It is what the places are kept under."""
    with pytest.raises(InvalidOption, match="name"):
        Bus(log.url(), name=name)


def test_a_stored_subscription_without_code_is_reported_with_its_backlog(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps its place; those of other applications are none of our business."""
    for name in ("shop", "mail"):
        before = log.bus(name)
        before.subscribe(Placed, ship, name="old")
        with before:
            pass
    bus = log.bus()
    bus.subscribe(Placed, ship)
    for number in range(3):
        bus.publish(Placed(number))
    with caplog.at_level(logging.WARNING, "headwater"), bus:
        bus.idle(PATIENCE)
    said = [record.getMessage() for record in caplog.records]
    (line,) = [text for text in said if text.startswith("subscription_without_handler")]
    assert "name=shop:old backlog=3" in line
    assert "rename" in line
    assert stored(log) == ["mail:old", "shop:old", f"shop:{__name__}.ship"]


def test_a_place_is_that_of_the_first_registration(log: Log) -> None:
    """What came before is not for it, what came while it was away is."""
    seen = list[int]()

    def work() -> None:
        bus = log.bus()
        bus.subscribe(Placed, lambda event: seen.append(event.number), name="note")
        with bus:
            bus.idle(PATIENCE)

    for number in (1, 2, 3):
        with log.bus("till") as till:
            till.publish(Placed(number))
        work()
    assert seen == [2, 3]
