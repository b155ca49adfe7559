"""The suite that every engine must pass: the contract of the bus on a transport, as tests.

Whoever writes a transport writes one class, and pytest does the rest::

    from headwater.testing.conformance import Conformance


    class TestSqlite(Conformance):
        def url(self, tmp_path):
            return f"sqlite:///{tmp_path}/log.db"

The tests only use what users use: `Bus(url, name=...)` and its public methods; programs of their
own are started, frozen and killed where the contract speaks of processes. What a transport
declares (`headwater.transport.Capabilities`) decides which tests apply: one whose capability is
not declared is skipped, with the capability's name as the reason. Nothing is retried and no
duplicate is hidden: what handlers did is noted outside of the bus, call by call.

Where other processes reach the log under another URL, write `url_for_programs`; where there is a
server that can be killed, `restart`. `Engine` has both. On a slow machine the environment variable
``HEADWATER_PATIENCE`` says for how many seconds a test waits at most; the default is 10.

The docstring of each test names the rule of the contract that it proves. `docs/contract.md` has
the rules.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.testing.conformance.suite import Conformance

__all__ = ["Conformance"]


def __getattr__(name: str) -> Any:
    # The programs that the suite starts live in this package too, and need no pytest.
    if name != "Conformance":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest  # noqa: PLC0415

    from headwater.testing.conformance.groups import GROUPS  # noqa: PLC0415

    pytest.register_assert_rewrite(*(f"{__name__}.{group}" for group in GROUPS))
    from headwater.testing.conformance.suite import Conformance  # noqa: PLC0415

    return Conformance
