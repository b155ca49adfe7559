"""A small program in a folder of its own, and the command line that is used on it."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[3]
PATIENCE = 20.0

PROGRAM = '''
"""A shop whose handlers fail where a test wants them to."""

from dataclasses import dataclass

from headwater import Bus, Retry, event


@event(name="order.placed", key="order_id")
@dataclass(frozen=True)
class OrderPlaced:
    order_id: str
    item: str = "Book"
    quantity: int = 1


@event(key="item")
@dataclass(frozen=True)
class StockLow:
    item: str


bus = Bus("sqlite:///shop.db", name="shop")
direct = Bus()


@bus.on(OrderPlaced)
def update(order: OrderPlaced) -> None:
    if order.quantity > 3:
        bus.publish(StockLow(order.item))


@bus.on(OrderPlaced, retry=Retry(max_attempts=1))
def bill(order: OrderPlaced) -> None:
    if order.item == "Bad":
        raise ValueError(f"no price for {order.item}")


@bus.on(StockLow, name="purchase", retry=Retry(max_attempts=1))
async def purchase(low: StockLow) -> None:
    if low.item == "Rare":
        raise ConnectionError("the supplier does not answer")


seen = []
broken = True


def rebuild(order: OrderPlaced) -> None:
    seen.append(order)
    if order.item == "Poison" and broken:
        raise RuntimeError("cannot rebuild")
'''


class Answer(NamedTuple):
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


class Shop:
    """The program in its folder, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, stdin: str | None = None) -> Answer:
        """Run a command in this process."""
        from headwater.cli.main import app

        done = CliRunner().invoke(app, list(words), input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Answer(done.exit_code, done.stdout, done.stderr)

    def ok(self, *words: str) -> Answer:
        """Run a command that must succeed."""
        answer = self(*words)
        assert answer.code == 0, answer
        return answer

    def place(self, order: str, **fields: object) -> str:
        """Publish an order; returns its id."""
        data = json.dumps({"order_id": order, **fields})
        return self.ok("publish", "shop:bus", "order.placed", data).out.strip()

    def work(self) -> None:
        """Handle everything there is, in this process."""
        from headwater.cli.target import load_bus

        bus = load_bus("shop:bus")
        bus.start()
        bus.idle(timeout=PATIENCE)
        bus.stop()

    def start(self, *words: str) -> "Running":
        """Run a command in a process of its own, in the shop's folder."""
        source = os.environ.get("HEADWATER_SOURCE", str(ROOT / "src"))
        errors = self.folder / f"errors-{len(list(self.folder.glob('errors-*')))}.txt"
        with errors.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "headwater.cli", *words],
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": source, "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        return Running(process, errors)


class Running(NamedTuple):
    """A command in a process of its own; what it says on stderr goes to a file."""

    process: "subprocess.Popen[str]"
    errors: Path

    def said(self) -> str:
        """What it has said so far."""
        return self.errors.read_text(encoding="utf-8")

    def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[Shop]:
    """The program in a folder, which is the current one meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(folder), *sys.path])
        for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
            patch.delitem(sys.modules, name)  # The shop of examples/ has the same name.
        patch.setenv("COLUMNS", "80")
        yield Shop(folder)
    for name, module in tuple(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]  # The next test has another program of that name.


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders to copy: one with a log that is empty, one with a day's events."""
    new, used = tmp_path_factory.mktemp("new"), tmp_path_factory.mktemp("used")
    for folder in (new, used):
        (folder / "shop.py").write_text(PROGRAM, encoding="utf-8")
        with inside(folder) as shop:
            shop.ok("ensure", "shop:bus")
            if folder is used:
                shop.place("o1", quantity=5)
                shop.place("o2", item="Bad")
                shop.place("o3", item="Rare", quantity=9)
                shop.work()
    return new, used


@pytest.fixture
def shop(made: tuple[Path, Path], tmp_path: Path) -> Iterator[Shop]:
    """The program, registered: its subscriptions begin before the first event."""
    folder = tmp_path / "shop"
    shutil.copytree(made[0], folder)
    with inside(folder) as shop:
        yield shop


@pytest.fixture
def busy(made: tuple[Path, Path], tmp_path: Path) -> Iterator[Shop]:
    """The shop after a day: one order is fine, one cannot be billed, one needs what is rare."""
    folder = tmp_path / "shop"
    shutil.copytree(made[1], folder)
    with inside(folder) as shop:
        yield shop


def wait_until(met: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    until = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < until, f"not within {PATIENCE:g} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def until() -> Callable[[Callable[[], object], str], None]:
    """`wait_until`, for test modules: they do not import each other."""
    return wait_until
