"""What the tests of users' databases share."""

from pathlib import Path

import pytest
from tests.unit.foreign.databases import Database


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A database of the user's."""
    return Database(tmp_path / "app.db")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where the log is: in a file of its own."""
    return f"sqlite:///{tmp_path}/log.db"
