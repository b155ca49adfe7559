"""``run``: real processes, real signals."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater.cli.crew import LONGEST, SHORTEST, Crew, Worker, stamps

Shop = Any  # The fixture of conftest.py.
Until = Callable[[Callable[[], object], str], None]
Start = Callable[..., Any]

PROGRAM = """
import os
import time
from pathlib import Path

from headwater import Bus

bus = Bus("sqlite:///works.db", name="works", drain_timeout=15)


@bus.on("job")
def work(job: dict) -> None:
    name = job["name"]
    Path(f"begun-{name}").write_text(str(os.getpid()))
    while job.get("slow") and not Path(f"go-{name}").exists():
        time.sleep(0.01)
    Path(f"done-{name}").write_text("first version")
"""


@pytest.fixture
def works(shop: Shop) -> Shop:
    """Another program in the same folder, whose handler waits for a file."""
    (shop.folder / "works.py").write_text(PROGRAM, encoding="utf-8")
    shop.ok("ensure", "works:bus")
    return shop


@pytest.fixture
def start(works: Shop) -> Iterator[Start]:
    """Start a command; it is ended after the test at the latest."""
    started: list[Any] = []

    def begin(*words: str) -> Any:
        started.append(works.start(*words))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def publish(shop: Shop, name: str, **fields: object) -> None:
    """Give the program something to do."""
    import json

    shop.ok("publish", "works.db", "job", json.dumps({"name": name, **fields}))


def lag(shop: Shop) -> int:
    """How much it has not settled."""
    (found,) = shop.ok("consumers", "ls", "works.db", "--json").json
    assert isinstance(found["lag"], int)
    return found["lag"]


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_sigterm_lets_what_runs_finish(works: Shop, start: Start, until: Until) -> None:
    """It is settled, what had not begun is left, and the exit code is 0."""
    running = start("run", "works:bus")
    publish(works, "a", slow=True)
    until((works.folder / "begun-a").exists, "the handler runs")
    running.process.send_signal(signal.SIGTERM)
    (works.folder / "go-a").touch()
    assert running.ended() == 0
    assert "Drained" in running.said()
    assert (works.folder / "done-a").exists()
    assert lag(works) == 0


def test_the_second_ctrl_c_does_not_wait(works: Shop, start: Start, until: Until) -> None:
    """What was under way is delivered again to whoever comes next."""
    running = start("run", "works:bus")
    publish(works, "a", slow=True)
    until((works.folder / "begun-a").exists, "the handler runs")
    running.process.send_signal(signal.SIGINT)
    until(lambda: "Draining" in running.said(), "it has understood")
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == 130
    assert not (works.folder / "done-a").exists()
    (works.folder / "go-a").touch()
    again = start("run", "works:bus")
    until((works.folder / "done-a").exists, "it was delivered again")
    again.process.send_signal(signal.SIGTERM)
    assert again.ended() == 0
    assert lag(works) == 0


def workers_of(crew: Any) -> list[int]:
    """The processes of the workers so far, as the crew tells them."""
    return [
        int(pid)
        for pid in re.findall(r"^Worker \d+ is process (\d+)\.$", crew.said(), re.MULTILINE)
    ]


def test_a_worker_that_dies_is_started_again(works: Shop, start: Start, until: Until) -> None:
    """After a pause; what it had under way is handled by another one."""
    crew = start("run", "works:bus", "--workers", "2")
    publish(works, "a", slow=True)
    until((works.folder / "begun-a").exists, "a worker has it")
    victim = int((works.folder / "begun-a").read_text(encoding="utf-8"))
    (works.folder / "go-a").touch()
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers_of(crew)) == 3, "another one is started")
    until((works.folder / "done-a").exists, "another one did it")
    crew.process.send_signal(signal.SIGTERM)
    assert crew.ended() == 0
    assert lag(works) == 0
    assert victim in workers_of(crew)
    assert not any(alive(pid) for pid in workers_of(crew))


def test_workers_end_with_their_crew(start: Start, until: Until) -> None:
    """Also if that is killed: nobody is left behind."""
    crew = start("run", "works:bus", "--workers", "2")
    until(lambda: len(workers_of(crew)) == 2, "they are started")
    pids = workers_of(crew)
    assert all(alive(pid) for pid in pids)
    crew.process.kill()
    until(lambda: not any(alive(pid) for pid in pids), "they have ended")


def test_a_crew_that_was_called_wrongly_ends(start: Start) -> None:
    """It would be as wrong the next time."""
    crew = start("run", "nothing:bus", "--workers", "2")
    assert crew.ended() == 2
    assert "no module 'nothing'" in crew.said()


def test_reload_starts_the_new_code(works: Shop, start: Start, until: Until) -> None:
    """A change of a file; a broken one waits for the next change."""
    crew = start("run", "works:bus", "--reload")
    publish(works, "a")
    until((works.folder / "done-a").exists, "the first version works")
    module = works.folder / "works.py"
    module.write_text("this is no Python\n", encoding="utf-8")
    until(lambda: "a change of a file starts it again" in crew.said(), "it cannot start")
    module.write_text(PROGRAM.replace("first version", "second version"), encoding="utf-8")
    publish(works, "b")
    until((works.folder / "done-b").exists, "the second version works")
    assert (works.folder / "done-b").read_text(encoding="utf-8") == "second version"
    crew.process.send_signal(signal.SIGINT)
    assert crew.ended() == 0


def test_the_pause_before_a_start_grows() -> None:
    """Up to half a minute."""
    crew, worker = Crew("works:bus", 1, reload=False, tell=lambda text: None), Worker(1)
    worker.started = float("inf")  # It never lived for long.
    pauses: list[float] = []
    for _ in range(9):
        assert crew._ended(worker, 1)
        pauses.append(worker.pause)
    assert pauses[:3] == [SHORTEST, SHORTEST * 2, SHORTEST * 4]
    assert pauses[-2:] == [LONGEST, LONGEST]
    worker.started = float("-inf")
    assert crew._ended(worker, -9)
    assert worker.pause == SHORTEST


def test_only_the_programs_own_files_are_watched(tmp_path: Path) -> None:
    """Not what is hidden, installed or compiled."""
    for name in ("a.py", "b.txt", "pkg/c.py", ".venv/d.py", "pkg/__pycache__/e.py", "build/f.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {str(Path(path).relative_to(tmp_path)) for path in stamps(tmp_path)}
    assert found == {"a.py", "pkg/c.py"}
