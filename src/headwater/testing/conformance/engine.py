"""What every group of tests stands on: the engine under test, and what it declares.

A transport author overrides `Engine.url`; everything else has a default. Async tests are run by
`asyncio.run`, each with a time limit, so that no plugin is needed.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode

import pytest

from headwater import Bus
from headwater.capabilities import Capabilities
from headwater.testing.conformance.program import Program
from headwater.testing.conformance.seen import PATIENCE

F = TypeVar("F", bound=Callable[..., Any])

LIMIT = 4 * PATIENCE
"""Seconds that one async test may take; its own waits are shorter."""


def needs(*capabilities: str) -> Callable[[F], F]:
    """Decorate a test that only applies to engines which declare `capabilities`."""

    def mark(test: F) -> F:
        test.needs = capabilities  # type: ignore[attr-defined]
        return test

    return mark


class Engine:
    """The engine under test, as each test sees it.

    Attributes:
        log: the URL of a log that nobody has used yet; new for every test.
        folder: an empty folder of this test.
        lease: seconds of the lease that tests about killed and frozen processes ask for.
        reopens: whether other buses of this process find the log by its URL, though it does not
            survive the process: then the tests of ``persistent`` apply as well.
    """

    lease: ClassVar[float] = 1.0
    reopens: ClassVar[bool] = False
    _declared: ClassVar[Capabilities | None] = None

    log: str
    folder: Path
    _programs: list[Program]

    def url(self, tmp_path: Path) -> str:
        """The URL of a fresh log: each call gives another one, or empties the one there is.

        Args:
            tmp_path: an empty folder, for engines that keep files.
        """
        raise NotImplementedError(f"{type(self).__name__}: write url(self, tmp_path)")

    def url_for_programs(self, url: str) -> str:
        """The URL by which another process on this machine reaches the log of `url`."""
        return url

    async def restart(self) -> None:
        """Kill the server behind the log and start it again.

        Engines that declare to survive a ``broker kill`` have one; without this method their
        tests of outages are skipped.
        """
        pytest.skip("restart: the engine's tests do not say how")

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares; asked for once per class."""
        assert self._declared is not None
        return self._declared

    def bus(
        self,
        name: str = "shop",
        *,
        log: str | None = None,
        lease: float | None = None,
        **options: Any,
    ) -> Bus:
        """A bus on the log of this test, not opened yet.

        Args:
            name: the application's name.
            log: another log than that of the test.
            lease: seconds of its lease, instead of the engine's default.
            options: as for `Bus`.
        """
        options.setdefault("drain_timeout", PATIENCE / 2)  # A test that fails shall end soon.
        return Bus(with_lease(log or self.log, lease), name=name, **options)

    def program(self, task: str, *, lease: float | None = None, **arguments: Any) -> Program:
        """Start a process that runs a function of `worker` on the log; ended with the test.

        Args:
            task: the function's name.
            lease: seconds of its lease, instead of the engine's default.
            arguments: of the function, beside the URL and the file of effects.
        """
        url = with_lease(self.url_for_programs(self.log), lease)
        program = Program(task, {"url": url, "effects": str(self.effects_path), **arguments})
        self._programs.append(program)
        return program

    @property
    def effects_path(self) -> Path:
        """The file in which programs note what they did."""
        return self.folder / "effects.jsonl"

    @pytest.fixture(autouse=True)
    def engine(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
        """Skip what does not apply; give each test its log; end what it started."""
        cls = type(self)
        self.folder = tmp_path
        self.log = self.url(tmp_path)
        self._programs = []
        if "_declared" not in vars(cls):
            cls._declared = capabilities_of(self.bus("probe"))
        for capability in getattr(request.function, "needs", ()):
            reopened = capability == "persistent" and self.reopens
            if not reopened and not declares(self.capabilities, capability):
                pytest.skip(f"{capability}: not declared by {self.capabilities.name}")
        yield
        for program in self._programs:
            program.end()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, test in tuple(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                setattr(cls, name, _in_a_loop(test))


def capabilities_of(bus: Bus) -> Capabilities:
    """What the engine of `bus` declares."""
    durable = bus._durable  # pyright: ignore[reportPrivateUsage]
    assert durable is not None, "the URL gave a direct bus"
    return durable.transport.capabilities


def declares(capabilities: Capabilities, name: str) -> bool:
    """Whether an engine declares what a test needs: a field, or something it survives."""
    if name == "ordered":
        return capabilities.ordered == "key"
    if hasattr(capabilities, name):
        return bool(getattr(capabilities, name))
    return name in capabilities.survives


def with_lease(url: str, lease: float | None) -> str:
    """The URL, asking for a lease of so many seconds."""
    if lease is None:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode({'lease': lease})}"


def _in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **named: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(LIMIT):
                await test(*args, **named)

        asyncio.run(limited())

    return run
