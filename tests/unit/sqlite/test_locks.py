"""The side file: one writer at a time, and who is still alive, as other processes see it."""

import os
import signal
from pathlib import Path

import pytest
from tests.unit.sqlite.logs import PATIENCE, let_go, line_of, program

from headwater.errors import LogBusy
from headwater.transports.sqlite.locks import FIRST_BYTE, FileLock, Presence

HOLDER = """
import sys
from headwater.transports.sqlite.locks import FileLock
lock = FileLock(sys.argv[1], 10)
with lock.held():
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.readline()
"""

LIVING = """
import sys
from headwater.transports.sqlite.locks import Presence
presence = Presence(sys.argv[1])
print(presence.byte, flush=True)
sys.stdin.readline()
presence.close()
print("gone", flush=True)
sys.stdin.readline()
"""

FORKING = """
import os, sys
from headwater import Bus
bus = Bus(f"sqlite:///{sys.argv[1]}", name="shop")
bus.publish("order.placed", {})
read, write = os.pipe()
if os.fork() == 0:
    os.close(write)
    os.read(read, 1)  # Until the test ends and the pipe is closed.
    os._exit(0)
print(bus._durable.transport._presence.byte, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def side(tmp_path: Path) -> str:
    """The side file."""
    return str(tmp_path / "shop.db-lock")


def test_one_process_at_a_time_holds_the_lock(side: str) -> None:
    """The other one gets it when it is free."""
    lock = FileLock(side, PATIENCE)
    with program(HOLDER, side) as other:
        assert line_of(other) == "held"
        impatient = FileLock(side, 0.02)
        with pytest.raises(LogBusy), impatient.held():
            pass
        impatient.close()
        let_go(other)
        with lock.held():
            assert line_of(other) == "free"
    lock.close()


def test_who_waits_too_long_is_told_for_whom_and_how_long(side: str) -> None:
    """And where the timeout can be changed."""
    lock, other = FileLock(side, 0.05), FileLock(side, 1)
    with other.held(), pytest.raises(LogBusy) as caught:
        lock.acquire()
    assert side in str(caught.value)
    assert "0.05 s" in str(caught.value)
    assert "?timeout=" in str(caught.value)
    with lock.held():
        pass
    lock.close()
    other.close()


def test_a_killed_process_holds_no_lock(side: str) -> None:
    """The kernel lets go for it."""
    lock = FileLock(side, PATIENCE)
    with program(HOLDER, side) as other:
        assert line_of(other) == "held"
        other.send_signal(signal.SIGKILL)
        with lock.held():
            pass
    lock.close()


def test_the_lock_is_let_go_when_the_work_under_it_fails(side: str) -> None:
    """Otherwise one error would stop every process."""
    lock, other = FileLock(side, 1), FileLock(side, 0.05)
    with pytest.raises(ZeroDivisionError), lock.held():
        _ = 1 / 0
    with other.held():
        pass
    lock.close()
    other.close()


def test_a_process_is_alive_as_long_as_it_says_so(side: str) -> None:
    """Others see it go at once."""
    here = Presence(side)
    with program(LIVING, side) as other:
        byte = int(line_of(other))
        assert here.alive(byte)
        let_go(other)
        assert line_of(other) == "gone"
        assert not here.alive(byte)
    here.close()


def test_presence_dies_with_its_process(side: str) -> None:
    """However it ends, long before its lease does."""
    here = Presence(side)
    with program(LIVING, side) as other:
        byte = int(line_of(other))
        assert here.alive(byte)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert not here.alive(byte)
    here.close()


def test_a_frozen_process_is_alive(side: str) -> None:
    """Its lease tells that it hangs, its presence does not."""
    here = Presence(side)
    with program(LIVING, side) as other:
        byte = int(line_of(other))
        other.send_signal(signal.SIGSTOP)
        assert here.alive(byte)
        other.send_signal(signal.SIGCONT)
    here.close()


def test_presences_in_one_process_are_told_apart(side: str) -> None:
    """A program may have two buses on one log."""
    one, other = Presence(side), Presence(side)
    assert one.byte != other.byte
    assert one.alive(other.byte)
    assert other.alive(one.byte)
    assert one.alive(one.byte)
    other.close()
    assert not one.alive(other.byte)
    one.close()


def test_presence_costs_no_space_in_the_file(side: str) -> None:
    """The bytes lie behind its end."""
    here = Presence(side)
    assert here.byte >= FIRST_BYTE
    assert Path(side).stat().st_size == 0
    here.close()


def test_where_there_are_no_such_locks_everybody_counts_as_alive(
    side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases have to do then; nobody is taken for dead."""
    monkeypatch.setattr("headwater.transports.sqlite.locks._SET", -1)
    here = Presence(side)
    assert here.alive(FIRST_BYTE + 5)
    here.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_a_fork_does_not_live_for_its_parent(tmp_path: Path) -> None:
    """A killed worker is noticed at once, though a child of it lives on."""
    path = tmp_path / "shop.db"
    here = Presence(f"{path}-lock")
    with program(FORKING, str(path)) as other:
        byte = int(line_of(other))
        assert here.alive(byte)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert not here.alive(byte)
    here.close()
