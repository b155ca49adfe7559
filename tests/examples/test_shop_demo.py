"""``headwater demo`` as its user meets it: a process with arguments, streams and an exit code."""

import gzip
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from headwater.cli import main

ROOT = Path(__file__).parents[2]
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\r\n"
LINE = "536365,85123A,WHITE LANTERN,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\r\n"
COMMAND = (sys.executable, "-c", "from headwater.cli import main; main()")
HIDDEN = "import sys; sys.modules[{!r}] = None; from headwater.cli import main; main()"
ESCAPE = "\x1b["
PATIENCE = 60  # seconds until a hanging process is a failure


def environment(**changes: str) -> dict[str, str]:
    """Return an environment in which only `changes` decide about colours and widths."""
    untouched = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM")
    }
    source = os.environ.get("HEADWATER_SOURCE", str(ROOT / "src"))
    return untouched | {"PYTHONPATH": source, "TERM": "xterm-256color"} | changes


def headwater(
    *arguments: str, folder: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in pipes, with nothing on stdin."""
    return subprocess.run(
        (*COMMAND, *arguments),
        cwd=folder,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def on_a_terminal(*arguments: str, **changes: str) -> tuple[str, int]:
    """Run the command on a terminal; return what it showed there and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        (*COMMAND, *arguments),
        env=environment(**changes),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = bytearray()
    deadline = time.monotonic() + PATIENCE
    while select.select([ours], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            shown += os.read(ours, 65_536)
        except OSError:  # so a terminal says that everybody has left it
            break
    os.close(ours)
    return shown.decode(), process.wait(PATIENCE)


class Ended(NamedTuple):
    """How a call inside this process ended."""

    code: object
    stdout: str
    stderr: str


class Call:
    """Calls the command inside this process, which is quicker than starting one."""

    def __init__(self, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capture = capture
        self._patch = patch

    def __call__(self, *arguments: str) -> Ended:
        self._patch.setattr(sys, "argv", ["headwater", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = self._capture.readouterr()
        return Ended(end.value.code, captured.out, captured.err)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call the command inside this process."""
    return Call(capfd, monkeypatch)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a folder of its own, where the demo puts its log."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A run of the demo without arguments."""
    return headwater("demo", folder=tmp_path_factory.mktemp("report"), COLUMNS="200")


def test_the_report_is_on_stdout_and_progress_on_stderr(
    report: subprocess.CompletedProcess[str],
) -> None:
    """In a pipe everything is plain lines, and nothing is coloured."""
    assert report.returncode == 0
    assert ESCAPE not in report.stdout + report.stderr
    assert "\r" not in report.stdout + report.stderr
    for line in report.stderr.splitlines():
        assert re.fullmatch(r" *\d+ %  [\d,]+ of 500 orders", line)
    assert report.stderr.splitlines()[-1] == "100 %  500 of 500 orders"


def test_the_report_has_a_row_per_handler(report: subprocess.CompletedProcess[str]) -> None:
    """With six figures each, and isolation, retry and storm guard seen at work."""
    table = {
        cells[0]: [float(cell.replace(",", "")) for cell in cells[1:]]
        for cells in map(str.split, report.stdout.splitlines())
        if len(cells) == 7 and cells[0] in ("inventory", "analytics", "courier", "restock")
    }
    assert table.keys() == {"inventory", "analytics", "courier", "restock"}
    assert table["inventory"][:4] == [500, 500, 0, 0]
    assert all(table["courier"][:4])
    assert table["restock"][:3] == [520, 512, 8]


def test_the_report_proves_itself(report: subprocess.CompletedProcess[str]) -> None:
    """A check mark, and where the dead letters are."""
    assert "✓ 500 orders went in, every handler had each of them once" in report.stdout
    assert re.search(r"^courier +38 +CourierFailure +order \d+: ", report.stdout, re.MULTILINE)
    assert "dead letters: headwater dlq ls headwater-shop.db\n" in report.stdout


def test_the_hint_about_dead_letters_is_true(call: Call) -> None:
    """What the report says to type shows what was given up."""
    assert call("demo", "--count", "60", "-q").code == 0
    letters = call("dlq", "ls", "headwater-shop.db")
    assert letters.code == 0
    assert "CourierFailure" in letters.stdout


def test_the_report_tells_the_story_of_one_order(report: subprocess.CompletedProcess[str]) -> None:
    """The tree of causes, with a delivery that succeeded at a later attempt.

    Which one depends on how long the breaker has been open: that is real time.
    """
    assert re.search(
        r"^OrderPlaced  order_id=\d+.*\n"
        r"├── inventory  .*\n"
        r"(?:│   .*\n)*"
        r"│   └── StockReserved  .*\n"
        r"(?:│       .*\n)*"
        r"│       [├└]── courier  attempt [2-5]  [\d.]+ ms\n"
        r"│       [│ ]   └── OrderShipped ",
        report.stdout,
        re.MULTILINE,
    )


def test_the_report_names_three_things_to_try_next(
    report: subprocess.CompletedProcess[str],
) -> None:
    """The last one is where the shop may be read."""
    hints = report.stdout.partition("Try next\n")[2].splitlines()
    assert len(hints) == 3
    assert "demo --count 5000 --seed 7" in hints[0]
    assert "demo --orders FILE" in hints[1]
    assert Path(re.split(r"   +", hints[2])[0]).joinpath("day.py").exists()


@pytest.mark.parametrize(
    ("folder", "typed"),
    [
        (".", "scripts/demo"),
        ("scripts", "./demo"),
        (".venv/bin", "../../scripts/demo"),
    ],
)
def test_the_hints_can_be_typed_in_a_checkout(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    folder: str,
    typed: str,
) -> None:
    """Where the command is not on PATH they name the script beside it, seen from here."""
    for name in ("scripts/demo", ".venv/bin/headwater"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("COLUMNS", "200")
    program = os.path.relpath(tmp_path / ".venv/bin/headwater")
    monkeypatch.setattr(sys, "argv", [program, "demo", "--count", "2"])
    with pytest.raises(SystemExit):
        main()
    assert f"\n{typed} --count 5000 --seed 7 " in capfd.readouterr().out


def test_quiet_leaves_the_report_alone(call: Call) -> None:
    """No progress and no hints."""
    quiet = call("demo", "--count", "20", "--quiet")
    assert (quiet.code, quiet.stderr) == (0, "")
    assert "Handler" in quiet.stdout
    assert "Try next" not in quiet.stdout


def test_json_is_one_object(call: Call, tmp_path: Path) -> None:
    """With every figure, also of the rows that could not be read."""
    path = tmp_path / "orders.csv.gz"
    path.write_bytes(gzip.compress((HEADER + LINE + "bad\r\n" + LINE).encode()))
    run = call("demo", "--orders", str(path), "--json")
    assert run.code == 0
    figures = json.loads(run.stdout)
    assert run.stdout.count("\n") == 1
    assert (figures["lines"], figures["rejected"], figures["orders"]) == (3, 1, 1)
    assert figures["rejections"] == [{"line": 3, "reason": "1 column, expected 8"}]
    assert (figures["cancellations"], figures["units"], figures["revenue"]) == (0, 12, "30.60")
    assert figures["stock"] == {"85123A": 12}
    assert figures["handlers"]["inventory"].keys() == {
        "events",
        "handled",
        "given_up",
        "retried",
        "p50_ms",
        "p99_ms",
    }
    assert (figures["given_up"], figures["differences"]) == ([], [])
    assert figures["seconds"] >= 0


def test_rejected_rows_are_shown_and_not_fatal(call: Call, tmp_path: Path) -> None:
    """With line number and reason; a long list ends in how many more there are."""
    path = tmp_path / "orders.csv"
    path.write_text(HEADER + LINE + LINE.replace(",6,", ",[red]six,") + "bad\n" * 24)
    run = call("demo", "--orders", str(path))
    assert run.code == 0
    assert "26 read, 25 rejected" in run.stdout
    assert "line 3   Quantity '[red]six' is not a whole number" in run.stdout
    assert "and 5 more" in run.stdout


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("missing.csv", None, "cannot be read: no such file or directory"),
        ("empty.csv", b"", "is empty"),
        ("table.csv", b"a,b\n1,2\n", "is not an Online Retail CSV"),
        ("orders.csv.gz", (HEADER + LINE).encode(), "is named .gz and is not gzip"),
        ("cut.csv.gz", gzip.compress((HEADER + LINE).encode())[:-9], "is damaged gzip"),
        ("wide.csv", (HEADER + LINE).encode("utf-16"), "is UTF-16"),
        (
            "western.csv",
            (HEADER + LINE * 2_000 + LINE.replace("WHITE", "£5")).encode("latin-1"),
            "is not UTF-8: byte 0xa3 in line 2002",
        ),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_2(
    call: Call,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    complaint: str,
) -> None:
    """Nothing on stdout, one line on stderr, however late the trouble comes."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for options in ((), ("--json",)):
        run = call("demo", "--orders", str(path), *options)
        assert (run.code, run.stdout) == (2, "")
        assert run.stderr.startswith(f"headwater demo: {path} ")
        assert complaint in run.stderr
        assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--count", "0"),
        ("--count", "many"),
        ("--seed", "x"),
        ("--orders",),
        ("--orders", "f.csv", "--count", "3"),
        ("--orders", "f.csv", "--seed", "0"),
        ("--url", "nowhere"),
        ("--url", "sqlite://"),
        ("--url",),
        ("--colour",),
        ("surplus",),
    ],
)
def test_a_wrong_call_is_exit_code_2(call: Call, arguments: tuple[str, ...]) -> None:
    """It says what is wrong on stderr, and stdout stays empty."""
    run = call("demo", *arguments)
    assert (run.code, run.stdout) == (2, "")
    assert run.stderr.startswith("headwater: ")
    assert not list(Path().glob("*.db*"))


def test_help_shows_examples(call: Call) -> None:
    """What to type comes before what may be typed."""
    run = call("demo", "--help")
    assert run.code == 0
    assert 0 < run.stdout.index("headwater demo --count 5000") < run.stdout.index("--quiet")


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_its_extra_the_command_names_it(module: str) -> None:
    """One line that can be copied, and exit code 2."""
    run = subprocess.run(
        (sys.executable, "-c", HIDDEN.format(module), "demo"),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.count("\n") == 1
    assert "pip install 'headwater[cli]'" in run.stderr
    assert "uv add 'headwater[cli]'" in run.stderr


def test_a_terminal_gets_a_bar_and_colours() -> None:
    """The bar goes when it is done, the report stays."""
    shown, code = on_a_terminal("demo", "--count", "200")
    assert code == 0
    assert "Trading" in shown
    assert "━" in shown
    assert f"{ESCAPE}32m" in shown
    assert "% " not in shown


def test_no_color_is_respected() -> None:
    """Bold and dim may stay, colours go."""
    shown, code = on_a_terminal("demo", "--count", "200", NO_COLOR="1")
    assert code == 0
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|38|9[0-7])[;m]", shown)


def test_a_dumb_terminal_gets_plain_lines() -> None:
    """Nothing moves where nothing can."""
    shown, code = on_a_terminal("demo", "--count", "200", TERM="dumb")
    assert code == 0
    assert ESCAPE not in shown
    assert "100 %  200 of 200 orders" in shown


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "Interrupted: run it again, and it goes on."),
        (("--direct",), "Interrupted."),
    ],
)
def test_an_interrupt_ends_cleanly(options: tuple[str, ...], says: str) -> None:
    """Ctrl-C: no traceback, no half report, exit code 130, and how to go on."""
    process = subprocess.Popen(
        (*COMMAND, "demo", "--count", "200000", *options),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert "of 200,000 orders" in first
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1] == says
    assert "Traceback" not in stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    """As with ``headwater demo --json | head -c 1``: nothing is complained about."""
    process = subprocess.Popen(
        (*COMMAND, "demo", "--json", "--quiet", "--count", "20"),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    process.stdout.close()
    _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (141, "")


def test_a_closed_stdin_is_no_obstacle() -> None:
    """Nothing is read from it."""
    run = subprocess.run(
        ("/bin/sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "demo", "--quiet", "--count", "5"),
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, b"")
