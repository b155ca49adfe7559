"""A process of the suite: started, frozen, thawed, asked to end, killed."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from headwater.testing.conformance.seen import until

WORKER = "headwater.testing.conformance.worker"


class Program:
    """A Python process that runs one function of `worker`.

    Args:
        task: the function's name.
        arguments: of the function.
    """

    def __init__(self, task: str, arguments: Mapping[str, Any]) -> None:
        command = [sys.executable, "-m", WORKER, task, json.dumps(arguments)]
        self._process = subprocess.Popen(  # noqa: S603 -- this very package
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit code; negative: the signal that ended it; None: it runs."""
        return self._process.poll()

    def freeze(self) -> None:
        """Stop it where it is, as a machine that pages or sleeps would."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, without a chance to clean up."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to end, as an operating system or a container does."""
        self._process.terminate()

    async def ended(self) -> int:
        """Wait until it has ended; its status."""
        await until(lambda: not self.running, f"the end of process {self.pid}")
        return self._process.returncode

    def end(self) -> None:
        """Kill it, if it still runs, and let go of it."""
        self._process.kill()
        self._process.wait()
