"""What the tests of faults need from the machine."""

import os

import pytest
from tests.faults.strace import why_absent


@pytest.fixture(scope="session")
def strace() -> None:
    """Skip what needs strace where there is none; under CI that is a failure."""
    if reason := why_absent():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
