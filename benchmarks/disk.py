"""What the files lie on: the kind of file system, and what a sync costs there.

Every rate at `synchronous=FULL` is a statement about this number as well.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile, TemporaryDirectory, gettempdir
from time import perf_counter

IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}
PAGE = 4096
SYNCS = 200


@contextmanager
def scratch(chosen: Path | None) -> Iterator[Path]:
    """Make a folder on a disk, and remove it afterwards.

    Raises:
        SystemExit: The folder would lie in memory, where a sync costs nothing.
    """
    parent = chosen or Path(gettempdir())
    kind = file_system(parent)
    if kind in IN_MEMORY:
        raise SystemExit(f"{parent} is {kind}, not a disk: choose another with --directory")
    with TemporaryDirectory(prefix="headwater-benchmark-", dir=parent) as folder:
        yield Path(folder)


def file_system(path: Path) -> str:
    """Name the kind of file system that `path` lies on, where the system tells it."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    found: dict[Path, str] = {}
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        found[Path(place)] = kind
    within = path.resolve()
    return next(found[place] for place in (within, *within.parents) if place in found)


def sync_seconds(folder: Path, *, appending: bool) -> float:
    """Return the median time of a sync after a page was written.

    Args:
        folder: where to write.
        appending: write behind the end of the file, as a log in its first round does, instead of
            over what is there.
    """
    sync = getattr(os, "fdatasync", os.fsync)
    samples = []
    with NamedTemporaryFile(dir=folder, buffering=0) as file:
        if not appending:
            file.write(bytes(PAGE * SYNCS))
            os.fsync(file.fileno())
            file.seek(0)
        for _ in range(SYNCS):
            file.write(os.urandom(PAGE))
            started = perf_counter()
            sync(file.fileno())
            samples.append(perf_counter() - started)
    return median(samples)
