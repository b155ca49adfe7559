"""The demo on its log: whatever ends it, it goes on, and its table is that of a quiet run."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from headwater.cli import main; main()", "demo")
ORDERS = ("--count", "100", "--seed", "3")
PATIENCE = 60  # seconds until a hanging process is a failure
KILLS = 3
# Where a run may be killed: see `headwater.failpoint`.
STEPS = (
    "publish.queued",
    "turn.begun",
    "turn.written",
    "turn.committed",
    "claim.committed",
    "handle.before",
    "handle.after",
    "stage.before",
    "settle.before",
    "settle.after",
    "loan.granted",
    "loan.returned",
)
DIFFERS = {"seconds", "retried", "p50_ms", "p99_ms"}  # from run to run


class Ended(NamedTuple):
    """How a run of the demo ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def table(self) -> Any:
        """What the run found out, without what is measured."""

        def still(thing: Any) -> Any:
            if not isinstance(thing, dict):
                return thing
            return {name: still(value) for name, value in thing.items() if name not in DIFFERS}

        return still(json.loads(self.stdout))


def demo(folder: Path, *arguments: str, kill_at: str = "") -> Ended:
    """Run the demo in a folder; it is killed when it reaches a step, if it does."""
    process = started(folder, *arguments, kill_at=kill_at)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, stdout, stderr)


def started(folder: Path, *arguments: str, kill_at: str = "") -> "subprocess.Popen[str]":
    """Start the demo in a folder."""
    source = os.environ.get("HEADWATER_SOURCE", str(ROOT / "src"))
    changes = {"PYTHONPATH": source} | ({"HEADWATER_FAILPOINT": kill_at} if kill_at else {})
    return subprocess.Popen(
        (*COMMAND, "--json", *arguments),
        cwd=folder,
        env=os.environ | changes,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The table of a run that nobody disturbs."""
    ended = demo(tmp_path_factory.mktemp("quiet"), *ORDERS)
    assert ended.code == 0, ended.stderr
    assert ended.table["differences"] == []
    return ended.table


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_table(
    tmp_path: Path, undisturbed: Any, seed: int
) -> None:
    """SIGKILL at moments that the seed decides."""
    chance = random.Random(seed)
    codes = set[int]()
    for step in chance.sample(STEPS, KILLS):
        codes.add(demo(tmp_path, *ORDERS, kill_at=f"{step}@{chance.randint(5, 40)}").code)
    last = demo(tmp_path, *ORDERS)
    assert -signal.SIGKILL in codes
    assert codes <= {-signal.SIGKILL, 0}
    assert (last.code, last.table) == (0, undisturbed), last.stderr


def test_a_finished_run_shows_its_table_again(tmp_path: Path, undisturbed: Any) -> None:
    """No handler runs; the table comes from the file."""
    demo(tmp_path, *ORDERS)
    again = demo(tmp_path, *ORDERS)
    assert again.table == undisturbed
    assert "All of these orders are in headwater-shop.db, and done." in again.stderr
    handlers = json.loads(again.stdout)["handlers"].values()
    assert {handler["p50_ms"] for handler in handlers} == {None}


def test_other_orders_begin_anew_once_a_run_is_finished(tmp_path: Path, undisturbed: Any) -> None:
    """And ``--fresh`` does, whatever is there."""
    few = demo(tmp_path, "--count", "5")
    assert few.table["handlers"]["inventory"]["events"] == 5
    other = demo(tmp_path, *ORDERS)
    assert other.table == undisturbed
    assert "held a finished run of other orders: it begins anew" in other.stderr
    fresh = json.loads(demo(tmp_path, *ORDERS, "--fresh").stdout)
    assert fresh["handlers"]["inventory"]["p50_ms"] is not None


def test_an_unfinished_run_is_not_deleted_for_other_orders(
    tmp_path: Path, undisturbed: Any
) -> None:
    """Ctrl-C leaves it, other orders are refused, and ``--fresh`` is what deletes it."""
    running = started(tmp_path, "--count", "100000")
    assert running.stderr is not None
    assert "of 100,000 orders" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=PATIENCE)
    assert (running.returncode, stdout) == (130, "")
    assert stderr.endswith("Interrupted: run it again, and it goes on.\n")
    refused = demo(tmp_path, *ORDERS)
    assert (refused.code, refused.stdout) == (2, "")
    assert "holds an unfinished run of other orders" in refused.stderr
    assert "--fresh" in refused.stderr
    assert demo(tmp_path, *ORDERS, "--fresh").table == undisturbed


def test_a_log_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """With ``--fresh`` too: a log with other events, another database, and any other file."""
    program = "from headwater import Bus\nwith Bus('sqlite:///log.db', name='x') as bus:"
    program += "\n    bus.publish('something', 1)"
    source = {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", program]
    subprocess.run(command, cwd=tmp_path, env=os.environ | source, check=True)
    (tmp_path / "text.db").write_text("dear diary")
    for name in ("log.db", "text.db"):
        before = (tmp_path / name).read_bytes()
        for options in ((), ("--fresh",)):
            ended = demo(tmp_path, "--url", f"sqlite:///{name}", *options)
            assert ended.code in {1, 2}
            assert not ended.stdout
            assert ended.stderr.startswith("headwater: ")
            assert "Traceback" not in ended.stderr
        assert (tmp_path / name).read_bytes() == before


def test_a_log_in_use_is_not_deleted(tmp_path: Path) -> None:
    """Another process has locked its byte of the side file."""
    assert demo(tmp_path, "--count", "2").code == 0
    with (tmp_path / "headwater-shop.db-lock").open("rb+") as side_file:
        fcntl.lockf(side_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, (1 << 32) + 7)
        busy = demo(tmp_path, "--count", "2", "--fresh")
    assert (busy.code, busy.stdout) == (1, "")
    assert "is used by another process" in busy.stderr
    assert demo(tmp_path, "--count", "2").code == 0


def test_orders_from_a_pipe_are_gone_on_with_as_well(tmp_path: Path) -> None:
    """What comes out of it is copied first, and tells which orders they are."""
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    line = "536365,85123A,LANTERN,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom"
    source = os.environ.get("HEADWATER_SOURCE", str(ROOT / "src"))
    for said in ("", "All of these orders are in headwater-shop.db, and done."):
        ended = subprocess.run(
            (*COMMAND, "--json", "--orders", "/dev/stdin"),
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": source},
            input=f"{header}\n{line}\n",
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=True,
        )
        assert json.loads(ended.stdout)["units"] == 6
        assert said in ended.stderr
