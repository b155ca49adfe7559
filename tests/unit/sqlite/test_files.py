"""Files that are no log, or none that can be used: each is refused in words and left as it is."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from tests.unit.sqlite.logs import NOBODY

from headwater import Bus
from headwater.errors import BadLog, PublishFailed
from headwater.transports.sqlite import files, schema


def used_log(path: Path, events: int = 200) -> None:
    """A log with something in it, closed."""
    with Bus(f"sqlite:///{path}", name="shop") as bus:
        for number in range(events):
            bus.publish("order.placed", {"number": number, "text": "x" * 100}).detach()
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")


def change(path: Path, statement: str) -> None:
    """Do something to a file, as another program would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement).fetchall()


def refused(path: Path, *, quiet: bool = True) -> str:
    """Why a log cannot be opened; what is in the folder must be the same before and after."""
    before = contents(path.parent)
    bus = Bus(f"sqlite:///{path}", name="shop")
    with pytest.raises(BadLog) as caught:
        bus.start()
    with pytest.raises(BadLog):
        bus.publish("order.placed", {})
    bus.close()
    assert contents(path.parent) == before
    assert str(path) in str(caught.value)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    """What is in a folder, without the lock and the index, in which no event is."""
    if not folder.is_dir():
        return {}
    return {
        file.name: file.read_bytes() if file.is_file() else b""
        for file in folder.iterdir()
        if not file.name.endswith(("-lock", "-shm"))
        and not (file.name.endswith("-wal") and file.stat().st_size == 0)
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is, or shall be."""
    return tmp_path / "shop.db"


# Where it is.


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:20 / /mnt rw - {kind} server:/export rw
24 23 0:21 / /mnt/local\\040disk rw shared:3 master:1 - xfs /dev/sdb1 rw
25 22 0:22 / /mntother rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(kind: str, tmp_path: Path) -> None:
    """SQLite's locks do not hold there; what is mounted within, or beside it, may be local."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(kind=kind))
    with pytest.raises(BadLog, match=rf"network file system \({kind}\).*put the log on a local"):
        files.check_place("/mnt/shop.db", str(mounts))
    with pytest.raises(BadLog):
        files.check_place("/mnt/deep/er/shop.db", str(mounts))
    files.check_place("/mnt/local disk/shop.db", str(mounts))
    files.check_place("/mntother/shop.db", str(mounts))
    files.check_place("/shop.db", str(mounts))


def test_a_link_to_a_network_file_system_is_refused_too(tmp_path: Path) -> None:
    """What counts is where the folder really is."""
    mounts, place = tmp_path / "mountinfo", tmp_path / "far"
    place.mkdir()
    (tmp_path / "near").symlink_to(place)
    mounts.write_text(f"1 1 8:1 / / rw - ext4 x rw\n2 1 0:9 / {place} rw - nfs4 s:/x rw\n")
    with pytest.raises(BadLog, match="network"):
        files.check_place(str(tmp_path / "near" / "shop.db"), str(mounts))


def test_the_latest_of_two_mounts_in_one_place_counts(tmp_path: Path) -> None:
    """It is the one that is seen."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text("1 1 8:1 / / rw - nfs x rw\n2 1 8:1 / / rw - ext4 x rw\n")
    assert files.file_system_of("/shop.db", str(mounts)) == "ext4"


def test_where_there_is_no_list_of_mounts_nothing_is_refused(tmp_path: Path) -> None:
    """On other systems than Linux."""
    files.check_place("/mnt/shop.db", str(tmp_path / "missing"))


def test_a_missing_folder_is_not_made(path: Path) -> None:
    """A typing error in a path must not start a new log somewhere."""
    text = refused(path.parent / "typo" / "shop.db")
    assert "make it first" in text
    assert not (path.parent / "typo").exists()


def test_a_folder_is_no_log(path: Path) -> None:
    """Nor is anything put into it."""
    path.mkdir()
    assert "got a folder" in refused(path)


# What it is.


def foreign_in_wal_mode(path: Path) -> None:
    """A database of another program."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL").fetchone()
        connection.execute("PRAGMA application_id=7")
        connection.execute("CREATE TABLE log(position INTEGER PRIMARY KEY)")


def foreign_in_rollback_mode(path: Path) -> None:
    """The same, as SQLite makes it by default."""
    change(path, "CREATE TABLE log(position INTEGER PRIMARY KEY)")


def in_rollback_mode(path: Path) -> None:
    """A log that somebody has taken out of WAL mode."""
    used_log(path, 3)
    change(path, "PRAGMA journal_mode=DELETE")


def newer(path: Path) -> None:
    """A log of a headwater of the future."""
    schema.create(str(path))
    change(path, "PRAGMA user_version=99")


def without_its_rows(path: Path) -> None:
    """A log whose events somebody has removed."""
    used_log(path, 3)
    change(path, "DROP TABLE log")


def without_its_cursors(path: Path) -> None:
    """A log that does not know who has read it."""
    used_log(path, 3)
    change(path, "DROP TABLE cursor")


def cut_short(path: Path) -> None:
    """A copy that was interrupted."""
    used_log(path)
    with path.open("r+b") as file:
        file.truncate(6000)


def damaged_in_its_first_page(path: Path) -> None:
    """The page that names the tables."""
    used_log(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xa5" * 3900)


FILES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "text": (lambda path: path.write_text("to do: buy milk\n" * 99), ("no database",)),
    "noise": (lambda path: path.write_bytes(os.urandom(9000)), ("no database",)),
    "one byte": (lambda path: path.write_bytes(b"S"), ("no database",)),
    "empty": (lambda path: path.touch(), ("is empty", "delete it to begin anew")),
    "foreign, WAL": (foreign_in_wal_mode, ("another program", "0x7", "file of its own")),
    "foreign, rollback": (foreign_in_rollback_mode, ("another program", "file of its own")),
    "not in WAL mode": (in_rollback_mode, ("expected WAL mode, got delete", "sets it back")),
    "newer": (newer, ("version 99", "knows up to 1", "upgrade headwater")),
    "no rows": (without_its_rows, ("lost its table 'log'", "backup")),
    "no cursors": (without_its_cursors, ("lost its table 'cursor'", "backup")),
    "cut short": (cut_short, ("keep a copy", "headwater doctor")),
    "first page": (damaged_in_its_first_page, ("keep a copy", "headwater doctor")),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_good_log_is_refused_and_left_alone(kind: str, path: Path) -> None:
    """The error says what it is and what to do; no byte of it changes, nothing is made anew."""
    make, words = FILES[kind]
    make(path)
    text = refused(path)
    for word in words:
        assert word in text


def test_a_missing_file_whose_wal_is_left_is_not_made_anew(path: Path) -> None:
    """The -wal may hold confirmed events: a new log would destroy them."""
    used_log(path, 3)
    path.with_name("shop.db-wal").write_bytes(b"x" * 4096)
    path.unlink()
    text = refused(path)
    assert "may hold events" in text
    assert "move the -wal file away" in text
    assert not path.exists()


def test_a_link_that_leads_nowhere_is_refused(path: Path) -> None:
    """It is not followed to make a log where it points to."""
    path.symlink_to(path.parent / "gone.db")
    refused(path)
    assert not (path.parent / "gone.db").exists()


def test_a_log_with_a_damaged_page_is_never_made_anew(path: Path) -> None:
    """Whichever page it is: nothing is confirmed that is not kept, and the log stays that log."""
    used_log(path)
    whole = path.read_bytes()
    for page in range(1, len(whole) // schema.PAGE, 7):
        start = page * schema.PAGE
        damaged = whole[:start] + b"\xa5" * schema.PAGE + whole[start + schema.PAGE :]
        path.write_bytes(damaged)
        for suffix in ("-wal", "-shm"):
            path.with_name(f"shop.db{suffix}").unlink(missing_ok=True)
        bus = Bus(f"sqlite:///{path}", name="shop")
        refusal: Exception | None = None
        try:
            bus.publish("order.placed", {"number": -1}, id="after")
        except (BadLog, PublishFailed) as error:
            refusal = error
        with contextlib.suppress(ExceptionGroup):
            bus.close()
        after = path.read_bytes()
        assert after[schema.HEADER : schema.PAGE] == whole[schema.HEADER : schema.PAGE]
        assert len(after) >= len(whole)
        if refusal is not None:
            assert str(path) in str(refusal)
        else:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                found = connection.execute("SELECT 1 FROM log WHERE id = 'after'").fetchall()
            assert found == [(1,)]


# Whether it may be written.


@pytest.fixture
def guarded() -> Iterator[Path]:
    """A folder that a user without rights can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextlib.contextmanager
def without_rights() -> Generator[None]:
    """As a user to whom the rights of files apply; root is none."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_cannot_be_written_is_refused(guarded: Path) -> None:
    """At the start, and not at the first event."""
    path = guarded / "shop.db"
    used_log(path, 3)
    path.chmod(0o444)
    guarded.chmod(0o777)
    path.with_name("shop.db-lock").unlink()
    with without_rights():
        assert "cannot be written" in refused(path)


def test_a_file_that_cannot_be_read_is_refused(guarded: Path) -> None:
    """In words, and not as an error of the system."""
    path = guarded / "shop.db"
    used_log(path, 3)
    path.chmod(0)
    bus = Bus(f"sqlite:///{path}", name="shop")
    with without_rights(), pytest.raises(BadLog, match=r"shop\.db cannot be read"):
        bus.start()
    bus.close()


@pytest.mark.parametrize("there", [True, False], ids=["a log", "no log yet"])
def test_a_folder_that_cannot_be_written_is_refused(guarded: Path, *, there: bool) -> None:
    """The lock and the -wal have to be made in it."""
    path = guarded / "shop.db"
    if there:
        used_log(path, 3)
        path.with_name("shop.db-lock").unlink()
    guarded.chmod(0o555)
    with without_rights():
        text = refused(path)
    assert "cannot be written" in text or "cannot be made" in text


def test_a_refused_log_leaves_nothing_open(path: Path) -> None:
    """A program may try again and again until it is repaired."""
    newer(path)
    refused(path)
    before = descriptors()
    for _ in range(5):
        refused(path)
    assert descriptors() <= before


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_log_that_was_repaired_can_be_opened_by_the_same_bus(path: Path) -> None:
    """Being refused once ends nothing."""
    newer(path)
    bus = Bus(f"sqlite:///{path}", name="shop")
    with pytest.raises(BadLog):
        bus.publish("order.placed", {})
    change(path, f"PRAGMA user_version={schema.VERSION}")
    with bus:
        bus.publish("order.placed", {})
