"""What every test shares: one seed for Hypothesis, and the verdict of scripts/check at the end."""

import os

import pytest
from hypothesis import settings

# The same examples in every run, kept nowhere and judged without a clock. To look further on one's
# own machine: HYPOTHESIS_PROFILE=explore scripts/test tests/properties
settings.register_profile("ci", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", max_examples=5_000, database=None, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Repeat, above pytest's last line, that scripts/check failed before the tests ran."""
    if os.environ.get("HEADWATER_CHECK_STATUS", "0") != "0":
        terminalreporter.section("scripts/check FAILED: see the top", red=True, bold=True)
