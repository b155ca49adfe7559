"""The SQLite log passes the suite that every engine must pass."""

import itertools
from pathlib import Path

from headwater.testing.conformance import Conformance

_numbers = itertools.count()


class TestSqlite(Conformance):
    """One file in the test's folder; other processes reach it by its path."""

    def url(self, tmp_path: Path) -> str:
        """A new file for each call."""
        return f"sqlite:///{tmp_path}/log-{next(_numbers)}.db"
