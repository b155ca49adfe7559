"""A fork beside a log: the child must leave alone what the parent goes on using.

Each test runs a program of its own, with Python's development mode on: what is closed or collected
in the wrong process says so there.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "src"

PRELUDE = """
import asyncio, fcntl, gc, multiprocessing, os, signal, sys
from dataclasses import dataclass
from headwater import Bus, UsedAfterFork, event
from headwater.errors import PublishUnknown

@event(name="tick")
@dataclass(frozen=True)
class Tick:
    number: int

seen = []
bus = Bus(sys.argv[1], name="shop")

@bus.on(Tick)
async def note(tick):
    seen.append(tick.number)

def refused(call):
    try:
        call()
    except UsedAfterFork:
        return True
    return False

def in_child(work):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        work()
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


def said_by(program: str, tmp_path: Path, url: str | None = None) -> list[str]:
    """What a program prints, line by line; it must not complain."""
    script = tmp_path / "program.py"
    script.write_text(PRELUDE + program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", script,
         url or f"sqlite:///{tmp_path}/log.db"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert (done.returncode, complaints) == (0, []), done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_bus_that_was_opened_is_refused_in_the_child(engine: str, tmp_path: Path) -> None:
    """Whatever would talk to the engine; closing it there is harmless, and the parent goes on."""
    program = """
bus.start()
bus.publish(Tick(0))
bus.idle(20)

def child():
    calls = (
        lambda: bus.publish(Tick(1)), bus.start, lambda: bus.idle(1), bus.transaction,
        lambda: bus.dead_letters, lambda: bus.stream(Tick), lambda: bus.replay(Tick, into=print),
    )
    print([refused(call) for call in calls], bus)
    bus.close()

in_child(child)
bus.publish(Tick(2))
bus.idle(20)
print(seen)
bus.close()
"""
    url = "memory://" if engine == "memory" else None
    assert said_by(program, tmp_path, url) == [
        f"{[True] * 7} <Bus shop, forked, 0 unfinished>",
        "[0, 2]",
    ]


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_bus_that_was_not_opened_works_in_the_child(engine: str, tmp_path: Path) -> None:
    """And in the parent; so does one that was closed before the fork."""
    program = """
def work():
    with bus:
        bus.publish(Tick(int(os.getpid() != parent)))
        bus.idle(20)
    print(seen)

parent = os.getpid()
in_child(work)
work()
seen.clear()
in_child(work)
"""
    url = "memory://" if engine == "memory" else None
    assert said_by(program, tmp_path, url) == ["[1]", "[0]", "[1]"]


def test_a_child_that_ends_by_itself_takes_nothing_along(tmp_path: Path) -> None:
    """Everything of the bus is collected there, and the interpreter winds down."""
    program = """
bus.start()
stream = bus.stream(Tick)
for number in range(100):
    bus.publish(Tick(number))
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    del bus, stream, note
    gc.collect()
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
for number in range(100, 200):
    bus.publish(Tick(number))
bus.idle(20)
print(sorted(seen) == list(range(200)), asyncio.run(anext(stream)))
bus.close()
print(sorted(os.listdir(os.path.dirname(sys.argv[1].removeprefix("sqlite:///")))))
"""
    assert said_by(program, tmp_path) == [
        "True Tick(number=0)",
        "['log.db', 'log.db-lock', 'program.py']",
    ]


def test_what_was_unconfirmed_stays_so_in_the_child(tmp_path: Path) -> None:
    """Nobody waits there for an answer that only the parent gets; a stream is at its end."""
    program = """
async def main():
    stream = bus.stream(Tick)
    lock = os.open(sys.argv[1].removeprefix("sqlite:///") + "-lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)  # The writer cannot write yet.
    receipt = bus.publish(Tick(1))

    def child():
        try:
            receipt.collect()
        except PublishUnknown as error:
            print(receipt.done, error.event_id == receipt.event_id)
        print(stream._closed, len(bus._unfinished))

    in_child(child)
    print(receipt.done, stream._closed)
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)
    await receipt
    print(await anext(stream))
    await bus.aclose()

asyncio.run(main())
"""
    assert said_by(program, tmp_path) == ["True True", "True 0", "False False", "Tick(number=1)"]


def test_a_parent_that_is_killed_is_seen_to_be_dead(tmp_path: Path) -> None:
    """Its child holds neither its place among the members nor its lock on the file."""
    program = """
reading, writing = os.pipe()
sys.stdout.flush()
parent = os.fork()
if parent == 0:
    bus.start()
    bus.publish(Tick(1))
    bus.idle(20)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        signal.pause()
    os.write(writing, str(child).encode())
    signal.pause()
child = int(os.read(reading, 20))
os.kill(parent, signal.SIGKILL)
os.waitpid(parent, 0)
bus.start()
bus.publish(Tick(2))
bus.idle(5)  # Half of the lease.
print(seen)
bus.close()
os.kill(child, signal.SIGKILL)
"""
    assert said_by(program, tmp_path) == ["[2]"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works_beside_it(method: str, tmp_path: Path) -> None:
    """Workers with a bus of their own on the log, made in the worker or never opened before."""
    program = f"""
def work(url, number):
    with Bus(url, name="worker") as own:
        own.publish(Tick(number))
    return number

if __name__ == "__main__":
    bus.start()
    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as pool:
        jobs = [pool.apply_async(work, (sys.argv[1], n)) for n in range(4)]
        assert [job.get(30) for job in jobs] == [0, 1, 2, 3]
        pool.close()
        pool.join()
    bus.publish(Tick(4))
    bus.idle(20)
    print(sorted(seen))
    bus.close()
"""
    assert said_by(program, tmp_path) == ["[0, 1, 2, 3, 4]"]
