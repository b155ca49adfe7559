"""What one program did to one database, and when it said that a row was stored.

The database is a file and whatever lies beside it under its name with something appended (`-wal`,
`-journal`). Files that mean nothing after a restart (`-shm`, a lock file) are left out. `record`
runs a program under strace and translates its calls into steps on a `Disk` and acknowledgements; a
call on these files whose effect it does not know makes it give up.

A program is a command line. The paths of the database and of the file for acknowledgements are
appended to it. It acknowledges by appending a line to that file, with one write for each line or
for several.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import strace
from tests.faults.disk import Disk
from tests.faults.strace import NEVER, Call, Untraceable

VOLATILE = ("-shm", "-lock")

Program = Sequence[str]

OPENS = {"open": 1, "creat": 0, "openat": 2}  # the place of the flags


@dataclass(frozen=True)
class Step:
    """Something that happened at the moment `at`: to the disk, or lines that were acknowledged."""

    at: int
    what: str
    apply: Callable[[Disk], None] | None = None
    acknowledged: tuple[str, ...] = ()

    @property
    def boundary(self) -> bool:
        """Whether a promise is made or kept here, so that a cut beside it must be tried."""
        return bool(self.acknowledged) or self.what.startswith("sync")


@dataclass(frozen=True)
class Recording:
    """What a program did: the files before, the steps in order, how it ended."""

    database: str  # its file name
    before: dict[str, bytes]
    steps: tuple[Step, ...]
    calls: frozenset[str]  # the names of the calls that changed or synced the database
    injected: tuple[Call, ...]
    exit: int
    stderr: str

    @property
    def acknowledged(self) -> list[str]:
        """Every line that was acknowledged, in order."""
        return [line for step in self.steps for line in step.acknowledged]


def record(program: Program, folder: Path, *, inject: str = "") -> Recording:
    """Run `program` on the database `log.db` in `folder` and return what it did.

    Args:
        program: The command line, without the two paths.
        folder: Where the database is or will be; the trace and the acknowledgements get into a
            folder beside the database's own.
        inject: What strace shall do to the program at calls on these files.

    Raises:
        Untraceable: It did something whose effect on the disk is not known here.
    """
    home = folder.resolve() / "database"
    home.mkdir(parents=True, exist_ok=True)
    family = Family(home / "log.db", home.parent / "acknowledged")
    before = family.contents()
    ran = strace.run(
        (*program, str(family.database), str(family.acknowledgements)),
        home.parent / "trace",
        only=family.paths() if inject else (),
        inject=inject,
    )
    ours = [call for call in ran.calls if any(map(family.knows, call.paths()))]
    steps = sorted((step for call in ours for step in family.steps(call)), key=lambda step: step.at)
    if all(call.end < NEVER for call in ours):
        _compare(_replay(before, steps), family.contents())
    return Recording(
        family.database.name,
        before,
        tuple(steps),
        frozenset(call.name for call in ours if family.changes(call)),
        tuple(call for call in ours if call.injected),
        ran.exit,
        ran.stderr,
    )


def _replay(before: dict[str, bytes], steps: Sequence[Step]) -> dict[str, bytes]:
    """Return the files after all steps, as the page cache has them."""
    disk = Disk(before)
    for step in steps:
        if step.apply:
            step.apply(disk)
    return disk.image(lambda begin, sector: True)


def _compare(replayed: dict[str, bytes], real: dict[str, bytes]) -> None:
    """Refuse a recording that missed something: replayed, it must yield the real files."""
    names = replayed.keys() | real.keys()
    if wrong := sorted(name for name in names if replayed.get(name) != real.get(name)):
        raise Untraceable(f"the replay does not lead to the files that are there: {wrong}")


class Family:
    """The files of one database, and what system calls on them mean."""

    def __init__(self, database: Path, acknowledgements: Path) -> None:
        self.database = database
        self.acknowledgements = acknowledgements
        self._folder = str(database.parent)

    def paths(self) -> list[Path]:
        """Return all paths at which a call may be disturbed."""
        suffixes = ("", "-wal", "-journal", *VOLATILE)
        files = [self.database.with_name(self.database.name + suffix) for suffix in suffixes]
        return [*files, self.database.parent, self.acknowledgements]

    def contents(self) -> dict[str, bytes]:
        """Return the durable files that are there now, by name."""
        found = self.database.parent.iterdir()
        return {path.name: path.read_bytes() for path in found if self.durable(str(path))}

    def durable(self, path: str) -> bool:
        """Whether a restart cares about this file."""
        return path.startswith(str(self.database)) and not path.endswith(VOLATILE)

    def knows(self, path: str) -> bool:
        """Whether `path` is one of these files, their folder, or the acknowledgements."""
        others = (self._folder, str(self.acknowledgements))
        return path in others or path.startswith(str(self.database))

    def changes(self, call: Call) -> bool:
        """Whether the call changes or syncs one of these files, volatile ones included."""
        ours = call.paths() - {str(self.acknowledgements)}
        return any(map(self.knows, ours)) and call.name not in (*OPENS, "mmap")

    def steps(self, call: Call) -> list[Step]:
        """Return what the call did, none if it has no effect on what survives."""
        if call.path() == str(self.acknowledgements):
            return self._acknowledgement(call)
        if call.path() == self._folder and "sync" in call.name:
            return [] if call.failed else [self._sync_names(call)]
        if not any(map(self.durable, call.paths())):
            return []
        if call.failed:
            return [self._sync(call)] if "sync" in call.name else []
        translate = _TRANSLATIONS.get(call.name)
        if translate is None:
            raise Untraceable(f"{call.name} on {sorted(call.paths())}")
        return translate(self, call)

    def _acknowledgement(self, call: Call) -> list[Step]:
        if call.name != "write" or call.failed or (call.injected and call.result is None):
            return []
        lines = call.data(1).decode().splitlines()
        return [Step(call.begin, f"acknowledge {lines}", acknowledged=tuple(lines))]

    def _name(self, path: str) -> str:
        return Path(path).name

    def _write(self, call: Call) -> list[Step]:
        name, deleted, offset = self._name(call.path()), call.deleted(), int(call.arguments[3])
        data = call.data(1)[: call.result]

        def apply(disk: Disk) -> None:
            disk.file(name, deleted=deleted).write(call.begin, call.end, offset, data)

        return [Step(call.begin, f"write {name} {offset}+{len(data)}", apply)]

    def _cut(self, call: Call) -> list[Step]:
        name, deleted, size = self._name(call.path()), call.deleted(), int(call.arguments[1])

        def apply(disk: Disk) -> None:
            disk.file(name, deleted=deleted).cut(call.begin, call.end, size)

        return [Step(call.begin, f"cut {name} to {size}", apply)]

    def _sync(self, call: Call) -> Step:
        name, deleted = self._name(call.path()), call.deleted()

        def apply(disk: Disk) -> None:
            file = disk.file(name, deleted=deleted)
            if call.failed:
                file.forsake(call.begin)
            elif call.end < NEVER:
                file.sync(call.begin)

        what = f"sync {name}{' failed' if call.failed else ''}"
        return Step(call.end, what, apply)

    def _sync_names(self, call: Call) -> Step:
        def apply(disk: Disk) -> None:
            if call.end < NEVER:
                disk.sync_names(call.begin)

        return Step(call.end, "sync names", apply)

    def _open(self, call: Call) -> list[Step]:
        place = OPENS[call.name]
        path = call.target(place - 1, 0) if call.name == "openat" else call.target(0)
        flags = call.arguments[place] if call.name != "creat" else "O_CREAT|O_TRUNC"
        name = self._name(path)

        def apply(disk: Disk) -> None:
            if "O_CREAT" in flags:
                disk.create(call.begin, call.end, name)
            if "O_TRUNC" in flags:
                disk.file(name).cut(call.begin, call.end, 0)

        changing = re.search("O_CREAT|O_TRUNC", flags) and call.result is not None
        return [Step(call.begin, f"open {name}", apply)] if changing else []

    def _unlink(self, call: Call) -> list[Step]:
        path = call.target(1, 0) if call.name == "unlinkat" else call.target(0)
        name = self._name(path)
        return [
            Step(call.begin, f"unlink {name}", lambda disk: disk.unlink(call.begin, call.end, name))
        ]

    def _rename(self, call: Call) -> list[Step]:
        at = call.name != "rename"
        old = call.target(1, 0) if at else call.target(0)
        new = call.target(3, 2) if at else call.target(1)
        if {Path(old).parent, Path(new).parent} != {self.database.parent}:
            raise Untraceable(f"{old} became {new}: one folder only")
        names = self._name(old), self._name(new)

        def apply(disk: Disk) -> None:
            disk.rename(call.begin, call.end, *names)

        return [Step(call.begin, f"rename {names[0]} to {names[1]}", apply)]

    def _link(self, call: Call) -> list[Step]:
        at = call.name != "link"
        old = call.target(1, 0) if at else call.target(0)
        new = call.target(3, 2) if at else call.target(1)
        if {Path(old).parent, Path(new).parent} != {self.database.parent}:
            raise Untraceable(f"{old} is {new} as well: one folder only")
        names = self._name(old), self._name(new)

        def apply(disk: Disk) -> None:
            disk.link(call.begin, call.end, *names)

        return [Step(call.begin, f"link {names[0]} as {names[1]}", apply)]

    def _map(self, call: Call) -> list[Step]:
        if "MAP_SHARED" in call.arguments[3] and "PROT_WRITE" in call.arguments[2]:
            raise Untraceable(f"{call.path(4)} is written through memory (PRAGMA mmap_size)")
        return []


_TRANSLATIONS: dict[str, Callable[[Family, Call], list[Step]]] = {
    "pwrite64": Family._write,
    "ftruncate": Family._cut,
    "fsync": lambda family, call: [family._sync(call)],
    "fdatasync": lambda family, call: [family._sync(call)],
    "open": Family._open,
    "creat": Family._open,
    "openat": Family._open,
    "unlink": Family._unlink,
    "unlinkat": Family._unlink,
    "link": Family._link,
    "linkat": Family._link,
    "rename": Family._rename,
    "renameat": Family._rename,
    "renameat2": Family._rename,
    "mmap": Family._map,
}
