"""What the demo does about the log it finds: begin, go on, show the table again, or begin anew.

A log that is not the shop's is never touched, and one that another process uses is not deleted.
"""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from headwater import Bus
from headwater.cli.checkout import load_shop
from headwater.cli.failure import Failure, usage
from headwater.transports.sqlite.locks import FIRST_BYTE
from headwater.transports.sqlite.settings import settings_of

if TYPE_CHECKING:
    import shop  # what the package is called where it is read, in examples/
else:
    shop = load_shop()

_SIDE_FILES = ("-wal", "-shm", "", "-lock")


def make_ready(url: str, input: str, *, fresh: bool) -> str:
    """Make the log at `url` ready for these orders.

    Args:
        url: where the log is.
        input: stands for the orders.
        fresh: whether to begin anew, whatever is there.

    Returns:
        What to tell people about it; empty if a log simply begins.

    Raises:
        Failure: it is not the shop's, or busy, or holds an unfinished run of other orders.
    """
    run = asyncio.run(_look(url))
    if run is None:
        return ""
    path = file_of(url)
    if fresh:
        _delete(path)
        return ""
    if run.input == input:
        if run.finished:
            return f"All of these orders are in {path}, and done. --fresh begins anew."
        return f"Going on after order {run.orders:,}." if run.orders else ""
    if not run.finished:
        raise usage(
            f"{path} holds an unfinished run of other orders",
            "run those again to finish them, add --fresh to delete them, or choose another --url",
        )
    _delete(path)
    return f"{path} held a finished run of other orders: it begins anew."


def file_of(url: str) -> str:
    """Return the shorter way to write the path of a log's file; a URL that has none, as it is."""
    if not url.startswith("sqlite:"):
        return url
    path = settings_of(url).path
    return min(path, os.path.relpath(path), key=len)


async def _look(url: str) -> "shop.Run | None":
    bus = Bus(url, name="shop")
    try:
        return await shop.find_run(bus) if shop.keeps_runs(bus) else None
    except shop.OtherLog as error:
        raise usage(f"{file_of(url)}: {error}", "give the demo a log of its own: --url") from None
    finally:
        await bus.aclose()


def _delete(path: str) -> None:
    """Delete a log. Whoever uses it has locked a byte of its side file."""
    with Path(f"{path}-lock").open("rb+") as side_file:
        try:
            fcntl.lockf(side_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 0, FIRST_BYTE)
        except OSError:
            raise Failure(f"{path} is used by another process", "stop that one first") from None
        for suffix in _SIDE_FILES:
            Path(path + suffix).unlink(missing_ok=True)
