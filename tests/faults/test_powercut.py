"""The power cut tool: it finds what was not durable, in programs that look right until then."""

import os
import sys
from pathlib import Path

import pytest
from tests.faults import powercut, writer
from tests.faults.disk import Disk, File
from tests.faults.recording import record
from tests.faults.strace import NEVER, Untraceable, parse

WRITER = (sys.executable, writer.__file__)
ROWS = [str(position) for position in range(6)]

needs_strace = pytest.mark.usefixtures("strace")


def python(code: str) -> tuple[str, ...]:
    """Return a program that has `os`, `mmap` and the path of its database."""
    return (sys.executable, "-c", f"import mmap, os, sys\npath = sys.argv[1]\n{code}")


def cut(folder: Path, *options: str) -> powercut.Report:
    """Record the writer with these options and cut the power everywhere."""
    recording = record((*WRITER, *options), folder)
    assert recording.exit == 0, recording.stderr
    assert sorted(recording.acknowledged) == ROWS
    return powercut.check(recording, writer.stored, folder, mixtures=4)


@needs_strace
@pytest.mark.parametrize("options", [(), ("--thread",)], ids=["one thread", "two threads"])
def test_a_synced_wal_loses_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Every cut, every survival: sound, and all that was acknowledged is there."""
    report = cut(tmp_path, *options)
    assert report.losses == []
    assert report.cuts > 50
    assert report.distinct > 50


@needs_strace
def test_a_wal_that_is_not_synced_loses_rows_and_stays_sound(tmp_path: Path) -> None:
    """The tool finds what synchronous=NORMAL is known to lose."""
    report = cut(tmp_path, "--synchronous", "normal")
    assert {row for loss in report.losses for row in loss.missing} == set(ROWS)
    assert not any(loss.damage for loss in report.losses)


@needs_strace
def test_a_database_that_is_never_synced_is_damaged(tmp_path: Path) -> None:
    """The tool finds corruption as well as loss."""
    report = cut(tmp_path, "--synchronous", "off")
    assert any("malformed" in loss.damage for loss in report.losses)
    assert any(loss.damage and not loss.missing for loss in report.losses)


@needs_strace
def test_an_acknowledgement_before_the_commit_is_found(tmp_path: Path) -> None:
    """The planted defect: the row is promised one statement too soon."""
    report = cut(tmp_path, "--early")
    assert {row for loss in report.losses for row in loss.missing} == set(ROWS)


@needs_strace
def test_a_journal_whose_removal_is_not_synced_undoes_a_commit(tmp_path: Path) -> None:
    """Names count too: with a rollback journal only synchronous=EXTRA syncs the folder."""
    full = cut(tmp_path / "full", "--journal", "delete")
    extra = cut(tmp_path / "extra", "--journal", "delete", "--synchronous", "extra")
    assert any("lost" in loss.survival for loss in full.losses)
    assert extra.losses == []


@needs_strace
def test_a_program_may_start_on_what_a_killed_one_left(tmp_path: Path) -> None:
    """What lay there before is durable, its hot log included, and is recovered under the cuts."""
    killed = record(WRITER, tmp_path, inject="pwrite64:signal=SIGKILL:when=26")
    assert killed.exit < 0
    kept = killed.acknowledged
    recording = record((*WRITER, "--first=100"), tmp_path)
    assert any(name.endswith("-wal") for name in recording.before)
    assert kept
    report = powercut.check(recording, lambda path: _both(path, kept), tmp_path)
    assert report.losses == []


def _both(path: Path, kept: list[str]) -> set[str]:
    rows = writer.stored(path)
    if lost := set(kept) - rows:
        raise LookupError(f"of the first run: {lost}")
    return rows


@needs_strace
def test_a_selection_of_cuts_keeps_those_beside_promises(tmp_path: Path) -> None:
    """A long recording may be sampled: the same seed, the same cuts."""
    recording = record(WRITER, tmp_path)
    few, more = powercut.moments(recording, 0), powercut.moments(recording, 50)
    assert powercut.after_acknowledgements(recording) - {len(recording.steps)} <= few < more
    assert len(more) == 50
    assert more == powercut.moments(recording, 50)


@needs_strace
def test_a_copied_descriptor_is_followed_into_a_child(tmp_path: Path) -> None:
    """`dup` and `fork` need no bookkeeping; renaming and removing are seen as well."""
    recording = record(
        python(
            "a = os.open(path + '-new', os.O_CREAT | os.O_RDWR); b = os.dup(a); os.close(a)\n"
            "child = os.fork()\n"
            "if not child: os.pwrite(b, b'child', 3); os._exit(0)\n"
            "os.waitpid(child, 0); os.pwrite(b, b'parent', 9000); os.fsync(b)\n"
            "os.rename(path + '-new', path); os.unlink(path); os.pwrite(b, b'nameless', 0)"
        ),
        tmp_path,
    )
    assert [step.what for step in recording.steps] == [
        "open log.db-new",
        "write log.db-new 3+5",
        "write log.db-new 9000+6",
        "sync log.db-new",
        "rename log.db-new to log.db",
        "unlink log.db",
        "write log.db 0+8",
    ]


@needs_strace
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("mmap.mmap(os.open(path, os.O_RDWR), 4)[0] = 65", "written through memory"),
        ("os.write(os.open(path, os.O_RDWR), b'A')", "^write on"),
        ("os.posix_fallocate(os.open(path, os.O_RDWR), 0, 10)", "^fallocate on"),
    ],
    ids=["through memory", "at the place of a descriptor", "by allocation"],
)
def test_a_change_that_cannot_be_replayed_is_refused(
    tmp_path: Path, code: str, reason: str
) -> None:
    """No conclusion is better than a wrong one."""
    (tmp_path / "database").mkdir()
    (tmp_path / "database" / "log.db").write_bytes(b"begin")
    with pytest.raises(Untraceable, match=reason):
        record(python(code), tmp_path)


@needs_strace
def test_a_change_that_was_not_seen_is_refused(tmp_path: Path) -> None:
    """Whatever was replayed must lead to the files that are there."""
    database = tmp_path / "database" / "log.db"
    database.parent.mkdir()
    database.write_bytes(b"begin")
    os.link(database, other := tmp_path / "other")
    with pytest.raises(Untraceable, match="does not lead to the files"):
        record(python(f"os.pwrite(os.open({str(other)!r}, os.O_RDWR), b'A', 0)"), tmp_path)


def test_calls_of_two_threads_overlap() -> None:
    """A call begins on its own line and ends on the line where it is resumed."""
    path = r"\x2f\x61"
    one, two, three, four = parse(
        f'7 pwrite64(4<{path}>, "\\x41\\x42", 2, 0 <unfinished ...>\n'
        f"8 fsync(4<{path}>) = 0\n"
        "7 <... pwrite64 resumed>) = 1\n"
        '8 unlink("\\x2f\\x61") = -1 ENOSPC (No space left on device) (INJECTED)\n'
        f"8 fdatasync(5<{path}>(deleted) <unfinished ...>\n"
        "8 +++ killed by SIGKILL +++\n"
    )
    assert (one.begin, one.end, one.result, one.data(1), one.path()) == (0, 2, 1, b"AB", "/a")
    assert (two.begin, two.end, two.failed, two.deleted()) == (1, 1, False, False)
    assert (three.target(0), three.failed, three.injected) == ("/a", True, True)
    assert (four.path(), four.end, four.result, four.deleted()) == ("/a", NEVER, None, True)


def test_data_that_is_cut_short_is_refused() -> None:
    """A write whose bytes are not all in the trace cannot be replayed."""
    (call,) = parse(r'7 pwrite64(4<\x61>, "\x41"..., 9, 0) = 9')
    with pytest.raises(Untraceable):
        call.data(1)


def test_a_write_under_way_is_not_covered_by_a_sync() -> None:
    """A sync makes durable what had returned before it began."""
    file = File()
    file.write(1, 2, 0, b"aa")
    file.write(3, 5, 4096, b"bb")
    file.sync(4)
    assert file.image(lambda begin, sector: False) == b"aa"
    assert file.image(lambda begin, sector: True) == b"aa".ljust(4096, b"\0") + b"bb"


def test_a_write_is_torn_at_sectors() -> None:
    """What arrives of a write is whole sectors of what the cache held."""
    file = File()
    file.write(1, 1, 0, b"a" * 1100)
    file.sync(2)
    file.write(3, 3, 500, b"b" * 100)
    assert file.image(lambda begin, sector: sector == 1) == b"a" * 512 + b"b" * 88 + b"a" * 500


def test_a_failed_sync_is_not_made_good_by_the_next() -> None:
    """Its pages are clean to the kernel; only a new write brings them to the disk."""
    file = File()
    file.write(1, 1, 0, b"old")
    file.forsake(2)
    file.write(3, 3, 5000, b"new")
    file.sync(4)
    assert file.image(lambda begin, sector: False)[:3] == b"\0\0\0"
    file.write(5, 5, 100, b"again")
    file.sync(6)
    assert file.image(lambda begin, sector: False)[:3] == b"old"


def test_a_name_lasts_when_its_folder_is_synced() -> None:
    """Until then a new file may be missing, and a removed one may be back."""
    disk = Disk({"gone": b"1"})
    disk.create(1, 1, "new")
    disk.unlink(2, 2, "gone")
    assert disk.image(lambda begin, sector: False) == {"gone": b"1"}
    assert disk.image(lambda begin, sector: True) == {"new": b""}
    disk.sync_names(3)
    assert disk.image(lambda begin, sector: False) == {"new": b""}
