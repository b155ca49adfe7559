"""The side file of a log: who may write now, and who is still alive.

SQLite before 3.51.3 can corrupt a WAL when two connections write or checkpoint it at the same time,
so every write transaction, checkpoint and close happens under one `flock` on ``<log>-lock``. It is
polled, with growing pauses, because a blocked `flock` could not be given up after a timeout.

The same file tells who is alive: each process holds an open-file-description lock on one byte of
its own far behind the end. The kernel drops it however the process ends, and others see that at
once, long before a lease would have run out. Where there are no such locks, leases have to do.
"""

import contextlib
import fcntl
import os
import struct
from collections.abc import Callable, Generator

from headwater.errors import LogBusy
from headwater.runtime import new_token, pause, steady

FIRST_BYTE = 1 << 32
_FLOCK = "hhqqi0q"  # struct flock of Linux, 64 bit: type, whence, start, length, pid
_SHORTEST, _LONGEST = 0.0002, 0.004


class FileLock:
    """The write lock of a log.

    Args:
        path: of the side file, which is made if need be.
        timeout: seconds to wait for whoever holds it.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Around everything that writes.

        Raises:
            LogBusy: another process held it for all of the timeout.
        """
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self) -> None:
        """Take it; see `held`."""
        deadline, wait = steady() + self._timeout, _SHORTEST
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if steady() >= deadline:
                    raise LogBusy(
                        f"{self._path}: another process has held the write lock for"
                        f" {self._timeout:g} s: a transaction that does not end, perhaps; the"
                        f" timeout is ?timeout= in the URL"
                    ) from None
                pause(wait)
                wait = min(wait * 1.5, _LONGEST)
            else:
                return

    def release(self) -> None:
        """Let others write."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.descriptor)


class Presence:
    """A byte of the side file that is locked as long as this process lives."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.byte = FIRST_BYTE + new_token() % (1 << 40)
        self._locked = self._lock()

    def alive(self, byte: int) -> bool:
        """Whether the process that locked `byte` lives; true also if that cannot be known."""
        if not self._locked or byte == self.byte:
            return True
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        try:
            answer = fcntl.fcntl(self._descriptor, _GET, asked)
        except OSError:
            return True
        held: bool = struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK
        return held

    def close(self) -> None:
        """Be gone, for all that others can see."""
        os.close(self._descriptor)

    def _lock(self) -> bool:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, self.byte, 1, 0)
        try:
            fcntl.fcntl(self._descriptor, _SET, wanted)
        except OSError:
            return False
        return True


# Python knows them where the platform has them; -1 is refused by the kernel.
_GET: int = getattr(fcntl, "F_OFD_GETLK", -1)
_SET: int = getattr(fcntl, "F_OFD_SETLK", -1)

Alive = Callable[[int], bool]
