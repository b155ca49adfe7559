"""Worker processes, and who watches them.

Workers are started in sessions of their own, so that Ctrl-C in a terminal reaches the crew alone,
which passes SIGTERM on. A worker that dies is started again after a pause that doubles up to half a
minute; one that lived for a while begins with a short pause anew. A worker that was called wrongly
would be so again: that ends the crew.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from headwater.cli.failure import FAILED, INTERRUPTED, USAGE

SHORTEST, LONGEST = 0.5, 30.0
"""Seconds before a worker that died is started again."""
SETTLED_DOWN = 30.0
"""Seconds after which a worker counts as one that works."""
TICK = 0.1
LOOK = 0.4
"""Seconds between two looks at the files."""
RELOAD_PATIENCE = 10.0
_PASSED_OVER = {"__pycache__", "node_modules", "site-packages", "venv", "build", "dist"}

Stamps = dict[str, int]


class Worker:
    """One place in the crew, and the process that fills it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.due = 0.0
        self.pause = 0.0

    @property
    def lives(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None


class Crew:
    """Workers that are kept alive until somebody ends them.

    Args:
        bus: ``MODULE:BUS``.
        size: how many workers.
        reload: whether to start them again when a file changes.
        tell: tells people what happens.
    """

    def __init__(self, bus: str, size: int, *, reload: bool, tell: Callable[[str], None]) -> None:
        self._bus = bus
        self._workers = [Worker(number + 1) for number in range(size)]
        self._reload = reload
        self._tell = tell
        self._wake = threading.Event()
        self._asked = 0
        self._code = 0
        self._stamps: Stamps = {}
        self._looked = 0.0

    def run(self) -> int:
        """Work until SIGTERM, Ctrl-C, or until all workers have ended; returns the exit code."""
        before = {n: signal.signal(n, self._stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self._run()
        finally:
            for worker in self._workers:
                if worker.process is not None and worker.lives:
                    worker.process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self) -> int:
        if self._reload:
            self._stamps = stamps(Path.cwd())
        for worker in self._workers:
            self._start(worker)
        while not self._asked and not self._code:
            self._wake.wait(TICK)
            if self._reload and self._changed():
                continue
            going = [self._look_after(worker) for worker in self._workers]
            if not any(going) and not self._reload:
                return self._code  # All of them ended by themselves, and well.
        return self._drain()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        self._wake.set()

    def _start(self, worker: Worker) -> None:
        worker.process = subprocess.Popen(  # noqa: S603  this very program
            [sys.executable, "-m", "headwater.cli", "run", self._bus, "--supervised"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        worker.started = time.monotonic()
        self._tell(f"Worker {worker.number} is process {worker.process.pid}.")

    def _look_after(self, worker: Worker) -> bool:
        """See whether a worker lives, and start it again if it should; false if it is finished."""
        if worker.process is None:
            if worker.due and time.monotonic() >= worker.due:
                worker.due = 0.0
                self._start(worker)
            return bool(worker.due) or worker.process is not None
        code = worker.process.poll()
        if code is None:
            return True
        _let_go(worker)
        return self._ended(worker, code)

    def _ended(self, worker: Worker, code: int) -> bool:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        if self._reload:
            self._tell(f"Worker {worker.number} {how}: a change of a file starts it again.")
            return False
        if code == 0:
            return False
        if code == USAGE:
            self._code = USAGE
            return False
        lived = time.monotonic() - worker.started
        grown = min(LONGEST, worker.pause * 2 or SHORTEST)
        worker.pause = SHORTEST if lived >= SETTLED_DOWN else grown
        worker.due = time.monotonic() + worker.pause
        self._tell(f"Worker {worker.number} {how}: it starts again in {worker.pause:g} s.")
        return True

    def _changed(self) -> bool:
        """Start everything again if a file has changed."""
        if time.monotonic() - self._looked < LOOK:
            return False
        self._looked = time.monotonic()
        now = stamps(Path.cwd())
        changed = sorted(
            path for path in now | self._stamps if now.get(path) != self._stamps.get(path)
        )
        if not changed:
            return False
        self._stamps = now
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        self._tell(f"{os.path.relpath(changed[0])}{more} changed: starting again.")
        self._end_all(RELOAD_PATIENCE)
        for worker in self._workers:
            if not self._asked:
                self._start(worker)
        return True

    def _drain(self) -> int:
        """Let the workers finish; a second signal does not wait for them."""
        if self._asked:
            self._tell("Draining; Ctrl-C again ends at once.")
        codes = self._end_all(None)
        if self._asked > 1:
            return INTERRUPTED
        if self._code:
            return self._code
        # One that was still importing had not begun anything, and was ended by the signal itself.
        return FAILED if any(code not in (0, -signal.SIGTERM) for code in codes) else 0

    def _end_all(self, patience: float | None) -> list[int]:
        asked, until = self._asked, time.monotonic() + (patience or 0)
        running = [w.process for w in self._workers if w.process is not None and w.lives]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        while any(process.poll() is None for process in running):
            late = patience is not None and time.monotonic() > until
            if late or self._asked > max(asked, 1):
                for process in running:
                    process.kill()
            time.sleep(TICK / 4)
        for worker in self._workers:
            _let_go(worker)
        return [process.returncode for process in running]


def _let_go(worker: Worker) -> None:
    process, worker.process = worker.process, None
    if process is not None and process.stdin is not None:
        process.stdin.close()


def stamps(folder: Path) -> Stamps:
    """When each Python file below a folder was changed."""
    return dict(_files(str(folder)))


def _files(folder: str) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _PASSED_OVER:
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path)
                elif entry.name.endswith(".py"):
                    yield entry.path, entry.stat().st_mtime_ns
