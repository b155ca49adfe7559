"""What a run records is there afterwards, whatever becomes of those who recorded it."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults.history import (
    BadHistory,
    DeadLetter,
    Effect,
    History,
    Part,
    Recorder,
    Stored,
    digest,
    encode,
    load,
)

ROOT = Path(__file__).parents[2]

# Records effects until it is killed, and says how many it is sure of.
WRITER = """
import itertools, os, sys
from tests.faults.history import Recorder

recorder = Recorder(sys.argv[1], process=sys.argv[2])
for number in itertools.count():
    recorder.effect(f"e{number}", "mail", key="k", key_seq=number, digest="d" * 16, attempt=1)
    os.write(1, b".")
"""


def test_a_recorded_run_is_loaded_as_it_was(tmp_path: Path) -> None:
    """Every kind of record goes through a file, with who recorded it and when."""
    path = tmp_path / "history.jsonl"
    with Recorder(path, process="web-1") as recorder:
        invoked = recorder.invoke("e", key="k", key_seq=1, digest="d", name="paid", topic="till")
        recorder.ended(invoked, "ok")
        recorder.effect("e", "mail", key=None, key_seq=1, digest="d", attempt=2, lane=3, fence=4)
        found = (DeadLetter("e", "stock"), Stored("e", "audit"), Part("e", "row"))
        for record in found:
            recorder.write(record)
    history = load([path])
    first, second = history.publishes
    assert first == invoked
    assert (second.phase, second.process, second.name, second.topic) == (
        "ok",
        "web-1",
        "paid",
        "till",
    )
    (effect,) = history.effects
    assert first.monotonic_ns <= second.monotonic_ns <= effect.monotonic_ns
    assert effect == Effect(
        "e", "mail", None, 1, "d", 2, "web-1", effect.monotonic_ns, lane=3, fence=4
    )
    assert (*history.dead_letters, *history.stored, *history.parts) == found
    assert History.of(history) == history


def test_a_sigkill_takes_back_nothing_that_was_recorded(tmp_path: Path) -> None:
    """Two processes share a file and are killed while they write: no record is lost or torn."""
    path = tmp_path / "history.jsonl"
    command = [sys.executable, "-c", WRITER, str(path)]
    with (
        subprocess.Popen([*command, "one"], cwd=ROOT, stdout=subprocess.PIPE) as one,
        subprocess.Popen([*command, "two"], cwd=ROOT, stdout=subprocess.PIPE) as two,
    ):
        sure = {"one": len(_read(one, 200)), "two": len(_read(two, 200))}
        one.kill()
        two.kill()
        sure["one"] += len(_read(one))
        sure["two"] += len(_read(two))
    for name, count in sure.items():
        written = [effect.key_seq for effect in load([path]).effects if effect.process == name]
        assert written[:count] == list(range(count))
        assert len(written) - count in (0, 1), "only the last write may be unconfirmed"


def _read(process: subprocess.Popen[bytes], count: int = -1) -> bytes:
    assert process.stdout is not None
    return process.stdout.read(count)


def test_half_a_line_is_overlooked_at_the_end_and_refused_elsewhere(tmp_path: Path) -> None:
    """Its process died in the write; in the middle of a file, something else is wrong."""
    line = encode(Stored("e", "mail"))
    path = tmp_path / "history.jsonl"
    path.write_bytes(line + line[:-9])
    assert load([path]).stored == (Stored("e", "mail"),)
    path.write_bytes(line[:-9] + line)
    with pytest.raises(BadHistory, match=r"history\.jsonl:1 is no record"):
        load([path])


@pytest.mark.parametrize("line", ["{}", "[]", '{"record":"Nothing"}', '{"record":"Stored","x":1}'])
def test_a_line_that_is_no_record_is_refused(tmp_path: Path, line: str) -> None:
    """A history that cannot be read whole proves nothing."""
    path = tmp_path / "history.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(BadHistory, match="is no record"):
        load([path])


def test_a_digest_tells_payloads_apart() -> None:
    """By what they say, and not by the order of their keys."""
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})
