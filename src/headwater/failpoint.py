"""Named places where a test may kill the process.

Between a publish and its settlement stand steps whose order is the contract. Each of them calls
`reach` with its name, which does nothing. With the environment variable ``HEADWATER_FAILPOINT`` set
to ``name@n`` the process is killed with SIGKILL when it reaches that place for the n-th time, so
that a test can see what every step leaves behind.
"""

import os
import signal
from collections.abc import Callable

POINTS = (
    "publish.encoded",
    "publish.queued",
    "turn.locked",
    "turn.begun",
    "turn.written",
    "turn.committed",
    "publish.confirmed",
    "lease.acquired",
    "lane.assigned",
    "batch.fetched",
    "claim.committed",
    "handle.before",
    "handle.after",
    "alone.counted",
    "stage.before",
    "settle.before",
    "settle.after",
    "retry.recorded",
    "dead.before",
    "dead.after",
    "delayed.moved",
    "loan.granted",
    "loan.returned",
    "checkpoint.before",
    "checkpoint.after",
    "release.before",
    "inbox.noted",
    "inbox.committed",
    "outbox.relayed",
)
"""Every name there is."""


def _armed(setting: str) -> Callable[[str], None]:
    name, _, number = setting.partition("@")
    if name not in POINTS:
        raise ValueError(f"HEADWATER_FAILPOINT: expected one of {', '.join(POINTS)}, got {name!r}")
    left = [int(number or 1)]

    def reach(at: str) -> None:
        if at == name:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach


def _nothing(name: str) -> None:
    """What `reach` does unless a test has armed it."""


_setting = os.environ.get("HEADWATER_FAILPOINT")

reach = _nothing if _setting is None else _armed(_setting)
"""Say that the step `name` is reached."""
