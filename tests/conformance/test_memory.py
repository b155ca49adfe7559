"""The log in memory passes the suite that every engine must pass."""

import itertools
from pathlib import Path

from headwater.testing.conformance import Conformance

_numbers = itertools.count()


class TestMemory(Conformance):
    """A named log, which all buses of the process find by its URL."""

    reopens = True

    def url(self, tmp_path: Path) -> str:
        """A new name for each call."""
        return f"memory://suite-{next(_numbers)}"
